//! The receivers, in a process of their own: on one thread, before a sink that counts or before the
//! embedded store.

use std::collections::HashMap;
use std::env;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::Router;
use axum::routing::get;
use periplus_collect::{AllowedOrigins, Collector, Limits, Receiver, jaeger, otlp, zipkin};
use periplus_store::SpanSink;
use periplus_store::embedded::{EmbeddedStore, Options};
use tokio::net::TcpListener;

use crate::sink::Counter;
use crate::store::http::Client;

/// Flags of the server.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep the spans in this directory, instead of counting them
    #[arg(long)]
    data: Option<PathBuf>,
}

/// Serves until it is killed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let sink: Arc<dyn SpanSink> = match &args.data {
        Some(dir) => Arc::new(EmbeddedStore::open(dir, Options::default())?),
        None => Arc::new(Counter::default()),
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(sink))
}

async fn serve(sink: Arc<dyn SpanSink>) -> anyhow::Result<()> {
    let collector = Collector::new(sink, Limits::default());
    let origins = AllowedOrigins::default();
    let counted = collector.clone();
    let accepted = Router::new().route(
        "/accepted",
        get(async move || {
            let of = |receiver| counted.stats().accepted_spans(receiver);
            Receiver::ALL.into_iter().map(of).sum::<u64>().to_string()
        }),
    );
    let mut said = Vec::new();
    for (name, router) in [
        ("accepted", accepted),
        ("otlp-grpc", otlp::grpc::router(collector.clone())),
        (
            "otlp-http",
            otlp::http::router(collector.clone(), origins.clone()),
        ),
        ("zipkin", zipkin::router(collector.clone(), origins)),
        ("jaeger-grpc", jaeger::grpc::router(collector.clone())),
        ("jaeger-http", jaeger::http::router(collector.clone())),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        writeln!(said, "{name} {}", listener.local_addr()?)?;
        tokio::spawn(periplus_collect::serve(
            listener,
            router,
            std::future::pending(),
        ));
    }
    for (name, protocol) in [
        ("jaeger-compact", jaeger::ThriftProtocol::Compact),
        ("jaeger-binary", jaeger::ThriftProtocol::Binary),
    ] {
        let socket = jaeger::udp::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        writeln!(said, "{name} {}", socket.local_addr()?)?;
        let collector = collector.clone();
        tokio::spawn(jaeger::udp::serve(
            socket,
            protocol,
            collector,
            std::future::pending(),
        ));
    }
    said.extend_from_slice(b"ready\n");
    std::io::stdout().write_all(&said)?;
    std::future::pending().await
}

/// A running server.
pub(super) struct Server {
    child: Child,
    addresses: HashMap<String, SocketAddr>,
}

impl Server {
    /// Starts it on this core; with a directory, it stores.
    pub(super) fn start(core: &str, data: Option<&Path>) -> anyhow::Result<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", core]).arg(env::current_exe()?);
        command.arg("receivers-server");
        if let Some(data) = data {
            command.arg("--data").arg(data);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the receivers")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut server = Self {
            child,
            addresses: HashMap::new(),
        };
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if line == "ready" {
                break;
            }
            let (name, address) = line.split_once(' ').context("a line without an address")?;
            server.addresses.insert(name.to_owned(), address.parse()?);
        }
        server.address("jaeger-binary")?;
        Ok(server)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let address = self.addresses.get(name).copied();
        address.with_context(|| format!("the receivers have no port {name}"))
    }

    /// The spans that were taken so far.
    pub(super) fn accepted(&self) -> anyhow::Result<u64> {
        let (status, body) = Client::connect(self.address("accepted")?)?.get("/accepted")?;
        ensure!(status == 200, "the receivers do not count: {status}");
        Ok(std::str::from_utf8(&body)?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is lost: what was measured is over.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
