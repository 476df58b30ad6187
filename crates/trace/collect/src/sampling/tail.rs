use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use periplus_model::{Batch, SpanGroup, TraceId};
use periplus_sampling::tail::{Arrivals, Decision, Full, Kept, TailSampler, TailStats};
use periplus_store::{BoxFuture, SpanSink, StoreError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::clock::Clock;

/// About how many spans are stored at once.
const BATCH_SPANS: u64 = 2_000;

/// How long to wait before a store that is busy, or failed, is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long the store may take at the end for all that is left.
const LAST_CALL: Duration = Duration::from_secs(10);

/// Holds spans until their traces are decided, and hands on those that are kept. Copies share it.
///
/// What [`SpanSink::append`] has taken is in memory only until its trace is decided and the store
/// has it: a crash loses undecided traces, an orderly end ([`Self::run`]) does not. A sender is
/// refused for now when there is no room, and nothing of its request is taken then.
#[derive(Clone)]
pub struct TailSampling {
    inner: Arc<Inner>,
}

struct Inner {
    sampler: Mutex<TailSampler>,
    next: Arc<dyn SpanSink>,
    /// Something is to be stored, or due earlier than before.
    wake: Notify,
    clock: Clock,
    lost_spans: AtomicU64,
    retries: AtomicU64,
}

impl TailSampling {
    /// In front of `next`. Nothing is decided unless [`Self::run`] runs.
    pub fn new(sampler: TailSampler, next: Arc<dyn SpanSink>) -> Self {
        Self {
            inner: Arc::new(Inner {
                sampler: Mutex::new(sampler),
                next,
                wake: Notify::new(),
                clock: Clock::start(),
                lost_spans: AtomicU64::new(0),
                retries: AtomicU64::new(0),
            }),
        }
    }

    /// Decides traces when they are due and stores those that are kept, until `stop` resolves;
    /// then decides what is left, and stores that. The receivers must have ended by then.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let kept = {
                let mut sampler = self.sampler();
                sampler.tick(self.inner.clock.now_unix_nano());
                sampler.take_kept(BATCH_SPANS)
            };
            if !kept.is_empty() {
                tokio::select! {
                    biased;
                    () = self.store(&kept) => {}
                    () = &mut stop => {
                        self.end(kept).await;
                        return;
                    }
                }
                continue;
            }
            let due = self.sampler().next_due_unix_nano();
            let due = due.map(|due| self.inner.clock.instant(due));
            tokio::select! {
                () = &mut stop => {
                    self.end(Vec::new()).await;
                    return;
                }
                () = self.inner.wake.notified() => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// What it has done.
    pub fn stats(&self) -> TailStats {
        self.sampler().stats()
    }

    /// The names and types of the policies.
    pub fn policies(&self) -> Vec<(String, &'static str)> {
        let sampler = self.sampler();
        let names = sampler.policies().names();
        names.map(|(name, kind)| (name.to_owned(), kind)).collect()
    }

    /// The last decisions that pass, the newest first, at most so many.
    pub fn decisions(&self, limit: usize, passes: impl Fn(&Decision) -> bool) -> Vec<Decision> {
        let sampler = self.sampler();
        let found = sampler.decisions().filter(|decision| passes(decision));
        found.take(limit).cloned().collect()
    }

    /// When an undecided trace will be decided (nanoseconds since 1970), and how many of its spans
    /// are there.
    pub fn pending(&self, id: TraceId) -> Option<(u64, u64)> {
        self.sampler().pending(id)
    }

    /// Spans of kept traces that the store refused for good, or had not taken at the end.
    pub fn lost_spans(&self) -> u64 {
        self.inner.lost_spans.load(Ordering::Relaxed)
    }

    /// How often the store was asked again.
    pub fn retries(&self) -> u64 {
        self.inner.retries.load(Ordering::Relaxed)
    }

    fn sampler(&self) -> MutexGuard<'_, TailSampler> {
        // Its tables are sound between any two of its calls.
        (self.inner.sampler.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, batch: Batch) -> Result<(), StoreError> {
        let arrivals = Arrivals::of(batch);
        let mut sampler = self.sampler();
        // Behind the lock, so that it never goes back.
        let now = self.inner.clock.now_unix_nano();
        let due = sampler.next_due_unix_nano();
        let taken = sampler.take(arrivals, now);
        let wake = sampler.has_kept() || sampler.next_due_unix_nano() != due;
        drop(sampler);
        if wake {
            self.inner.wake.notify_one();
        }
        taken.map_err(|full| match full {
            Full::Now => StoreError::Busy {
                reason: full.to_string(),
            },
            Full::Ever {
                found_bytes,
                max_bytes,
            } => StoreError::TooLarge {
                what: "in all for tail sampling",
                found_bytes,
                max_bytes,
            },
        })
    }

    /// Decides what is left and stores it, within [`LAST_CALL`].
    async fn end(&self, unstored: Vec<Kept>) {
        let deadline = Instant::now() + LAST_CALL;
        self.sampler().drain(self.inner.clock.now_unix_nano());
        let mut kept = unstored;
        while !kept.is_empty() || self.sampler().has_kept() {
            if kept.is_empty() {
                kept = self.sampler().take_kept(BATCH_SPANS);
            }
            if tokio::time::timeout_at(deadline, self.store(&kept))
                .await
                .is_err()
            {
                kept.extend(self.sampler().take_kept(u64::MAX));
                let spans = kept.iter().map(|kept| kept.spans).sum();
                self.lose(spans, &"the store did not take them before the end");
                return;
            }
            kept.clear();
        }
    }

    /// Stores traces, asking again for as long as the store is busy or fails.
    async fn store(&self, kept: &[Kept]) {
        let mut rest: Vec<&[Kept]> = vec![kept];
        let mut pause = FIRST_PAUSE;
        while let Some(part) = rest.pop() {
            match self.inner.next.append(batch(part)).await {
                Ok(()) => {}
                // One after the other they may fit.
                Err(StoreError::TooLarge { .. }) if part.len() > 1 => {
                    let (one, other) = part.split_at(part.len() / 2);
                    rest.extend([other, one]);
                    continue;
                }
                Err(error @ (StoreError::Busy { .. } | StoreError::Io { .. })) => {
                    tracing::warn!(%error, "the store does not take sampled traces; asking again");
                    self.inner.retries.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    rest.push(part);
                    continue;
                }
                Err(error) => self.lose(part.iter().map(|kept| kept.spans).sum(), &error),
            }
            pause = FIRST_PAUSE;
            self.sampler()
                .stored(part.iter().map(|kept| kept.bytes).sum());
        }
    }

    fn lose(&self, spans: u64, reason: &dyn std::fmt::Display) {
        tracing::error!(spans, %reason, "spans of sampled traces are lost");
        self.inner.lost_spans.fetch_add(spans, Ordering::Relaxed);
    }
}

impl SpanSink for TailSampling {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.take(batch) })
    }
}

/// A batch of its own: the store may refuse it, and is asked again then.
fn batch(kept: &[Kept]) -> Batch {
    let groups = kept.iter().flat_map(|kept| &kept.groups);
    Batch {
        groups: groups.map(|group| SpanGroup::clone(group)).collect(),
    }
}
