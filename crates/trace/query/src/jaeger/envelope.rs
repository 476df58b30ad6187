use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use periplus_store::StoreError;
use serde::Serialize;

use crate::params::Params;

/// The object around every answer.
#[derive(Debug, Serialize)]
pub(super) struct Envelope<T> {
    pub(super) data: T,
    pub(super) total: usize,
    limit: usize,
    offset: usize,
    pub(super) errors: Option<Vec<EnvelopeError>>,
}

/// One error of an envelope.
#[derive(Debug, Serialize)]
pub(super) struct EnvelopeError {
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) code: u16,
    pub(super) msg: String,
    #[serde(rename = "traceID", skip_serializing_if = "String::is_empty")]
    pub(super) trace_id: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(code: &u16) -> bool {
    *code == 0
}

impl<T> Envelope<T> {
    pub(super) fn of(data: T) -> Self {
        Self {
            data,
            total: 0,
            limit: 0,
            offset: 0,
            errors: None,
        }
    }

    pub(super) fn with_total(data: T, total: usize) -> Self {
        Self {
            total,
            ..Self::of(data)
        }
    }
}

impl<T> Envelope<T> {
    /// With a note that the answer may lack something, if there is one.
    pub(super) fn noting(mut self, note: Option<String>) -> Self {
        let errors = note.map(|msg| {
            vec![EnvelopeError {
                code: 0,
                msg,
                trace_id: String::new(),
            }]
        });
        self.errors = self.errors.or(errors);
        self
    }
}

/// Whether the answer is to be indented: `prettyPrint` with any value but `false`.
pub(super) fn is_pretty(params: &Params<'_>) -> bool {
    !matches!(params.first("prettyPrint"), "" | "false")
}

/// The JSON text of an answer.
pub(super) fn to_json<T: Serialize>(value: &T, pretty: bool) -> serde_json::Result<Vec<u8>> {
    if !pretty {
        return serde_json::to_vec(value);
    }
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(
        &mut out, formatter,
    ))?;
    Ok(out)
}

/// A successful answer.
pub(super) fn ok(body: serde_json::Result<Vec<u8>>) -> Result<Response, Failure> {
    let body = body.map_err(|error| {
        Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("failed writing HTTP response: {error}"),
        )
    })?;
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// A failed answer, as Go's `http.Error` sends it: plain text.
#[derive(Debug)]
pub(super) enum Failure {
    /// An envelope with one error.
    Error { status: StatusCode, message: String },
    /// No endpoint has this path: the answer of Go's router.
    NotServed,
}

impl Failure {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Error {
            status,
            message: message.into(),
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
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
        let (status, mut body) = match self {
            Self::Error { status, message } => {
                let mut envelope = Envelope::of(());
                envelope.errors = Some(vec![EnvelopeError {
                    code: status.as_u16(),
                    msg: message,
                    trace_id: String::new(),
                }]);
                (status, serde_json::to_vec(&envelope).unwrap_or_default())
            }
            Self::NotServed => (StatusCode::NOT_FOUND, b"404 page not found".to_vec()),
        };
        body.push(b'\n');
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
