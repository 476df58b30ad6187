//! Byte buffers of the data path: blocks that a worker lends to its connections.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// The size of a block; a read takes at most this much.
pub(crate) const BLOCK: usize = 16 * 1024;

/// The most blocks that a worker keeps for reuse (4 MiB).
const KEPT_BLOCKS: usize = 256;

/// Bytes that were read from a socket.
///
/// The first `pinned` bytes are a message head, kept until its exchange ends, since the span is made
/// from it; what lies behind is body, or the next message.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// Initialised throughout: its length is the capacity.
    block: Vec<u8>,
    start: usize,
    pinned: usize,
    position: usize,
    end: usize,
}

impl Buffer {
    /// A buffer on a block of [`Blocks::lend`].
    pub(crate) fn on(block: Vec<u8>) -> Self {
        Self {
            block,
            ..Self::default()
        }
    }

    /// A buffer that has read these bytes.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self {
            end: bytes.len(),
            block: bytes,
            ..Self::default()
        }
    }

    /// Whether there is a block to read into.
    pub(crate) fn has_block(&self) -> bool {
        !self.block.is_empty()
    }

    /// Gives the block back; what was unread is lost.
    pub(crate) fn take_block(&mut self) -> Vec<u8> {
        std::mem::take(self).block
    }

    /// What was read and not consumed.
    #[inline]
    pub(crate) fn unread(&self) -> &[u8] {
        &self.block[self.position..self.end]
    }

    /// What was read and not consumed, to be edited in place.
    pub(crate) fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.block[self.position..self.end]
    }

    /// Whether everything was consumed.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.position == self.end
    }

    /// The pinned head.
    #[inline]
    pub(crate) fn head(&self) -> &[u8] {
        &self.block[self.start..self.start + self.pinned]
    }

    /// Pins the first `length` unread bytes as the head.
    #[inline]
    pub(crate) fn pin(&mut self, length: usize) {
        debug_assert!(self.pinned == 0 && length <= self.end - self.position);
        self.start = self.position;
        self.pinned = length;
        self.position += length;
    }

    /// Puts another head in the place of the pinned one.
    #[cold]
    pub(crate) fn replace_head(&mut self, head: &[u8]) {
        let unread = self.unread();
        let used = head.len() + unread.len();
        // There must be space left for what is still to be read.
        let mut block = Vec::with_capacity(self.block.len().max(used + BLOCK / 4));
        block.extend_from_slice(head);
        block.extend_from_slice(unread);
        block.resize(block.capacity(), 0);
        *self = Self {
            block,
            start: 0,
            pinned: head.len(),
            position: head.len(),
            end: used,
        };
    }

    /// Lets go of the head.
    #[inline]
    pub(crate) fn unpin(&mut self) {
        self.pinned = 0;
        self.start = self.position;
        if self.position == self.end {
            self.start = 0;
            self.position = 0;
            self.end = 0;
        }
    }

    /// Drops the first `n` unread bytes.
    #[inline]
    pub(crate) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.end - self.position);
        self.position += n;
        if self.position == self.end {
            self.position = self.start + self.pinned;
            self.end = self.position;
        }
    }

    /// Where to read to. Empty only if the buffer is full of unread bytes.
    #[inline]
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.end == self.block.len() {
            self.compact();
        }
        &mut self.block[self.end..]
    }

    /// Whether nothing more can be read before something is consumed.
    pub(crate) fn is_full(&self) -> bool {
        self.end == self.block.len() && self.position == self.start + self.pinned && self.start == 0
    }

    /// Counts `n` bytes of [`Buffer::space`] as read.
    #[inline]
    pub(crate) fn commit(&mut self, n: usize) {
        self.end += n;
        debug_assert!(self.end <= self.block.len());
    }

    /// Makes the buffer at least this large.
    pub(crate) fn grow(&mut self, size: usize) {
        if self.block.len() < size {
            self.block.resize(size, 0);
        }
    }

    /// The size of the block.
    pub(crate) fn capacity(&self) -> usize {
        self.block.len()
    }

    fn compact(&mut self) {
        if self.start > 0 {
            self.block
                .copy_within(self.start..self.start + self.pinned, 0);
            self.start = 0;
        }
        let to = self.pinned;
        if self.position > to {
            self.block.copy_within(self.position..self.end, to);
            self.end -= self.position - to;
            self.position = to;
        }
    }
}

