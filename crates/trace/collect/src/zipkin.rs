//! Zipkin v2: `POST /api/v2/spans`, JSON.
//!
//! Status codes and texts are those of the Zipkin server: 202 with an empty body, or 400 with a
//! line of plain text; one malformed span refuses its whole batch.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use periplus_model::Batch;
use periplus_wire::zipkin;

use crate::{AllowedOrigins, Collector, Reason, Receiver, Refusal, cors};

const RECEIVER: Receiver = Receiver::Zipkin;

/// The receiver's routes; pages of `origins` may post as well.
pub fn router(collector: Collector, origins: AllowedOrigins) -> Router {
    Router::new()
        .route("/api/v2/spans", post(spans))
        .route("/zipkin/api/v2/spans", post(spans))
        .route("/health", get(health))
        .fallback(wrong_path)
        .with_state(collector)
        .layer(from_fn_with_state(origins, cors::middleware))
}

async fn spans(State(collector): State<Collector>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match take(&collector, &parts.headers, body).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(refusal) => {
            collector.stats().refuse_request(RECEIVER, refusal.reason);
            refuse(&refusal)
        }
    }
}

async fn take(collector: &Collector, headers: &HeaderMap, body: Body) -> Result<(), Refusal> {
    if is_protobuf(headers) {
        return Err(Refusal::new(
            Reason::UnsupportedType,
            "application/x-protobuf is not read here: send application/json",
        ));
    }
    let payload = collector.read(headers, body).await?;
    let batch = collector.decode(RECEIVER, payload, decode).await?;
    collector.store(RECEIVER, batch).await
}

fn is_protobuf(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/x-protobuf"))
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

/// The decoder's words are the Zipkin server's.
fn decode(bytes: &[u8]) -> Result<Batch, Refusal> {
    zipkin::decode_json(bytes).map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))
}

async fn health() -> Response {
    let body = r#"{"status":"UP","zipkin":{"status":"UP","details":{}}}"#;
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn wrong_path() -> Response {
    (
        StatusCode::NOT_FOUND,
        "no such path: spans go to POST /api/v2/spans",
    )
        .into_response()
}
