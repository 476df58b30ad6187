/// How many buckets a power of two has, as a power of two.
const STEPS: u32 = 5;

/// The bucket of a duration. Up to 32 ns each nanosecond has its own; each power of two above has 32
/// of equal width, so that the middle of a bucket is at most 1.6 % off.
pub const fn bucket_of(nano: u64) -> u16 {
    if nano < 1 << STEPS {
        return nano as u16;
    }
    let power = 63 - nano.leading_zeros();
    let step = (nano >> (power - STEPS)) as u32 & ((1 << STEPS) - 1);
    (((power - STEPS + 1) << STEPS) + step) as u16
}

/// The least and the most duration of a bucket, in nanoseconds.
pub const fn bucket_bounds(bucket: u16) -> (u64, u64) {
    let bucket = bucket as u64;
    let power = bucket >> STEPS;
    if power == 0 {
        return (bucket, bucket);
    }
    let shift = power - 1;
    // Behind the last bucket there is nothing.
    if shift > 58 {
        return (u64::MAX, u64::MAX);
    }
    let least = ((1 << STEPS) + (bucket & ((1 << STEPS) - 1))) << shift;
    (least, least + ((1 << shift) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gaps() {
        let mut next = 0;
        for bucket in 0..=bucket_of(u64::MAX) {
            let (least, most) = bucket_bounds(bucket);
            assert_eq!(least, next, "{bucket}");
            assert_eq!((bucket_of(least), bucket_of(most)), (bucket, bucket));
            assert!((most - least) as f64 <= least as f64 / 31.9);
            next = most.wrapping_add(1);
        }
        assert_eq!(next, 0);
    }
}