/// Bytes that wait to be written to a socket.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// What is to be written; encoders append here.
    pub(crate) bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// What is still to be written.
    #[inline]
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// Whether all is written.
    #[inline]
    pub(crate) fn is_written(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Counts `n` bytes as written.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        self.written += n;
        debug_assert!(self.written <= self.bytes.len());
    }

    /// Starts from nothing, and keeps the memory.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
    }

    /// Begins to write the same bytes again.
    pub(crate) fn rewind(&mut self) {
        self.written = 0;
    }

    /// Whether anything was written yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.written == 0
    }
}

/// The blocks that a worker keeps for reuse, so that idle connections hold none.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// Of [`BLOCK`] bytes, initialised.
    blocks: RefCell<Vec<Vec<u8>>>,
    /// Cleared, with some capacity.
    outputs: RefCell<Vec<Vec<u8>>>,
}

impl Blocks {
    /// A block of [`BLOCK`] initialised bytes.
    pub(crate) fn lend(&self) -> Vec<u8> {
        self.blocks
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| vec![0; BLOCK])
    }

    /// Takes a block back; one that was grown is freed.
    pub(crate) fn give_back(&self, block: Vec<u8>) {
        let mut blocks = self.blocks.borrow_mut();
        if block.len() == BLOCK && blocks.len() < KEPT_BLOCKS {
            blocks.push(block);
        }
    }

    /// An empty output.
    pub(crate) fn lend_output(&self) -> Output {
        let bytes = self
            .outputs
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(2 * BLOCK));
        Output { bytes, written: 0 }
    }

    /// Takes an output back; one that was grown is freed.
    pub(crate) fn give_back_output(&self, mut output: Output) {
        let mut outputs = self.outputs.borrow_mut();
        let capacity = output.bytes.capacity();
        if (BLOCK..=4 * BLOCK).contains(&capacity) && outputs.len() < KEPT_BLOCKS {
            output.bytes.clear();
            outputs.push(output.bytes);
        }
    }
}

/// The texts of heads that the codec of HTTP/2 takes parts of: several lie in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Texts(RefCell<BytesMut>);

/// How much memory is taken at once.
const TEXTS: usize = 8 * 1024;

impl Texts {
    /// A copy, parts of which cost no memory.
    pub(crate) fn copy(&self, text: &[u8]) -> Bytes {
        let mut free = self.0.borrow_mut();
        if free.capacity() < text.len() {
            *free = BytesMut::with_capacity(text.len().max(TEXTS));
        }
        free.extend_from_slice(text);
        free.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_share_memory_and_stay_what_they_were() {
        let texts = Texts::default();
        let wanted: Vec<Vec<u8>> = (0..100_usize)
            .map(|at| vec![at as u8; at * at * 3])
            .collect();
        let copies: Vec<Bytes> = wanted.iter().map(|text| texts.copy(text)).collect();
        assert!(wanted.iter().zip(&copies).all(|(a, b)| a == b));
        let (first, second) = (texts.copy(b"a"), texts.copy(b"b"));
        assert_eq!(first.as_ptr().wrapping_add(1), second.as_ptr());
    }

    fn read(buffer: &mut Buffer, bytes: &[u8]) {
        buffer.space()[..bytes.len()].copy_from_slice(bytes);
        buffer.commit(bytes.len());
    }

    #[test]
    fn a_pinned_head_survives_body_reads_and_compaction() {
        let mut buffer = Buffer::on(vec![0; 16]);
        read(&mut buffer, b"xxheadbody");
        buffer.consume(2);
        buffer.pin(4);
        assert_eq!(buffer.head(), b"head");
        assert_eq!(buffer.unread(), b"body");
        buffer.consume(1);
        read(&mut buffer, b"123456");
        assert_eq!(buffer.space().len(), 3, "compacted over what was consumed");
        assert_eq!(
            (buffer.head(), buffer.unread()),
            (&b"head"[..], &b"ody123456"[..])
        );
        read(&mut buffer, b"789");
        assert!(buffer.is_full() && buffer.space().is_empty());
        buffer.consume(12);
        assert_eq!(buffer.head(), b"head");
        assert_eq!(buffer.space().len(), 12);
        read(&mut buffer, b"next");
        buffer.unpin();
        assert_eq!(buffer.unread(), b"next");
        assert_eq!(buffer.space().len(), 8);
    }

    #[test]
    fn blocks_are_lent_again_unless_grown() {
        let blocks = Blocks::default();
        let mut buffer = Buffer::on(blocks.lend());
        buffer.grow(BLOCK + 1);
        blocks.give_back(buffer.take_block());
        assert!(blocks.blocks.borrow().is_empty());
        blocks.give_back(blocks.lend());
        assert_eq!(blocks.blocks.borrow().len(), 1);
    }
}
