use periplus_insight::{ServiceSummary, Summary, Trace, summary};
use periplus_model::TraceId;
use periplus_store::{StoredTrace, TraceQuery};
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

pub(super) fn parse(params: &Params<'_>, now_unix_nano: u64) -> Result<TraceQuery, String> {
    search::parse(params, SEARCH, now_unix_nano)?.check(false)
}

/// The list of results.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    traces: Vec<Item>,
    limit: usize,
    truncated: bool,
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
    Results {
        traces: found.traces.iter().take(limit).map(item).collect(),
        limit,
        truncated: found.cut || found.traces.len() > limit,
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
