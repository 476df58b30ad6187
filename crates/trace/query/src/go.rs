//! Go's number and duration syntax, and Go's words for what is wrong with it: Jaeger's clients
//! see both.

use std::fmt::Write;

/// Go's message for a text that it cannot parse.
pub(crate) type ParseError = String;

/// `strconv.ParseInt(text, 10, bits)`.
pub(crate) fn parse_int(text: &str, bits: u32) -> Result<i64, ParseError> {
    let failure = |why| format!("strconv.ParseInt: parsing {}: {why}", quote(text));
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(failure("invalid syntax"));
    }
    let number: i64 = text.parse().map_err(|_| failure("value out of range"))?;
    let limit = 1_i128 << (bits - 1);
    if (-limit..limit).contains(&i128::from(number)) {
        Ok(number)
    } else {
        Err(failure("value out of range"))
    }
}

/// `strconv.ParseBool`.
pub(crate) fn parse_bool(text: &str) -> Result<bool, ParseError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "strconv.ParseBool: parsing {}: invalid syntax",
            quote(text)
        )),
    }
}

/// `strconv.ParseUint(text, 16, 64)`.
pub(crate) fn parse_hex(text: &str) -> Result<u64, ParseError> {
    let failure = |why| format!("strconv.ParseUint: parsing {}: {why}", quote(text));
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(failure("invalid syntax"));
    }
    u64::from_str_radix(text, 16).map_err(|_| failure("value out of range"))
}

/// `time.ParseDuration`: nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Result<i64, ParseError> {
    duration(text, false)
}

/// As [`parse_duration`], with days and weeks (`2d`, `1w`) as UIs write look-backs.
pub(crate) fn parse_lookback(text: &str) -> Result<i64, ParseError> {
    duration(text, true)
}

fn duration(text: &str, days: bool) -> Result<i64, ParseError> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let Some(nano) = unit_nano(unit, days) else {
            return Err(format!(
                "time: unknown unit {} in duration {}",
                quote(unit),
                quote(text)
            ));
        };
        let whole: i128 = match whole {
            "" => 0,
            digits => digits.parse::<i64>().map_err(|_| invalid())?.into(),
        };
        total += whole * nano;
        // Digits behind the eighteenth are below a nanosecond for every unit.
        let fraction = fraction.get(..18).unwrap_or(fraction);
        if !fraction.is_empty() {
            let scale = 10_i128.pow(fraction.len() as u32);
            total += fraction.parse::<i128>().map_err(|_| invalid())? * nano / scale;
        }
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| invalid())
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn unit_nano(unit: &str, days: bool) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        // The micro sign and the Greek letter mu.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" if days => 86_400_000_000_000,
        "w" if days => 604_800_000_000_000,
        _ => return None,
    })
}

/// `strconv.Quote`, for what people type.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nano) in [
            ("0", 0),
            ("1.5ms", 1_500_000),
            ("100us", 100_000),
            ("100µs", 100_000),
            ("1h2.5s", 3_602_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("-5ms", -5_000_000),
            ("+1ns", 1),
            ("0.000000001s", 1),
        ] {
            assert_eq!(parse_duration(text), Ok(nano), "{text}");
        }
        for (text, error) in [
            ("", "time: invalid duration \"\""),
            ("abc", "time: invalid duration \"abc\""),
            ("10", "time: missing unit in duration \"10\""),
            ("10xs", "time: unknown unit \"xs\" in duration \"10xs\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            (".s", "time: invalid duration \".s\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
        ] {
            assert_eq!(parse_duration(text), Err(error.to_owned()), "{text}");
        }
        assert_eq!(parse_lookback("2d"), Ok(172_800_000_000_000));
    }

    proptest! {
        #[test]
        fn what_go_prints_is_read_back(nano in i64::MIN + 1..=i64::MAX) {
            let text = periplus_insight::go_duration(nano.into());
            prop_assert_eq!(parse_duration(&text), Ok(nano), "{}", text);
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = parse_lookback(&text);
            let _ = parse_int(&text, 32);
            let _ = parse_hex(&text);
        }
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        assert_eq!(parse_int("-12", 64), Ok(-12));
        assert_eq!(parse_int("+7", 32), Ok(7));
        for (text, error) in [
            ("", "strconv.ParseInt: parsing \"\": invalid syntax"),
            (
                "a\"b",
                "strconv.ParseInt: parsing \"a\\\"b\": invalid syntax",
            ),
            ("1.5", "strconv.ParseInt: parsing \"1.5\": invalid syntax"),
            (
                "2147483648",
                "strconv.ParseInt: parsing \"2147483648\": value out of range",
            ),
        ] {
            assert_eq!(parse_int(text, 32), Err(error.to_owned()), "{text}");
        }
        assert_eq!(parse_hex("fF"), Ok(255));
        assert_eq!(
            parse_hex("xyz"),
            Err("strconv.ParseUint: parsing \"xyz\": invalid syntax".to_owned())
        );
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(
            parse_bool("foobar"),
            Err("strconv.ParseBool: parsing \"foobar\": invalid syntax".to_owned())
        );
    }
}
