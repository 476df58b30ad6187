use std::time::Duration;

/// Go's units, which Istio takes, from long to short.
const UNITS: [(&str, f64); 7] = [
    ("h", 3600.0),
    ("ms", 1e-3),
    ("m", 60.0),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ns", 1e-9),
    ("s", 1.0),
];

/// Reads proto JSON's (`1.5s`) and Go's durations (`1m30s`, `100ms`).
pub(crate) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    let mut rest = text;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err("it is empty, write for example `0.5s`");
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or("its unit is missing, write for example `0.5s`")?;
        let number: f64 = rest[..digits]
            .parse()
            .map_err(|_| "write a number and a unit, for example `0.5s`")?;
        rest = &rest[digits..];
        let (unit, factor) = UNITS
            .iter()
            .find(|(unit, _)| rest.starts_with(unit))
            .ok_or("its unit is not one of h, m, s, ms, us and ns")?;
        rest = &rest[unit.len()..];
        seconds += number * factor;
    }
    // 10,000 years, the bound of google.protobuf.Duration.
    if seconds > 315_576_000_000.0 {
        return Err("it is too long");
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| "it is out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("0.5s", 500),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("100ms", 100),
            ("1500us", 1),
        ] {
            assert_eq!(parse_duration(text).unwrap().as_millis(), ms, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for text in ["", "5", "s", "1x", "-1s", "1..2s", "1 s", "99999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
