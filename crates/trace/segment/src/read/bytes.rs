use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ReadError;
use crate::codec::{Chunk, check_chunk};

/// Where the bytes of a segment come from.
pub trait Source: Send + Sync {
    /// How many there are.
    fn size(&self) -> u64;

    /// Exactly this many of them, from this one on.
    ///
    /// # Errors
    ///
    /// There are fewer, or they cannot be had.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>>;
}

impl<T: AsRef<[u8]> + Send + Sync> Source for T {
    fn size(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.as_ref().get(offset..)?.get(..length));
        bytes
            .map(Cow::Borrowed)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// The bytes of an open segment, and how much of them is kept decoded.
pub(crate) struct Bytes {
    source: Arc<dyn Source>,
    length: u64,
    cached: AtomicUsize,
}

impl Bytes {
    pub(crate) fn new(source: Arc<dyn Source>) -> Self {
        Self {
            length: source.size(),
            source,
            cached: AtomicUsize::new(0),
        }
    }

    /// The same bytes, of which nothing is decoded yet.
    pub(crate) fn uncached(&self) -> Self {
        Self::new(Arc::clone(&self.source))
    }

    pub(crate) const fn len(&self) -> u64 {
        self.length
    }

    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Cow<'_, [u8]>, ReadError> {
        let end = offset.checked_add(length as u64);
        let bytes = match end {
            Some(end) if end <= self.length => self.source.read_at(offset, length),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        match bytes {
            Ok(bytes) if bytes.len() == length => Ok(bytes),
            Ok(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(source) => Err(source),
        }
        .map_err(|source| ReadError::Io { offset, source })
    }

    /// What a chunk holds. The name is for errors.
    pub(crate) fn chunk(
        &self,
        chunk: Chunk,
        name: impl Fn() -> String,
    ) -> Result<Cow<'_, [u8]>, ReadError> {
        if chunk.offset.saturating_add(u64::from(chunk.length)) > self.length {
            return Err(ReadError::damaged(
                name(),
                "it lies behind the end of the file",
            ));
        }
        match self.read(chunk.offset, chunk.length as usize)? {
            Cow::Borrowed(frame) => Ok(Cow::Borrowed(check_chunk(frame, name)?)),
            Cow::Owned(mut frame) => {
                check_chunk(&frame, name)?;
                frame.drain(..crate::codec::chunk::FRAME);
                Ok(Cow::Owned(frame))
            }
        }
    }

    /// Something decoded is kept from now on.
    pub(crate) fn note_cached(&self, bytes: usize) {
        self.cached.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn cached(&self) -> usize {
        self.cached.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bytes")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
