//! Zipkin's port: spans of version 1 and 2 in every encoding, over HTTP and gRPC.
//!
//! | | |
//! |---|---|
//! | `POST /api/v2/spans` | JSON; protobuf as `application/x-protobuf` |
//! | `POST /api/v1/spans` | JSON; Thrift as `application/x-thrift` |
//! | gRPC `zipkin.proto3.SpanService/Report` | protobuf |
//! | `GET /metrics`, `GET /prometheus` | what was taken and refused, under the Zipkin server's names |
//!
//! HTTP paths are served below `/zipkin` too. Status codes and texts are those of the Zipkin server:
//! 202 with an empty body, or 400 with a line of plain text; one malformed span refuses its whole
//! batch. What it has no words for (a full store, a body over the limit) is refused in a way that
//! senders repeat: 202 means that the spans are stored.

mod grpc;
mod metrics;
mod requests;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use periplus_model::{Attribute, Batch};
use periplus_wire::zipkin::{self, DEBUG, Encoding};

use crate::cors::{self, Cors};
use crate::{AllowedOrigins, Collector, Reason, Receiver, Refusal};
use requests::Requests;

const RECEIVER: Receiver = Receiver::Zipkin;

/// The receiver alone; pages of `origins` may post as well.
pub fn router(collector: Collector, origins: AllowedOrigins) -> Router {
    server(collector, origins, Router::new().fallback(wrong_path))
}

/// Zipkin's whole port: the receiver, and `rest`, which has the queries and answers what nobody
/// serves.
pub fn server(collector: Collector, origins: AllowedOrigins, rest: Router) -> Router {
    let requests = Requests::default();
    let counted = metrics::State {
        collector: collector.clone(),
        requests: requests.clone(),
    };
    let mut routes = Router::new().route(grpc::REPORT, post(grpc::report));
    for (path, take) in [
        ("/api/v1/spans", post(version_1)),
        ("/zipkin/api/v1/spans", post(version_1)),
        ("/api/v2/spans", post(version_2)),
        ("/zipkin/api/v2/spans", post(version_2)),
    ] {
        routes = routes.route(path, take);
    }
    let cors = Cors {
        origins,
        methods: "GET, POST",
        exposed_headers: "grpc-status, grpc-message",
    };
    routes
        .with_state(collector)
        .merge(metrics::routes(counted))
        .merge(rest)
        .layer(from_fn_with_state(requests, requests::count))
        .layer(from_fn_with_state(cors, cors::middleware))
}

async fn version_1(State(collector): State<Collector>, request: Request) -> Response {
    let encoding = match is_of_type(request.headers(), "application/x-thrift") {
        true => Encoding::Thrift,
        false => Encoding::JsonV1,
    };
    spans(&collector, encoding, request).await
}

async fn version_2(State(collector): State<Collector>, request: Request) -> Response {
    let encoding = match is_of_type(request.headers(), "application/x-protobuf") {
        true => Encoding::Proto3,
        false => Encoding::JsonV2,
    };
    spans(&collector, encoding, request).await
}

/// Any other type, and none, is JSON.
fn is_of_type(headers: &HeaderMap, wanted: &str) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.to_ascii_lowercase().starts_with(wanted))
}

async fn spans(collector: &Collector, encoding: Encoding, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match take(collector, encoding, &parts.headers, body).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(refusal) => {
            collector.stats().refuse_request(RECEIVER, refusal.reason);
            refuse(&refusal)
        }
    }
}

async fn take(
    collector: &Collector,
    encoding: Encoding,
    headers: &HeaderMap,
    body: Body,
) -> Result<(), Refusal> {
    let debug = is_debug(headers);
    let payload = collector.read(headers, body).await?;
    let decoder = move |bytes: &[u8]| decode(encoding, bytes, debug);
    let batch = collector.decode(RECEIVER, payload, decoder).await?;
    collector.store(RECEIVER, batch).await
}

/// B3's debug flag on the report itself: each of its spans is one of a request being debugged.
fn is_debug(headers: &HeaderMap) -> bool {
    headers
        .get("x-b3-flags")
        .is_some_and(|value| value.as_bytes() == b"1")
}

/// The decoder's words are the Zipkin server's.
fn decode(encoding: Encoding, bytes: &[u8], debug: bool) -> Result<Batch, Refusal> {
    let mut batch = zipkin::decode(encoding, bytes)
        .map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))?;
    if debug {
        let spans = batch.groups.iter_mut().flat_map(|group| &mut group.spans);
        for span in spans.filter(|span| span.attribute(DEBUG).is_none()) {
            span.attributes.push(Attribute::new(DEBUG, true));
        }
    }
    Ok(batch)
}

fn refuse(refusal: &Refusal) -> Response {
    let status = match refusal.reason {
        Reason::Malformed
        | Reason::CorruptEncoding
        | Reason::UnsupportedEncoding
        | Reason::Aborted => StatusCode::BAD_REQUEST,
        Reason::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::Timeout => StatusCode::REQUEST_TIMEOUT,
        Reason::Busy | Reason::QueueFull => StatusCode::SERVICE_UNAVAILABLE,
        Reason::StoreFailed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let message = match refusal.reason {
        Reason::CorruptEncoding => "Cannot gunzip spans",
        _ => refusal.message.as_str(),
    };
    let mut response = (status, message.to_owned()).into_response();
    if refusal.reason == Reason::Busy {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(Refusal::RETRY_AFTER_SECONDS));
    }
    response
}

/// What answers on Zipkin's port where nobody serves the path.
pub async fn wrong_path() -> Response {
    (
        StatusCode::NOT_FOUND,
        "no such path: spans go to POST /api/v2/spans or /api/v1/spans",
    )
        .into_response()
}
