//! Hex numbers in header values.

/// The value of each ASCII hex digit; 0xff for every other byte.
const VALUES: [u8; 256] = {
    let mut values = [0xff; 256];
    let mut digit = 0;
    while digit < 10 {
        values[(b'0' + digit) as usize] = digit;
        digit += 1;
    }
    let mut digit = 0;
    while digit < 6 {
        values[(b'a' + digit) as usize] = 10 + digit;
        values[(b'A' + digit) as usize] = 10 + digit;
        digit += 1;
    }
    values
};

/// The number that at most 16 hex digits of either case stand for. None for an empty text.
pub(super) fn parse_digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    // Bit 4 or above in the union of all values betrays a byte that is no digit.
    let (number, seen) = digits.iter().fold((0, 0), |(number, seen), &byte| {
        let value = VALUES[usize::from(byte)];
        ((number << 4) | u64::from(value), seen | value)
    });
    (seen < 16).then_some(number)
}

/// A 64-bit number as Envoy reads it, with the C library's manners: white space before it, an
/// optional `0x`, and leading zeros beyond 16 digits; but no sign.
pub(super) fn parse_number(text: &[u8]) -> Option<u64> {
    let digits = match text.trim_ascii_start() {
        [b'0', b'x' | b'X', digits @ ..] => digits,
        digits => digits,
    };
    match digits.len().checked_sub(17) {
        None => parse_digits(digits),
        Some(excess) => {
            let (zeros, number) = digits.split_at(excess + 1);
            zeros.iter().all(|&byte| byte == b'0').then_some(())?;
            parse_digits(number)
        }
    }
}
