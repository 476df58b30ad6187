//! Jaeger's receivers: `CollectorService/PostSpans`, `POST /api/traces`, and the agent's datagrams.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use periplus_collect::jaeger::{ThriftProtocol, udp};
use periplus_collect::{Collector, Limits, Reason, Receiver, Stats};
use periplus_model::Batch;
use periplus_store::{BoxFuture, MemoryStore, SpanSink, SpanStore as _, StoreError};
use support::grpc::{call, client_of};
use support::jaeger::{JBatch, JSpan, int, text};
use support::thrift::{Thrift, binary_call, compact_call, old_binary_call};
use support::{Receivers, Refusing, post, send};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tonic::Code;
use tonic::codec::CompressionEncoding;

const POST_SPANS: &str = "/jaeger.api_v2.CollectorService/PostSpans";
const THRIFT: &str = "content-type: application/x-thrift\r\n";

/// A batch of one trace.
fn batch(trace: u64, spans: u64) -> JBatch {
    let span = |id| JSpan {
        low: trace,
        id,
        name: b"get".to_vec(),
        start: 1_795_332_552_157_501,
        duration: 1_250,
        tags: vec![text("span.kind", "server"), int("n", 7)],
        ..JSpan::default()
    };
    JBatch {
        service: b"shop".to_vec(),
        tags: vec![],
        spans: (1..=spans).map(span).collect(),
    }
}

fn arguments(batch: &JBatch) -> Thrift {
    Thrift::Struct(vec![(1, batch.thrift())])
}

async fn spans_of(store: &MemoryStore, trace: u64) -> usize {
    let id = format!("{trace:032x}").parse().unwrap();
    let trace = store.trace(id).await.unwrap();
    trace.map_or(0, |trace| trace.span_count())
}

/// Waits until the condition holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn spans_are_taken_over_grpc() {
    let receivers = Receivers::start().await;
    let plain = client_of(receivers.jaeger_grpc).await;
    for (trace, mut client) in [
        (1, plain.clone()),
        (2, plain.clone().send_compressed(CompressionEncoding::Gzip)),
    ] {
        let message = batch(trace, 50).protobuf();
        let answer = call(&mut client, POST_SPANS, message.into()).await.unwrap();
        assert_eq!(answer, Bytes::new(), "a PostSpansResponse has no fields");
        assert_eq!(spans_of(&receivers.store, trace).await, 50);
    }
    let stats = receivers.collector.stats();
    assert_eq!(stats.accepted_spans(Receiver::JaegerGrpc), 100);

    let mut client = plain;
    let malformed = call(&mut client, POST_SPANS, Bytes::from_static(b"\x0a\x7f")).await;
    let malformed = malformed.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument);
    assert_eq!(
        malformed.message(),
        "not a Jaeger batch in protobuf: PostSpansRequest is cut short"
    );
    let other = call(
        &mut client,
        "/jaeger.api_v2.SamplingManager/GetSamplingStrategy",
        Bytes::new(),
    );
    assert_eq!(other.await.unwrap_err().code(), Code::Unimplemented);
    let http = post(receivers.jaeger_grpc, "/api/traces", THRIFT, b"").await;
    assert_eq!(http.status, 415);
    assert!(http.text().contains("14268"), "{}", http.text());
}

#[tokio::test]
async fn thrift_is_taken_over_http() {
    let receivers = Receivers::start().await;
    let body = batch(1, 3).thrift().binary();
    for (path, kind) in [
        ("/api/traces", "application/x-thrift"),
        (
            "/api/traces?format=jaeger.thrift",
            "application/vnd.apache.thrift.binary; charset=utf-8",
        ),
    ] {
        let headers = format!("content-type: {kind}\r\n");
        let answer = post(receivers.jaeger_http, path, &headers, &body).await;
        assert_eq!((answer.status, answer.text()), (202, ""), "{path}");
    }
    // The same spans again: they are kept as they came.
    assert_eq!(spans_of(&receivers.store, 1).await, 6);
    let stats = receivers.collector.stats();
    assert_eq!(stats.accepted_requests(Receiver::JaegerHttp), 2);

    let plain = batch(2, 1).thrift().binary();
    let zipped = zstd::encode_all(&plain[..], 1).unwrap();
    let headers = format!("{THRIFT}content-encoding: zstd\r\n");
    let answer = post(receivers.jaeger_http, "/api/traces", &headers, &zipped).await;
    assert_eq!(answer.status, 202);
    assert_eq!(spans_of(&receivers.store, 2).await, 1);
}

