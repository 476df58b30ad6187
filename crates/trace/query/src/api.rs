use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use futures_util::StreamExt;
use periplus_store::{Budget, Outcome, SpanStore, StoreError, StoredTrace, TraceQuery};

use crate::{jaeger, own};

/// What the APIs say about the process that serves them.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The product's version.
    pub version: &'static str,
    /// The name of the store's engine.
    pub engine: &'static str,
}

/// Jaeger's API and our own over `store`. Paths below `/api` that nobody serves answer 404; all
/// other paths are left to the caller's fallback.
pub fn router(store: Arc<dyn SpanStore>, options: Options) -> Router {
    let api = Api {
        store,
        options,
        turns: Arc::new(tokio::sync::Semaphore::new(MAX_QUERIES)),
    };
    Router::new()
        .merge(own::routes())
        .merge(jaeger::routes())
        .with_state(api)
}

/// Queries that may run at the same time; others wait for their turn.
const MAX_QUERIES: usize = 16;

/// The most spans that one answer carries: searches stop there and say so.
const MAX_ANSWER_SPANS: usize = 200_000;

/// What one search may take: what a person waits for, and what sixteen at a time may hold.
const BUDGET: Budget = Budget {
    time: Some(Duration::from_secs(30)),
    answer_bytes: 256 << 20,
    ..Budget::UNLIMITED
};

/// What every handler works with.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) store: Arc<dyn SpanStore>,
    pub(crate) options: Options,
    turns: Arc<tokio::sync::Semaphore>,
}

/// What a search found.
pub(crate) struct Found {
    pub(crate) traces: Vec<StoredTrace>,
    /// Why the search was ended early, if it was: what there was too much of, and what to do.
    pub(crate) partial: Option<&'static str>,
}

impl Api {
    /// Runs a search to its end, or until the answer is large enough.
    pub(crate) async fn find(&self, mut query: TraceQuery) -> Result<Found, StoreError> {
        query.budget = BUDGET;
        let _turn = self.turns.acquire().await;
        let mut search = self.store.search(query)?;
        let mut found = Found {
            traces: Vec::new(),
            partial: None,
        };
        let mut spans = 0;
        while let Some(trace) = search.next().await {
            let trace = trace?;
            spans += trace.span_count();
            if spans > MAX_ANSWER_SPANS && !found.traces.is_empty() {
                found.partial = Some("the answer was cut: ask for fewer traces or a shorter time");
                return Ok(found);
            }
            found.traces.push(trace);
        }
        if let Some(Outcome::Partial { reason }) = search.outcome() {
            found.partial = Some(reason);
        }
        Ok(found)
    }

    /// Runs `work`, which takes time in proportion to `spans`, where it disturbs nobody.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        spans: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        /// Spans that are quicker to turn into JSON than to hand to another thread.
        const INLINE: usize = 500;
        if spans <= INLINE {
            return Ok(work());
        }
        let _turn = self.turns.acquire().await;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| StoreError::Io {
                action: "building the answer",
                source: std::io::Error::other(error),
            })
    }
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now_unix_nano() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
        })
}
