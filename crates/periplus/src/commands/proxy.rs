//! A sidecar or gateway: an Envoy bootstrap file in, requests and their spans through.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use periplus_proxy::{
    Agent, ApplicationMetrics, DrainStrategy, Left, LogControl, Options, bootstrap,
};
use tokio::signal::unix::{SignalKind, signal};

use super::identity::WorkloadArgs;
use super::open_files;
use crate::logging;

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Bootstrap file of Envoy, YAML or JSON: who this proxy is, and where its control plane is
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,

    /// Worker threads, each of which accepts for itself and keeps its own connections; 0: as many as the CPU quota gives
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=256))]
    workers: u16,

    /// Seconds that connections may go on when the proxy is told to end, or its listeners to drain
    #[arg(
        long,
        visible_alias = "drain-time-s",
        value_name = "SECONDS",
        default_value_t = 5
    )]
    drain_time: u64,

    /// Seconds for which new connections are still taken when the proxy is told to end, though none may be left
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    min_drain_time: u64,

    /// The most client connections; the bootstrap file's overload manager may say another number
    #[arg(long, value_name = "N", default_value_t = 16384, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,

    /// The most requests that are under way at once, tunnels too; what is more gets 503 (0: no limit)
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_streams: u32,

    /// The most bytes that the heads of requests under way may have together; what is more gets 503 (0: no limit)
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    max_header_bytes: u32,

    /// How clients are told to go when listeners drain: all at once, or one after the other over the drain time
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Strategy::Immediate)]
    drain_strategy: Strategy,

    /// File that keeps the last good configuration, for a start while there is no control plane
    #[arg(long, value_name = "FILE")]
    config_cache: Option<PathBuf>,

    /// Address for Prometheus: `/stats/prometheus` with the proxy's metrics, as Istio's sidecars have on port 15090
    #[arg(long, value_name = "IP:PORT")]
    metrics_address: Option<SocketAddr>,

    /// Series of Istio's metrics that nothing was added to for so long go; without it they stay as long as there is room
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    metric_expiry: Option<u64>,

    /// Address for `/healthz/ready`, and `/stats/prometheus` with the application's metrics too, as Istio's sidecars have on port 15020
    #[arg(long, value_name = "IP:PORT")]
    status_address: Option<SocketAddr>,

    /// Where the application's metrics are, in Istio's form: {"scrape": "true", "path": "/metrics", "port": "8080"}
    #[arg(
        long,
        value_name = "JSON",
        env = "ISTIO_PROMETHEUS_ANNOTATIONS",
        requires = "status_address"
    )]
    application_metrics: Option<ApplicationMetrics>,

    /// Spans tell more than Envoy's: route, endpoint, waiting, limits, attempts (docs/semantic-conventions.md)
    #[arg(long)]
    span_details: bool,

    /// Tracers of OpenTelemetry's kind read B3 where there is no `traceparent`, and write it beside W3C's
    #[arg(long, env = "PERIPLUS_OTEL_B3")]
    otel_b3: bool,

    /// At most so many traces begin here in a second; requests whose callers have decided are not among them
    #[arg(long, value_name = "N")]
    max_traces_per_second: Option<NonZeroU32>,

    #[command(flatten)]
    identity: WorkloadArgs,

    /// What is logged: error, warn, info, debug, trace, or a filter by module (RUST_LOG goes first)
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

/// Envoy's `--drain-strategy`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Strategy {
    Immediate,
    Gradual,
}

impl Args {
    /// What is logged unless `RUST_LOG` says otherwise.
    pub(crate) fn log_level(&self) -> &str {
        &self.log_level
    }
}

/// Runs the role until it ends.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    // A connection of a client and one to an endpoint.
    let needed = 2 * u64::from(args.max_connections);
    if let Some(files) = open_files::allow().filter(|files| *files < needed) {
        let most = args.max_connections;
        tracing::info!(
            files,
            "fewer open files are allowed (ulimit -Hn, LimitNOFILE) than {most} connections need"
        );
    }
    // The workers have threads of their own; this one serves the stream and the admin pages.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(proxy(args))
}

async fn proxy(args: Args) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let bootstrap = bootstrap::read(&args.config)?;
    let node = bootstrap.node.id.clone();
    let account = bootstrap.account();
    let control_plane = (bootstrap.control_plane.as_str(), bootstrap.trust.as_ref());
    let identity = args
        .identity
        .config(Some(control_plane), (&account.0, &account.1))?;
    let options = Options {
        identity,
        log_control: Some(LogControl {
            filter: logging::first(&args.log_level),
            set: Arc::new(logging::set),
        }),
        span_details: args.span_details,
        otel_b3: args.otel_b3,
        max_traces_per_second: args.max_traces_per_second,
        workers: args.workers.into(),
        config_cache: args.config_cache,
        max_connections: args.max_connections as usize,
        max_streams: NonZeroUsize::new(args.max_streams as usize),
        max_header_bytes: NonZeroUsize::new(args.max_header_bytes as usize),
        drain_strategy: match args.drain_strategy {
            Strategy::Immediate => DrainStrategy::Immediate,
            Strategy::Gradual => DrainStrategy::Gradual,
        },
        drain_time: Duration::from_secs(args.drain_time),
        min_drain_time: Duration::from_secs(args.min_drain_time),
        metric_expiry: args.metric_expiry.map(Duration::from_secs),
        metrics_address: args.metrics_address,
        status_address: args.status_address,
        application_metrics: args.application_metrics.unwrap_or_default(),
        ..Options::default()
    };
    let agent = Agent::start(bootstrap, options).await?;
    match agent.admin_address() {
        Some(admin) => tracing::info!(%node, %admin, "waiting for configuration"),
        None => tracing::info!(%node, "waiting for configuration"),
    }

    let announce = async {
        agent.ready().await;
        for (name, address) in agent.listeners() {
            tracing::info!(%address, listener = %name, "listening");
        }
        tracing::info!(%node, "proxy is ready");
        match periplus_residence::give_back_start() {
            Ok(bytes) => tracing::debug!(bytes, "what only the start needed is given back"),
            Err(error) => tracing::debug!(%error, "what only the start needed stays in memory"),
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = announce => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = agent.quit_requested() => {}
    }
    tracing::info!("stopping: requests in flight may finish");
    tokio::select! {
        left = agent.shutdown(Duration::from_secs(args.drain_time)) => tell_of(left),
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Says what there was no more time for.
fn tell_of(left: Left) {
    let Left {
        connections,
        spans,
        log_lines,
    } = left;
    if connections > 0 {
        tracing::warn!(connections, "closed at the end of the drain time");
    }
    if spans > 0 {
        tracing::warn!(spans, "lost: no collector has taken them in time");
    }
    if log_lines > 0 {
        tracing::warn!(
            lines = log_lines,
            "access log lines are lost: their destinations have not taken them in time"
        );
    }
}
