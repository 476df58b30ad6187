//! Jaeger's HTTP API as of v1.76: paths, parameters, shapes, status codes and error texts.

mod adjacent;
mod deep;
mod envelope;
mod handlers;
mod metrics;
mod project;
mod quality;
mod shapes;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::{any, get, post};

use crate::api::Api;
use crate::guard::long_queries;
use envelope::Failure;

pub(crate) use handlers::{last_segment, operations_of, trace_id};
pub(crate) use project::NAMES_OF_NO_SERVICE;

/// Below `/api`.
pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/api/services", get(handlers::services))
        .route("/api/services/{*path}", get(handlers::service_operations))
        .route("/api/operations", get(handlers::operations))
        .route("/api/traces", get(handlers::search))
        .route("/api/traces/{id}", get(handlers::trace))
        .route("/api/dependencies", get(handlers::dependencies))
        .route("/api/archive/{id}", post(adjacent::archive))
        .route("/api/transform", post(adjacent::transform))
        .route("/api/metrics/{name}", get(metrics::metrics))
        .route("/api/deep-dependencies", get(deep::deep_dependencies))
        .route("/api/quality-metrics", get(quality::quality_metrics))
        .route("/api", any(handlers::unknown))
        .route("/api/", any(handlers::unknown))
        .route("/api/{*path}", any(handlers::unknown))
        .method_not_allowed_fallback(handlers::wrong_method)
        .layer(from_fn(|request, next| {
            long_queries(Failure::new, request, next)
        }))
}
