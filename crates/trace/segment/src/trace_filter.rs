//! A split-block Bloom filter, as Parquet defines it: one block of 32 bytes for each trace or text, one
//! bit in each of the block's eight words.

use std::borrow::Cow;

/// Knows for most traces that they are not there.
#[derive(Clone, Debug)]
pub(crate) struct TraceFilter<'a> {
    blocks: Cow<'a, [u8]>,
}

const BLOCK: usize = 32;
const BITS_PER_TRACE: usize = 10;

/// Parquet's salts: which bit of each word a hash sets.
const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

impl TraceFilter<'static> {
    /// An empty one that has room for this many traces.
    pub(crate) fn for_traces(traces: usize) -> Self {
        Self::with_bits(traces * BITS_PER_TRACE)
    }

    /// An empty one of at least this many bits.
    pub(crate) fn with_bits(bits: usize) -> Self {
        let blocks = bits.div_ceil(8 * BLOCK).max(1);
        Self {
            blocks: Cow::Owned(vec![0; blocks * BLOCK]),
        }
    }
}

impl<'a> TraceFilter<'a> {
    /// One that was written; `None` if the bytes are none.
    pub(crate) fn read(bytes: Cow<'a, [u8]>) -> Option<Self> {
        let whole = !bytes.is_empty() && bytes.len().is_multiple_of(BLOCK);
        whole.then_some(Self { blocks: bytes })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.blocks
    }

    pub(crate) fn insert(&mut self, hash: u64) {
        let begin = self.block(hash);
        let (words, _) = self.blocks.to_mut()[begin..begin + BLOCK].as_chunks_mut::<4>();
        for (word, mask) in words.iter_mut().zip(masks(hash)) {
            *word = (u32::from_le_bytes(*word) | mask).to_le_bytes();
        }
    }

    /// False: it is not there. True: it most likely is.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let begin = self.block(hash);
        let (words, _) = self.blocks[begin..begin + BLOCK].as_chunks::<4>();
        (words.iter().zip(masks(hash))).all(|(word, mask)| u32::from_le_bytes(*word) & mask != 0)
    }

    fn block(&self, hash: u64) -> usize {
        let blocks = (self.blocks.len() / BLOCK) as u64;
        (((hash >> 32) * blocks) >> 32) as usize * BLOCK
    }
}

fn masks(hash: u64) -> [u32; 8] {
    SALTS.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::hash_u64;

    #[test]
    fn what_is_inside_is_found_and_little_else() {
        let mut filter = TraceFilter::for_traces(10_000);
        for n in 0..10_000 {
            filter.insert(hash_u64(1, n));
        }
        let filter = TraceFilter::read(Cow::Borrowed(filter.bytes())).expect("a filter");
        assert!((0..10_000).all(|n| filter.may_contain(hash_u64(1, n))));
        let wrong = (10_000..110_000).filter(|n| filter.may_contain(hash_u64(1, *n)));
        assert!(wrong.count() < 2_000);
        assert!(TraceFilter::read(Cow::Borrowed(&[0; 33])).is_none());
        assert!(TraceFilter::read(Cow::Borrowed(&[])).is_none());
    }
}
