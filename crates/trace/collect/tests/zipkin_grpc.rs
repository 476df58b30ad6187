//! Zipkin over gRPC (`zipkin.proto3.SpanService/Report`), on the port of its HTTP.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use periplus_collect::{Limits, Reason, Receiver};
use periplus_store::StoreError;
use periplus_wire::zipkin::encode_proto;
use support::grpc::{self, call};
use support::{Receivers, Refusing, batch, id_of, post};
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Status};

const REPORT: &str = "/zipkin.proto3.SpanService/Report";

async fn client(receivers: &Receivers) -> Grpc<Channel> {
    grpc::client_of(receivers.zipkin).await
}

async fn report(client: &mut Grpc<Channel>, message: Vec<u8>) -> Result<Bytes, Status> {
    call(client, REPORT, message.into()).await
}

#[tokio::test]
async fn spans_are_stored_compressed_or_not() {
    let receivers = Receivers::start().await;
    let plain = client(&receivers).await;
    let gzip = client(&receivers).await;
    let gzip = gzip.send_compressed(CompressionEncoding::Gzip);
    for (trace, mut client) in [(1, plain), (2, gzip)] {
        let answer = report(&mut client, encode_proto(&batch(trace, 5))).await;
        assert_eq!(answer.unwrap(), b"".as_slice());
        assert_eq!(receivers.trace(&id_of(trace)).await.span_count(), 5);
    }
    let mut client = client(&receivers).await;
    assert_eq!(
        report(&mut client, Vec::new()).await.unwrap(),
        b"".as_slice()
    );
    let stats = receivers.collector.stats();
    assert_eq!(stats.accepted_requests(Receiver::ZipkinGrpc), 3);
    assert_eq!(stats.accepted_spans(Receiver::ZipkinGrpc), 10);
    assert_eq!(stats.accepted_spans(Receiver::Zipkin), 0);
}

#[tokio::test]
async fn a_bad_message_is_refused_with_its_reason() {
    let receivers = Receivers::start().await;
    let mut client = client(&receivers).await;
    let status = report(&mut client, b"\x0a\x00".to_vec()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.message(),
        "Missing : traceId at $[0] reading List<Span> from proto3"
    );
    let stats = receivers.collector.stats();
    assert_eq!(
        stats.refused_requests(Receiver::ZipkinGrpc, Reason::Malformed),
        1
    );
    let answer = post(receivers.zipkin, REPORT, "", b"[]").await;
    assert_eq!(answer.status, 415);
}

#[tokio::test]
async fn a_busy_store_asks_for_a_retry() {
    let store = Arc::new(Refusing(|| StoreError::Busy {
        reason: "no memory".to_owned(),
    }));
    let receivers = Receivers::with(Limits::default(), store).await;
    let mut client = client(&receivers).await;
    let status = report(&mut client, encode_proto(&batch(1, 1)))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}
