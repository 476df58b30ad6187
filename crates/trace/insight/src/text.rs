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
