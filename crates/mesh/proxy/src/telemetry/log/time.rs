//! `%START_TIME(…)%`: the format of `strftime`, in UTC, with Envoy's fractions of a second.

use std::io::{self, Write as _};

use crate::clock::civil;

/// How a moment is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TimeFormat(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Year,
    ShortYear,
    Month,
    Day,
    /// Padded with a space.
    SpacedDay,
    Hour,
    Minute,
    Second,
    /// Digits of the fraction of a second.
    Fraction(usize),
    /// `%E3S`: seconds with so many digits of their fraction.
    Seconds(usize),
    UnixSeconds,
    MonthName(usize),
    WeekdayName(usize),
    DayOfYear,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];
/// Envoy's default.
const DEFAULT: &str = "%Y-%m-%dT%H:%M:%E3SZ";

impl TimeFormat {
    /// Reads a format; an empty one is the default.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { DEFAULT } else { text };
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            push_text(&mut pieces, &rest[..at]);
            rest = piece(&rest[at + 1..], &mut pieces)?;
        }
        push_text(&mut pieces, rest);
        Ok(Self(pieces))
    }

    /// Appends a moment: microseconds since 1970.
    pub(super) fn append(&self, micros: u64, out: &mut Vec<u8>) {
        let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let (days, of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        // Writing to a vector cannot fail.
        let _ = self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => out.write_all(text.as_bytes()),
            Piece::Year => padded(out, year, 4),
            Piece::ShortYear => write!(out, "{:02}", year % 100),
            Piece::Month => padded(out, month, 2),
            Piece::Day => padded(out, day, 2),
            Piece::SpacedDay => write!(out, "{day:2}"),
            Piece::Hour => padded(out, hour, 2),
            Piece::Minute => padded(out, minute, 2),
            Piece::Second => padded(out, second, 2),
            Piece::Fraction(digits) => push_fraction(out, fraction, *digits),
            Piece::Seconds(0) => write!(out, "{second:02}"),
            Piece::Seconds(digits) => {
                padded(out, second, 2)?;
                out.push(b'.');
                push_fraction(out, fraction, *digits)
            }
            Piece::UnixSeconds => write!(out, "{seconds}"),
            Piece::MonthName(length) => push_name(out, MONTHS[(month - 1) as usize], *length),
            Piece::WeekdayName(length) => push_name(out, DAYS[(days % 7) as usize], *length),
            Piece::DayOfYear => {
                let first = days_before(year);
                write!(out, "{:03}", days - first + 1)
            }
        });
    }
}

/// Days from 1970 to the first of January of a year.
fn days_before(year: u64) -> u64 {
    let before = year - 1;
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leaps(before) - leaps(1969)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

fn push_name(out: &mut Vec<u8>, name: &str, length: usize) -> io::Result<()> {
    out.write_all(&name.as_bytes()[..name.len().min(length)])
}

/// The clock knows microseconds: further digits are 0.
fn push_fraction(out: &mut Vec<u8>, micros: u64, digits: usize) -> io::Result<()> {
    let shown = micros * 1000 / 10_u64.pow(9 - digits as u32);
    padded(out, shown, digits)
}

/// A number with zeros before it, so that it has at least so many digits: not by way of a formatter, as every line
/// has several. It never fails.
fn padded(out: &mut Vec<u8>, number: u64, digits: usize) -> io::Result<()> {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number).as_bytes();
    out.extend(std::iter::repeat_n(b'0', digits.saturating_sub(text.len())));
    out.extend_from_slice(text);
    Ok(())
}

/// Reads one piece after a percent sign; gives what follows it.
fn piece<'a>(text: &'a str, pieces: &mut Vec<Piece>) -> Result<&'a str, String> {
    let unknown = || format!("the time format %{text} is not supported");
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let after = &text[digits.len()..];
    if let Some(rest) = after.strip_prefix('f') {
        let count = digits.parse().ok().filter(|count| (1..=9).contains(count));
        let count = if digits.is_empty() { Some(9) } else { count };
        pieces.push(Piece::Fraction(count.ok_or_else(unknown)?));
        return Ok(rest);
    }
    if let Some(after) = text.strip_prefix('E') {
        let digit = after.chars().next().and_then(|digit| digit.to_digit(10));
        let rest = after.get(1..).and_then(|after| after.strip_prefix('S'));
        let (Some(digit @ 0..=9), Some(rest)) = (digit, rest) else {
            return Err(unknown());
        };
        pieces.push(Piece::Seconds(digit as usize));
        return Ok(rest);
    }
    let letter = text.chars().next().ok_or_else(unknown)?;
    let rest = &text[letter.len_utf8()..];
    let whole: &[Piece] = match letter {
        'Y' => &[Piece::Year],
        'y' => &[Piece::ShortYear],
        'm' => &[Piece::Month],
        'd' => &[Piece::Day],
        'e' => &[Piece::SpacedDay],
        'H' => &[Piece::Hour],
        'M' => &[Piece::Minute],
        'S' => &[Piece::Second],
        's' => &[Piece::UnixSeconds],
        'j' => &[Piece::DayOfYear],
        'b' | 'h' => &[Piece::MonthName(3)],
        'B' => &[Piece::MonthName(9)],
        'a' => &[Piece::WeekdayName(3)],
        'A' => &[Piece::WeekdayName(9)],
        'F' | 'T' | 'D' | 'R' | 'z' | 'Z' | '%' | 'n' | 't' => {
            let meaning = match letter {
                'F' => "%Y-%m-%d",
                'T' => "%H:%M:%S",
                'D' => "%m/%d/%y",
                'R' => "%H:%M",
                'z' => "+0000",
                'Z' => "UTC",
                'n' => "\n",
                't' => "\t",
                _ => {
                    push_text(pieces, "%");
                    return Ok(rest);
                }
            };
            pieces.extend(TimeFormat::parse(meaning)?.0);
            return Ok(rest);
        }
        _ => return Err(unknown()),
    };
    pieces.extend_from_slice(whole);
    Ok(rest)
}
