//! RFC 3339, as Go's `time` package reads and writes it.

use std::fmt::Write;

use periplus_insight::date;

use crate::go;

/// Go's layout of the same name.
const LAYOUT: &str = "2006-01-02T15:04:05.999999999Z07:00";

/// `time.Parse(time.RFC3339Nano, text)`, in nanoseconds since the Unix epoch; a time before it is
/// the epoch. A `+` of the zone that a client forgot to escape has become a space: it is taken for
/// what it was.
pub(crate) fn parse_rfc3339(text: &str) -> Result<u64, String> {
    let mut reader = Reader { text, rest: text };
    let year = reader.digits(4, "2006")?;
    reader.literal("-", "-")?;
    let month = reader.digits(2, "01")?;
    reader.literal("-", "-")?;
    let day = reader.digits(2, "02")?;
    reader.literal("T", "T")?;
    let hour = reader.digits(2, "15")?;
    reader.literal(":", ":")?;
    let minute = reader.digits(2, "04")?;
    reader.literal(":", ":")?;
    let second = reader.digits(2, "05")?;
    let nano = reader.fraction();
    let zone = reader.zone()?;
    if !reader.rest.is_empty() {
        return Err(format!(
            "parsing time {}: extra text: {}",
            go::quote(text),
            go::quote(reader.rest)
        ));
    }
    let checks = [
        ((1..=12).contains(&month), "month"),
        (
            (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day),
            "day",
        ),
        (hour < 24, "hour"),
        (minute < 60, "minute"),
        (second < 60, "second"),
    ];
    if let Some((_, what)) = checks.iter().find(|(good, _)| !good) {
        return Err(format!(
            "parsing time {}: {what} out of range",
            go::quote(text)
        ));
    }
    let seconds =
        days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - zone;
    let nanos = i128::from(seconds) * 1_000_000_000 + i128::from(nano);
    Ok(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

/// `time.Time.Format(time.RFC3339Nano)` in UTC.
pub(crate) fn format_rfc3339(unix_nano: u64) -> String {
    let (seconds, nano) = (unix_nano / 1_000_000_000, unix_nano % 1_000_000_000);
    let (year, month, day) = date((seconds / 86_400) as i64);
    let of_day = seconds % 86_400;
    let mut out = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    );
    if nano > 0 {
        // Writing to a string cannot fail.
        let _ = write!(out, ".{nano:09}");
        out.truncate(out.trim_end_matches('0').len());
    }
    out.push('Z');
    out
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
}

impl Reader<'_> {
    fn failed(&self, element: &str) -> String {
        format!(
            "parsing time {} as {}: cannot parse {} as {}",
            go::quote(self.text),
            go::quote(LAYOUT),
            go::quote(self.rest),
            go::quote(element)
        )
    }

    fn digits(&mut self, count: usize, element: &str) -> Result<i64, String> {
        let digits = self.rest.as_bytes().get(..count);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let digits = digits.ok_or_else(|| self.failed(element))?;
        let number = digits
            .iter()
            .fold(0, |n, digit| n * 10 + i64::from(digit - b'0'));
        self.rest = &self.rest[count..];
        Ok(number)
    }

    fn literal(&mut self, literal: &str, element: &str) -> Result<(), String> {
        let rest = self.rest.strip_prefix(literal);
        self.rest = rest.ok_or_else(|| self.failed(element))?;
        Ok(())
    }

    /// Nanoseconds; more digits than nine are read and dropped.
    fn fraction(&mut self) -> u32 {
        let Some(rest) = self.rest.strip_prefix(['.', ',']) else {
            return 0;
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return 0;
        }
        let nano = rest[..digits]
            .bytes()
            .chain(std::iter::repeat(b'0'))
            .take(9);
        self.rest = &rest[digits..];
        nano.fold(0, |n, digit| n * 10 + u32::from(digit - b'0'))
    }

    /// Seconds east of Greenwich.
    fn zone(&mut self) -> Result<i64, String> {
        const ELEMENT: &str = "Z07:00";
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let failed = self.failed(ELEMENT);
        let sign = match self.rest.bytes().next() {
            Some(b'+' | b' ') => 1,
            Some(b'-') => -1,
            _ => return Err(failed),
        };
        self.rest = &self.rest[1..];
        let mut number = || -> Result<i64, String> { self.digits(2, ELEMENT) };
        let hours = number().map_err(|_| failed.clone())?;
        self.literal(":", ELEMENT).map_err(|_| failed.clone())?;
        let minutes = self.digits(2, ELEMENT).map_err(|_| failed.clone())?;
        if hours > 24 || minutes > 60 {
            return Err(failed);
        }
        Ok(sign * (hours * 3_600 + minutes * 60))
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Howard Hinnant's `days_from_civil`; years begin in March, so that the leap day is the last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        for (text, nano) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000_000),
            ("2026-11-22T07:29:18.000000001Z", 1_795_332_558_000_000_001),
            ("2026-11-22T08:29:18.5+01:00", 1_795_332_558_500_000_000),
            ("2026-11-22T08:29:18.5 01:00", 1_795_332_558_500_000_000),
            ("2026-11-22T02:59:18-04:30", 1_795_332_558_000_000_000),
            ("2026-11-22T07:29:18.1234567899Z", 1_795_332_558_123_456_789),
            ("1969-12-31T23:59:59Z", 0),
            ("0001-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(parse_rfc3339(text), Ok(nano), "{text}");
        }
        let as_layout = |text: &str, rest: &str, element: &str| {
            format!(
                "parsing time \"{text}\" as \"2006-01-02T15:04:05.999999999Z07:00\": \
                 cannot parse \"{rest}\" as \"{element}\""
            )
        };
        for (text, rest, element) in [
            ("", "", "2006"),
            ("abc", "abc", "2006"),
            ("2026-1-1", "1-1", "01"),
            ("2026-11-22 07:29:18Z", " 07:29:18Z", "T"),
            ("2026-11-22T07:29:18", "", "Z07:00"),
            ("2026-11-22T07:29:18.5", "", "Z07:00"),
            ("2026-11-22T07:29:18+1", "+1", "Z07:00"),
            ("äöü", "äöü", "2006"),
        ] {
            assert_eq!(parse_rfc3339(text), Err(as_layout(text, rest, element)));
        }
        assert_eq!(
            parse_rfc3339("2026-02-29T00:00:00Z"),
            Err("parsing time \"2026-02-29T00:00:00Z\": day out of range".to_owned())
        );
        assert_eq!(
            parse_rfc3339("2026-02-28T00:00:00Zx"),
            Err("parsing time \"2026-02-28T00:00:00Zx\": extra text: \"x\"".to_owned())
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nano in 0..u64::MAX) {
            prop_assert_eq!(parse_rfc3339(&format_rfc3339(nano)), Ok(nano));
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = parse_rfc3339(&text);
        }
    }
}
