//! Jaeger's gRPC query services, server reflection and health.

mod api_v2;
mod api_v3;
mod chunk;
mod codec;
mod descriptor;
mod health;
mod message;

use axum::Router;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode, Uri};
use periplus_store::StoreError;
use tonic::Status;

use crate::api::Api;
use crate::v3::{Problem, Search};
use message::TraceQueryParameters;

pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .merge(api_v2::routes())
        .merge(api_v3::routes())
        .merge(health::routes())
        .with_state(api)
        .merge(reflection())
        .fallback(unimplemented)
}

/// `grpc.reflection`, both versions that clients ask for.
fn reflection() -> Router {
    const SOUND: &str = "the descriptors are ours, and a test reads them";
    // Each version names the other one too.
    let builder = |other| {
        tonic_reflection::server::Builder::configure()
            .register_file_descriptor_set(descriptor::file_descriptor_set())
            .register_encoded_file_descriptor_set(other)
    };
    let (v1, v1alpha) = (
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    );
    Router::new()
        .route_service(
            "/grpc.reflection.v1.ServerReflection/{*method}",
            builder(v1alpha).build_v1().expect(SOUND),
        )
        .route_service(
            "/grpc.reflection.v1alpha.ServerReflection/{*method}",
            builder(v1).build_v1alpha().expect(SOUND),
        )
}

async fn unimplemented(uri: Uri, headers: HeaderMap) -> Response {
    let is_grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return Status::unimplemented(format!("unknown method {}", uri.path())).into_http();
    }
    // For browsers, and for clients that were given this port.
    (
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "this port speaks gRPC; the UI and the HTTP API have a port of their own, 16686 by default",
    )
        .into_response()
}

/// The status of a failure; `doing` is what failed.
fn status_of(problem: Problem, doing: &str) -> Status {
    match problem {
        Problem::Invalid(text) => Status::invalid_argument(text),
        Problem::Store(error @ StoreError::InvalidQuery { .. }) => {
            Status::invalid_argument(error.to_string())
        }
        Problem::Unsupported(text) => Status::unimplemented(text),
        Problem::NotFound(_) => Status::not_found("trace not found"),
        Problem::Store(error) => {
            tracing::error!(%error, "a query failed");
            Status::internal(format!("{doing}: {error}"))
        }
    }
}

impl From<TraceQueryParameters> for Search {
    fn from(query: TraceQueryParameters) -> Self {
        let nano = |duration: Option<message::Duration>| duration.map_or(0, |d| d.nano());
        Self {
            service: query.service_name,
            operation: query.operation_name,
            attributes: query.attributes,
            start_min: query.start_time_min.map(|time| time.unix_nano()),
            start_max: query.start_time_max.map(|time| time.unix_nano()),
            duration_min: nano(query.duration_min),
            duration_max: nano(query.duration_max),
            depth: query.search_depth.into(),
            raw: query.raw_traces,
            filter: query.filter,
        }
    }
}
