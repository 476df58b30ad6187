//! The trace backend and its UI: every receiver, the query APIs, health and metrics.

mod base_path;
mod health;
mod listen;
mod metrics;
mod metrics_sampling;
mod sampling;
mod size;
mod storage;
mod ui_config;

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use periplus_collect::sampling::{api, grpc, http};
use periplus_collect::{AllowedOrigins, Collector, Limits, jaeger, otlp, zipkin};
use periplus_query::QueryService;
use periplus_store::SpanSink;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::duration;
use base_path::BasePath;
use listen::Port;
pub(in crate::commands) use sampling::read_tail_sampling;

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on; 0.0.0.0 lets other machines in, and there is no password
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1",
        env = "PERIPLUS_BIND"
    )]
    bind: IpAddr,

    /// Port of the UI and the query APIs (0 takes any free port, as for every port)
    #[arg(long, value_name = "PORT", default_value_t = 16686)]
    ui_port: u16,

    /// Port of Jaeger's gRPC query services
    #[arg(long, value_name = "PORT", default_value_t = 16685)]
    query_grpc_port: u16,

    /// Port that takes OTLP over gRPC
    #[arg(long, value_name = "PORT", default_value_t = 4317)]
    otlp_grpc_port: u16,

    /// Port that takes OTLP over HTTP
    #[arg(long, value_name = "PORT", default_value_t = 4318)]
    otlp_http_port: u16,

    /// Port of Zipkin: spans of v1 and v2, its read API
    #[arg(long, value_name = "PORT", default_value_t = 9411)]
    zipkin_port: u16,

    /// Port that takes Jaeger's protobuf over gRPC
    #[arg(long, value_name = "PORT", default_value_t = 14250)]
    jaeger_grpc_port: u16,

    /// Port that takes Jaeger's Thrift over HTTP
    #[arg(long, value_name = "PORT", default_value_t = 14268)]
    jaeger_http_port: u16,

    /// UDP port that takes Jaeger's Thrift in the compact protocol
    #[arg(long, value_name = "PORT", default_value_t = 6831)]
    jaeger_compact_port: u16,

    /// UDP port that takes Jaeger's Thrift in the binary protocol
    #[arg(long, value_name = "PORT", default_value_t = 6832)]
    jaeger_binary_port: u16,

    /// Port of the health check
    #[arg(long, value_name = "PORT", default_value_t = 13133)]
    health_port: u16,

    /// Port of the server's own metrics, in Prometheus' format
    #[arg(long, value_name = "PORT", default_value_t = 8888)]
    metrics_port: u16,

    /// Tags that Zipkin's UI offers as search criteria, separated by commas
    #[arg(
        long,
        value_name = "KEYS",
        env = "AUTOCOMPLETE_KEYS",
        value_delimiter = ','
    )]
    zipkin_autocomplete_keys: Vec<String>,

    /// How far back, in milliseconds, a search of Zipkin's API goes that does not say it
    #[arg(
        long,
        value_name = "MILLISECONDS",
        env = "QUERY_LOOKBACK",
        default_value_t = 86_400_000
    )]
    zipkin_lookback: u64,

    #[command(flatten)]
    storage: storage::Flags,

    /// Path below which a proxy in front shows the UI and the query APIs, such as /jaeger; they stay
    /// at the root too
    #[arg(long, value_name = "PATH", env = "QUERY_BASE_PATH", value_parser = base_path::parse, default_value = "/")]
    base_path: BasePath,

    /// Configuration of Jaeger's UI, in JSON: the links of its menu are shown
    #[arg(long, value_name = "FILE", env = "QUERY_UI_CONFIG")]
    ui_config: Option<PathBuf>,

    /// The most that Jaeger's API moves a span whose host's clock is off, such as 500ms; 0 moves none
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration::parse)]
    max_clock_skew: Duration,

    /// The most spans of one trace that Jaeger's API shows; 0 shows all
    #[arg(long, value_name = "SPANS", default_value_t = 0)]
    max_trace_spans: usize,

    #[command(flatten)]
    sampling: sampling::Flags,

    /// Origin whose web pages may post spans, such as https://shop.example, or *; repeatable (pages
    /// of this machine always may)
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    cors_origins: Vec<String>,
}

impl Args {
    fn zipkin_options(&self) -> periplus_query::ZipkinOptions {
        let keys = self.zipkin_autocomplete_keys.iter();
        periplus_query::ZipkinOptions {
            lookback_ms: self.zipkin_lookback,
            autocomplete_keys: keys.filter(|key| !key.is_empty()).cloned().collect(),
        }
    }
}

/// Runs the role until it ends.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(async { serve(args, terminated()?).await })
}

