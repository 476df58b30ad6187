//! The control plane: a directory of Istio resources in, xDS out.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use periplus_control::{ControlPlane, Debounce, Options};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;

use super::identity::AuthorityArgs;
use super::{duration, issuers};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory of *.yaml, *.yml and *.json files with Istio resources; changes take effect at once; repeatable
    #[arg(long, value_name = "DIR", required = true)]
    dir: Vec<PathBuf>,

    /// File with Istio's MeshConfig: where spans go, and how many
    #[arg(long, value_name = "FILE")]
    mesh_config: Option<PathBuf>,

    /// Port that proxies get their configuration from (0 takes any free port, as for every port)
    #[arg(long, value_name = "PORT", default_value_t = 15010)]
    xds_port: u16,

    /// Port that does the same over TLS, with a certificate of the authority, for clients with certificates or
    /// tokens; there is none without --identity-dir
    #[arg(long, value_name = "PORT", default_value_t = 15012)]
    tls_port: u16,

    #[command(flatten)]
    authority: AuthorityArgs,

    /// How often issuers of tokens are asked for their keys again, such as 5m
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration::parse)]
    jwks_refresh: Duration,

    /// Port of /debug/syncz, /debug/certificates, /debug/config_errors, /debug/files, /metrics, /ready and /version
    #[arg(long, value_name = "PORT", default_value_t = 15014)]
    monitoring_port: u16,

    /// Address to listen on; 0.0.0.0 lets other machines in, and there is no password
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
}

/// How long the first proxies wait until the keys of issuers have come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the role until it ends.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(control(args))
}

async fn control(args: Args) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let xds = listen(args.bind, args.xds_port, "--xds-port")?;
    let monitoring = listen(args.bind, args.monitoring_port, "--monitoring-port")?;
    let certificates = args.authority.options()?;
    let secured = match &certificates {
        Some(_) => Some(listen(args.bind, args.tls_port, "--tls-port")?),
        None => None,
    };
    let certificates_are_wanted = certificates.is_some();
    anyhow::ensure!(
        args.jwks_refresh >= Duration::from_secs(1),
        "--jwks-refresh must be at least 1s"
    );
    for issuer in certificates.iter().flat_map(|options| &options.issuers) {
        tokio::spawn(issuers::keep(Arc::clone(issuer), args.jwks_refresh));
    }
    let mut plane = ControlPlane::load(Options {
        directories: args.dir,
        mesh_config: args.mesh_config,
        debounce: Debounce::default(),
        certificates,
    })?;
    tokio::spawn(issuers::follow(plane.issuers(), args.jwks_refresh));
    plane.settle(PATIENCE).await;
    if certificates_are_wanted && !args.bind.is_loopback() {
        tracing::warn!(
            xds = %xds.local_addr()?,
            "the port of xDS without TLS is open to other machines: whoever reaches it gets any proxy's configuration, \
             and tokens that are sent to it can be read on the way; let proxies use the port with TLS, and close this \
             one to others"
        );
    }
    tracing::info!(
        xds = %xds.local_addr()?,
        tls = secured.as_ref().map(TcpListener::local_addr).transpose()?.map(tracing::field::display),
        monitoring = %monitoring.local_addr()?,
        "control plane is ready"
    );

    let (stopping, stopped) = watch::channel(());
    let until_stopped = || {
        let mut stopped = stopped.clone();
        async move {
            // An error means that the sender is gone, which is a stop as well.
            let _ = stopped.changed().await;
        }
    };
    let ads = plane.ads();
    let others = || {
        let routes = Routes::default();
        match plane.certificates() {
            Some(certificates) => routes.add_service(certificates),
            None => routes,
        }
    };
    // Else the first answer waits for the acknowledgement of its head.
    let incoming = TcpIncoming::from(xds).with_nodelay(Some(true));
    let serve_xds = ads.serve_with(incoming, others(), until_stopped());
    let secured = secured.and_then(|listener| plane.secure(listener));
    let secured_services = others();
    let guarded = plane.guarded_ads();
    let serve_secured = async {
        match secured.zip(guarded) {
            Some((accepted, guarded)) => {
                guarded
                    .serve_with(accepted, secured_services, until_stopped())
                    .await
            }
            None => Ok(()),
        }
    };
    let serve_monitoring =
        axum::serve(monitoring, plane.monitoring()).with_graceful_shutdown(until_stopped());
    let servers = async {
        tokio::try_join!(
            async { serve_xds.await.context("the xDS server failed") },
            async {
                serve_secured
                    .await
                    .context("the xDS server with TLS failed")
            },
            async {
                serve_monitoring
                    .await
                    .context("the monitoring server failed")
            },
        )
    };
    tokio::pin!(servers);
    let follow_files = tokio::spawn(plane.run());

    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        ended = &mut servers => {
            ended?;
            return Ok(());
        }
        ended = follow_files => {
            ended.context("the file watcher crashed")?;
        }
    }
    drop(stopping);
    servers.await?;
    tracing::info!("stopped");
    Ok(())
}

/// Connections that nobody has accepted yet: after a restart all proxies of a mesh come at once.
const BACKLOG: u32 = 4096;

fn listen(bind: IpAddr, port: u16, flag: &str) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(bind, port);
    let listening = || {
        let socket = match bind {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listening()
        .with_context(|| format!("cannot listen on {address}, choose another port with {flag}"))
}
