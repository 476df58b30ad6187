//! The bounds of buckets, as Prometheus and the admin pages show them.

use std::sync::{Arc, LazyLock};

use super::BOUNDS;

/// The upper bounds of a histogram's buckets, in order; the last bucket has none.
#[derive(Debug, PartialEq)]
pub(crate) struct Bounds(Box<[Bound]>);

/// The upper bound of a bucket of whole numbers.
#[derive(Debug, PartialEq)]
pub(crate) struct Bound {
    /// As it was given,
    pub(crate) value: f64,
    /// as a label of Prometheus,
    pub(crate) text: Box<str>,
    /// and as `/stats` has it.
    pub(crate) short: Box<str>,
    /// The largest whole number that is not above it.
    pub(crate) limit: u64,
}

/// Envoy's own.
pub(crate) static USUAL: LazyLock<Arc<Bounds>> = LazyLock::new(|| {
    // They are short numbers.
    let value = |(text, _): &(&str, u64)| text.parse().unwrap_or_default();
    Arc::new(Bounds::new(BOUNDS.iter().map(value).collect()))
});

impl Bounds {
    /// Of positive numbers; sorts them.
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let bound = |value: f64| Bound {
            value,
            text: text(value).into(),
            short: short(value).into(),
            // Larger ones than there are whole numbers become the largest.
            limit: value as u64,
        };
        Self(values.into_iter().map(bound).collect())
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Bound> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of a value's bucket.
    pub(crate) fn bucket_of(&self, value: u64) -> usize {
        self.0.partition_point(|bound| bound.limit < value)
    }
}

/// A number as Envoy writes it: its exact value, in no more than 32 digits.
fn text(value: f64) -> String {
    const DIGITS: usize = 32;
    let decimals = match value < 1.0 {
        // Zeros before the first digit count for nothing.
        true => {
            let exact = format!("{value:.400}");
            let zeros = exact.bytes().skip(2).take_while(|digit| *digit == b'0');
            DIGITS + zeros.count()
        }
        false => DIGITS.saturating_sub(format!("{:.0}", value.trunc()).len()),
    };
    trimmed(&format!("{value:.decimals$}")).to_owned()
}

/// A number in no more than six digits, as `%g` of C.
fn short(value: f64) -> String {
    const DIGITS: i32 = 6;
    let scientific = format!("{value:.5e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    match usize::try_from(DIGITS - 1 - exponent) {
        Ok(decimals) if exponent >= -4 => trimmed(&format!("{value:.decimals$}")).to_owned(),
        _ => format!("{}e{exponent:+03}", trimmed(digits)),
    }
}

fn trimmed(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_envoy_writes_them() {
        for (value, expected) in [
            (0.5, "0.5"),
            (1.0, "1"),
            (2.25, "2.25"),
            (100.0, "100"),
            (3_600_000.0, "3600000"),
            (0.1, "0.10000000000000000555111512312578"),
            (1.1, "1.1000000000000000888178419700125"),
            (0.01, "0.010000000000000000208166817117217"),
            (99.999, "99.998999999999995225152815692127"),
        ] {
            assert_eq!(text(value), expected, "{value}");
        }
        for (bound, (text, limit)) in USUAL.iter().zip(BOUNDS) {
            assert_eq!((&*bound.text, bound.limit), (text, limit));
        }
        for (value, expected) in [
            (0.5, "0.5"),
            (2.25, "2.25"),
            (600_000.0, "600000"),
            (1_800_000.0, "1.8e+06"),
            (12_345_678.0, "1.23457e+07"),
            (999_999.5, "1e+06"),
            (0.00012, "0.00012"),
            (0.000_012, "1.2e-05"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(short(value), expected, "{value}");
        }
    }

    #[test]
    fn a_number_stands_below_the_first_bound_that_is_not_less() {
        let bounds = Bounds::new(vec![10.0, 0.5, 2.5]);
        let buckets = [0, 1, 2, 3, 10, 11].map(|value| bounds.bucket_of(value));
        assert_eq!(buckets, [0, 1, 1, 2, 2, 3]);
        assert_eq!(Bounds::new(vec![1e300]).bucket_of(u64::MAX), 0);
    }
}
