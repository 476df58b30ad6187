//! The collector's probabilistic decision: the same ids are sampled by everyone with the same salt.

use periplus_model::TraceId;

/// What the collector uses without a `hash_salt`.
pub(super) const DEFAULT_SALT: &str = "default-hash-seed";

/// FNV-1a, 64 bits, of the salt and the id.
pub(super) fn hash(salt: &[u8], id: TraceId) -> u64 {
    let bytes = salt
        .iter()
        .chain(&id.to_bytes())
        .copied()
        .collect::<Vec<u8>>();
    (bytes.iter()).fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The largest hash that is sampled: `floor((2^64 - 1) · percentage / 100)`, without the rounding
/// of a double. `percentage` is between 0 and 100.
pub(super) fn threshold(percentage: f64) -> u64 {
    let ratio = percentage / 100.0;
    if ratio >= 1.0 {
        return u64::MAX;
    }
    if ratio <= 0.0 {
        return 0;
    }
    // ratio = mantissa · 2^-shift, with a mantissa of 53 bits.
    let bits = ratio.to_bits();
    let exponent = (bits >> 52) & 0x7ff;
    let mantissa = u128::from((bits & ((1 << 52) - 1)) | (1 << 52));
    let shift = 1_075_u64.saturating_sub(exponent);
    let product = mantissa * u128::from(u64::MAX);
    match u32::try_from(shift) {
        Ok(shift) if shift < 128 => u64::try_from(product >> shift).unwrap_or(u64::MAX),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_fnv_1a() {
        // The published vectors of the empty text and of "a", and one by hand.
        assert_eq!(hash(b"", TraceId::ZERO), 0x8820_1fb9_60ff_6465);
        let of_text = |text: &[u8]| {
            (text.iter()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
        };
        assert_eq!(of_text(b"a"), 0xaf63_dc4c_8601_ec8c);
        let id = TraceId::from_halves(1, 2);
        let whole = [b"salt".as_slice(), &id.to_bytes()].concat();
        assert_eq!(hash(b"salt", id), of_text(&whole));
    }

    #[test]
    fn thresholds_are_exact() {
        for (percentage, expected) in [
            (0.0, 0),
            (100.0, u64::MAX),
            (50.0, u64::MAX / 2),
            (25.0, u64::MAX / 4),
            (150.0, u64::MAX),
            (-1.0, 0),
        ] {
            assert_eq!(threshold(percentage), expected, "{percentage}");
        }
        let tenth = threshold(10.0);
        assert!((1_844_674_407_370_955_161..=1_844_674_407_370_955_265).contains(&tenth));
    }

    #[test]
    fn shares_are_what_they_say() {
        let ids = (0..20_000_u64).map(|n| TraceId::from_halves(n.wrapping_mul(0x9e37_79b9), n));
        let limit = threshold(10.0);
        let kept = ids
            .filter(|id| hash(DEFAULT_SALT.as_bytes(), *id) <= limit)
            .count();
        assert!((1_700..2_300).contains(&kept), "{kept}");
    }
}
