//! OTLP/gRPC: `opentelemetry.proto.collector.trace.v1.TraceService/Export`, by a real client.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use periplus_collect::{Limits, Reason, Receiver};
use periplus_model::{Batch, SpanId};
use periplus_store::StoreError;
use periplus_wire::otlp::encode_protobuf;
use support::grpc::{call, client_of};
use support::{Receivers, Refusing, Slow, batch, id_of};
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Status};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

async fn client(receivers: &Receivers) -> Grpc<Channel> {
    client_of(receivers.otlp_grpc).await
}

async fn export(client: &mut Grpc<Channel>, batch: &Batch) -> Result<Bytes, Status> {
    call(client, EXPORT, encode_protobuf(batch).into()).await
}

#[tokio::test]
async fn spans_are_stored_in_every_compression() {
    let receivers = Receivers::start().await;
    let plain = client(&receivers).await;
    for (trace, mut client) in [
        (1, plain.clone()),
        (2, plain.clone().send_compressed(CompressionEncoding::Gzip)),
        (3, plain.clone().send_compressed(CompressionEncoding::Zstd)),
    ] {
        let answer = export(&mut client, &batch(trace, 100)).await.unwrap();
        assert_eq!(answer, Bytes::new(), "partial_success stays unset");
        assert_eq!(receivers.trace(&id_of(trace)).await.span_count(), 100);
    }
    let stats = receivers.collector.stats();
    assert_eq!(stats.accepted_spans(Receiver::OtlpGrpc), 300);
    assert_eq!(stats.accepted_requests(Receiver::OtlpGrpc), 3);
}

#[tokio::test]
async fn an_empty_request_succeeds() {
    let receivers = Receivers::start().await;
    let mut client = client(&receivers).await;
    assert_eq!(call(&mut client, EXPORT, Bytes::new()).await.unwrap(), "");
}

#[tokio::test]
async fn a_bad_span_is_refused_and_the_rest_is_kept() {
    let receivers = Receivers::start().await;
    let mut mixed = batch(1, 3);
    mixed.groups[0].spans[1].span_id = SpanId::ZERO;
    let answer = export(&mut client(&receivers).await, &mixed).await.unwrap();
    assert_eq!(answer[0], 0x0a, "partial_success");
    assert_eq!(&answer[2..4], [0x08, 1], "rejected_spans");
    assert_eq!(receivers.trace(&id_of(1)).await.span_count(), 2);
    assert_eq!(
        receivers
            .collector
            .stats()
            .refused_spans(Receiver::OtlpGrpc, Reason::Malformed),
        1
    );
}

#[tokio::test]
async fn what_the_store_may_have_taken_is_not_refused_for_the_time_it_takes() {
    let limits = Limits {
        body_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let store = Arc::new(Slow::default());
    let receivers = Receivers::with(limits, store.clone()).await;
    let mut client = client(&receivers).await;
    let sent = tokio::spawn(async move { export(&mut client, &batch(1, 3)).await });
    store.arrived.notified().await;
    tokio::time::sleep(limits.body_timeout * 4).await;
    assert!(!sent.is_finished());
    store.go_on.notify_one();
    assert_eq!(sent.await.unwrap().unwrap(), "");
    let stats = receivers.collector.stats();
    assert_eq!(stats.accepted_spans(Receiver::OtlpGrpc), 3);
}

#[tokio::test]
async fn refusals_have_the_code_that_tells_whether_to_retry() {
    let receivers = Receivers::with_limits(Limits {
        max_message_bytes: 10_000,
        ..Limits::default()
    })
    .await;
    let refused = |reason| {
        receivers
            .collector
            .stats()
            .refused_requests(Receiver::OtlpGrpc, reason)
    };
    let mut plain = client(&receivers).await;

    let malformed = call(&mut plain, EXPORT, Bytes::from_static(b"\xff")).await;
    assert_eq!(malformed.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(refused(Reason::Malformed), 1);

    let large = call(&mut plain, EXPORT, vec![0; 10_001].into())
        .await
        .unwrap_err();
    assert_eq!(large.code(), Code::ResourceExhausted);
    assert!(large.details().is_empty(), "final: no RetryInfo");
    assert_eq!(refused(Reason::TooLarge), 1);

    let mut zstd = plain.clone().send_compressed(CompressionEncoding::Zstd);
    let bomb = call(&mut zstd, EXPORT, vec![0; 100_000_000].into())
        .await
        .unwrap_err();
    assert_eq!(bomb.code(), Code::ResourceExhausted);
    assert_eq!(refused(Reason::TooLarge), 2);

    let other = call(
        &mut plain,
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        Bytes::new(),
    )
    .await;
    assert_eq!(other.unwrap_err().code(), Code::Unimplemented);

    export(&mut plain, &batch(1, 1)).await.unwrap();
}

#[tokio::test]
async fn a_busy_store_asks_for_a_retry() {
    let store = Arc::new(Refusing(|| StoreError::Busy {
        reason: "no memory".to_owned(),
    }));
    let receivers = Receivers::with(Limits::default(), store).await;
    let status = export(&mut client(&receivers).await, &batch(1, 2))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.message(),
        "the store is busy: no memory; send again later"
    );
    let details = status.details();
    let name = b"type.googleapis.com/google.rpc.RetryInfo";
    assert!(details.windows(name.len()).any(|window| window == name));
    let stats = receivers.collector.stats();
    assert_eq!(stats.refused_requests(Receiver::OtlpGrpc, Reason::Busy), 1);
    assert_eq!(stats.refused_spans(Receiver::OtlpGrpc, Reason::Busy), 2);
}

#[tokio::test]
async fn messages_share_a_budget() {
    let receivers = Receivers::with_limits(Limits {
        max_inflight_bytes: 10_000,
        ..Limits::default()
    })
    .await;
    let mut client = client(&receivers).await;
    let status = call(&mut client, EXPORT, vec![0; 20_000].into())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!status.details().is_empty(), "RetryInfo");
    let refused = receivers
        .collector
        .stats()
        .refused_requests(Receiver::OtlpGrpc, Reason::Busy);
    assert_eq!(refused, 1);
    export(&mut client, &batch(1, 1)).await.unwrap();
}

#[tokio::test]
async fn other_protocols_are_told_where_they_are() {
    let receivers = Receivers::start().await;
    let headers = "content-type: application/x-protobuf\r\n";
    for path in ["/v1/traces", EXPORT] {
        let answer = support::post(receivers.otlp_grpc, path, headers, b"").await;
        assert_eq!(answer.status, 415);
        assert!(answer.text().contains("4318"), "{}", answer.text());
    }
}
