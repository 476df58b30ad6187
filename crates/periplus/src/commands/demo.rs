//! Bookinfo with sidecars, gateway, control plane, trace backend and UI on this machine.

mod applications;
mod diagnosis;
mod files;
pub(crate) mod mesh;
mod traffic;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use periplus_bookinfo::Role;
use periplus_local::{Claim, Mesh, Supervisor, check_free};

use super::local::parts::{Maker, claims};
use super::local::progress::Screen;
use super::local::state::{GATEWAY, State};
use super::local::{self, Interruptions, Outcome, ProxyChoice};

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Take all ports from N upwards; without it the UI is on 16686, the product page on 8080
    #[arg(long, value_name = "N")]
    port_base: Option<u16>,

    /// Keep configuration, traces and logs in this directory; what this command generates there it
    /// overwrites [default: a temporary directory, removed in the end if nothing went wrong]
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,

    /// Which proxy to run as sidecars and gateway: periplus, or envoy=PATH
    #[arg(long, value_name = "PROXY", default_value = "periplus")]
    proxy: ProxyChoice,

    /// How long certificates of workloads hold; they are renewed at half of it
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = super::duration::parse)]
    certificate_lifetime: Duration,

    /// Send no requests
    #[arg(long)]
    no_traffic: bool,

    /// Start, send traffic, check that it was traced, and stop; the exit status tells
    #[arg(long)]
    once: bool,

    /// A service that shall not forward tracing headers, to see traces fall apart; repeatable
    #[arg(long, value_name = "SERVICE")]
    drop_headers: Vec<Role>,
}

/// Runs the mesh until it is told to stop.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(demo(args))
}

async fn demo(args: Args) -> anyhow::Result<()> {
    let mut interruptions = Interruptions::listen()?;

    let mesh = mesh::bookinfo(args.port_base)?;
    let mut claims = claims(&mesh);
    claims.push(Claim::new(mesh.ports.gateway, GATEWAY, "product page"));
    check_free(&claims)?;
    let files = files::all(mesh.ports.gateway)?;
    let state = State::create(args.dir.clone(), &mesh, &args.proxy, &files)?;
    let maker = Maker::new(&mesh, &state, &args.proxy, args.certificate_lifetime, &[])?;
    let applications = applications::all(&maker, &mesh, &args.drop_headers)?;
    let parts = maker.with(applications);
    let screen = Screen::new(parts.len());
    screen.line(&format!(
        "starting Bookinfo in a mesh of {} processes; configuration, traces and logs: {}{}",
        parts.len(),
        state.directory().display(),
        if state.is_temporary() {
            " (until it ends; --dir keeps them)"
        } else {
            ""
        }
    ));

    let live =
        async |supervisor: &Supervisor| live(&args, &mesh, &state, supervisor, &screen).await;
    let outcome = local::run(parts, (&state, &screen), &mut interruptions, |_| (), live).await;
    if outcome.is_ok() && !screen.has_shown_trouble() {
        state.remove_if_temporary();
    }
    match outcome? {
        Outcome::Interrupted if args.once => anyhow::bail!("interrupted before it was done"),
        Outcome::Interrupted | Outcome::Done => Ok(()),
    }
}

/// The life of the demo, from the start to whatever ends it.
async fn live(
    args: &Args,
    mesh: &Mesh,
    state: &State,
    supervisor: &Supervisor,
    screen: &Screen,
) -> anyhow::Result<Outcome> {
    local::start(supervisor, state).await?;
    let traced = if args.no_traffic {
        None
    } else {
        match traffic::send(mesh, state, screen, args.drop_headers.is_empty()).await {
            Ok(traced) => traced,
            Err(error) if args.once => return Err(error),
            Err(error) => {
                // What runs is the best place to find out why.
                screen.trouble(&format!("  {error:#}"));
                None
            }
        }
    };
    screen.clear();
    welcome(mesh, state, screen, traced.as_ref());
    if args.once {
        return Ok(Outcome::Done);
    }
    screen.line("\nCtrl-C stops everything.");
    match local::keep_tokens(state, mesh, screen).await {}
}

fn welcome(mesh: &Mesh, state: &State, screen: &Screen, traced: Option<&traffic::Traced>) {
    let ports = &mesh.ports;
    let ui = ports.backend.ui;
    screen.line("");
    screen.line(&format!(
        "  product page   http://127.0.0.1:{}/productpage",
        ports.gateway
    ));
    screen.line(&format!("  traces         http://127.0.0.1:{ui}/"));
    if let Some(traced) = traced {
        screen.line(&format!(
            "  one trace      http://127.0.0.1:{ui}/trace/{}   ({} spans)",
            traced.trace_id, traced.spans
        ));
    }
    screen.line(&format!("  rules          {}", state.config().display()));
    screen.line(&format!("  logs           {}", state.logs().display()));
    screen.line("");
    screen.line("Shift 10 % of the traffic to reviews v2, while everything runs:");
    screen.line(&format!(
        "  cp {}/virtual-service-reviews-90-10.yaml {}/routes.yaml",
        state.directory().join(files::EXAMPLES).display(),
        state.config().display()
    ));
}

/// How long one request of the demo to a part of it may take.
const PATIENCE: Duration = Duration::from_secs(10);
