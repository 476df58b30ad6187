use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use futures_util::StreamExt;
use periplus_model::TraceId;
use periplus_store::{Budget, Outcome, SpanSink, SpanStore, StoreError, StoredTrace, TraceQuery};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::live::{Feed, Tap};
use crate::view::View;
use crate::zipkin::ZipkinOptions;
use crate::{grpc, jaeger, own, v3, zipkin};

/// What the APIs say about the process that serves them, and how they show traces.
#[derive(Clone)]
pub struct Options {
    /// The product's version.
    pub version: &'static str,
    /// The name of the store's engine.
    pub engine: &'static str,
    /// The most that Jaeger's API moves a span whose host's clock is off; zero, Jaeger's default,
    /// moves none and says in a warning by how much it would have.
    pub max_clock_skew: Duration,
    /// The most spans of one trace that Jaeger's API shows; zero, Jaeger's default, shows all.
    pub max_trace_spans: usize,
    /// Where archived traces are kept; without it nothing can be archived.
    pub archive: Option<Arc<dyn SpanStore>>,
    /// What Zipkin's API reads from its environment.
    pub zipkin: Arc<ZipkinOptions>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: "",
            engine: "",
            max_clock_skew: Duration::ZERO,
            max_trace_spans: 0,
            archive: None,
            zipkin: Arc::default(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("version", &self.version)
            .field("engine", &self.engine)
            .field("max_clock_skew", &self.max_clock_skew)
            .field("max_trace_spans", &self.max_trace_spans)
            .field("archive", &self.archive.is_some())
            .finish()
    }
}

/// The query APIs over a store.
#[derive(Clone)]
pub struct QueryService {
    api: Api,
}

impl QueryService {
    /// Over this store.
    pub fn new(store: Arc<dyn SpanStore>, options: Options) -> Self {
        Self {
            api: Api {
                store,
                options: Arc::new(options),
                feed: Arc::default(),
                turns: Arc::new(Semaphore::new(MAX_QUERIES)),
                renders: Arc::new(Semaphore::new(MAX_RENDERS)),
            },
        }
    }

    /// Over another store; as many queries run at the same time as over one.
    pub fn beside(&self, store: Arc<dyn SpanStore>, options: Options) -> Self {
        Self {
            api: Api {
                store,
                options: Arc::new(options),
                feed: Arc::default(),
                turns: Arc::clone(&self.api.turns),
                renders: Arc::clone(&self.api.renders),
            },
        }
    }

    /// Jaeger's HTTP API, our own, and Zipkin's below `/zipkin`. Paths below `/api` that nobody serves answer 404; all
    /// other paths are left to the caller's fallback.
    pub fn http(&self) -> Router {
        Router::new()
            .merge(own::routes())
            .merge(v3::routes())
            .merge(jaeger::routes())
            .with_state(self.api.clone())
            .merge(zipkin::below_zipkin(
                self.api.clone(),
                Arc::clone(&self.api.options.zipkin),
            ))
    }

    /// What Zipkin's port answers: its read API, at the root and below `/zipkin`, and, so that its
    /// UI's links lead to pages that work, everything that [`Self::http`] has.
    pub fn zipkin(&self) -> Router {
        let options = Arc::clone(&self.api.options.zipkin);
        self.http().merge(zipkin::port(self.api.clone(), options))
    }

    /// A sink that also shows the live tail what `sink` has stored.
    pub fn tap(&self, sink: Arc<dyn SpanSink>) -> Arc<dyn SpanSink> {
        Arc::new(Tap {
            sink,
            feed: Arc::clone(&self.api.feed),
        })
    }

    /// Ends all live tails, so that a server that waits for its answers can stop.
    pub fn close(&self) {
        self.api.feed.close();
    }

    /// Jaeger's gRPC services `jaeger.api_v2.QueryService` and `jaeger.api_v3.QueryService`, server
    /// reflection and health: for a server that speaks HTTP/2.
    pub fn grpc(&self) -> Router {
        grpc::router(self.api.clone())
    }
}

impl fmt::Debug for QueryService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryService")
            .field("options", &self.api.options)
            .finish_non_exhaustive()
    }
}

/// Searches whose answers may be in memory at the same time; others wait for their turn.
const MAX_QUERIES: usize = 8;

/// Answers that are turned into JSON at the same time.
const MAX_RENDERS: usize = 16;

/// The most spans that one answer carries: searches stop there and say so.
pub(crate) const MAX_ANSWER_SPANS: usize = 200_000;

/// What one search may take: what a person waits for, and what [`MAX_QUERIES`] at a time may hold.
pub(crate) const BUDGET: Budget = Budget {
    time: Some(Duration::from_secs(30)),
    answer_bytes: 64 << 20,
    ..Budget::UNLIMITED
};

/// What every handler works with.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) store: Arc<dyn SpanStore>,
    pub(crate) options: Arc<Options>,
    pub(crate) feed: Arc<Feed>,
    turns: Arc<Semaphore>,
    renders: Arc<Semaphore>,
}

/// What a search found.
pub(crate) struct Found {
    pub(crate) traces: Vec<StoredTrace>,
    /// Why the search was ended early, if it was: what there was too much of, and what to do.
    pub(crate) partial: Option<&'static str>,
    /// Held as long as the traces are in memory.
    pub(crate) turn: Option<OwnedSemaphorePermit>,
}

impl Api {
    /// How this API shows a trace; `raw` is without Jaeger's adjusters.
    pub(crate) fn view(&self, raw: bool) -> View {
        View::new(&self.options, raw)
    }

    /// A trace, from the archive if it is no longer in the store.
    pub(crate) async fn trace(&self, id: TraceId) -> Result<Option<StoredTrace>, StoreError> {
        if let Some(trace) = self.store.trace(id).await? {
            return Ok(Some(trace));
        }
        match &self.options.archive {
            Some(archive) => archive.trace(id).await,
            None => Ok(None),
        }
    }

    /// Runs a search to its end, or until the answer is large enough.
    pub(crate) async fn find(&self, query: TraceQuery) -> Result<Found, StoreError> {
        self.find_where(query, usize::MAX, |_| true).await
    }

    /// Waits for a turn to search.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // None only if the semaphore were closed, which nobody does.
        self.turns.acquire().await.ok()
    }

    /// As [`Self::find`], but only up to `limit` traces that `wanted` picks: what the filter of a query
    /// cannot say.
    pub(crate) async fn find_where(
        &self,
        mut query: TraceQuery,
        limit: usize,
        wanted: impl Fn(&StoredTrace) -> bool,
    ) -> Result<Found, StoreError> {
        query.budget = BUDGET;
        // The semaphore is never closed.
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok();
        let mut search = self.store.search(query)?;
        let mut found = Found {
            traces: Vec::new(),
            partial: None,
            turn,
        };
        let mut spans = 0;
        while found.traces.len() < limit
            && let Some(trace) = search.next().await
        {
            let trace = trace?;
            if !wanted(&trace) {
                continue;
            }
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
        let _turn = self.renders.acquire().await;
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
