use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use crate::{BoxStream, StoreError};

/// What is computed piece by piece.
pub(super) trait Work: Send + 'static {
    /// A piece.
    type Item: Send + 'static;

    /// The next one; nothing at the end, and after an error.
    fn next(&mut self) -> Option<Result<Self::Item, StoreError>>;
}

/// How many pieces are found before the reader gets them.
const PIECES_AT_ONCE: usize = 32;

/// How long a search runs before the reader gets what there is.
const TURN: Duration = Duration::from_millis(20);

/// Set when whoever asked is gone.
#[derive(Debug, Default)]
pub(super) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The right to compute. A query waits for it no longer than it may take.
pub(super) async fn slot(
    slots: &Arc<Semaphore>,
    deadline: Instant,
) -> Result<OwnedSemaphorePermit, StoreError> {
    // Most find one at once, and need no timer.
    if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
        return Ok(slot);
    }
    let waited = tokio::time::timeout_at(deadline.into(), Arc::clone(slots).acquire_owned());
    match waited.await {
        // The semaphore is never closed.
        Ok(Ok(slot)) => Ok(slot),
        Ok(Err(_)) | Err(_) => Err(StoreError::QueryLimit {
            reason: "its turn did not come in time: others are being answered; ask again later",
        }),
    }
}

struct Reading<W: Work> {
    /// Nothing once the search is at its end.
    search: Option<W>,
    ready: VecDeque<Result<W::Item, StoreError>>,
    slots: Arc<Semaphore>,
    deadline: Instant,
    #[expect(dead_code, reason = "ends the search when it is dropped")]
    cancel: Cancel,
}

/// What a search finds. It runs on the runtime's threads for blocking work, a short turn
/// at a time and only when the stream is read: a slow reader holds no thread, and one that goes away
/// ends the search. It waits for its turns until the deadline.
pub(super) fn stream<W: Work>(
    make: impl FnOnce() -> W + Send + 'static,
    cancel: Cancel,
    (slots, deadline): (Arc<Semaphore>, Instant),
) -> BoxStream<'static, Result<W::Item, StoreError>> {
    let reading = Reading::<W> {
        search: None,
        ready: VecDeque::new(),
        slots,
        deadline,
        cancel,
    };
    let started = stream::unfold(
        (reading, Some(make)),
        async move |(mut reading, mut make)| {
            loop {
                if let Some(next) = reading.ready.pop_front() {
                    return Some((next, (reading, make)));
                }
                let make = make.take();
                let search = reading.search.take();
                if make.is_none() && search.is_none() {
                    return None;
                }
                let slot = match slot(&reading.slots, reading.deadline).await {
                    Ok(slot) => slot,
                    // With what it has found and holds, the search ends here.
                    Err(error) => return Some((Err(error), (reading, None))),
                };
                let turn = spawn_blocking(move || {
                    let _slot = slot;
                    let mut search = search.or_else(|| make.map(|make| make()))?;
                    let mut found = VecDeque::new();
                    let end = Instant::now() + TURN;
                    while found.len() < PIECES_AT_ONCE && Instant::now() < end {
                        match search.next() {
                            Some(next) => found.push_back(next),
                            None => return Some((None, found)),
                        }
                    }
                    Some((Some(search), found))
                });
                match turn.await {
                    Ok(Some((search, found))) => {
                        reading.search = search;
                        reading.ready = found;
                    }
                    Ok(None) => return None,
                    Err(_) => {
                        reading.ready.push_back(Err(StoreError::QueryLimit {
                            reason: "it was ended with the runtime, or crashed",
                        }));
                    }
                }
            }
        },
    );
    Box::pin(started)
}
