//! One byte of each value of a column.

use std::borrow::Cow;
use std::cell::RefCell;

use zstd::bulk::Decompressor;

use crate::bytes::{Cursor, put_varint};

const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// One bit of each value.
const BITS: u8 = 2;
/// All bytes are this one.
const SAME: u8 = 3;

/// What compression needs and keeps between calls.
pub(crate) struct Squeeze {
    zstd: zstd::bulk::Compressor<'static>,
    scratch: Vec<u8>,
    pub(super) plane: Vec<u8>,
}

impl Squeeze {
    /// With zstd at this level.
    pub(crate) fn new(level: i32) -> Self {
        Self {
            zstd: zstd::bulk::Compressor::new(level).unwrap_or_default(),
            scratch: Vec::new(),
            plane: Vec::new(),
        }
    }

    /// The bytes compressed; `None` if they are not smaller then.
    fn compress(&mut self, bytes: &[u8]) -> Option<&[u8]> {
        if bytes.len() < 32 {
            return None;
        }
        self.scratch.clear();
        self.scratch
            .reserve(zstd::zstd_safe::compress_bound(bytes.len()));
        let length = self
            .zstd
            .compress_to_buffer(bytes, &mut self.scratch)
            .ok()?;
        (length + 8 < bytes.len()).then_some(&self.scratch[..length])
    }

    /// Appends bytes of which the reader knows how many they are.
    pub(crate) fn put_blob(&mut self, out: &mut Vec<u8>, bytes: &[u8]) {
        match self.compress(bytes) {
            Some(compressed) => {
                out.push(ZSTD);
                put_varint(out, compressed.len() as u64);
                out.extend_from_slice(compressed);
            }
            None => {
                out.push(RAW);
                out.extend_from_slice(bytes);
            }
        }
    }

    /// Appends one byte of each value. The reader knows how many they are.
    pub(crate) fn put_plane(&mut self, out: &mut Vec<u8>, plane: &[u8]) {
        let Some((&first, rest)) = plane.split_first() else {
            return;
        };
        let seen = plane.iter().fold(0, |seen, byte| seen | byte);
        if seen <= 1 && !rest.iter().all(|byte| *byte == first) {
            self.put_bits(out, plane);
        } else if rest.iter().all(|byte| *byte == first) {
            out.extend_from_slice(&[SAME, first]);
        } else if looks_random(plane) {
            out.push(RAW);
            out.extend_from_slice(plane);
        } else {
            self.put_blob(out, plane);
        }
    }

    fn put_bits(&mut self, out: &mut Vec<u8>, plane: &[u8]) {
        let mut bits = vec![0_u8; plane.len().div_ceil(8)];
        for (i, byte) in plane.iter().enumerate() {
            bits[i / 8] |= byte << (i % 8);
        }
        match self.compress(plane) {
            Some(compressed) if compressed.len() < bits.len() => {
                out.push(ZSTD);
                put_varint(out, compressed.len() as u64);
                out.extend_from_slice(compressed);
            }
            _ => {
                out.push(BITS);
                out.extend_from_slice(&bits);
            }
        }
    }
}

/// Reads what [`Squeeze::put_blob`] and [`Squeeze::put_plane`] write.
pub(crate) fn read_plane<'a>(cursor: &mut Cursor<'a>, length: usize) -> Option<Cow<'a, [u8]>> {
    if length == 0 {
        return Some(Cow::Borrowed(&[]));
    }
    read_blob(cursor, length)
}

/// Reads what [`Squeeze::put_blob`] writes.
pub(crate) fn read_blob<'a>(cursor: &mut Cursor<'a>, length: usize) -> Option<Cow<'a, [u8]>> {
    match cursor.byte()? {
        RAW => Some(Cow::Borrowed(cursor.take(length)?)),
        ZSTD => {
            let compressed = cursor.bytes()?;
            // A length that was damaged must not ask for all of the memory.
            let plausible = compressed.len().checked_mul(MOST_TIMES_SMALLER)? >= length;
            let bytes = plausible.then(|| decompress(compressed, length))??;
            (bytes.len() == length).then_some(Cow::Owned(bytes))
        }
        BITS => {
            let bits = cursor.take(length.div_ceil(8))?;
            let bit = |i: usize| bits[i / 8] >> (i % 8) & 1;
            Some(Cow::Owned((0..length).map(bit).collect()))
        }
        SAME => {
            let byte = cursor.byte()?;
            Some(Cow::Owned(vec![byte; length]))
        }
        _ => None,
    }
}

/// At most this many bytes.
fn decompress(compressed: &[u8], length: usize) -> Option<Vec<u8>> {
    thread_local! {
        // To make one takes longer than most planes.
        static CONTEXT: RefCell<Decompressor<'static>> = RefCell::default();
    }
    CONTEXT.with_borrow_mut(|context| context.decompress(compressed, length).ok())
}

/// Zstandard packs a run of one byte into a few bytes for each block of 128 KiB.
const MOST_TIMES_SMALLER: usize = 1 << 20;

/// Whether the bytes are spread so evenly that trying to compress them is a waste: the sum of the
/// squares of how often each occurs is least for random ones.
fn looks_random(plane: &[u8]) -> bool {
    if plane.len() < 1024 {
        return false;
    }
    let mut counts = [0_u32; 256];
    let sample = &plane[..plane.len().min(4096)];
    for byte in sample {
        counts[*byte as usize] += 1;
    }
    let squares: u64 = (counts.iter()).map(|count| u64::from(*count).pow(2)).sum();
    let n = sample.len() as u64;
    let random = n * n / 256 + n;
    squares < random + random / 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_round_trip() {
        let noise = |i: usize| (crate::hash::hash_u64(7, i as u64) >> 56) as u8;
        let planes: [Vec<u8>; 8] = [
            vec![],
            vec![5],
            vec![9; 10_000],
            (0..10_000).map(noise).collect(),
            (0..10_000).map(|i| noise(i) & 1).collect(),
            (0..10_001).map(|i| noise(i) & 7).collect(),
            (0..20_000).map(|i| u8::from(i % 5_000 == 3)).collect(),
            (0..40).map(noise).collect(),
        ];
        let mut squeeze = Squeeze::new(1);
        for plane in planes {
            let mut out = Vec::new();
            squeeze.put_plane(&mut out, &plane);
            let mut cursor = Cursor(&out);
            let read = read_plane(&mut cursor, plane.len()).expect("what was written");
            assert_eq!(*read, *plane);
            assert!(cursor.is_empty());
            assert!(out.len() <= plane.len() + 1);
        }
    }
}
