//! The protobuf wire format: varints, keys, lengths.

mod reader;

pub(crate) use reader::{Payload, Reader, WireError};

/// Wire type 0.
pub(crate) const VARINT: u32 = 0;
/// Wire type 1.
pub(crate) const FIXED64: u32 = 1;
/// Wire type 2: a length and that many bytes.
pub(crate) const LENGTH: u32 = 2;
/// Wire type 5.
pub(crate) const FIXED32: u32 = 5;

/// How many bytes `value` takes as a varint.
#[inline]
pub(crate) const fn varint_length(value: u64) -> usize {
    // 9/64 for each significant bit, rounded up: ceil(bits / 7) without a division.
    let bits = 64 - (value | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

/// How many bytes a field of this many payload bytes takes, its one-byte key and length included.
#[inline]
pub(crate) const fn field_length(payload: usize) -> usize {
    1 + varint_length(payload as u64) + payload
}

/// Appends a varint.
#[inline]
pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field's key.
#[inline]
pub(crate) fn push_key(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    push_varint(out, u64::from((field << 3) | wire_type));
}

/// Appends the key and the length of a length-delimited field.
#[inline]
pub(crate) fn push_head(out: &mut Vec<u8>, field: u32, length: usize) {
    push_key(out, field, LENGTH);
    push_varint(out, length as u64);
}

/// Appends a length-delimited field.
#[inline]
pub(crate) fn push_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    push_head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a length-delimited field whose length is known only when `write` has written it.
pub(crate) fn push_message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    push_key(out, field, LENGTH);
    let begin = out.len();
    write(out);
    let length = out.len() - begin;
    push_varint(out, length as u64);
    let moved = out.len() - begin - length;
    out[begin..].rotate_right(moved);
}

/// Appends a varint field.
#[inline]
pub(crate) fn push_varint_field(out: &mut Vec<u8>, field: u32, value: u64) {
    push_key(out, field, VARINT);
    push_varint(out, value);
}

/// Appends a fixed64 field.
#[inline]
pub(crate) fn push_fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    push_key(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a fixed32 field.
#[inline]
pub(crate) fn push_fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    push_key(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_length_agrees_with_what_is_written() {
        for bit in 0..64 {
            for value in [1_u64 << bit, (1 << bit) - 1, u64::MAX >> bit] {
                let mut out = Vec::new();
                push_varint(&mut out, value);
                assert_eq!(out.len(), varint_length(value), "{value}");
            }
        }
    }
}
