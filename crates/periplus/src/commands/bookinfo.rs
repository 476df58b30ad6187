//! One service of the Bookinfo sample.

use std::net::{IpAddr, SocketAddr};

use anyhow::Context as _;
use periplus_bookinfo::{App, Environment, Role};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Flags.
#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true, after_help = VARIABLES)]
pub(crate) struct Args {
    /// productpage, details, reviews or ratings
    role: Role,

    /// Port to listen on
    #[arg(long, default_value_t = 9080)]
    port: u16,

    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,

    /// Version to be: v1, v2 and v3 of reviews differ in their stars, v-faulty, v-delayed,
    /// v-unavailable and v-unhealthy of ratings in how they fail
    #[arg(long = "version", value_name = "VERSION", default_value = "v1")]
    sample_version: String,
}

/// Everything else comes from the environment variables of the originals.
const VARIABLES: &str = "\
Environment:
  http_proxy, no_proxy                      where calls go through
  SERVICES_DOMAIN                           what is appended to the names of services
  DETAILS_HOSTNAME, DETAILS_SERVICE_PORT    where details is; REVIEWS_…, RATINGS_… likewise
  ENABLE_RATINGS, STAR_COLOR                reviews: whether to ask for stars, and of which colour
  HOSTNAME, CLUSTER_NAME                    reviews: who it says it is
  SERVICE_VERSION                           ratings: how it misbehaves
  FLOOD_FACTOR                              productpage: how many useless calls for each page
  ENABLE_EXTERNAL_BOOK_SERVICE              details: whether to ask www.googleapis.com,
  DO_NOT_ENCRYPT                            which it can in the clear only
  BOOKINFO_DROP_HEADERS                     whether to forget the tracing headers";

/// Runs the service until it is told to stop.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args {
        role,
        port,
        bind,
        sample_version,
    } = args;
    let environment = role.with_version(&sample_version, Environment::of_process())?;
    let app = App::new(role, &environment)?;
    let address = SocketAddr::new(bind, port);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on {address}: is --port {port} in use?"))?;
            tracing::info!(%role, version = sample_version, address = %listener.local_addr()?, "listening");
            periplus_bookinfo::serve(app, listener, async move {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            })
            .await;
            Ok(())
        })
}
