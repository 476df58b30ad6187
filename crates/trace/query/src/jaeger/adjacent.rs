//! The rest of Jaeger's API: what is not there says so as Jaeger does when it is not configured.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{StatusCode, Uri};
use periplus_insight::jaeger::unadjusted;
use periplus_model::{Batch, SpanGroup, TraceId};

use super::envelope::{Envelope, Failure, is_pretty, ok, to_json};
use super::handlers::{last_segment, trace_id};
use super::project;
use crate::api::Api;
use crate::go;
use crate::params::Params;

type Answer = Result<Response, Failure>;

/// The largest upload that is transformed, in bytes.
const MAX_UPLOAD: usize = 16 << 20;

/// `POST /api/archive/{traceID}`: there is no second storage to copy to.
pub(super) async fn archive(uri: Uri) -> Failure {
    match trace_id(last_segment(&uri)) {
        Ok(_) => Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "archive span storage was not configured",
        ),
        Err(error) => Failure::bad_request(error),
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

/// `GET /api/metrics/latencies`.
pub(super) async fn latencies(uri: Uri) -> Failure {
    let params = Params::of(uri.query());
    let quantile = params.first("quantile");
    if quantile.parse::<f64>().is_err() {
        return Failure::bad_request(format!(
            "unable to parse param 'quantile': strconv.ParseFloat: parsing {}: invalid syntax",
            go::quote(quantile)
        ));
    }
    disabled(&params)
}

/// `GET /api/metrics/{calls|errors|minstep}`.
pub(super) async fn metrics(uri: Uri) -> Failure {
    match last_segment(&uri) {
        "calls" | "errors" => disabled(&Params::of(uri.query())),
        "minstep" => no_metrics(),
        _ => Failure::NotServed,
    }
}

fn disabled(params: &Params<'_>) -> Failure {
    if params.all("service").next().is_none() {
        return Failure::bad_request(
            "unable to parse param 'service': please provide at least one service name",
        );
    }
    no_metrics()
}

fn no_metrics() -> Failure {
    Failure::new(
        StatusCode::NOT_IMPLEMENTED,
        "trace metrics are currently disabled - no metrics backend configured",
    )
}

/// `/api/v3`: its own error shape, and a pointer to what is served.
pub(super) async fn v3() -> Response {
    let body = serde_json::json!({"error": {
        "httpCode": 501,
        "message": "this server does not serve /api/v3 yet: /api/services, /api/operations and \
                    /api/traces give the same data",
    }});
    (
        StatusCode::NOT_IMPLEMENTED,
        [(CONTENT_TYPE, "text/plain; charset=utf-8")],
        format!("{body}\n"),
    )
        .into_response()
}
