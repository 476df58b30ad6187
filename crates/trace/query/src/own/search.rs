use periplus_insight::{SUMMARY_ATTRIBUTES, ServiceSummary, Summary, Trace, summary};
use periplus_model::TraceId;
use periplus_store::{Detail, ParseCursorError, SpanFilter, StoredTrace, TraceFilter, TraceQuery};
use serde::Serialize;

use super::unit::{micros, micros_between};
use crate::api::Found;
use crate::params::Params;
use crate::search::{self, Defaults};

const SEARCH: Defaults = Defaults {
    limit: 20,
    lookback_nano: 3_600_000_000_000,
    lookback_counts: true,
};

/// Jaeger's parameters, the query line `q`, and the place behind which to go on.
pub(super) fn parse(params: &Params<'_>, now_unix_nano: u64) -> Result<TraceQuery, String> {
    let mut query = search::parse(params, SEARCH, now_unix_nano)?.check(false)?;
    let line = periplus_store::parse(params.first("q"))
        .map_err(|error| format!("parameter 'q': {error}"))?;
    query.filter = both(query.filter, line);
    query.detail = Detail::Outline(SUMMARY_ATTRIBUTES);
    query.after = match params.first("after") {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|error: ParseCursorError| format!("parameter 'after': {error}"))?,
        ),
    };
    Ok(query)
}

/// The form and the line. A line about one span is about the span that the form is about.
fn both(form: TraceFilter, line: TraceFilter) -> TraceFilter {
    match (form, line) {
        (form, TraceFilter::AnySpan(SpanFilter::True)) => form,
        (TraceFilter::AnySpan(form), TraceFilter::AnySpan(line)) => {
            TraceFilter::AnySpan(SpanFilter::And(vec![form, line]))
        }
        (form, line) => TraceFilter::And(vec![form, line]),
    }
}

/// The list of results.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    traces: Vec<Item>,
    limit: usize,
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    trace_id: String,
    root: Root,
    start_us: u64,
    duration_us: u64,
    spans: u64,
    errors: u64,
    depth: u64,
    services: Vec<Service>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<String>,
}

#[derive(Debug, Serialize)]
struct Root {
    service: String,
    operation: String,
    missing: bool,
}

#[derive(Debug, Serialize)]
struct Service {
    name: String,
    spans: u64,
    errors: u64,
}

pub(super) fn results(found: &Found, limit: usize) -> Results {
    let truncated = found.partial.is_some() || found.traces.len() > limit;
    let shown = &found.traces[..limit.min(found.traces.len())];
    let next = shown.last().filter(|_| truncated);
    Results {
        traces: shown.iter().map(item).collect(),
        limit,
        truncated,
        partial: found.partial,
        next: next.map(|trace| trace.cursor().to_string()),
    }
}

fn item(trace: &StoredTrace) -> Item {
    from_summary(trace.id, summary(&Trace::assemble(&trace.groups)))
}

fn from_summary(id: TraceId, summary: Summary) -> Item {
    let root = summary.root.unwrap_or_default();
    let end_unix_nano = summary
        .start_unix_nano
        .saturating_add(summary.duration_nano);
    Item {
        trace_id: id.to_string(),
        root: Root {
            service: root.service,
            operation: root.operation,
            missing: root.missing,
        },
        start_us: micros(summary.start_unix_nano),
        duration_us: micros_between(summary.start_unix_nano, end_unix_nano),
        spans: summary.spans,
        errors: summary.errors,
        depth: summary.depth,
        services: summary
            .services
            .into_iter()
            .map(
                |ServiceSummary {
                     name,
                     spans,
                     errors,
                 }| Service {
                    name,
                    spans,
                    errors,
                },
            )
            .collect(),
        status_code: root.status_code,
    }
}
