use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A 128-bit trace id, big-endian.
///
/// A 64-bit id (B3, Zipkin, old Jaeger clients) is held with a zero high half; the formats that
/// distinguish the two widths ask [`TraceId::is_64_bit`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// The id that OTLP calls invalid: all zeros.
    pub const ZERO: Self = Self([0; 16]);

    /// From 16 big-endian bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From the high and the low half.
    pub const fn from_halves(high: u64, low: u64) -> Self {
        Self((((high as u128) << 64) | low as u128).to_be_bytes())
    }

    /// The 16 big-endian bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The id as a number.
    pub const fn as_u128(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// The high 64 bits.
    pub const fn high(self) -> u64 {
        (self.as_u128() >> 64) as u64
    }

    /// The low 64 bits.
    pub const fn low(self) -> u64 {
        self.as_u128() as u64
    }

    /// Whether every bit is zero.
    pub const fn is_zero(self) -> bool {
        self.as_u128() == 0
    }

    /// Whether the high half is zero, so that B3 writes 16 digits.
    pub const fn is_64_bit(self) -> bool {
        self.high() == 0
    }

    /// The 32 lower-case hex digits.
    pub fn to_hex(self) -> [u8; 32] {
        let mut out = [0; 32];
        encode_hex(&self.0, &mut out);
        out
    }
}

/// 32 lower-case hex digits.
impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.as_u128())
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceId({self})")
    }
}

/// Accepts 1 to 32 hex digits, upper or lower case; shorter ids are padded on the left.
impl FromStr for TraceId {
    type Err = ParseIdError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        parse_hex(s, 32).map(|n| Self(n.to_be_bytes()))
    }
}

/// A 64-bit span id, big-endian.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId([u8; 8]);

impl SpanId {
    /// The id that OTLP calls invalid: all zeros.
    pub const ZERO: Self = Self([0; 8]);

    /// From 8 big-endian bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// From a number.
    pub const fn from_u64(id: u64) -> Self {
        Self(id.to_be_bytes())
    }

    /// The 8 big-endian bytes.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    /// The id as a number.
    pub const fn as_u64(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// Whether every bit is zero.
    pub const fn is_zero(self) -> bool {
        self.as_u64() == 0
    }

    /// The 16 lower-case hex digits.
    pub fn to_hex(self) -> [u8; 16] {
        let mut out = [0; 16];
        encode_hex(&self.0, &mut out);
        out
    }
}

/// 16 lower-case hex digits.
impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.as_u64())
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpanId({self})")
    }
}

/// Accepts 1 to 16 hex digits, upper or lower case; shorter ids are padded on the left.
impl FromStr for SpanId {
    type Err = ParseIdError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        parse_hex(s, 16).map(|n| Self((n as u64).to_be_bytes()))
    }
}

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ParseIdError {
    /// The text is empty.
    #[error("an id cannot be empty")]
    Empty,
    /// The text has more digits than the id has.
    #[error("an id of {found} characters is longer than {max} hex digits")]
    TooLong {
        /// Characters found.
        found: usize,
        /// Digits allowed.
        max: usize,
    },
    /// A character is no hex digit.
    #[error("character {position} of the id is not a hex digit")]
    NotHex {
        /// Where, counted from 1.
        position: usize,
    },
}

fn parse_hex(s: &str, max: usize) -> Result<u128, ParseIdError> {
    if s.is_empty() {
        return Err(ParseIdError::Empty);
    }
    if s.len() > max {
        return Err(ParseIdError::TooLong {
            found: s.len(),
            max,
        });
    }
    s.bytes()
        .enumerate()
        .try_fold(0, |n, (i, byte)| match (byte as char).to_digit(16) {
            Some(digit) => Ok((n << 4) | u128::from(digit)),
            None => Err(ParseIdError::NotHex { position: i + 1 }),
        })
}

/// Writes eight digits at a time: spreads the nibbles of 32 bits over eight bytes, then adds what
/// makes each a digit.
fn encode_hex(bytes: &[u8], out: &mut [u8]) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, _) = bytes.as_chunks::<4>();
    let (digits, _) = out.as_chunks_mut::<8>();
    for (word, digits) in words.iter().zip(digits) {
        let spread = u64::from(u32::from_be_bytes(*word));
        let spread = (spread | (spread << 16)) & 0x0000_ffff_0000_ffff;
        let spread = (spread | (spread << 8)) & 0x00ff_00ff_00ff_00ff;
        let nibbles = (spread | (spread << 4)) & (ONES * 0x0f);
        let letters = ((nibbles + ONES * 6) >> 4) & ONES;
        let text = nibbles + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10);
        *digits = text.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_through_text() {
        let trace = TraceId::from_halves(0x463a_c35c_9f64_13ad, 0x4848_5a39_53bb_6124);
        assert_eq!(trace.to_string(), "463ac35c9f6413ad48485a3953bb6124");
        assert_eq!(trace.to_string().parse(), Ok(trace));
        assert_eq!(&trace.to_hex(), trace.to_string().as_bytes());
        let span = SpanId::from_u64(0xa2fb_4a1d_1a96_d312);
        assert_eq!(span.to_string().to_uppercase().parse(), Ok(span));
        assert_eq!(&span.to_hex(), span.to_string().as_bytes());
    }

    #[test]
    fn short_ids_are_padded_and_bad_ones_named() {
        assert_eq!("123".parse(), Ok(TraceId::from_halves(0, 0x123)));
        assert!("123".parse::<TraceId>().is_ok_and(TraceId::is_64_bit));
        assert_eq!("".parse::<SpanId>(), Err(ParseIdError::Empty));
        assert_eq!(
            "12g4".parse::<SpanId>(),
            Err(ParseIdError::NotHex { position: 3 })
        );
        assert_eq!(
            "0".repeat(17).parse::<SpanId>(),
            Err(ParseIdError::TooLong { found: 17, max: 16 })
        );
    }
}
