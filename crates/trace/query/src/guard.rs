//! What holds for every request.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

/// The longest query string that is read, in bytes.
const MAX_QUERY_BYTES: usize = 16 << 10;

/// Refuses query strings that no client has a reason to send, in the error shape of an API.
pub(crate) async fn long_queries<E: IntoResponse>(
    refusal: fn(StatusCode, String) -> E,
    request: Request,
    next: Next,
) -> Response {
    let length = request.uri().query().map_or(0, str::len);
    if length <= MAX_QUERY_BYTES {
        return next.run(request).await;
    }
    let message = format!("the query string has {length} bytes, {MAX_QUERY_BYTES} are allowed");
    refusal(StatusCode::URI_TOO_LONG, message).into_response()
}
