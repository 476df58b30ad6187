use std::time::Duration;

/// Parses a time: `0`, `500ms`, `90s`, `30m`, `72h`, `14d`.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let millis: u64 = match unit.trim() {
        "" if number == "0" => 1,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("'{text}' has no unit: use ms, s, m, h or d")),
        _ => return Err(format!("unknown unit '{unit}': use ms, s, m, h or d")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("'{text}' is no time: use a number and a unit, such as 72h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, millis) in [
            ("0", 0),
            ("500ms", 500),
            ("90s", 90_000),
            ("30m", 1_800_000),
            ("72h", 259_200_000),
            ("14d", 1_209_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "72", "h", "-1h", "1w", "1.5h", "99999999999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
