use std::sync::Arc;

use super::footer::Footer;
use crate::ReadError;
use crate::bytes::Cursor;
use crate::codec::Chunk;
use crate::codec::words::read_words;
use crate::layout::Section;
use crate::read::Bytes;

/// Where each trace lies: the upper half of its hash and the number of its piece, sorted.
#[derive(Debug)]
pub(crate) struct Index {
    entries: Arc<Vec<u64>>,
}

impl Index {
    pub(super) fn read(bytes: &Bytes, chunk: Chunk, footer: &Footer) -> Result<Self, ReadError> {
        let name = || Section::Index.name().to_owned();
        let payload = bytes.chunk(chunk, name)?;
        let groups = footer.groups.iter();
        let pieces: usize = groups.map(|group| group.traces as usize).sum();
        match Self::parse(&payload, pieces) {
            Some(entries) => Ok(Self {
                entries: Arc::new(entries),
            }),
            None => Err(ReadError::damaged(name(), "it makes no sense")),
        }
    }

    fn parse(payload: &[u8], count: usize) -> Option<Vec<u64>> {
        let mut cursor = Cursor(payload);
        let mut entries = read_words::<u64>(&mut cursor, count)?;
        let pieces = read_words::<u32>(&mut cursor, count)?;
        let mut hash = 0_u64;
        for (entry, piece) in entries.iter_mut().zip(pieces) {
            hash = hash.checked_add(*entry).filter(|hash| hash >> 32 == 0)?;
            if piece as usize >= count {
                return None;
            }
            *entry = hash << 32 | u64::from(piece);
        }
        cursor.is_empty().then_some(entries)
    }

    /// The pieces that may be of the trace with this hash.
    pub(super) fn find(&self, hash: u64) -> impl Iterator<Item = u32> {
        let upper = hash >> 32;
        let begin = self.entries.partition_point(|entry| entry >> 32 < upper);
        (self.entries[begin..].iter())
            .take_while(move |entry| **entry >> 32 == upper)
            .map(|entry| *entry as u32)
    }

    pub(super) fn entries(&self) -> &Arc<Vec<u64>> {
        &self.entries
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * 8
    }
}
