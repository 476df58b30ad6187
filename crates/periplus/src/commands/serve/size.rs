/// Parses a number of bytes: `268435456`, `256MiB`, `1GiB`, `500MB`.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(format!("unknown unit '{unit}': use KiB, MiB or GiB")),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| format!("'{text}' is no size: use a number and a unit, such as 256MiB"))?;
    if bytes < MIN {
        return Err(format!("at least {} MiB are needed", MIN >> 20));
    }
    Ok(bytes)
}

/// Below this a single batch may not fit.
const MIN: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("268435456", 256 << 20),
            ("256MiB", 256 << 20),
            ("256m", 256 << 20),
            ("2 GiB", 2 << 30),
            ("500MB", 500_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1TiB", "-1", "1023KiB", "99999999999GiB"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
