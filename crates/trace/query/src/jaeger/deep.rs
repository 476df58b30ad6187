//! `GET /api/deep-dependencies`: the ways that requests take through a service, from its newest
//! traces.

use std::collections::BTreeMap;

use axum::extract::State;
use http::Uri;
use periplus_insight::Trace;
use periplus_model::SpanKind;
use periplus_store::{StoredTrace, TraceFilter, TraceQuery};
use serde_json::{Value as Json, json};

use super::envelope::{Failure, is_pretty, ok, to_json};
use super::handlers::{Answer, recent};
use crate::api::Api;
use crate::params::Params;
use crate::search::service_filter;

/// How far back, without a `start`: an hour.
const LOOKBACK_MICROS: i64 = 3_600_000_000;

/// The newest traces that are looked at.
const MAX_TRACES: usize = 1_000;

/// Different ways that are shown.
const MAX_PATHS: usize = 5_000;

/// A service and an operation.
type Step = (String, String);

/// Ways through `service`: `start` and `end` in µs, an hour without them. There is no envelope.
pub(super) async fn deep_dependencies(State(api): State<Api>, uri: Uri) -> Answer {
    let params = Params::of(uri.query());
    let service = params.first("service").to_owned();
    if service.is_empty() {
        return Err(Failure::bad_request("parameter 'service' is required"));
    }
    let range = recent(&params, LOOKBACK_MICROS).map_err(Failure::bad_request)?;
    let filter = TraceFilter::AnySpan(service_filter(&service));
    let found = api.find(TraceQuery::new(range, filter, MAX_TRACES)).await?;
    let spans = found.traces.iter().map(StoredTrace::span_count).sum();
    let pretty = is_pretty(&params);
    let body = api
        .compute(spans, move || {
            to_json(&payload(&found.traces, &service), pretty)
        })
        .await?;
    ok(body)
}

fn payload(traces: &[StoredTrace], service: &str) -> Json {
    let mut paths: BTreeMap<Vec<Step>, String> = BTreeMap::new();
    for stored in traces {
        for path in paths_of(&Trace::assemble(&stored.groups)) {
            let leads_through = path.iter().any(|(name, _)| name == service);
            if leads_through && (paths.len() < MAX_PATHS || paths.contains_key(&path)) {
                paths.entry(path).or_insert_with(|| stored.id.to_string());
            }
        }
    }
    let dependencies: Vec<Json> = paths
        .into_iter()
        .map(|(path, trace)| {
            let path: Vec<Json> = path
                .into_iter()
                .map(|(service, operation)| json!({ "service": service, "operation": operation }))
                .collect();
            json!({
                "path": path,
                "attributes": [{ "key": "exemplar_trace_id", "value": trace }],
            })
        })
        .collect();
    json!({ "dependencies": dependencies })
}

/// The ways from a root to the last service. A step is where a service is entered: a root, a server
/// or consumer, or a span below one of another service.
fn paths_of(trace: &Trace) -> Vec<Vec<Step>> {
    let rows = &trace.rows;
    // The nearest step, itself included.
    let mut step: Vec<Option<usize>> = Vec::with_capacity(rows.len());
    let mut before: Vec<Option<usize>> = Vec::with_capacity(rows.len());
    let mut is_last = vec![true; rows.len()];
    for (i, row) in rows.iter().enumerate() {
        let above = row.parent.and_then(|parent| step[parent]);
        let enters = match above {
            None => true,
            Some(above) => {
                let kind = trace.span(row).kind;
                matches!(kind, SpanKind::Server | SpanKind::Consumer)
                    || trace.service(row) != trace.service(&rows[above])
            }
        };
        before.push(above);
        step.push(if enters { Some(i) } else { above });
        if let (true, Some(above)) = (enters, above) {
            is_last[above] = false;
        }
    }
    let ends = (0..rows.len()).filter(|i| step[*i] == Some(*i) && is_last[*i]);
    ends.map(|end| {
        let mut path = Vec::new();
        let mut at = Some(end);
        while let Some(i) = at {
            let row = &rows[i];
            let service = trace.service(row).to_owned();
            path.push((service, trace.span(row).name.clone()));
            at = before[i];
        }
        path.reverse();
        path
    })
    .collect()
}
