use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use tokio::sync::Notify;

/// Requests in order, up to a number of bytes. One task takes, many put.
pub(super) struct Queue {
    max_bytes: usize,
    inner: Mutex<Inner>,
    filled: Notify,
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    bytes: usize,
}

/// A request: OTLP in protobuf.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) body: Bytes,
    /// Goes along with it.
    pub(super) header: Option<(HeaderName, HeaderValue)>,
    pub(super) spans: usize,
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            inner: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Whether there was room for it.
    pub(super) fn push(&self, item: Item) -> bool {
        let mut inner = self.lock();
        let bytes = inner.bytes + item.body.len();
        if bytes > self.max_bytes {
            return false;
        }
        inner.bytes = bytes;
        inner.items.push_back(item);
        drop(inner);
        self.filled.notify_one();
        true
    }

    /// The oldest one, which stays; waits for one.
    pub(super) async fn front(&self) -> Item {
        loop {
            if let Some(item) = self.try_front() {
                return item;
            }
            self.filled.notified().await;
        }
    }

    /// The oldest one, which stays.
    pub(super) fn try_front(&self) -> Option<Item> {
        self.lock().items.front().cloned()
    }

    /// Removes the oldest one.
    pub(super) fn pop(&self) {
        let mut inner = self.lock();
        if let Some(item) = inner.items.pop_front() {
            inner.bytes -= item.body.len();
        }
    }

    /// Removes all; how many spans they had.
    pub(super) fn clear(&self) -> usize {
        let inner = std::mem::take(&mut *self.lock());
        inner.items.iter().map(|item| item.spans).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_has_a_limit_in_bytes() {
        let item = |bytes: usize| Item {
            body: vec![0; bytes].into(),
            header: None,
            spans: 1,
        };
        let queue = Queue::new(10);
        assert!(queue.push(item(6)));
        assert!(!queue.push(item(5)));
        assert!(queue.push(item(4)));
        assert_eq!(queue.bytes(), 10);
        assert_eq!(queue.try_front().map(|item| item.body.len()), Some(6));
        queue.pop();
        assert!(queue.push(item(6)));
        assert_eq!((queue.clear(), queue.bytes()), (2, 0));
        assert!(queue.try_front().is_none());
    }
}
