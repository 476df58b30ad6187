//! Jaeger's Thrift over HTTP: `POST /api/traces`, a `Batch` in the binary protocol.
//!
//! Status codes and texts are those of Jaeger's collector: 202 with an empty body, or a line of plain
//! text. A busy store answers 503 with `Retry-After` where the collector has 500 for every failure.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use periplus_wire::jaeger::decode_thrift_batch;

use crate::{Collector, Reason, Receiver, Refusal};

const RECEIVER: Receiver = Receiver::JaegerHttp;

/// The receiver's routes.
pub fn router(collector: Collector) -> Router {
    Router::new()
        .route("/api/traces", post(traces))
        .method_not_allowed_fallback(wrong_method)
        .fallback(wrong_path)
        .with_state(collector)
}

async fn traces(State(collector): State<Collector>, request: Request) -> Response {
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
    let media_type = media_type(headers).map_err(|error| {
        let message = format!("Cannot parse content type: mime: {error}");
        Refusal::new(Reason::UnsupportedType, message)
    })?;
    if !matches!(
        media_type.as_str(),
        "application/x-thrift" | "application/vnd.apache.thrift.binary"
    ) {
        return Err(Refusal::new(
            Reason::UnsupportedType,
            format!("Unsupported content type: {media_type}"),
        ));
    }
    let payload = collector.read(headers, body).await?;
    super::store(collector, RECEIVER, payload, decode_thrift_batch).await
}

/// The media type without its parameters, in lower case; the errors are Go's.
fn media_type(headers: &HeaderMap) -> Result<String, &'static str> {
    let value = headers
        .get(CONTENT_TYPE)
        .map_or("", |value| value.to_str().unwrap_or("\u{fffd}"));
    let essence = value.split(';').next().unwrap_or_default().trim();
    let is_token = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    match essence.split_once('/') {
        _ if essence.is_empty() => Err("no media type"),
        Some((_, "")) => Err("expected token after slash"),
        Some((kind, subtype)) if is_token(kind) && is_token(subtype) => {
            Ok(essence.to_ascii_lowercase())
        }
        Some((kind, _)) if is_token(kind) => Err("unexpected content after media subtype"),
        None if is_token(essence) => Ok(essence.to_ascii_lowercase()),
        _ => Err("expected slash after first token"),
    }
}

fn refuse(refusal: &Refusal) -> Response {
    let message = &refusal.message;
    let (status, message) = match refusal.reason {
        Reason::UnsupportedType => (StatusCode::BAD_REQUEST, escape(message)),
        Reason::Malformed | Reason::CorruptEncoding | Reason::UnsupportedEncoding => {
            (StatusCode::BAD_REQUEST, unreadable(message))
        }
        Reason::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, unreadable(message)),
        Reason::Timeout => (StatusCode::REQUEST_TIMEOUT, unreadable(message)),
        Reason::Aborted => (StatusCode::INTERNAL_SERVER_ERROR, unreadable(message)),
        Reason::Busy | Reason::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, lost(message)),
        Reason::StoreFailed => (StatusCode::INTERNAL_SERVER_ERROR, lost(message)),
    };
    let mut response = text(status, message);
    if refusal.reason == Reason::Busy {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(Refusal::RETRY_AFTER_SECONDS));
    }
    response
}

fn unreadable(message: &str) -> String {
    format!("Unable to process request body: {}", escape(message))
}

fn lost(message: &str) -> String {
    format!("Cannot submit Jaeger batch: {message}")
}

/// Go's `html.EscapeString`, which the collector applies to what may quote the sender.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    out
}

async fn wrong_method() -> Response {
    let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

async fn wrong_path() -> Response {
    let message = "no such path: Jaeger's Thrift goes to POST /api/traces".to_owned();
    text(StatusCode::NOT_FOUND, message)
}

/// Go's `http.Error`: a line of plain text.
fn text(status: StatusCode, mut message: String) -> Response {
    message.push('\n');
    let mut response = (status, message).into_response();
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_read_as_go_reads_them() {
        for (value, expected) in [
            ("", Err("no media type")),
            (";", Err("no media type")),
            ("application/", Err("expected token after slash")),
            ("a b/c", Err("expected slash after first token")),
            ("a/b c", Err("unexpected content after media subtype")),
            ("text", Ok("text")),
            (
                "Application/X-Thrift; charset=utf-8",
                Ok("application/x-thrift"),
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            let expected = expected.map(str::to_owned);
            assert_eq!(media_type(&headers), expected, "{value}");
        }
        assert_eq!(media_type(&HeaderMap::new()), Err("no media type"));
    }
}
