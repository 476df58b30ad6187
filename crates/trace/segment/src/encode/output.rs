use crate::codec::Squeeze;
use crate::codec::chunk::{Chunk, put_chunk};
use crate::codec::words::{Word, put_words};
use crate::layout::{Core, MAGIC};

/// The file so far, and the chunks of the row group that is being written.
pub(crate) struct Output {
    pub(crate) file: Vec<u8>,
    pub(crate) squeeze: Squeeze,
    /// Scratch for the chunk that is being made.
    payload: Vec<u8>,
    lengths: Vec<u32>,
}

impl Output {
    pub(crate) fn new(level: i32) -> Self {
        Self {
            file: MAGIC.to_vec(),
            squeeze: Squeeze::new(level),
            payload: Vec::new(),
            lengths: Vec::new(),
        }
    }

    /// A core column of numbers. A column of zeros has no chunk.
    pub(crate) fn numbers<T: Word>(&mut self, column: Core, values: &[T]) {
        debug_assert_eq!(self.lengths.len(), column as usize, "columns are in order");
        if values.iter().all(|value| value.to_u64() == 0) {
            self.lengths.push(0);
            return;
        }
        self.column(|payload, squeeze| put_words(payload, squeeze, values));
    }

    /// A core column of bytes as they are.
    pub(crate) fn raw(&mut self, column: Core, bytes: &[u8]) {
        debug_assert_eq!(self.lengths.len(), column as usize, "columns are in order");
        self.column(|payload, _| payload.extend_from_slice(bytes));
    }

    /// The next column; none, if nothing is written.
    pub(crate) fn column(&mut self, write: impl FnOnce(&mut Vec<u8>, &mut Squeeze)) {
        self.payload.clear();
        write(&mut self.payload, &mut self.squeeze);
        let chunk = match self.payload.is_empty() {
            true => Chunk::default(),
            false => put_chunk(&mut self.file, &self.payload),
        };
        self.lengths.push(chunk.length);
    }

    /// Ends a row group: the lengths of its chunks.
    pub(crate) fn take_lengths(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.lengths)
    }
}
