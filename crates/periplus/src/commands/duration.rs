use std::time::Duration;

/// Parses a time: `0`, `90s`, `30m`, `72h`, `14d`.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let seconds: u64 = match unit.trim() {
        "" if number == "0" => 1,
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "" => return Err(format!("'{text}' has no unit: use s, m, h or d")),
        _ => return Err(format!("unknown unit '{unit}': use s, m, h or d")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| format!("'{text}' is no time: use a number and a unit, such as 72h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("0", 0),
            ("90s", 90),
            ("30m", 1_800),
            ("72h", 259_200),
            ("14d", 1_209_600),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "72", "h", "-1h", "1w", "1.5h", "99999999999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
