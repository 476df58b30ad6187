//! Digits without a formatter: a line has dozens of them.

use std::net::Ipv4Addr;

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    pairs
};

/// `000` to `999`.
static TRIPLES: [[u8; 3]; 1000] = {
    let mut triples = [[0; 3]; 1000];
    let mut number = 0;
    while number < 1000 {
        let [tens, ones] = PAIRS[number % 100];
        triples[number] = [b'0' + (number / 100) as u8, tens, ones];
        number += 1;
    }
    triples
};

/// `0` to `999` in the lower three bytes, as they lie in memory, and how many there are in the upper one.
static SHORT: [u32; 1000] = {
    let mut short = [0; 1000];
    let mut number = 0;
    while number < 1000 {
        let zeros = match number {
            0..10 => 2,
            10..100 => 1,
            _ => 0,
        };
        let [hundreds, tens, ones] = TRIPLES[number];
        let digits = u32::from_le_bytes([hundreds, tens, ones, 0]) >> (8 * zeros);
        short[number] = digits | (3 - zeros) << 24;
        number += 1;
    }
    short
};

/// Appends a number with zeros before it, so that it has at least so many digits.
#[inline]
pub(super) fn padded(out: &mut Vec<u8>, number: u64, digits: usize) {
    let pair = |number: u64| PAIRS[(number % 100) as usize];
    match (digits, number) {
        (2, 0..100) => out.extend_from_slice(&pair(number)),
        (3, 0..1000) => out.extend_from_slice(&TRIPLES[number as usize]),
        (4, 0..10_000) => {
            out.extend_from_slice(&pair(number / 100));
            out.extend_from_slice(&pair(number));
        }
        _ => {
            let mut buffer = itoa::Buffer::new();
            let text = buffer.format(number).as_bytes();
            out.extend(std::iter::repeat_n(b'0', digits.saturating_sub(text.len())));
            out.extend_from_slice(text);
        }
    }
}

/// Appends a number.
#[inline]
pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..1000 => {
            let (digits, length) = short(number as usize);
            append(out, digits.to_le_bytes(), length);
        }
        // A port, or a few kilobytes.
        1000..1_000_000 => {
            let (digits, length) = short((number / 1000) as usize);
            let [hundreds, tens, ones] = TRIPLES[(number % 1000) as usize];
            let rest = u64::from(u32::from_le_bytes([hundreds, tens, ones, 0]));
            let digits = u64::from(digits) | rest << (8 * length);
            append(out, digits.to_le_bytes(), length + 3);
        }
        _ => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
    }
}

/// The digits of a number below 1000, as they lie in memory, and how many there are.
#[inline]
fn short(number: usize) -> (u32, usize) {
    let short = SHORT[number];
    (short & 0xff_ffff, (short >> 24) as usize)
}

/// Appends the first of these bytes: all of them, as so many are copied by one instruction, and some are cut off again.
#[inline]
fn append<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N], length: usize) {
    let end = out.len() + length;
    out.extend_from_slice(&bytes);
    out.truncate(end);
}

/// Appends an address.
#[inline]
pub(super) fn v4(out: &mut Vec<u8>, ip: Ipv4Addr) {
    // At most 15 bytes, the first of which is the lowest of the number.
    let mut text = 0;
    let mut length = 0;
    for octet in ip.octets() {
        let (digits, count) = short(octet.into());
        let digits = digits | u32::from(b'.') << (8 * count);
        text |= u128::from(digits) << (8 * length);
        length += count + 1;
    }
    append(out, text.to_le_bytes(), length - 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_formatter() {
        for octet in 0..=255 {
            let ip = Ipv4Addr::new(octet, 255 - octet, octet / 2, 7);
            let mut out = b"x".to_vec();
            v4(&mut out, ip);
            assert_eq!(String::from_utf8_lossy(&out), format!("x{ip}"));
        }
        for shown in [
            0, 7, 10, 99, 100, 999, 1000, 9999, 10_000, 65_535, 99_999, 123_456,
        ] {
            let mut out = Vec::new();
            number(&mut out, shown);
            assert_eq!(String::from_utf8_lossy(&out), shown.to_string());
            for digits in 0..8 {
                let mut out = Vec::new();
                padded(&mut out, shown, digits);
                assert_eq!(String::from_utf8_lossy(&out), format!("{shown:0digits$}"));
            }
        }
    }
}
