//! The trace backend and its UI: every receiver, the query APIs, health and metrics.

mod backend;
mod base_path;
mod config;
mod forward;
mod health;
mod listen;
mod metrics;
mod metrics_sampling;
mod needs;
mod sampling;
mod size;
mod storage;
mod tls;
mod ui_config;

use std::convert::Infallible;
use std::ffi::OsString;
use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ArgMatches;
use periplus_collect::access::{Access, Guard};
use periplus_collect::sampling::{grpc, http};
use periplus_collect::{AllowedOrigins, Tls, jaeger};
use periplus_store::priority;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::duration;
use backend::{Backends, Common, Service};
use base_path::BasePath;
use config::Config;
use listen::{Listen, Open, Port};
pub(in crate::commands) use sampling::read_tail_sampling;

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File of settings: its keys are these flags, or those of a Jaeger v2
    #[arg(long, value_name = "FILE", env = "PERIPLUS_CONFIG")]
    config: Option<OsString>,

    /// Address to listen on; 0.0.0.0 lets other machines in, and whoever they are unless 'access' in
    /// the file of --config says who may
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1",
        env = "PERIPLUS_BIND"
    )]
    bind: IpAddr,

    /// Port of the UI and the query APIs. As every port: PORT (0 is any free one), ADDRESS:PORT, :PORT
    /// for all addresses, or off
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(16686), value_parser = listen::parse)]
    ui_port: Listen,

    /// Port of Jaeger's gRPC query services
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(16685), value_parser = listen::parse)]
    query_grpc_port: Listen,

    /// Port that takes OTLP over gRPC
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(4317), value_parser = listen::parse)]
    otlp_grpc_port: Listen,

    /// Port that takes OTLP over HTTP
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(4318), value_parser = listen::parse)]
    otlp_http_port: Listen,

    /// Port of Zipkin: spans of v1 and v2, its read API
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(9411), value_parser = listen::parse)]
    zipkin_port: Listen,

    /// Port that takes Jaeger's protobuf over gRPC
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(14250), value_parser = listen::parse)]
    jaeger_grpc_port: Listen,

    /// Port that takes Jaeger's Thrift over HTTP
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(14268), value_parser = listen::parse)]
    jaeger_http_port: Listen,

    /// UDP port that takes Jaeger's Thrift in the compact protocol
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(6831), value_parser = listen::parse)]
    jaeger_compact_port: Listen,

    /// UDP port that takes Jaeger's Thrift in the binary protocol
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(6832), value_parser = listen::parse)]
    jaeger_binary_port: Listen,

    /// Port of the health check
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(13133), value_parser = listen::parse)]
    health_port: Listen,

    /// Port of the server's own metrics, in Prometheus' format
    #[arg(long, value_name = "PORT", default_value_t = Listen::port(8888), value_parser = listen::parse)]
    metrics_port: Listen,

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
    ui_config: Option<OsString>,

    /// The most that Jaeger's API moves a span whose host's clock is off, such as 500ms; 0 moves none
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration::parse)]
    max_clock_skew: Duration,

    /// The most spans of one trace that Jaeger's API shows; 0 shows all
    #[arg(long, value_name = "SPANS", default_value_t = 0)]
    max_trace_spans: usize,

    #[command(flatten)]
    sampling: sampling::Flags,

    #[command(flatten)]
    forward: forward::Flags,

    #[command(flatten)]
    tls: tls::Flags,

    /// Origin whose web pages may post spans, such as https://shop.example, or *; repeatable (pages
    /// of this machine always may)
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    cors_origins: Vec<String>,
}

impl Args {
    fn query_options(&self) -> periplus_query::Options {
        let keys = self.zipkin_autocomplete_keys.iter();
        periplus_query::Options {
            version: env!("CARGO_PKG_VERSION"),
            max_clock_skew: self.max_clock_skew,
            max_trace_spans: self.max_trace_spans,
            zipkin: Arc::new(periplus_query::ZipkinOptions {
                lookback_ms: self.zipkin_lookback,
                autocomplete_keys: keys.filter(|key| !key.is_empty()).cloned().collect(),
            }),
            ..Default::default()
        }
    }

    /// The ports that speak to a store.
    fn services(&self) -> [(Port, Service); 7] {
        [
            (Port::new("ui", self.ui_port, "--ui-port"), Service::Ui),
            (
                Port::new("query/grpc", self.query_grpc_port, "--query-grpc-port"),
                Service::QueryGrpc,
            ),
            (
                Port::new("otlp/grpc", self.otlp_grpc_port, "--otlp-grpc-port"),
                Service::OtlpGrpc,
            ),
            (
                Port::new("otlp/http", self.otlp_http_port, "--otlp-http-port"),
                Service::OtlpHttp,
            ),
            (
                Port::new("zipkin", self.zipkin_port, "--zipkin-port"),
                Service::Zipkin,
            ),
            (
                Port::new("jaeger/grpc", self.jaeger_grpc_port, "--jaeger-grpc-port"),
                Service::JaegerGrpc,
            ),
            (
                Port::new("jaeger/http", self.jaeger_http_port, "--jaeger-http-port"),
                Service::JaegerHttp,
            ),
        ]
    }

