use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::commands::instant;

/// When the server became healthy.
#[derive(Clone, Debug)]
struct Since {
    instant: Instant,
    text: String,
}

/// Jaeger v1's answer on its admin port, at both places where probes look: `/` (v1) and `/status`
/// (v2).
pub(super) fn router() -> Router {
    let since = Since {
        instant: Instant::now(),
        text: instant::rfc3339(instant::now_us()),
    };
    Router::new()
        .route("/", get(health))
        .route("/status", get(health))
        .with_state(since)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    up_since: String,
    uptime: String,
}

async fn health(State(since): State<Since>) -> Response {
    Json(Health {
        status: "Server available",
        up_since: since.text.clone(),
        uptime: format!("{:.3}s", since.instant.elapsed().as_secs_f64()),
    })
    .into_response()
}
