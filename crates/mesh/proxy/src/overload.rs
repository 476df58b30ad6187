//! What is done when the process has too much to do: the actions of Envoy's overload manager.
//!
//! A task of the agent measures (`agent::overload`) and tells the workers what to do; a worker only looks
//! at a cell of its own, once for each request and connection.

mod accounts;

pub(crate) use accounts::{Accounts, Entry};

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Waker};

/// A probability: zero is never, the greatest number always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share(u64);

impl Share {
    /// From zero to one.
    pub(crate) fn of(share: f64) -> Self {
        Self((share * u64::MAX as f64) as u64)
    }

    /// In whole percent.
    pub(crate) fn percent(self) -> u64 {
        (self.0 as f64 * 100.0 / u64::MAX as f64).round() as u64
    }

    /// So many of `all`, rounded down.
    fn part_of(self, all: u32) -> u32 {
        (self.0 as f64 / u64::MAX as f64 * f64::from(all)) as u32
    }

    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn is_all(self) -> bool {
        self.0 == u64::MAX
    }

    /// Whether it is so this time.
    #[inline]
    pub(crate) fn hits(self, random: impl FnOnce() -> u64) -> bool {
        self.0 != 0 && (self.is_all() || random() < self.0)
    }
}

/// How much of each action there is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actions {
    /// Requests that are answered with 503.
    pub(crate) stop_requests: Share,
    /// Connections that are closed as soon as they are accepted.
    pub(crate) reject_connections: Share,
    /// Whether connections are left to the kernel: only if it is all of them.
    pub(crate) stop_connections: Share,
    /// Connections of HTTP that end after their current exchange.
    pub(crate) no_keepalive: Share,
    /// Exchanges over HTTP/2 that are reset because they hold much memory.
    pub(crate) reset_streams: Share,
}

/// What a worker is told to do.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    actions: Cell<Actions>,
    /// Listeners that wait until they may accept again.
    waiting: RefCell<Vec<Waker>>,
}

impl Overload {
    #[inline]
    pub(crate) fn actions(&self) -> &Cell<Actions> {
        &self.actions
    }

    /// Does something else from now on.
    pub(crate) fn set(&self, actions: Actions) {
        self.actions.set(actions);
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// Whether no connection is accepted now.
    #[inline]
    pub(crate) fn stops_connections(&self) -> bool {
        self.actions.get().stop_connections.is_all()
    }

    /// Has whoever asks woken when there is something else to do.
    pub(crate) fn wait_for_change(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
    }
}

/// What is open in all workers together.
#[derive(Debug, Default)]
pub(crate) struct Open {
    /// Downstream connections.
    connections: AtomicUsize,
    /// Requests under way, if there is a limit to them.
    streams: AtomicUsize,
    /// Bytes of the heads of requests, if there is a limit to them.
    head_bytes: AtomicUsize,
    /// Streams that were reset because they held too much memory.
    pub(crate) resets: AtomicU64,
    /// How many connections there have been.
    ids: AtomicU64,
    /// Somebody wants no new requests to come here.
    fails_checks: AtomicBool,
}

impl Open {
    /// The number of a new connection.
    pub(crate) fn next_id(&self) -> NonZeroU64 {
        NonZeroU64::MIN.saturating_add(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn fails_checks(&self) -> bool {
        self.fails_checks.load(Ordering::Relaxed)
    }

    pub(crate) fn fail_checks(&self, fails: bool) {
        self.fails_checks.store(fails, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a request, unless so many are under way already.
    pub(crate) fn add_stream(&self, most: usize) -> bool {
        let more = |open| (open < most).then_some(open + 1);
        let added = self
            .streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        added.is_ok()
    }

    pub(crate) fn remove_stream(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts the bytes of a head, unless that would be more than there may be.
    pub(crate) fn add_head(self: &Arc<Self>, bytes: usize, most: usize) -> Option<HeadBytes> {
        let more = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= most);
        self.head_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(HeadBytes {
            open: self.clone(),
            bytes,
        })
    }
}

/// Bytes of a head that count among those of all; no longer once dropped.
#[derive(Debug)]
pub(crate) struct HeadBytes {
    open: Arc<Open>,
    bytes: usize,
}

impl Drop for HeadBytes {
    fn drop(&mut self) {
        self.open
            .head_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_count_for_as_long_as_they_are_held() {
        let open = Arc::<Open>::default();
        let first = open.add_head(60, 100).expect("room");
        assert!(open.add_head(41, 100).is_none());
        let second = open.add_head(40, 100).expect("room for just as much");
        assert!(open.add_head(usize::MAX, usize::MAX).is_none());
        drop(first);
        assert!(open.add_head(61, 100).is_none());
        assert!(open.add_head(60, 100).is_some());
        drop(second);
        assert_eq!(open.head_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_share_is_as_often_as_it_says() {
        let mut random = fastrand::Rng::with_seed(7);
        for (share, percent) in [(0.0, 0), (0.25, 25), (1.0, 100)] {
            let share = Share::of(share);
            assert_eq!(share.percent(), percent);
            let hits = (0..10_000)
                .filter(|_| share.hits(|| random.u64(..)))
                .count();
            assert!(
                hits.abs_diff(percent as usize * 100) < 200,
                "{hits} of {percent} %"
            );
        }
        assert!(Share::of(1.0).is_all() && !Share::of(0.99).is_all());
    }
}