/// Serves until `stop` resolves.
async fn serve(args: Args, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let storage = args.storage.open()?;
    let options = periplus_query::Options {
        version: env!("CARGO_PKG_VERSION"),
        engine: storage.engine,
        max_clock_skew: args.max_clock_skew,
        max_trace_spans: args.max_trace_spans,
        archive: Some(Arc::clone(&storage.archive)),
        zipkin: Arc::new(args.zipkin_options()),
    };
    let query = QueryService::new(Arc::clone(&storage.store), options);
    let sink = query.tap(Arc::clone(&storage.store) as Arc<dyn SpanSink>);
    let sampling = args.sampling.open(&storage, sink).await?;
    let collector = Collector::new(Arc::clone(&sampling.sink), Limits::default());
    let origins = AllowedOrigins::new(args.cors_origins.iter().cloned());
    let menu = match &args.ui_config {
        Some(path) => ui_config::read(path)?,
        None => Vec::new(),
    };
    let ui = args.base_path.mount(|base_path| {
        query
            .http()
            .merge(api::router(
                sampling.tail.clone(),
                Arc::clone(&storage.store),
            ))
            .merge(http::api(sampling.remote.clone()))
            .fallback_service(periplus_ui::router(base_path, &menu))
    });
    let zipkin_queries = query
        .zipkin()
        .fallback_service(periplus_ui::router("", &menu).fallback(zipkin::wrong_path));

    let parts: [(Port, Router); 11] = [
        (Port::new("ui", args.ui_port, "--ui-port"), ui),
        (
            Port::new("query/grpc", args.query_grpc_port, "--query-grpc-port"),
            query.grpc(),
        ),
        (
            Port::new("otlp/grpc", args.otlp_grpc_port, "--otlp-grpc-port"),
            otlp::grpc::router(collector.clone()),
        ),
        (
            Port::new("otlp/http", args.otlp_http_port, "--otlp-http-port"),
            otlp::http::router(collector.clone(), origins.clone()),
        ),
        (
            Port::new("zipkin", args.zipkin_port, "--zipkin-port"),
            zipkin::server(collector.clone(), origins, zipkin_queries),
        ),
        (
            Port::new("jaeger/grpc", args.jaeger_grpc_port, "--jaeger-grpc-port"),
            jaeger::grpc::router(collector.clone()).merge(grpc::service(sampling.remote.clone())),
        ),
        (
            Port::new("jaeger/http", args.jaeger_http_port, "--jaeger-http-port"),
            jaeger::http::router(collector.clone()).merge(http::api(sampling.remote.clone())),
        ),
        (
            Port::new("health", args.health_port, "--health-port"),
            health::router(storage.embedded.clone()),
        ),
        (
            Port::new("metrics", args.metrics_port, "--metrics-port"),
            metrics::router(collector.clone(), &storage, &sampling),
        ),
        (
            Port::new("sampling", args.sampling.sampling_port, "--sampling-port"),
            http::router(sampling.remote.clone()),
        ),
        (
            Port::new(
                "sampling/grpc",
                args.sampling.sampling_grpc_port,
                "--sampling-grpc-port",
            ),
            grpc::router(sampling.remote.clone()),
        ),
    ];
    let agents = [
        (
            Port::new(
                "jaeger/compact",
                args.jaeger_compact_port,
                "--jaeger-compact-port",
            ),
            jaeger::ThriftProtocol::Compact,
        ),
        (
            Port::new(
                "jaeger/binary",
                args.jaeger_binary_port,
                "--jaeger-binary-port",
            ),
            jaeger::ThriftProtocol::Binary,
        ),
    ];
    // All ports or none: half a backend would lose spans in silence.
    let mut bound = Vec::with_capacity(parts.len());
    for (port, router) in parts {
        let (listener, address) = port.bind(args.bind).await?;
        bound.push((port.name, address, listener, router));
    }
    let mut sockets = Vec::with_capacity(agents.len());
    for (port, protocol) in agents {
        let (socket, address) = port.bind_datagrams(args.bind)?;
        sockets.push((port.name, address, socket, protocol));
    }

    let sampling = sampling.start();
    let (stopping, stopped) = watch::channel(());
    let mut servers = JoinSet::new();
    let mut addresses = Vec::with_capacity(bound.len() + sockets.len());
    for (name, address, listener, router) in bound {
        addresses.push((name, address));
        let mut stopped = stopped.clone();
        servers.spawn(async move {
            let stopped = async move {
                // An error means that the sender is gone, which is a stop as well.
                let _ = stopped.changed().await;
            };
            periplus_collect::serve(listener, router, stopped).await
        });
    }
    for (name, address, socket, protocol) in sockets {
        addresses.push((name, address));
        let collector = collector.clone();
        let mut stopped = stopped.clone();
        servers.spawn(async move {
            let stopped = async move {
                let _ = stopped.changed().await;
            };
            jaeger::udp::serve(socket, protocol, collector, stopped).await;
            Ok(())
        });
    }
    drop(stopped);
    listen::announce(&addresses, &storage.place);

    tokio::pin!(stop);
    let outcome = tokio::select! {
        () = &mut stop => Ok(()),
        // A server ends on its own only when something is badly wrong.
        ended = servers.join_next() => ended
            .context("no server is left")?
            .context("a server crashed")?
            .context("a server failed"),
    };
    query.close();
    drop(stopping);
    while servers.join_next().await.is_some() {}
    let sampled = sampling.end().await;
    let closed = storage.close().await;
    tracing::info!("stopped");
    outcome.and(sampled).and(closed)
}

/// Resolves on SIGINT or SIGTERM.
fn terminated() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping: requests in flight may finish");
    })
}
