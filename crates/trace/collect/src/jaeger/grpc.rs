//! Jaeger over gRPC: `jaeger.api_v2.CollectorService/PostSpans`.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use periplus_wire::jaeger::decode_post_spans;

use crate::grpc::{Method, not_here, unary};
use crate::{Collector, Receiver, Refusal};

const POST_SPANS: &str = "/jaeger.api_v2.CollectorService/PostSpans";

const METHOD: Method = Method {
    receiver: Receiver::JaegerGrpc,
    path: POST_SPANS,
    take,
    no_grpc: "this port speaks Jaeger over gRPC; Jaeger's Thrift over HTTP has a port of its own, 14268 by default",
};

/// The receiver's service, as a router: [`serve`](crate::serve) speaks HTTP/2.
pub fn router(collector: Collector) -> Router {
    Router::new()
        .route(POST_SPANS, post(post_spans))
        .fallback(unimplemented)
        .with_state(collector)
}

async fn post_spans(State(collector): State<Collector>, request: Request) -> Response {
    unary(&METHOD, collector, request).await
}

async fn unimplemented(headers: HeaderMap) -> Response {
    not_here(&METHOD, &headers)
}

/// The answer, a `PostSpansResponse`, has no fields.
fn take(collector: Collector, message: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
    Box::pin(async move {
        let payload = collector.admit(message)?;
        super::store(&collector, METHOD.receiver, payload, decode_post_spans).await?;
        Ok(Bytes::new())
    })
}
