use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What a receiver takes at most. Every limit that is hit is counted in [`Stats`](crate::Stats).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one request's body on the wire.
    pub max_body_bytes: usize,
    /// Bytes of one request's body after decompression.
    pub max_message_bytes: usize,
    /// Bytes of all bodies, compressed and decompressed, that are in memory at the same time.
    pub max_inflight_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Bytes of one datagram.
    pub max_packet_bytes: usize,
    /// Datagrams of one socket that wait for the store.
    pub max_queued_packets: usize,
    /// Bytes of the datagrams of one socket that wait for the store.
    pub max_queued_bytes: usize,
    /// How long datagrams that a busy store refuses are offered to it: their sender cannot be asked
    /// to come again.
    pub datagram_retry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 << 20,
            max_message_bytes: 16 << 20,
            max_inflight_bytes: 128 << 20,
            body_timeout: Duration::from_secs(15),
            max_packet_bytes: 65_000,
            max_queued_packets: 1_000,
            max_queued_bytes: 16 << 20,
            datagram_retry: Duration::from_secs(5),
        }
    }
}

/// The bytes that bodies may hold together. Nobody waits for it: a request that gets no share is
/// refused and comes again, so a flood cannot lock others out for longer than its bodies live.
#[derive(Debug)]
pub(crate) struct Budget {
    free: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            free: AtomicUsize::new(bytes),
        })
    }

    /// An empty share, to be grown.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }

    fn take(&self, bytes: usize) -> bool {
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(bytes)
            })
            .is_ok()
    }
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// Takes more; `false` if there is no more.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let taken = self.budget.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_bounded_and_given_back() {
        let budget = Budget::new(10);
        let mut one = budget.share();
        assert!(one.grow(7));
        let mut two = budget.share();
        assert!(!two.grow(4));
        assert!(two.grow(3));
        drop(one);
        assert!(two.grow(7));
        assert!(!two.grow(1));
    }
}
