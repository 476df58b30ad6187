//! gRPC: `zipkin.proto3.SpanService/Report`.

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use periplus_wire::zipkin::Encoding;

use super::decode;
use crate::grpc::{Method, unary};
use crate::{Collector, Receiver, Refusal};

pub(super) const REPORT: &str = "/zipkin.proto3.SpanService/Report";

const METHOD: Method = Method {
    receiver: Receiver::ZipkinGrpc,
    path: REPORT,
    take,
    no_grpc: "this path takes gRPC; spans over HTTP go to POST /api/v2/spans",
};

pub(super) async fn report(State(collector): State<Collector>, request: Request) -> Response {
    unary(&METHOD, collector, request).await
}

/// The answer, a `ReportResponse`, is empty.
fn take(collector: Collector, message: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
    Box::pin(async move {
        let payload = collector.admit(message)?;
        let decoder = |bytes: &[u8]| decode(Encoding::Proto3, bytes, false);
        let batch = collector.decode(METHOD.receiver, payload, decoder).await?;
        collector.store(METHOD.receiver, batch).await?;
        Ok(Bytes::new())
    })
}
