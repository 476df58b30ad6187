//! `grpc.health.v1.Health`: what is here is serving.

use axum::Router;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use prost::Message;
use tonic::Status;

use super::codec::{Reply, streaming, unary};
use super::message::{HealthCheckRequest, HealthCheckResponse};
use crate::api::Api;

const SERVING: i32 = 1;
const SERVICE_UNKNOWN: i32 = 3;

/// The whole server, and the services that Jaeger names; the third is gone there too.
const SERVICES: [&str; 4] = [
    "",
    "jaeger.api_v2.QueryService",
    "jaeger.api_v2.metrics.MetricsQueryService",
    "jaeger.api_v3.QueryService",
];

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/grpc.health.v1.Health/Check", unary(check))
        .route("/grpc.health.v1.Health/Watch", streaming(watch))
}

async fn check(_: Api, request: HealthCheckRequest) -> Result<Bytes, Status> {
    if SERVICES.contains(&request.service.as_str()) {
        Ok(encoded(SERVING))
    } else {
        Err(Status::not_found("unknown service"))
    }
}

/// One status, which never changes: the stream stays open.
async fn watch(_: Api, request: HealthCheckRequest) -> Reply {
    let known = SERVICES.contains(&request.service.as_str());
    let first = encoded(if known { SERVING } else { SERVICE_UNKNOWN });
    let messages = stream::iter([Ok(first)]).chain(stream::pending());
    Ok((Box::pin(messages), None))
}

fn encoded(status: i32) -> Bytes {
    HealthCheckResponse { status }.encode_to_vec().into()
}
