//! OTLP/gRPC: `TraceService/Export`.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;

use super::decode;
use super::reply::Format;
use crate::grpc::{Method, not_here, unary};
use crate::{Collector, Receiver, Refusal};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

const METHOD: Method = Method {
    receiver: Receiver::OtlpGrpc,
    path: EXPORT,
    take,
    // For browsers, and for exporters of OTLP/HTTP that were given this port.
    no_grpc: "this port speaks OTLP over gRPC; OTLP over HTTP has a port of its own, 4318 by default",
};

/// The receiver's service, as a router: [`serve`](crate::serve) speaks HTTP/2.
pub fn router(collector: Collector) -> Router {
    Router::new()
        .route(EXPORT, post(export))
        .fallback(unimplemented)
        .with_state(collector)
}

async fn export(State(collector): State<Collector>, request: Request) -> Response {
    unary(&METHOD, collector, request).await
}

async fn unimplemented(headers: HeaderMap) -> Response {
    not_here(&METHOD, &headers)
}

fn take(collector: Collector, message: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
    Box::pin(async move {
        let payload = collector.admit(message)?;
        let reply = decode::store(&collector, METHOD.receiver, payload, Format::Protobuf).await?;
        Ok(Bytes::from(reply))
    })
}
