//! Answers of our own API: JSON with an `ETag`, `gzip` where it is wanted, and `Server-Timing`.

use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use periplus_store::StoreError;
use serde::Serialize;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Smaller bodies go out as they are.
const GZIP_FROM: usize = 1024;

/// How long the parts of an answer took.
#[derive(Debug)]
pub(crate) struct Timing {
    since: Instant,
    parts: Vec<(&'static str, Duration)>,
}

impl Timing {
    pub(crate) fn start() -> Self {
        Self {
            since: Instant::now(),
            parts: Vec::new(),
        }
    }

    /// Ends a part; the next one begins.
    pub(crate) fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        self.parts.push((name, now - self.since));
        self.since = now;
    }

    fn header(&self) -> Option<HeaderValue> {
        let parts: Vec<_> = self
            .parts
            .iter()
            .map(|(name, took)| format!("{name};dur={:.3}", took.as_secs_f64() * 1e3))
            .collect();
        HeaderValue::from_str(&parts.join(", ")).ok()
    }
}

/// A body that is ready to be sent.
#[derive(Debug)]
pub(crate) struct Rendered {
    body: Vec<u8>,
    etag: String,
    gzipped: bool,
}

/// Turns a value into the body that the request asks for.
pub(crate) fn render<T: Serialize>(value: &T, gzip: bool) -> Result<Rendered, Failure> {
    let mut body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "cannot write an answer");
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the answer could not be written; the log says why",
        )
    })?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&body);
    let hash = hasher.finish();
    let mut gzipped = false;
    if gzip
        && body.len() >= GZIP_FROM
        && let Ok(smaller) = compress(&body)
    {
        body = smaller;
        gzipped = true;
    }
    // Two encodings are two representations (RFC 9110 §8.8.3.3).
    let etag = format!("\"{hash:016x}{}\"", if gzipped { "-gzip" } else { "" });
    Ok(Rendered {
        body,
        etag,
        gzipped,
    })
}

fn compress(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

/// The answer, or 304 if the client has it already.
pub(crate) fn send(rendered: Rendered, request: &HeaderMap, timing: &Timing) -> Response {
    let unchanged = request
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == rendered.etag || tag == "*");
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(Body::from(rendered.body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if rendered.gzipped {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&rendered.etag) {
        headers.insert(ETAG, etag);
    }
    if let Some(timing) = timing.header() {
        headers.insert(SERVER_TIMING, timing);
    }
    response
}

/// Whether the client takes gzip (RFC 9110 §12.5.3).
pub(crate) fn takes_gzip(request: &HeaderMap) -> bool {
    let quality_of = |wanted: &str| {
        request
            .get_all(ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(|part| {
                let (coding, parameters) = part.split_once(';').unwrap_or((part, ""));
                coding.trim().eq_ignore_ascii_case(wanted).then(|| {
                    parameters
                        .trim()
                        .strip_prefix("q=")
                        .and_then(|quality| quality.parse::<f32>().ok())
                        .unwrap_or(1.0)
                })
            })
    };
    quality_of("gzip")
        .or_else(|| quality_of("*"))
        .is_some_and(|quality| quality > 0.0)
}

/// An error of our own API: `{"error": "what is wrong and what to do"}`.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::InvalidQuery { .. } => StatusCode::BAD_REQUEST,
            _ => {
                tracing::error!(%error, "a query failed");
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = axum::Json(serde_json::json!({ "error": self.message }));
        (self.status, body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_only_where_it_is_accepted() {
        for (accepted, gzip) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", true),
            ("GZIP", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            assert_eq!(takes_gzip(&headers), gzip, "{accepted}");
        }
    }
}
