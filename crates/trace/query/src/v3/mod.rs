//! `jaeger.api_v3`: what its HTTP gateway and its gRPC service have in common.

mod expression;
mod filter;
mod http;
mod params;
mod summary;

use std::collections::BTreeMap;

use periplus_model::{Batch, SpanKind, TraceId};
use periplus_store::{StoreError, StoredTrace, TimeRange, TraceFilter, TraceQuery};
use thiserror::Error;

use crate::api::{Api, Found};
use crate::jaeger::operations_of;
use crate::search::{Conditions, within_limit};
use crate::view::into_batch;

pub(crate) use expression::Call;
pub(crate) use http::routes;
pub(crate) use summary::{TraceSummary, summary};

/// Traces that a search returns unless it says how many.
const DEFAULT_DEPTH: i64 = 100;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum Problem {
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The request makes sense, but not to this store.
    #[error("{0}")]
    Unsupported(String),
    /// There is no such trace.
    #[error("{0}")]
    NotFound(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `TraceQueryParameters`, whatever it came as.
#[derive(Debug, Default)]
pub(crate) struct Search {
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Both required; nanoseconds since the Unix epoch, both ends included.
    pub(crate) start_min: Option<u64>,
    pub(crate) start_max: Option<u64>,
    /// Nanoseconds; zero: none.
    pub(crate) duration_min: i64,
    pub(crate) duration_max: i64,
    /// Zero and less: the default.
    pub(crate) depth: i64,
    pub(crate) raw: bool,
    pub(crate) filter: Option<Call>,
}

impl Search {
    /// The query; `names` are the names of the ends of the time range, for errors.
    pub(crate) fn query(&self, names: [&str; 2]) -> Result<TraceQuery, Problem> {
        let [min_name, max_name] = names;
        let (Some(start_min), Some(start_max)) = (self.start_min, self.start_max) else {
            return Err(Problem::Invalid(format!(
                "{min_name} and {max_name} are required"
            )));
        };
        if start_min > start_max {
            return Err(Problem::Invalid(format!(
                "{min_name} must be before {max_name}"
            )));
        }
        let conditions = Conditions {
            service: &self.service,
            operation: &self.operation,
            tags: self.attributes.clone(),
            min_nano: self.duration_min,
            max_nano: self.duration_max,
        };
        let filter = match &self.filter {
            None => conditions.filter(),
            Some(_) if !conditions.is_empty() => {
                return Err(Problem::Invalid(
                    "query.filter does not go together with other conditions: say them in the filter"
                        .to_owned(),
                ));
            }
            Some(call) => TraceFilter::AnySpan(filter::span_filter(call)?),
        };
        let range = TimeRange {
            start_unix_nano: start_min,
            end_unix_nano: start_max.saturating_add(1),
        };
        let depth = if self.depth > 0 {
            self.depth
        } else {
            DEFAULT_DEPTH
        };
        Ok(TraceQuery::new(range, filter, within_limit(depth)))
    }
}

/// One trace as OTLP; `id` as it was sent.
pub(crate) async fn get_trace(api: &Api, id: TraceId, raw: bool) -> Result<Batch, Problem> {
    let trace = api.trace(id).await?;
    let trace = trace.ok_or(Problem::NotFound("No traces found"))?;
    let view = api.view(raw);
    let spans = trace.span_count();
    Ok(api
        .compute(spans, move || into_batch(view.of(&trace)))
        .await?)
}

/// The traces that a search finds, each as OTLP.
pub(crate) async fn find_traces(
    api: &Api,
    query: TraceQuery,
    raw: bool,
) -> Result<(Vec<Batch>, Option<&'static str>), Problem> {
    let Found {
        traces,
        partial,
        turn: _turn,
    } = api.find(query).await?;
    let view = api.view(raw);
    let spans = traces.iter().map(StoredTrace::span_count).sum();
    let batches = api
        .compute(spans, move || {
            let batch = |trace| into_batch(view.of(trace));
            traces.iter().map(batch).collect()
        })
        .await?;
    Ok((batches, partial))
}

/// The summaries of the traces that a search finds.
pub(crate) async fn find_summaries(
    api: &Api,
    query: TraceQuery,
) -> Result<(Vec<TraceSummary>, Option<&'static str>), Problem> {
    let Found {
        traces,
        partial,
        turn: _turn,
    } = api.find(query).await?;
    let spans = traces.iter().map(StoredTrace::span_count).sum();
    let summaries = api
        .compute(spans, move || traces.iter().map(summary).collect())
        .await?;
    Ok((summaries, partial))
}

/// Name and kind of a service's operations; a kind that is not said is `internal` here.
pub(crate) async fn operations(
    api: &Api,
    service: &str,
    kind: &str,
) -> Result<Vec<(String, &'static str)>, Problem> {
    let operations = operations_of(api, service, kind).await?;
    let kind = |kind: SpanKind| match kind.as_str() {
        "" => SpanKind::Internal.as_str(),
        word => word,
    };
    Ok(operations
        .into_iter()
        .map(|operation| (operation.name, kind(operation.kind)))
        .collect())
}
