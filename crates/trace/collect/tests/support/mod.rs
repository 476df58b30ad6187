//! Receivers on real sockets, and a client that speaks bytes to them.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of this module, and fails where it stands"
)]

pub mod grpc;
/// Jaeger's formats, written by the hand that tests their decoders.
#[path = "../../../wire/tests/formats/support/jaeger.rs"]
pub mod jaeger;
#[path = "../../../wire/tests/formats/support/thrift.rs"]
pub mod thrift;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use periplus_collect::{AllowedOrigins, Collector, Limits, otlp, zipkin};
use periplus_model::{
    Attribute, Batch, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, TraceId,
};
use periplus_store::{BoxFuture, MemoryStore, SpanSink, SpanStore as _, StoreError, StoredTrace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// All receivers over one sink.
pub struct Receivers {
    pub otlp_http: SocketAddr,
    pub otlp_grpc: SocketAddr,
    pub zipkin: SocketAddr,
    pub jaeger_grpc: SocketAddr,
    pub jaeger_http: SocketAddr,
    pub collector: Collector,
    /// Where spans go, unless the test brought a sink of its own.
    pub store: Arc<MemoryStore>,
}

impl Receivers {
    pub async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub async fn with_limits(limits: Limits) -> Self {
        let store = Arc::new(MemoryStore::default());
        Self::over(limits, store.clone(), store).await
    }

    pub async fn with(limits: Limits, sink: Arc<dyn SpanSink>) -> Self {
        Self::over(limits, sink, Arc::default()).await
    }

    async fn over(limits: Limits, sink: Arc<dyn SpanSink>, store: Arc<MemoryStore>) -> Self {
        let collector = Collector::new(sink, limits);
        let origins = AllowedOrigins::new(["https://shop.example".to_owned()]);
        Self {
            otlp_http: spawn(otlp::http::router(collector.clone(), origins.clone())).await,
            otlp_grpc: spawn(otlp::grpc::router(collector.clone())).await,
            zipkin: spawn(zipkin::router(collector.clone(), origins)).await,
            jaeger_grpc: spawn(periplus_collect::jaeger::grpc::router(collector.clone())).await,
            jaeger_http: spawn(periplus_collect::jaeger::http::router(collector.clone())).await,
            collector,
            store,
        }
    }

    /// Every port over TCP.
    pub const fn addresses(&self) -> [SocketAddr; 5] {
        [
            self.otlp_http,
            self.otlp_grpc,
            self.zipkin,
            self.jaeger_grpc,
            self.jaeger_http,
        ]
    }

    /// The trace, which must be there.
    pub async fn trace(&self, id: &str) -> StoredTrace {
        self.store
            .trace(id.parse().unwrap())
            .await
            .unwrap()
            .unwrap_or_else(|| panic!("no trace {id}"))
    }
}

pub async fn spawn(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(periplus_collect::serve(
        listener,
        router,
        std::future::pending(),
    ));
    address
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Posts a body with its length.
pub async fn post(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Answer {
    send(address, "POST", path, headers, body).await
}

pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    exchange(address, &request).await
}

/// Sends bytes, then reads until the server closes. A server that refuses early may close before
/// it has read everything.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let request = request.to_vec();
    let writing = tokio::spawn(async move {
        let _ = writer.write_all(&request).await;
        writer
    });
    let answer = read_answer(&mut reader).await;
    writing.abort();
    answer
}

/// Reads one answer, by its length.
pub async fn read_answer(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    let deadline = Duration::from_secs(30);
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let read = tokio::time::timeout(deadline, reader.read_buf(&mut bytes))
            .await
            .expect("an answer in time")
            .unwrap();
        assert!(read > 0, "the server closed without an answer: {bytes:?}");
    };
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let status: u16 = status.parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    let length: usize = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let read = tokio::time::timeout(deadline, reader.read_buf(&mut body))
            .await
            .expect("a body in time")
            .unwrap();
        assert!(read > 0, "the body is cut");
    }
    Answer {
        status,
        headers,
        body,
    }
}

/// A batch of `spans` spans of one trace.
pub fn batch(trace: u64, spans: u64) -> Batch {
    let span = |id| Span {
        trace_id: TraceId::from_halves(1, trace),
        span_id: SpanId::from_u64(id),
        parent_span_id: (id > 1).then(|| SpanId::from_u64(1)),
        name: format!("op {id}"),
        kind: SpanKind::Server,
        start_unix_nano: 1_795_332_558_270_715_000 + id,
        end_unix_nano: 1_795_332_558_271_715_000,
        attributes: vec![Attribute::new("http.status_code", 200_i64)],
        ..Span::default()
    };
    Batch {
        groups: vec![SpanGroup {
            resource: Arc::new(Resource::of_service("shop")),
            scope: Arc::new(Scope::default()),
            spans: (1..=spans).map(span).collect(),
        }],
    }
}

/// The id of [`batch`]'s trace.
pub fn id_of(trace: u64) -> String {
    format!("{:016x}{trace:016x}", 1)
}

/// A store that refuses what it is told to refuse with.
pub struct Refusing(pub fn() -> StoreError);

impl SpanSink for Refusing {
    fn append(&self, _: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        let error = self.0();
        Box::pin(async move { Err(error) })
    }
}

/// A store that takes its time: it answers when it is told to.
#[derive(Default)]
pub struct Slow {
    pub arrived: tokio::sync::Notify,
    pub go_on: tokio::sync::Notify,
}

impl SpanSink for Slow {
    fn append(&self, _: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.arrived.notify_one();
            self.go_on.notified().await;
            Ok(())
        })
    }
}
