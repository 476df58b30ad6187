//! What the Zipkin server says about itself.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{StatusCode, Uri};
use serde_json::json;

use super::Zipkin;
use super::answer::Failure;

pub(super) fn routes() -> Router<Zipkin> {
    Router::new()
        .route("/health", get(health))
        .route("/actuator/health", get(health))
        .route("/info", get(info))
        .route("/actuator/info", get(info))
}

/// Up as long as the store answers.
async fn health(State(zipkin): State<Zipkin>) -> Response {
    let engine = zipkin.api.options.engine;
    let (status, word, component) = match zipkin.api.store.services().await {
        Ok(_) => (StatusCode::OK, "UP", json!({"status": "UP"})),
        Err(error) => {
            tracing::error!(%error, "the health check failed");
            let error = json!({"status": "DOWN", "details": {"error": error.to_string()}});
            (StatusCode::SERVICE_UNAVAILABLE, "DOWN", error)
        }
    };
    let body = json!({
        "status": word,
        "zipkin": {"status": word, "details": {engine: component}},
    });
    (status, axum::Json(body)).into_response()
}

async fn info(State(zipkin): State<Zipkin>) -> Response {
    let body = json!({"zipkin": {"version": zipkin.api.options.version, "commit": "periplus"}});
    let kind = "application/json; charset=utf-8";
    ([(CONTENT_TYPE, kind)], body.to_string()).into_response()
}

/// A path below `/api/v2` that nobody serves.
pub(super) async fn unknown(uri: Uri) -> Failure {
    Failure::not_found(format!("no such endpoint: {}", uri.path()))
}
