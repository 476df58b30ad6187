use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use periplus_model::{Batch, SpanGroup, SpanKind, TraceId, Value};
use periplus_wire::otlp::{Refused, decode_protobuf};

use crate::attributes::AttributeKey;
use crate::red::{RedQuery, RedSeries};
use crate::scan::ScanQuery;
use crate::search::TraceSearch;
use crate::{AppendOtlpError, Cursor, Scope, StoreError, TimeRange, TraceQuery};

/// A future without a name, so that a store can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream without a name, so that a store can be a trait object.
pub type BoxStream<'a, T> = Pin<Box<dyn Stream<Item = T> + Send + 'a>>;

/// Where spans go: a store, or what stands before one (sampling, forwarding).
pub trait SpanSink: Send + Sync + 'static {
    /// Takes a batch. When the future resolves to `Ok`, the spans are searchable and as durable as
    /// the engine promises; [`StoreError::Busy`] asks the sender to come again, and nothing of the
    /// batch is kept.
    ///
    /// It gives up by itself when it takes too long. Who drops the future before it resolves does not
    /// know what became of the spans, and must not tell a sender that they are refused.
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Takes an OTLP request (`ExportTraceServiceRequest` in protobuf) and says which of its spans
    /// were refused, as `periplus_wire::otlp::decode_protobuf` does; otherwise as [`Self::append`].
    /// An engine may take the bytes as they are.
    fn append_otlp(&self, body: Bytes) -> BoxFuture<'_, Result<OtlpTaken, AppendOtlpError>> {
        Box::pin(async move {
            let decoded = decode_protobuf(&body)?;
            let spans = decoded.batch.span_count() as u64;
            self.append(decoded.batch).await?;
            Ok(OtlpTaken {
                spans,
                refused: decoded.refused,
            })
        })
    }
}

/// Where spans are kept: batches in, streams out, one query AST.
///
/// An engine keeps what arrives as it arrives: it neither merges spans that share an id nor mends
/// parents or clocks. Readers do that (`periplus-insight`).
pub trait SpanStore: SpanSink {
    /// All spans of one trace; `None` if there is none. [`StoreError::Damaged`] if there may be some in
    /// what cannot be read.
    fn trace(&self, id: TraceId) -> BoxFuture<'_, Result<Option<StoredTrace>, StoreError>>;

    /// The newest traces that match, whole (spans outside of the range too), newest first: by the
    /// start of their earliest span, spans without a start left out. What matches is said by
    /// [`crate::matches`]. Never more than the limit, never a trace twice.
    ///
    /// Dropping the stream cancels the query. What arrives while it runs may be missing.
    ///
    /// This is what an engine provides; [`Self::search`] is what a reader asks. The filter is a
    /// local one ([`crate::TraceFilter::is_local`]). An engine may leave out `after` and all of the
    /// `budget`; where the budget ends its search, it says so by [`StoreError::QueryLimit`]. Where it
    /// cannot read something that may belong to the answer, it says so by [`StoreError::Damaged`], once
    /// and as soon as it knows, and goes on.
    fn find_traces(&self, query: TraceQuery) -> BoxStream<'_, Result<StoredTrace, StoreError>>;

