//! A place in a buffer that was made long enough beforehand: writing is a bounds check and a store,
//! without a look at the buffer's capacity.

use std::mem;

/// Where the next byte goes.
///
/// Writing beyond the end panics: each encoder reserves what it writes at most.
pub(super) struct Cursor<'a> {
    rest: &'a mut [u8],
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(buffer: &'a mut [u8]) -> Self {
        Self { rest: buffer }
    }

    /// Writes bytes whose number is known when this is compiled.
    #[inline]
    pub(super) fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        let (to, rest) = mem::take(&mut self.rest)
            .split_first_chunk_mut()
            .expect("the encoder reserved enough");
        *to = *bytes;
        self.rest = rest;
    }

    /// Writes bytes of any number.
    #[inline]
    pub(super) fn put_slice(&mut self, bytes: &[u8]) {
        let (to, rest) = mem::take(&mut self.rest).split_at_mut(bytes.len());
        to.copy_from_slice(bytes);
        self.rest = rest;
    }

    /// How many bytes are left.
    #[inline]
    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_follows() {
        let mut buffer = [0; 8];
        let mut cursor = Cursor::new(&mut buffer);
        cursor.put(b"abc");
        cursor.put_slice(b"de");
        cursor.put_slice(b"");
        assert_eq!(cursor.left(), 3);
        assert_eq!(&buffer, b"abcde\0\0\0");
    }
}
