/// A duration as Go prints it (`1.5ms`, `2h0m3s`): the form in Jaeger's warnings.
pub fn go_duration(nano: i128) -> String {
    let sign = if nano < 0 { "-" } else { "" };
    let nano = nano.unsigned_abs();
    if nano == 0 {
        return "0s".to_owned();
    }
    let (unit, suffix) = match nano {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    if suffix != "s" {
        return format!("{sign}{}{suffix}", decimal(nano, unit));
    }
    let minutes = nano / 60_000_000_000;
    let seconds = decimal(nano % 60_000_000_000, unit);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// A point in time as Go prints it (`2026-11-22 07:29:18.5 +0000 UTC`).
pub(crate) fn go_time(unix_nano: u64) -> String {
    let (seconds, nano) = (unix_nano / 1_000_000_000, unix_nano % 1_000_000_000);
    let (year, month, day) = date((seconds / 86_400) as i64);
    let of_day = seconds % 86_400;
    let fraction = match nano {
        0 => String::new(),
        nano => format!(".{nano:09}").trim_end_matches('0').to_owned(),
    };
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}{fraction} +0000 UTC",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// Year, month and day of a day since the epoch (`civil_from_days`).
pub fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let day = of_year - (153 * march + 2) / 5 + 1;
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// A duration for people: three digits after the point at most (`5.2 ms`).
pub(crate) fn short_duration(nano: u64) -> String {
    let (unit, suffix) = match nano {
        0..1_000 => (1.0, "ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let number = format!("{:.3}", nano as f64 / unit);
    let number = number.trim_end_matches('0').trim_end_matches('.');
    format!("{number} {suffix}")
}

fn decimal(nano: u128, unit: u128) -> String {
    let (whole, rest) = (nano / unit, nano % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{rest:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_look_like_gos() {
        for (nano, text) in [
            (0, "0s"),
            (1, "1ns"),
            (-1_100, "-1.1µs"),
            (2_200_000, "2.2ms"),
            (10_000_001, "10.000001ms"),
            (1_000_000_000, "1s"),
            (-90_000_000_000, "-1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (7_384_050_000_000, "2h3m4.05s"),
        ] {
            assert_eq!(go_duration(nano), text);
        }
    }

    #[test]
    fn times_look_like_gos() {
        for (nano, text) in [
            (0, "1970-01-01 00:00:00 +0000 UTC"),
            (1, "1970-01-01 00:00:00.000000001 +0000 UTC"),
            (951_782_400_500_000_000, "2000-02-29 00:00:00.5 +0000 UTC"),
        ] {
            assert_eq!(go_time(nano), text);
        }
    }

    #[test]
    fn short_durations_have_three_digits_at_most() {
        for (nano, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (5_200_000, "5.2 ms"),
            (1_234_567_890, "1.235 s"),
        ] {
            assert_eq!(short_duration(nano), text);
        }
    }
}
