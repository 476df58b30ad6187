//! What is done with one trace besides showing it: archived, or turned from OTLP to Jaeger's JSON.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use http::{StatusCode, Uri};
use periplus_insight::jaeger::unadjusted;
use periplus_model::{Batch, SpanGroup, TraceId};

use super::envelope::{Envelope, Failure, is_pretty, ok, to_json};
use super::handlers::{Answer, last_segment, trace_id};
use super::project;
use crate::api::Api;
use crate::archive::Archived;
use crate::params::Params;

/// The largest upload that is transformed, in bytes.
const MAX_UPLOAD: usize = 16 << 20;

/// `POST /api/archive/{traceID}`: copies a trace to where retention does not take it.
pub(super) async fn archive(State(api): State<Api>, uri: Uri) -> Answer {
    let id = trace_id(last_segment(&uri)).map_err(Failure::bad_request)?;
    match api.archive(id).await? {
        Archived::Done => {
            let mut done = Envelope::of([(); 0]);
            done.errors = Some(Vec::new());
            ok(to_json(&done, is_pretty(&Params::of(uri.query()))))
        }
        Archived::NotFound => Err(Failure::new(StatusCode::NOT_FOUND, "trace not found")),
        Archived::NotConfigured => Err(Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "archive span storage was not configured",
        )),
    }
}

/// `POST /api/transform`: OTLP JSON in, Jaeger's JSON out, nothing stored.
pub(super) async fn transform(State(api): State<Api>, uri: Uri, body: Body) -> Answer {
    let bytes = to_bytes(body, MAX_UPLOAD).await.map_err(|error| {
        Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("cannot read the upload, {MAX_UPLOAD} bytes are allowed: {error}"),
        )
    })?;
    let pretty = is_pretty(&Params::of(uri.query()));
    api.compute(usize::MAX, move || transformed(&bytes, pretty))
        .await?
}

fn transformed(bytes: &[u8], pretty: bool) -> Answer {
    let decoded = periplus_wire::otlp::decode_json(bytes)
        .map_err(|error| Failure::bad_request(format!("cannot unmarshal OTLP : {error}")))?;
    let adjusted: Vec<_> = by_trace(decoded.batch)
        .into_iter()
        .map(|(id, groups)| (id, unadjusted(&groups)))
        .collect();
    let data: Vec<_> = adjusted
        .iter()
        .map(|(id, groups)| project::trace(*id, groups))
        .collect();
    ok(to_json(&Envelope::of(data), pretty))
}

/// The traces of a batch, in the order in which they first appear.
fn by_trace(batch: Batch) -> Vec<(TraceId, Vec<Arc<SpanGroup>>)> {
    let mut traces: Vec<(TraceId, Vec<SpanGroup>)> = Vec::new();
    let mut places: HashMap<TraceId, usize> = HashMap::new();
    for group in batch.groups {
        for span in group.spans {
            let place = *places.entry(span.trace_id).or_insert_with(|| {
                traces.push((span.trace_id, Vec::new()));
                traces.len() - 1
            });
            let groups = &mut traces[place].1;
            match groups.last_mut() {
                Some(last)
                    if Arc::ptr_eq(&last.resource, &group.resource)
                        && Arc::ptr_eq(&last.scope, &group.scope) =>
                {
                    last.spans.push(span);
                }
                _ => groups.push(SpanGroup {
                    resource: group.resource.clone(),
                    scope: group.scope.clone(),
                    spans: vec![span],
                }),
            }
        }
    }
    traces
        .into_iter()
        .map(|(id, groups)| (id, groups.into_iter().map(Arc::new).collect()))
        .collect()
}
