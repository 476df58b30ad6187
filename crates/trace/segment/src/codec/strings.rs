//! Byte strings, one after the other.

use crate::bytes::{Cursor, put_varint};
use crate::codec::plane::{Squeeze, read_blob};
use crate::codec::words::{put_words, read_words};
use crate::limits::MAX_CHUNK_BYTES;

/// Byte strings in one buffer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strings {
    arena: Vec<u8>,
    ends: Vec<u32>,
}

impl Strings {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.arena.extend_from_slice(bytes);
        self.ends.push(self.arena.len() as u32);
    }

    /// Adds some of the strings of another one.
    pub(crate) fn extend(&mut self, from: &Self, range: std::ops::Range<usize>) -> Option<()> {
        let ends = from.ends.get(range.clone())?;
        let begin = match range.start.checked_sub(1) {
            Some(before) => from.ends[before],
            None => 0,
        };
        let bytes = match ends.last() {
            Some(end) => from.arena.get(begin as usize..*end as usize)?,
            None => &[],
        };
        if bytes.len() > MAX_CHUNK_BYTES - self.arena.len() {
            return None;
        }
        let offset = self.arena.len() as u32;
        self.arena.extend_from_slice(bytes);
        self.ends
            .extend(ends.iter().map(|end| end - begin + offset));
        Some(())
    }

    /// Adds a string unless there would be more bytes than a chunk may have.
    pub(crate) fn push_checked(&mut self, bytes: &[u8]) -> Option<()> {
        (bytes.len() <= MAX_CHUNK_BYTES - self.arena.len()).then(|| self.push(bytes))
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.ends.clear();
    }

    pub(crate) fn get(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends.get(at)? as usize;
        let begin = match at.checked_sub(1) {
            Some(before) => self.ends[before] as usize,
            None => 0,
        };
        self.arena.get(begin..end)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.arena.capacity() + self.ends.capacity() * 4
    }

    fn lengths(&self) -> Vec<u32> {
        let mut before = 0;
        (self.ends.iter())
            .map(|end| {
                let length = end - before;
                before = *end;
                length
            })
            .collect()
    }

    /// Appends them; the reader knows how many they are.
    pub(crate) fn put(&self, out: &mut Vec<u8>, squeeze: &mut Squeeze) {
        put_words(out, squeeze, &self.lengths());
        put_varint(out, self.arena.len() as u64);
        squeeze.put_blob(out, &self.arena);
    }

    /// Reads what [`Self::put`] writes.
    pub(crate) fn read(cursor: &mut Cursor<'_>, count: usize) -> Option<Self> {
        let mut ends = read_words::<u32>(cursor, count)?;
        let total = cursor.u32()?;
        let mut end = 0_u32;
        for length in &mut ends {
            end = end.checked_add(*length)?;
            *length = end;
        }
        if end != total {
            return None;
        }
        let arena = read_blob(cursor, total as usize)?.into_owned();
        Some(Self { arena, ends })
    }
}