    /// The newest traces that match, as [`Self::find_traces`], for every filter, behind the cursor
    /// and within the budget; and at the end whether these are all. [`StoreError::InvalidQuery`] if
    /// nobody could answer it.
    fn search(&self, query: TraceQuery) -> Result<TraceSearch<'_>, StoreError> {
        TraceSearch::new(self, query)
    }

    /// The spans that start in the range and match, a few at a time, in no order. No more of them is
    /// in memory than what is answered at once. [`StoreError::QueryLimit`] where the budget ends it.
    fn scan(&self, query: ScanQuery) -> BoxStream<'_, Result<Vec<SpanGroup>, StoreError>> {
        let _ = query;
        let error = StoreError::Unsupported {
            what: "spans without their traces",
        };
        Box::pin(futures_util::stream::once(async { Err(error) }))
    }

    /// How many spans start in the range and match.
    fn count(&self, query: ScanQuery) -> BoxFuture<'_, Result<u64, StoreError>> {
        let _ = query;
        Box::pin(async {
            Err(StoreError::Unsupported {
                what: "counts of spans",
            })
        })
    }

    /// The keys of the attributes in this scope, by scope, then by key: the first ones that begin
    /// with the prefix. Keys of spans that are gone may still be among them.
    fn attribute_keys<'a>(
        &'a self,
        scope: Scope,
        prefix: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<AttributeKey>, StoreError>> {
        let _ = (scope, prefix, limit);
        Box::pin(async {
            Err(StoreError::Unsupported {
                what: "attribute keys",
            })
        })
    }

    /// The distinct values of an attribute in this scope, sorted by their text, then by type (text,
    /// integer, double, boolean): the first ones whose text begins with the prefix. Values that are
    /// no scalars are left out. Values of spans that are gone may still be among them.
    fn attribute_values<'a>(
        &'a self,
        key: &'a str,
        scope: Scope,
        prefix: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Value>, StoreError>> {
        let _ = (key, scope, prefix, limit);
        Box::pin(async {
            Err(StoreError::Unsupported {
                what: "attribute values",
            })
        })
    }

    /// The rates, errors and durations of the spans in the windows of [`crate::RED_WINDOW_NANO`] that
    /// begin in the range, by service, name and kind.
    fn red(&self, range: TimeRange) -> BoxFuture<'_, Result<Vec<RedSeries>, StoreError>> {
        self.red_by(RedQuery::new(range))
    }

    /// Rates, errors and durations by service, name and kind: those that are asked for.
    fn red_by(&self, query: RedQuery) -> BoxFuture<'_, Result<Vec<RedSeries>, StoreError>> {
        let _ = query;
        Box::pin(async {
            Err(StoreError::Unsupported {
                what: "rates, errors and durations",
            })
        })
    }

    /// The names of all services, sorted; spans without a service's name have none.
    fn services(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;

    /// The operations of a service, sorted by name, then by kind; of one kind only, if one is given.
    fn operations<'a>(
        &'a self,
        service: &'a str,
        kind: Option<SpanKind>,
    ) -> BoxFuture<'a, Result<Vec<Operation>, StoreError>>;

    /// Who called whom how often, from the spans that start inside the range; sorted by caller,
    /// then by callee. What a call is, is said by `periplus_insight::dependencies` of whole traces;
    /// spans that start more than an hour outside of the range need not be looked for. A range that
    /// begins and ends with a minute may be answered much faster.
    fn dependencies(
        &self,
        range: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<DependencyEdge>, StoreError>>;

    /// What is to be said with every list (of services, operations, attributes, calls, series) when a
    /// part of the store is known to be damaged: something may be missing in it.
    fn damage(&self) -> Option<String> {
        None
    }

    /// What the store holds and what it has dropped.
    fn stats(&self) -> StoreStats;
}

/// What became of the spans of an OTLP request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtlpTaken {
    /// How many were taken.
    pub spans: u64,
    /// Those that break a rule of the format.
    pub refused: Refused,
}

/// One trace as it was stored: groups in the order of arrival, nothing merged.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTrace {
    /// Its id.
    pub id: TraceId,
    /// Its spans. Shared with the store, so that reading copies nothing.
    pub groups: Vec<Arc<SpanGroup>>,
    /// Why there may be more of them, if so.
    pub incomplete: Option<Incomplete>,
}

/// Why a trace may have more spans than an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incomplete {
    /// A part of the store is damaged and cannot be read.
    Damaged,
    /// The trace takes more memory than a query may take. Whether a search that looks at whole traces
    /// finds it is not known then; it is answered.
    TooLarge {
        /// When its earliest span starts, which may be one that is left out.
        start_unix_nano: u64,
    },
}

impl Incomplete {
    /// What to tell whoever asked, and what to do.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Damaged => {
                "a part of the store is damaged and could not be read, so spans of this trace may be \
                 missing; `periplus store check` says what it is"
            }
            Self::TooLarge { .. } => {
                "this trace is too large to be shown whole, so spans of it are missing; \
                 `periplus store export` writes all of them"
            }
        }
    }
}

impl StoredTrace {
    /// How many spans it holds.
    pub fn span_count(&self) -> usize {
        self.groups.iter().map(|group| group.spans.len()).sum()
    }

    /// Where it stands among all traces: the next page begins behind it.
    pub fn cursor(&self) -> Cursor {
        if let Some(Incomplete::TooLarge { start_unix_nano }) = self.incomplete {
            return Cursor {
                start_unix_nano,
                trace_id: self.id,
            };
        }
        let starts = (self.groups.iter())
            .flat_map(|group| &group.spans)
            .map(|span| span.start_unix_nano);
        Cursor {
            start_unix_nano: starts.filter(|start| *start > 0).min().unwrap_or(0),
            trace_id: self.id,
        }
    }
}

/// A span name of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation {
    /// The span's name.
    pub name: String,
    /// The span's kind.
    pub kind: SpanKind,
}

/// Calls from one service to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DependencyEdge {
    /// The calling service.
    pub parent: String,
    /// The called service.
    pub child: String,
    /// How many calls.
    pub call_count: u64,
    /// How many of them failed.
    pub error_count: u64,
}

/// What a store holds, and what it has let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Traces held; one that lies in several segments is counted in each.
    pub traces: u64,
    /// Spans held.
    pub spans: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// The most bytes that the store may take.
    pub max_bytes: u64,
    /// Spans accepted since the start.
    pub accepted_spans: u64,
    /// Traces evicted since the start to stay under the limit.
    pub evicted_traces: u64,
    /// Spans evicted since the start to stay under the limit.
    pub evicted_spans: u64,
    /// Spans refused since the start because their trace was too large already.
    pub refused_spans: u64,
}