    /// The ports of Jaeger's agent.
    fn agents(&self) -> [(Port, jaeger::ThriftProtocol); 2] {
        [
            (
                Port::new(
                    "jaeger/compact",
                    self.jaeger_compact_port,
                    "--jaeger-compact-port",
                ),
                jaeger::ThriftProtocol::Compact,
            ),
            (
                Port::new(
                    "jaeger/binary",
                    self.jaeger_binary_port,
                    "--jaeger-binary-port",
                ),
                jaeger::ThriftProtocol::Binary,
            ),
        ]
    }
}

/// Runs the role until it ends; `matches` is what `args` were made of.
pub(crate) fn run(args: Args, matches: &ArgMatches) -> anyhow::Result<()> {
    let config = config::resolve(args, matches)?;
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    let answers = Builder::new_multi_thread().enable_all().build();
    // Where there is less processor than work, who waits for an answer goes first.
    let receivers = Builder::new_multi_thread()
        .thread_name("receive")
        .on_thread_start(|| priority::lower(priority::INTAKE))
        .enable_all()
        .build()
        .context("cannot start the receivers' runtime")?;
    let served = answers
        .context("cannot start the runtime")?
        .block_on(async {
            let stop = terminated()?;
            serve(config, stop, receivers.handle()).await
        });
    // What is left there is nobody's: everything has been asked to end and was waited for.
    receivers.shutdown_background();
    served
}

/// The stores that the server's health depends on.
fn health_of(backends: &Arc<Backends>) -> health::Stores {
    let backends = Arc::clone(backends);
    Arc::new(move || {
        let all = backends.all().into_iter();
        all.filter_map(|(_, backend)| backend.storage.embedded.clone())
            .collect()
    })
}

