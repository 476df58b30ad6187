//! A server on a real socket, and a client that speaks bytes to it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of this module, and fails where it stands"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use periplus_model::{Attribute, Batch, Resource, Scope, Span, SpanGroup, SpanId, TraceId};
use periplus_query::{Options, QueryService, ZipkinOptions};
use periplus_store::embedded::EmbeddedStore;
use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::{MemoryStore, SpanStore};
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The Bookinfo trace as nine spans of real sidecars.
pub const BOOKINFO: &str = include_str!("../fixtures/bookinfo.otlp.json");
/// Its id.
pub const BOOKINFO_ID: &str = "475de9d4bf322e038cc3ab3a260cd119";
/// When it begins, microseconds since the Unix epoch.
pub const BOOKINFO_START_US: u64 = 1_795_332_558_270_715;

/// The query APIs over an empty store.
pub struct Server {
    pub address: SocketAddr,
    /// Where gRPC is served.
    pub grpc: SocketAddr,
    pub store: Arc<dyn SpanStore>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Server {
    pub async fn start() -> Self {
        Self::over(Arc::new(MemoryStore::default())).await
    }

    pub async fn over(store: Arc<dyn SpanStore>) -> Self {
        Self::with(store, Options::default()).await
    }

    pub async fn with(store: Arc<dyn SpanStore>, options: Options) -> Self {
        let options = Options {
            version: "0.0.0-test",
            engine: "memory",
            ..options
        };
        let query = QueryService::new(store.clone(), options);
        let http = query.http();
        Self::serve(store, &query, http).await
    }

    /// What Zipkin's port answers.
    pub async fn zipkin() -> Self {
        let store = Arc::new(MemoryStore::default());
        let zipkin = ZipkinOptions {
            autocomplete_keys: vec!["env".to_owned()],
            ..ZipkinOptions::default()
        };
        let options = Options {
            version: "0.0.0-test",
            engine: "memory",
            zipkin: Arc::new(zipkin),
            ..Options::default()
        };
        let query = QueryService::new(store.clone(), options);
        let http = query.zipkin();
        Self::serve(store, &query, http).await
    }

    async fn serve(store: Arc<dyn SpanStore>, query: &QueryService, http: axum::Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, http).await });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = listener.local_addr().unwrap();
        let routes = tonic::service::Routes::from(query.grpc());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_routes(routes);
        tokio::spawn(server.serve_with_incoming(incoming));
        Self {
            address,
            grpc,
            store,
        }
    }

    /// A server that holds the Bookinfo trace.
    pub async fn with_bookinfo() -> Self {
        let server = Self::start().await;
        let decoded = periplus_wire::otlp::decode_json(BOOKINFO.as_bytes()).unwrap();
        assert_eq!(decoded.batch.span_count(), 9);
        server.add(decoded.batch).await;
        server
    }

    pub async fn add(&self, batch: Batch) {
        self.store.append(batch).await.unwrap();
    }

    /// Adds spans of one service.
    pub async fn add_spans(&self, service: &str, spans: Vec<Span>) {
        self.add(Batch {
            groups: vec![group(service, spans)],
        })
        .await;
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"").await
    }

    pub async fn get_with(&self, path: &str, headers: &str) -> Answer {
        self.send("GET", path, headers, b"").await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        Answer::parse(&answer)
    }
}

/// The engine with a disk, in memory, that writes a segment for each group of batches.
pub fn embedded() -> EmbeddedStore {
    let options = periplus_store::embedded::Options {
        table_bytes: 1,
        ..Default::default()
    };
    let disk = Arc::new(SimulatedDisk::new());
    EmbeddedStore::open_on(disk, std::path::Path::new("/"), options).unwrap()
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("a head");
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        assert!(
            headers.iter().all(|(name, _)| name != "transfer-encoding"),
            "the answers have a length"
        );
        Self {
            status: status.parse().unwrap(),
            headers,
            body: bytes[end + 4..].to_vec(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The first message of an envelope's errors.
    pub fn message(&self) -> String {
        self.json()["errors"][0]["msg"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

pub fn group(service: &str, spans: Vec<Span>) -> SpanGroup {
    SpanGroup {
        resource: Arc::new(Resource::of_service(service)),
        scope: Arc::new(Scope::default()),
        spans,
    }
}

/// A span of trace `trace`, one millisecond long, `start_us` after the Bookinfo trace begins.
pub fn span(trace: u64, id: u64, parent: u64, name: &str, start_us: u64) -> Span {
    let start_unix_nano = (BOOKINFO_START_US + start_us) * 1_000;
    Span {
        trace_id: TraceId::from_halves(0, trace),
        span_id: SpanId::from_u64(id),
        parent_span_id: (parent != 0).then(|| SpanId::from_u64(parent)),
        name: name.to_owned(),
        start_unix_nano,
        end_unix_nano: start_unix_nano + 1_000_000,
        ..Span::default()
    }
}

pub fn with_attributes(mut span: Span, attributes: Vec<Attribute>) -> Span {
    span.attributes = attributes;
    span
}
