use periplus_model::TraceId;

/// Whether a trace falls into a share (0 to 1) of all, as Zipkin's collector decides: by the low 64
/// bits of its id, so that every collector with the same share decides the same.
pub fn in_share(id: TraceId, share: f64) -> bool {
    let boundary = (i64::MAX as f64 * share) as u64;
    let distance = id.low().cast_signed().unsigned_abs();
    distance.min(i64::MAX.unsigned_abs()) <= boundary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_fall_into_a_share_or_not() {
        let most = i64::MAX.unsigned_abs();
        for (low, share, expected) in [
            (0, 0.0, true),
            (1, 0.0, false),
            (most, 1.0, true),
            // The number whose absolute value has no place in 64 bits.
            (1 << 63, 1.0, true),
            (1 << 63, 0.99, false),
            (most / 2, 0.5, true),
            (most / 4 * 3, 0.5, false),
            // Negative numbers count like positive ones.
            (u64::MAX, 0.1, true),
        ] {
            let id = TraceId::from_halves(u64::MAX, low);
            assert_eq!(in_share(id, share), expected, "{low} {share}");
        }
    }
}