/// Serves until `stop` resolves.
async fn serve(
    config: Config,
    stop: impl Future<Output = ()>,
    receivers: &Handle,
) -> anyhow::Result<()> {
    let args = config.args;
    let access = Arc::new(Access::new(&config.access).context("in 'access'")?);
    let agents = args.agents();
    refuse_datagrams(&access, &agents)?;
    let tls = args.tls.load()?;
    let dir = args.storage.dir()?;
    let asked = (args.sampling).open(
        dir.as_deref(),
        config.tail_sampling.as_deref(),
        access.has_tenants(),
    );
    let sampling::Asked {
        sampling,
        tail,
        file,
    } = asked.await?;
    let (forwards, forwarders) = args.forward.open(&config.endpoints)?.unzip();
    let common = Common {
        base_path: args.base_path.clone(),
        // A variable that is set to nothing names no file.
        menu: match args.ui_config.as_deref().filter(|path| !path.is_empty()) {
            Some(path) => ui_config::read(Path::new(path))?,
            None => Vec::new(),
        },
        origins: AllowedOrigins::new(args.cors_origins.iter().cloned()),
        query: args.query_options(),
        sampling: sampling.clone(),
        forwards: forwards.clone(),
        tenant_header: access.tenant_header().cloned(),
    };
    let backends = Backends::new(common, args.storage.clone(), config.access.tenants);
    let backends = Arc::new(backends);
    let single = backends.open(tail).await?;
    // What is asked of nobody, and what is the same for all tenants.
    let common = match &single {
        Some(backend) => Arc::clone(backend),
        None => Arc::new(backends.of_nobody()),
    };

    let sources = metrics::Sources {
        backends: Arc::clone(&backends),
        sampling: sampling.clone(),
        forwards,
        access: Arc::clone(&access),
    };
    let secure = |port: &Port| tls.is_some() && !args.tls.excepts(port.name);
    let mut parts = Vec::new();
    let answers = Handle::current();
    for (port, service) in args.services() {
        let runtime = match service {
            Service::Ui | Service::QueryGrpc => &answers,
            _ => receivers,
        };
        let router = match access.is_open() {
            true => common.router(service),
            false => Guard::new(
                Arc::clone(&access),
                needs::of(service, args.base_path.as_str()),
                backends.routers(service),
                common.router(service),
                secure(&port),
            )
            .into_router(),
        };
        parts.push((port, router, runtime));
    }
    let rest = [
        (
            Port::new("health", args.health_port, "--health-port"),
            health::router(health_of(&backends)),
        ),
        (
            Port::new("metrics", args.metrics_port, "--metrics-port"),
            Arc::clone(&access).for_operators(metrics::router(sources)),
        ),
        (
            Port::new("sampling", args.sampling.sampling_port, "--sampling-port"),
            Arc::clone(&access).for_clients(http::router(sampling.remote.clone())),
        ),
        (
            Port::new(
                "sampling/grpc",
                args.sampling.sampling_grpc_port,
                "--sampling-grpc-port",
            ),
            Arc::clone(&access).for_clients(grpc::router(sampling.remote.clone())),
        ),
    ];
    parts.extend(rest.map(|(port, router)| (port, router, &answers)));
    // All ports or none: half a backend would lose spans in silence.
    let mut bound = Vec::with_capacity(parts.len());
    for (port, router, runtime) in parts {
        // Where it is bound is where it is listened to.
        let binding = runtime.spawn(async move { port.bind(args.bind).await });
        if let Some((listener, address)) = binding.await.context("binding crashed")?? {
            let open = Open {
                name: port.name,
                address,
                secure: secure(&port),
            };
            bound.push((open, listener, router, runtime));
        }
    }
    let mut sockets = Vec::with_capacity(agents.len());
    for (port, protocol) in agents {
        let _entered = receivers.enter();
        if let Some((socket, address)) = port.bind_datagrams(args.bind)? {
            let open = Open {
                name: port.name,
                address,
                secure: false,
            };
            sockets.push((open, socket, protocol));
        }
    }

    let running = sampling.start(common.tail.clone(), file);
    let forwarding = forward::Running::start(forwarders.unwrap_or_default());
    let (stopping, stopped) = watch::channel(());
    let mut servers = JoinSet::new();
    let mut open = Vec::with_capacity(bound.len() + sockets.len());
    for (port, listener, router, runtime) in bound {
        open.push(port);
        let tls = tls.clone().filter(|_| port.secure);
        let mut stopped = stopped.clone();
        let serving = async move {
            let stopped = async move {
                // An error means that the sender is gone, which is a stop as well.
                let _ = stopped.changed().await;
            };
            match tls {
                Some(tls) => periplus_collect::serve_tls(listener, router, tls, stopped).await,
                None => periplus_collect::serve(listener, router, stopped).await,
            }
        };
        servers.spawn_on(serving, runtime);
    }
    for (port, socket, protocol) in sockets {
        open.push(port);
        let collector = common.collector.clone();
        let mut stopped = stopped.clone();
        let serving = async move {
            let stopped = async move {
                let _ = stopped.changed().await;
            };
            jaeger::udp::serve(socket, protocol, collector, stopped).await;
            Ok(())
        };
        servers.spawn_on(serving, receivers);
    }
    drop(stopped);
    let place = args.storage.place(access.has_tenants())?;
    listen::announce(&open, &place);

    tokio::pin!(stop);
    let outcome = tokio::select! {
        () = &mut stop => Ok(()),
        // A server ends on its own only when something is badly wrong.
        ended = servers.join_next() => ended
            .context("no server is left")?
            .context("a server crashed")?
            .context("a server failed"),
        never = follow(tls.as_ref()) => match never {},
    };
    for (_, backend) in backends.all() {
        backend.query.close();
    }
    drop(stopping);
    while servers.join_next().await.is_some() {}
    let sampled = running.end().await;
    let forwarded = forwarding.end().await;
    let mut closed = Ok(());
    for (_, backend) in backends.all() {
        closed = closed.and(backend.storage.close().await);
    }
    tracing::info!("stopped");
    outcome.and(sampled).and(forwarded).and(closed)
}

/// Reads certificates again when their files change, for ever.
async fn follow(tls: Option<&Tls>) -> Infallible {
    match tls {
        Some(tls) => tls.follow().await,
        None => std::future::pending().await,
    }
}

/// Datagrams say neither who sends them nor for which tenant: taking them would go around both.
fn refuse_datagrams(
    access: &Access,
    agents: &[(Port, jaeger::ThriftProtocol)],
) -> anyhow::Result<()> {
    let open = agents.iter().filter(|(port, _)| !port.is_off());
    let flags: Vec<String> = open
        .map(|(port, _)| format!("{} off", port.flag()))
        .collect();
    if access.is_open() || flags.is_empty() {
        return Ok(());
    }
    let what = if access.has_tenants() {
        "tenants"
    } else {
        "tokens"
    };
    bail!(
        "datagrams carry no headers, so the ports of Jaeger's agent do not go with {what}: add {}",
        flags.join(" ")
    )
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
