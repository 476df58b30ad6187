//! Answers in the Zipkin server's shapes.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use periplus_store::{StoreError, StoredTrace};
use periplus_wire::zipkin::append_normalised_span;
use serde::Serialize;

/// Lists of names may be cached when there are more services than this.
pub(super) const UNCACHED_NAMES: usize = 3;

/// Says why an answer is not complete: Zipkin's shapes have no place for it.
const PARTIAL: HeaderName = HeaderName::from_static("periplus-partial");

/// A line of plain text and a status, as the Zipkin server refuses.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::InvalidQuery { .. } => StatusCode::BAD_REQUEST,
            _ => {
                tracing::error!(%error, "a query failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, self.message).into_response()
    }
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => bytes(body),
        Err(error) => {
            tracing::error!(%error, "cannot write an answer");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// JSON that is written already.
pub(super) fn bytes(body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Sorted names, each once.
pub(super) fn names(mut names: Vec<String>, may_cache: bool) -> Response {
    names.sort();
    names.dedup();
    let mut response = json(&names);
    if may_cache {
        let five_minutes = HeaderValue::from_static("max-age=300, must-revalidate");
        response.headers_mut().insert(CACHE_CONTROL, five_minutes);
    }
    response
}

/// Marks an answer that is not all of it.
pub(super) fn partial(mut response: Response, reason: Option<&'static str>) -> Response {
    if let Some(reason) = reason {
        let reason = HeaderValue::from_static(reason);
        response.headers_mut().insert(PARTIAL, reason);
    }
    response
}

/// A list of lists of spans.
pub(super) fn traces(traces: &[StoredTrace]) -> Vec<u8> {
    list(traces, push_trace)
}

/// A list of spans.
pub(super) fn trace(trace: &StoredTrace) -> Vec<u8> {
    let mut out = Vec::new();
    push_trace(&mut out, trace);
    out
}

fn push_trace(out: &mut Vec<u8>, trace: &StoredTrace) {
    let spans =
        (trace.groups.iter()).flat_map(|group| group.spans.iter().map(move |span| (group, span)));
    out.extend(list(spans, |out, (group, span)| {
        append_normalised_span(out, &group.resource, &group.scope, span);
    }));
}

fn list<T>(items: impl IntoIterator<Item = T>, push: impl Fn(&mut Vec<u8>, T)) -> Vec<u8> {
    let mut out = vec![b'['];
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push(&mut out, item);
    }
    out.push(b']');
    out
}
