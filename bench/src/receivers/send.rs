//! The sender: one connection, one request under way.

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;

use super::formats::Format;
use super::server::Server;
use crate::store::http::Client;

#[path = "../../../crates/trace/collect/tests/support/grpc.rs"]
mod grpc;

/// Bytes of datagrams under way: more would be lost in the kernel's buffer.
const WINDOW_BYTES: usize = 100_000;

/// Datagrams that the receiver may have queued: half of what it queues at most.
const WINDOW: usize = 500;

/// How long a datagram may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request's body, a message or a datagram, and its number of spans.
pub(super) type Request = (Vec<u8>, usize);

/// Sends all requests; over HTTP and gRPC each is acknowledged.
pub(super) fn all(format: Format, requests: &[Request], server: &Server) -> anyhow::Result<()> {
    const PROTOBUF: &str = "content-type: application/x-protobuf\r\n";
    const GZIP: &str = "content-type: application/x-protobuf\r\ncontent-encoding: gzip\r\n";
    const JSON: &str = "content-type: application/json\r\n";
    const THRIFT: &str = "content-type: application/x-thrift\r\n";
    const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    const POST_SPANS: &str = "/jaeger.api_v2.CollectorService/PostSpans";
    match format {
        Format::OtlpGrpc => over_grpc(requests, server, "otlp-grpc", EXPORT),
        Format::JaegerGrpc => over_grpc(requests, server, "jaeger-grpc", POST_SPANS),
        Format::OtlpProtobuf => over_http(requests, server, "otlp-http", "/v1/traces", PROTOBUF),
        Format::OtlpProtobufGzip => over_http(requests, server, "otlp-http", "/v1/traces", GZIP),
        Format::OtlpJson => over_http(requests, server, "otlp-http", "/v1/traces", JSON),
        Format::ZipkinJson => over_http(requests, server, "zipkin", "/api/v2/spans", JSON),
        Format::JaegerThrift => over_http(requests, server, "jaeger-http", "/api/traces", THRIFT),
        Format::JaegerCompact => as_datagrams(requests, server, "jaeger-compact"),
        Format::JaegerBinary => as_datagrams(requests, server, "jaeger-binary"),
    }
}

fn over_http(
    requests: &[Request],
    server: &Server,
    port: &str,
    path: &str,
    headers: &str,
) -> anyhow::Result<()> {
    let mut client = Client::connect(server.address(port)?)?;
    for (request, _) in requests {
        let (status, body) = client.post_as(path, headers, request)?;
        let said = String::from_utf8_lossy(&body);
        ensure!(matches!(status, 200 | 202), "{path}: {status}: {said}");
    }
    Ok(())
}

fn over_grpc(
    requests: &[Request],
    server: &Server,
    port: &str,
    method: &'static str,
) -> anyhow::Result<()> {
    let address = server.address(port)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut client = grpc::client_of(address).await;
        for (request, _) in requests {
            let message = Bytes::copy_from_slice(request);
            grpc::call(&mut client, method, message)
                .await
                .with_context(|| format!("{method} failed"))?;
        }
        Ok(())
    })
}

fn as_datagrams(requests: &[Request], server: &Server, port: &str) -> anyhow::Result<()> {
    let address = server.address(port)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address)?;
    let (mut under_way, mut sent) = (0, 0);
    for (i, (datagram, spans)) in requests.iter().enumerate() {
        if under_way + datagram.len() > WINDOW_BYTES {
            wait("read", || Ok(waiting_bytes(address.port())? == 0))?;
            under_way = 0;
        }
        if i % WINDOW == 0 {
            wait("stored", || Ok(server.accepted()? >= sent))?;
        }
        socket.send(datagram)?;
        under_way += datagram.len();
        sent += *spans as u64;
    }
    Ok(())
}

fn wait(what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done()? {
        ensure!(Instant::now() < deadline, "a datagram was not {what}");
        std::thread::park_timeout(Duration::from_micros(200));
    }
    Ok(())
}

/// What lies in the kernel's buffer of the socket on this port.
fn waiting_bytes(port: u16) -> anyhow::Result<u64> {
    let table = fs::read_to_string("/proc/net/udp")?;
    let local = format!("0100007F:{port:04X}");
    let queues = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        (fields.next()? == local).then(|| fields.nth(2))?
    });
    let queues = queues.context("the socket is gone")?;
    let (_, received) = queues
        .split_once(':')
        .context("no queues in /proc/net/udp")?;
    Ok(u64::from_str_radix(received, 16)?)
}