#[tokio::test]
async fn refusals_are_worded_as_jaeger_words_them() {
    let receivers = Receivers::start().await;
    let cases: [(&str, &[u8], &str); 5] = [
        ("", b"", "Cannot parse content type: mime: no media type\n"),
        (
            "content-type: application/\r\n",
            b"",
            "Cannot parse content type: mime: expected token after slash\n",
        ),
        (
            "content-type: application/json\r\n",
            b"{}",
            "Unsupported content type: application/json\n",
        ),
        (
            "content-type: application/x-thrift\r\n",
            b"\x00",
            "Unable to process request body: not a Jaeger batch in Thrift: Batch.process is missing\n",
        ),
        (
            "content-type: application/x-thrift\r\ncontent-encoding: gzip\r\n",
            b"no gzip, and long enough to tell",
            "Unable to process request body: the body is not valid gzip: invalid gzip header\n",
        ),
    ];
    for (headers, body, message) in cases {
        let answer = post(receivers.jaeger_http, "/api/traces", headers, body).await;
        assert_eq!((answer.status, answer.text()), (400, message), "{headers}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    let get = send(receivers.jaeger_http, "GET", "/api/traces", "", b"").await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    let other = post(receivers.jaeger_http, "/api/spans", THRIFT, b"").await;
    assert_eq!(other.status, 404);

    for (error, status, message) in [
        (
            (|| StoreError::Busy {
                reason: "no memory".to_owned(),
            }) as fn() -> StoreError,
            503,
            "Cannot submit Jaeger batch: the store is busy: no memory; send again later\n",
        ),
        (
            || StoreError::Damaged {
                reason: "/secret/path".to_owned(),
            },
            500,
            "Cannot submit Jaeger batch: the store failed; its log says why\n",
        ),
    ] {
        let receivers = Receivers::with(Limits::default(), Arc::new(Refusing(error))).await;
        let body = batch(1, 2).thrift().binary();
        let answer = post(receivers.jaeger_http, "/api/traces", THRIFT, &body).await;
        assert_eq!((answer.status, answer.text()), (status, message));
        let retry = answer.header("retry-after");
        assert_eq!(retry, (status == 503).then_some("1"));
    }
}

#[tokio::test]
async fn a_bad_span_is_counted_and_the_rest_is_kept() {
    let receivers = Receivers::start().await;
    let mut mixed = batch(1, 3);
    mixed.spans[1].id = 0;
    let answer = post(
        receivers.jaeger_http,
        "/api/traces",
        THRIFT,
        &mixed.thrift().binary(),
    )
    .await;
    assert_eq!(answer.status, 202);
    assert_eq!(spans_of(&receivers.store, 1).await, 2);
    let mut client = client_of(receivers.jaeger_grpc).await;
    call(&mut client, POST_SPANS, mixed.protobuf().into())
        .await
        .unwrap();
    assert_eq!(spans_of(&receivers.store, 1).await, 4);

    mixed.spans = vec![mixed.spans.swap_remove(1)];
    let answer = post(
        receivers.jaeger_http,
        "/api/traces",
        THRIFT,
        &mixed.thrift().binary(),
    )
    .await;
    assert_eq!(answer.status, 400, "nothing of it could be kept");
    assert_eq!(
        answer.text(),
        "Unable to process request body: 1 span refused: spans[0]: the span id is zero\n"
    );
    let stats = receivers.collector.stats();
    assert_eq!(
        stats.refused_spans(Receiver::JaegerHttp, Reason::Malformed),
        2
    );
    assert_eq!(
        stats.refused_spans(Receiver::JaegerGrpc, Reason::Malformed),
        1
    );
    assert_eq!(stats.accepted_requests(Receiver::JaegerHttp), 1);
    assert_eq!(
        stats.refused_requests(Receiver::JaegerHttp, Reason::Malformed),
        1
    );
}

/// An agent on a socket of its own.
struct Agent {
    address: SocketAddr,
    collector: Collector,
    client: UdpSocket,
    receiver: Receiver,
    stop: Arc<Notify>,
    serving: tokio::task::JoinHandle<()>,
}

impl Agent {
    async fn start(protocol: ThriftProtocol, limits: Limits, sink: Arc<dyn SpanSink>) -> Self {
        let socket = udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let collector = Collector::new(sink, limits);
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let serving = udp::serve(socket, protocol, collector.clone(), async move {
            stopped.notified().await;
        });
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(address).await.unwrap();
        Self {
            address,
            collector,
            client,
            receiver: match protocol {
                ThriftProtocol::Binary => Receiver::JaegerUdpBinary,
                ThriftProtocol::Compact => Receiver::JaegerUdpCompact,
            },
            stop,
            serving: tokio::spawn(serving),
        }
    }

    async fn send(&self, datagram: &[u8]) {
        self.client.send(datagram).await.unwrap();
    }

    fn stats(&self) -> &Stats {
        self.collector.stats()
    }

    fn refused(&self, reason: Reason) -> u64 {
        self.stats().refused_requests(self.receiver, reason)
    }
}

#[tokio::test]
async fn datagrams_are_taken_in_both_protocols() {
    let store = Arc::new(MemoryStore::default());
    let compact = Agent::start(ThriftProtocol::Compact, Limits::default(), store.clone()).await;
    let binary = Agent::start(ThriftProtocol::Binary, Limits::default(), store.clone()).await;
    let call = |trace| arguments(&batch(trace, 3));
    compact.send(&compact_call("emitBatch", &call(1))).await;
    binary.send(&binary_call("emitBatch", &call(2))).await;
    binary.send(&old_binary_call("emitBatch", &call(3))).await;
    for trace in 1..=3 {
        until("stored", async || spans_of(&store, trace).await == 3).await;
    }
    until("counted", async || {
        compact
            .stats()
            .accepted_requests(Receiver::JaegerUdpCompact)
            == 1
            && binary.stats().accepted_spans(Receiver::JaegerUdpBinary) == 6
    })
    .await;
}

#[tokio::test]
async fn bad_datagrams_are_counted_by_their_reason() {
    let store = Arc::new(MemoryStore::default());
    let agent = Agent::start(ThriftProtocol::Compact, Limits::default(), store.clone()).await;
    let call = arguments(&batch(1, 1));
    agent.send(b"").await;
    agent.send(b"GET / HTTP/1.1\r\n\r\n").await;
    agent.send(&binary_call("emitBatch", &call)).await;
    agent.send(&compact_call("emitZipkinBatch", &call)).await;
    agent.send(&vec![0; 65_001]).await;
    let mut mixed = batch(2, 2);
    mixed.spans[0].id = 0;
    agent
        .send(&compact_call("emitBatch", &arguments(&mixed)))
        .await;
    until("the last one is stored", async || {
        spans_of(&store, 2).await == 1
    })
    .await;
    assert_eq!(agent.refused(Reason::Malformed), 3);
    assert_eq!(agent.refused(Reason::UnsupportedType), 1);
    assert_eq!(agent.refused(Reason::TooLarge), 1);
    let spans = agent
        .stats()
        .refused_spans(agent.receiver, Reason::Malformed);
    assert_eq!(spans, 1);
}

/// A store that is busy until it is told otherwise.
struct Moody {
    store: Arc<MemoryStore>,
    refusals: AtomicUsize,
    asked: AtomicUsize,
}

impl SpanSink for Moody {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let left = self
            .refusals
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        match left {
            Ok(_) => Box::pin(async {
                Err(StoreError::Busy {
                    reason: "no memory".to_owned(),
                })
            }),
            Err(_) => self.store.append(batch),
        }
    }
}

fn moody(refusals: usize) -> Arc<Moody> {
    Arc::new(Moody {
        store: Arc::default(),
        refusals: AtomicUsize::new(refusals),
        asked: AtomicUsize::new(0),
    })
}

#[tokio::test]
async fn a_busy_store_is_asked_again() {
    let sink = moody(2);
    let agent = Agent::start(ThriftProtocol::Compact, Limits::default(), sink.clone()).await;
    agent
        .send(&compact_call("emitBatch", &arguments(&batch(1, 4))))
        .await;
    until("stored", async || spans_of(&sink.store, 1).await == 4).await;
    assert_eq!(sink.asked.load(Ordering::Relaxed), 3);
    until("counted", async || {
        agent.stats().accepted_spans(agent.receiver) == 4
    })
    .await;
    assert_eq!(agent.refused(Reason::Busy), 0);
}

#[tokio::test]
async fn what_stays_refused_is_dropped_and_counted() {
    let limits = Limits {
        datagram_retry: Duration::from_millis(200),
        max_queued_packets: 4,
        ..Limits::default()
    };
    let sink = moody(usize::MAX);
    let agent = Agent::start(ThriftProtocol::Binary, limits, sink.clone()).await;
    let datagram = binary_call("emitBatch", &arguments(&batch(1, 2)));
    agent.send(&datagram).await;
    until("the store was asked", async || {
        sink.asked.load(Ordering::Relaxed) > 0
    })
    .await;
    // The worker waits for the store; four wait for the worker; the rest has no place.
    for _ in 0..10 {
        agent.send(&datagram).await;
    }
    until("no place", async || agent.refused(Reason::QueueFull) == 6).await;
    until("given up", async || agent.refused(Reason::Busy) == 5).await;
    assert_eq!(
        agent.stats().refused_spans(agent.receiver, Reason::Busy),
        10
    );
    assert_eq!(spans_of(&sink.store, 1).await, 0);
}

#[tokio::test]
async fn the_queue_is_bounded_in_bytes() {
    let limits = Limits {
        max_queued_bytes: 100,
        ..Limits::default()
    };
    let store = Arc::new(MemoryStore::default());
    let agent = Agent::start(ThriftProtocol::Compact, limits, store.clone()).await;
    agent.send(&[0; 101]).await;
    until("no place", async || agent.refused(Reason::QueueFull) == 1).await;
    let small = compact_call("emitBatch", &arguments(&batch(1, 1)));
    assert!(small.len() <= 100, "{}", small.len());
    agent.send(&small).await;
    until("stored", async || spans_of(&store, 1).await == 1).await;
}

#[tokio::test]
async fn what_is_queued_is_stored_before_the_end() {
    let sink = moody(1);
    let agent = Agent::start(ThriftProtocol::Compact, Limits::default(), sink.clone()).await;
    agent
        .send(&compact_call("emitBatch", &arguments(&batch(1, 1))))
        .await;
    until("the store was asked", async || {
        sink.asked.load(Ordering::Relaxed) > 0
    })
    .await;
    agent.stop.notify_one();
    agent.serving.await.unwrap();
    assert_eq!(spans_of(&sink.store, 1).await, 1);
    // The port is free again.
    drop(udp::bind(agent.address).unwrap());
}

#[tokio::test]
async fn a_flood_of_rubbish_leaves_others_alone() {
    let store = Arc::new(MemoryStore::default());
    let agent = Agent::start(ThriftProtocol::Compact, Limits::default(), store.clone()).await;
    let flood: Vec<_> = (0..4_u8)
        .map(|worker| {
            let address = agent.address;
            tokio::spawn(async move {
                let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                for round in 0..500_u32 {
                    let rubbish: Vec<u8> = (0..200 + round)
                        .map(|i| (i as u8).wrapping_mul(worker).wrapping_add(round as u8))
                        .collect();
                    socket.send_to(&rubbish, address).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    // Datagrams may be lost beside a flood, so an honest client is heard at the latest after it.
    let honest = compact_call("emitBatch", &arguments(&batch(1, 1)));
    for task in flood {
        task.await.unwrap();
    }
    until("heard", async || {
        agent.send(&honest).await;
        spans_of(&store, 1).await > 0
    })
    .await;
    assert!(agent.refused(Reason::Malformed) > 0);
}
