//! What DATA frames carry.

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Buf, Bytes};

/// How many bytes an exchange has given to the codec that are not written yet.
pub(crate) type Waiting = Rc<Cell<usize>>;

/// Data on its way through the codec; counted, if what exchanges hold is to be known.
#[derive(Debug)]
pub(crate) struct Payload {
    data: Bytes,
    waiting: Option<Waiting>,
}

impl Payload {
    pub(crate) fn new(data: Bytes, waiting: Option<&Waiting>) -> Self {
        if let Some(waiting) = waiting {
            waiting.set(waiting.get() + data.len());
        }
        Self {
            data,
            waiting: waiting.cloned(),
        }
    }

    /// So many bytes wait no more.
    #[inline]
    fn leave(&self, bytes: usize) {
        if let Some(waiting) = &self.waiting {
            waiting.set(waiting.get() - bytes);
        }
    }
}

impl Buf for Payload {
    #[inline]
    fn remaining(&self) -> usize {
        self.data.len()
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        &self.data
    }

    #[inline]
    fn advance(&mut self, bytes: usize) {
        self.data.advance(bytes);
        self.leave(bytes);
    }
}

impl Drop for Payload {
    #[inline]
    fn drop(&mut self) {
        self.leave(self.data.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_or_dropped_waits_no_more() {
        let waiting = Waiting::default();
        let payload = |bytes: &'static [u8]| Payload::new(bytes.into(), Some(&waiting));
        let (mut first, second) = (payload(b"abcd"), payload(b"ef"));
        assert_eq!(waiting.get(), 6);
        first.advance(3);
        assert_eq!((waiting.get(), first.chunk()), (3, &b"d"[..]));
        drop(second);
        assert_eq!(waiting.get(), 1);
        drop(first);
        assert_eq!(waiting.get(), 0);
    }
}
