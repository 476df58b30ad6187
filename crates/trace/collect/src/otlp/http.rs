//! OTLP/HTTP: `POST /v1/traces`, protobuf or JSON.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::post;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use super::decode;
use super::reply::{Code, Format};
use crate::cors::{self, Cors};
use crate::{AllowedOrigins, Collector, Reason, Receiver, Refusal};

const RECEIVER: Receiver = Receiver::OtlpHttp;

/// The receiver's routes; pages of `origins` may post as well.
pub fn router(collector: Collector, origins: AllowedOrigins) -> Router {
    let cors = Cors {
        origins,
        methods: "POST",
        exposed_headers: "",
    };
    Router::new()
        .route("/v1/traces", post(export))
        .method_not_allowed_fallback(wrong_method)
        .fallback(wrong_path)
        .with_state(collector)
        .layer(from_fn_with_state(cors, cors::middleware))
}

async fn export(State(collector): State<Collector>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some(format) = format_of(&parts.headers) else {
        collector
            .stats()
            .refuse_request(RECEIVER, Reason::UnsupportedType);
        return text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "415 unsupported media type, supported: [application/json, application/x-protobuf]",
        );
    };
    match take(&collector, format, &parts.headers, body).await {
        Ok(body) => answer(StatusCode::OK, format, body),
        Err(refusal) => {
            collector.stats().refuse_request(RECEIVER, refusal.reason);
            refuse(format, &refusal)
        }
    }
}

async fn take(
    collector: &Collector,
    format: Format,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<u8>, Refusal> {
    let payload = collector.read(headers, body).await?;
    decode::store(collector, RECEIVER, payload, format).await
}

/// The encoding that `Content-Type` names; parameters such as `charset` do not matter.
fn format_of(headers: &HeaderMap) -> Option<Format> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/x-protobuf")
        || essence.eq_ignore_ascii_case("application/protobuf")
    {
        Some(Format::Protobuf)
    } else if essence.eq_ignore_ascii_case("application/json") {
        Some(Format::Json)
    } else {
        None
    }
}

fn refuse(format: Format, refusal: &Refusal) -> Response {
    let (status, code) = match refusal.reason {
        Reason::Malformed
        | Reason::CorruptEncoding
        | Reason::UnsupportedEncoding
        | Reason::Aborted => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
        Reason::UnsupportedType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument),
        Reason::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
        Reason::Timeout => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
        Reason::Busy | Reason::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        Reason::StoreFailed => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
    };
    let mut response = answer(status, format, format.status(code, &refusal.message));
    if refusal.reason == Reason::Busy {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(Refusal::RETRY_AFTER_SECONDS));
    }
    response
}

async fn wrong_method() -> Response {
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "405 method not allowed, supported: [POST]",
    );
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    response
}

async fn wrong_path(headers: HeaderMap, uri: Uri) -> Response {
    let message = match uri.path() {
        "/v1/metrics" | "/v1/logs" => "only traces are taken here: POST /v1/traces",
        _ => "no such path: spans go to POST /v1/traces",
    };
    let format = format_of(&headers).unwrap_or(Format::Json);
    answer(
        StatusCode::NOT_FOUND,
        format,
        format.status(Code::NotFound, message),
    )
}

fn answer(status: StatusCode, format: Format, body: Vec<u8>) -> Response {
    with_type(status, format.content_type(), Body::from(body))
}

/// Words and type of an OpenTelemetry collector.
fn text(status: StatusCode, message: &str) -> Response {
    with_type(status, "text/plain", Body::from(message.to_owned()))
}

fn with_type(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
