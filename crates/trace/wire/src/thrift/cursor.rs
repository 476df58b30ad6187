use super::ThriftError;

/// Bytes, and how far they are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ThriftError> {
        let rest = self.rest();
        let taken = rest.get(..count).ok_or(ThriftError::CutShort {
            at: self.at,
            needed: count,
            left: rest.len(),
        })?;
        self.at += count;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ThriftError> {
        let rest = self.rest();
        let array = *rest.first_chunk().ok_or(ThriftError::CutShort {
            at: self.at,
            needed: N,
            left: rest.len(),
        })?;
        self.at += N;
        Ok(array)
    }

    pub(super) fn byte(&mut self) -> Result<u8, ThriftError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A varint of at most `max` bytes; bits beyond 64 are dropped.
    pub(super) fn varint(&mut self, max: usize) -> Result<u64, ThriftError> {
        let begin = self.at;
        let mut value = 0_u64;
        for i in 0..max {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ThriftError::LongNumber { at: begin, max })
    }

    /// A number of elements, each of at least `least` bytes, that the bytes left can hold.
    pub(super) fn fits(&self, count: u64, least: usize) -> Result<usize, ThriftError> {
        let left = self.rest().len();
        usize::try_from(count)
            .ok()
            .filter(|count| count.checked_mul(least).is_some_and(|bytes| bytes <= left))
            .ok_or(ThriftError::TooManyElements {
                at: self.at,
                count,
                left,
            })
    }
}
