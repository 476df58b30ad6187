//! `%START_TIME(…)%`: the format of `strftime`, in UTC, with Envoy's fractions of a second.

use super::digits::padded;
use super::value::{Kind, needs_no_escape};
use crate::clock::{Clock, Micros, civil};

/// How a moment is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TimeFormat {
    pieces: Vec<Piece>,
    /// What it writes needs no escapes in JSON.
    kind: Kind,
    /// It is Envoy's default.
    is_default: bool,
}

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
        let is_plain = pieces.iter().all(|piece| match piece {
            Piece::Text(text) => needs_no_escape(text),
            _ => true,
        });
        let kind = if is_plain { Kind::Plain } else { Kind::Text };
        Ok(Self {
            pieces,
            kind,
            is_default: text == DEFAULT,
        })
    }

    /// Appends a moment of a worker.
    pub(super) fn append_at(&self, clock: &Clock, at: Micros, out: &mut Vec<u8>) -> Kind {
        let wall = clock.wall(at);
        if !self.is_default {
            return self.append(wall, out);
        }
        // A second has many lines.
        clock.append_second(wall / 1_000_000, out);
        out.push(b'.');
        padded(out, wall / 1000 % 1000, 3);
        out.push(b'Z');
        Kind::Plain
    }

    /// Appends a moment: microseconds since 1970.
    pub(super) fn append(&self, micros: u64, out: &mut Vec<u8>) -> Kind {
        let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let (days, of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Year => padded(out, year, 4),
                Piece::ShortYear => padded(out, year % 100, 2),
                Piece::Month => padded(out, month, 2),
                Piece::Day => padded(out, day, 2),
                Piece::SpacedDay => {
                    if day < 10 {
                        out.push(b' ');
                    }
                    padded(out, day, 1);
                }
                Piece::Hour => padded(out, hour, 2),
                Piece::Minute => padded(out, minute, 2),
                Piece::Second | Piece::Seconds(0) => padded(out, second, 2),
                Piece::Fraction(digits) => push_fraction(out, fraction, *digits),
                Piece::Seconds(digits) => {
                    padded(out, second, 2);
                    out.push(b'.');
                    push_fraction(out, fraction, *digits);
                }
                Piece::UnixSeconds => padded(out, seconds, 1),
                Piece::MonthName(length) => push_name(out, MONTHS[(month - 1) as usize], *length),
                Piece::WeekdayName(length) => push_name(out, DAYS[(days % 7) as usize], *length),
                Piece::DayOfYear => padded(out, days - days_before(year) + 1, 3),
            }
        }
        self.kind
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

fn push_name(out: &mut Vec<u8>, name: &str, length: usize) {
    out.extend_from_slice(&name.as_bytes()[..name.len().min(length)]);
}

/// The clock knows microseconds: further digits are 0.
fn push_fraction(out: &mut Vec<u8>, micros: u64, digits: usize) {
    let shown = micros * 1000 / 10_u64.pow(9 - digits as u32);
    padded(out, shown, digits);
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
            pieces.extend(TimeFormat::parse(meaning)?.pieces);
            return Ok(rest);
        }
        _ => return Err(unknown()),
    };
    pieces.extend_from_slice(whole);
    Ok(rest)
}
