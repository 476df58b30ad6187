//! A sidecar or gateway: an Envoy bootstrap file in, requests and their spans through.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use periplus_proxy::{Agent, Options, bootstrap};
use tokio::signal::unix::{SignalKind, signal};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Bootstrap file of Envoy, YAML or JSON: who this proxy is, and where its control plane is
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,

    /// Worker threads, each of which accepts for itself and keeps its own connections; 0: as many as the CPU quota gives
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=256))]
    workers: u16,

    /// Seconds that requests may take to finish when the proxy is told to end
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    drain_time: u64,

    /// File that keeps the last good configuration, for a start while there is no control plane
    #[arg(long, value_name = "FILE")]
    config_cache: Option<PathBuf>,

    /// What is logged: error, warn, info, debug, trace, or a filter by module (RUST_LOG goes first)
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,
}

impl Args {
    /// What is logged unless `RUST_LOG` says otherwise.
    pub(crate) fn log_level(&self) -> &str {
        &self.log_level
    }
}

/// Runs the role until it ends.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
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
    let options = Options {
        workers: args.workers.into(),
        config_cache: args.config_cache,
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
        () = agent.shutdown(Duration::from_secs(args.drain_time)) => {}
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    tracing::info!("stopped");
    Ok(())
}
