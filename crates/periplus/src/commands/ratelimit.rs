//! The service that counts the requests of all proxies together, in Redis.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use periplus_identity::private;
use periplus_quota::{Limits, Login, Redis, Service};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::server::TcpIncoming;

use super::duration;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
const MAX_PASSWORD_BYTES: u64 = 4096;

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File of limits, of the form of Envoy's rate limit service: `domain` and `descriptors`; read again when it
    /// changes; repeatable, one for each domain
    #[arg(long, value_name = "FILE", required = true)]
    config: Vec<PathBuf>,

    /// Where Redis is
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6379")]
    redis: String,

    /// The user of Redis' access control lists
    #[arg(long, value_name = "NAME", requires = "redis_password_file")]
    redis_user: Option<String>,

    /// File with the password of Redis, for this user alone
    #[arg(long, value_name = "FILE")]
    redis_password_file: Option<PathBuf>,

    /// How long Redis may take
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = duration::parse)]
    redis_timeout: Duration,

    /// Port that proxies ask (gRPC, 0 takes any free port)
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    port: u16,

    /// Port of /metrics and /ready
    #[arg(long, value_name = "PORT", default_value_t = 6070)]
    monitoring_port: u16,

    /// Address to listen on; 0.0.0.0 lets other machines in, and there is no password
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
}

/// Runs the role until it ends.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    super::block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let password = args.redis_password_file.as_ref();
    let password = password.map(|path| private::read_secret(path, MAX_PASSWORD_BYTES));
    let login = Login {
        address: args.redis.clone(),
        user: args.redis_user.clone(),
        password: password.transpose()?.map(|text| text.trim().to_owned()),
        timeout: args.redis_timeout,
    };
    let texts = read(&args.config)?;
    let limits = parse(&texts)?;
    tracing::info!("{} limits", limits.all().len());
    let service = Service::new(Redis::new(login), limits);
    let listener = listen(args.bind, args.port, "--port").await?;
    let monitoring = listen(args.bind, args.monitoring_port, "--monitoring-port").await?;
    tracing::info!(
        grpc = %listener.local_addr()?,
        monitoring = %monitoring.local_addr()?,
        redis = %args.redis,
        "rate limit service is ready"
    );
    let grpc = tonic::transport::Server::builder()
        .add_service(service.server())
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    let shown = service.clone();
    let metrics = move || {
        let text = metrics(&shown);
        async {
            (
                [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
                text,
            )
        }
    };
    let pages = axum::Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(async || "ready\n"));
    tokio::select! {
        served = grpc => served.context("the gRPC server failed")?,
        served = axum::serve(monitoring, pages) => served.context("the monitoring server failed")?,
        () = follow(&args.config, texts, &service) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopped");
    Ok(())
}

async fn listen(bind: IpAddr, port: u16, flag: &str) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(bind, port);
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}, choose another port with {flag}"))
}

fn read(files: &[PathBuf]) -> anyhow::Result<Vec<(String, String)>> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path.display().to_string(), text))
    };
    files.iter().map(read).collect()
}

fn parse(texts: &[(String, String)]) -> anyhow::Result<Limits> {
    let texts = texts.iter();
    Ok(Limits::read(
        texts.map(|(file, text)| (file.as_str(), text.as_str())),
    )?)
}

/// Takes the limits anew when the files change; what is wrong is told, and the limits stay what they are.
async fn follow(files: &[PathBuf], mut known: Vec<(String, String)>, service: &Service) {
    let mut told = String::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let taken = read(files).and_then(|texts| {
            if texts != known {
                let limits = parse(&texts)?;
                tracing::info!("{} limits from now on", limits.all().len());
                service.replace(limits);
                known = texts;
            }
            Ok(())
        });
        let trouble = taken
            .err()
            .map_or_else(String::new, |error| format!("{error:#}"));
        if !trouble.is_empty() && trouble != told {
            tracing::error!(error = %trouble, "the limits stay what they are");
        }
        told = trouble;
    }
}

fn metrics(service: &Service) -> String {
    let [requests, over_limit, failed] = service.counts().get();
    let mut text = String::new();
    // Writing to a string cannot fail.
    for (name, help, value) in [
        ("requests", "Requests of proxies", requests),
        ("over_limit", "Those of them that were too many", over_limit),
        ("failed", "Those of them that could not be counted", failed),
    ] {
        let name = format!("periplus_ratelimit_{name}_total");
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}"
        );
    }
    let limits = service.limits();
    for (name, help, which) in [
        ("hits", "Hits, by limit", 0),
        ("over", "Hits that were too many, by limit", 1),
    ] {
        let name = format!("periplus_ratelimit_limit_{name}_total");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for limit in limits.all() {
            let key = limit.key.replace('\\', "\\\\").replace('"', "\\\"");
            let key = key.replace('\n', "\\n");
            let counts = limit.counts();
            let value = [counts.0, counts.1][which];
            let _ = writeln!(text, "{name}{{limit=\"{key}\"}} {value}");
        }
    }
    text
}
