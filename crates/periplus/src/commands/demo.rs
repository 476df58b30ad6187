//! Bookinfo with sidecars, gateway, control plane, trace backend and UI on this machine.

mod diagnosis;
mod mesh;
mod parts;
mod progress;
mod state;
mod traffic;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use periplus_bookinfo::Role;
use periplus_local::{Events, Limits, Mesh, StartError, Supervisor, check_free};
use tokio::signal::unix::{Signal, SignalKind, signal};

use progress::Screen;
use state::State;

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

/// Who carries the requests.
#[derive(Clone, Debug)]
pub(crate) enum ProxyChoice {
    /// This program.
    Periplus,
    /// A real Envoy.
    Envoy(PathBuf),
}

impl FromStr for ProxyChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            None if text == "periplus" => Ok(Self::Periplus),
            Some(("envoy", path)) if !path.is_empty() => Ok(Self::Envoy(path.into())),
            _ => Err("use periplus, or envoy=PATH with the path of an Envoy".to_owned()),
        }
    }
}

/// How the demo ended.
enum Outcome {
    /// It did what it was asked to do.
    Done,
    /// Somebody has pressed Ctrl-C.
    Interrupted,
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
    check_free(&parts::claims(&mesh))?;
    let state = State::create(args.dir.clone(), &mesh, &args.proxy)?;
    let parts = parts::parts(&mesh, &state, &args)?;
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

    let (supervisor, mut events) = Supervisor::new(parts, Limits::default())?;
    let outcome = tokio::select! {
        outcome = live(&args, &mesh, &state, &supervisor, &screen) => outcome,
        () = tell(&mut events, &screen, &state) => anyhow::bail!("the supervisor has ended"),
        () = interruptions.next() => Ok(Outcome::Interrupted),
    };
    screen.clear();
    if let Ok(Outcome::Interrupted) = outcome {
        screen.line("stopping (Ctrl-C again to stop at once)");
    }
    let stop = async {
        tokio::join!(supervisor.stop(), tell(&mut events, &screen, &state));
    };
    tokio::select! {
        () = stop => {}
        // Leashes and groups do the rest, see `periplus_local::follow_parent`.
        () = interruptions.next() => std::process::exit(130),
    }
    if outcome.is_ok() {
        screen.line("all stopped");
    }
    if outcome.is_err() || screen.has_shown_trouble() {
        // What has been pointed to must be there to be looked into.
        screen.line(&format!("logs: {}", state.logs().display()));
    } else {
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
    supervisor
        .start()
        .await
        .map_err(|error| explain(&error, state))?;
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
    loop {
        tokio::time::sleep(TOKEN_LIFETIME / 2).await;
        if let Err(error) = state.issue_tokens(mesh) {
            screen.trouble(&format!("  {error:#}"));
        }
    }
}

/// Shows events until there are no more.
async fn tell(events: &mut Events, screen: &Screen, state: &State) {
    while let Some(event) = events.next().await {
        screen.event(&event, state);
    }
}

fn explain(error: &StartError, state: &State) -> anyhow::Error {
    let mut text = format!("{error}\n  its log: {}", state.log(error.part()).display());
    for line in error.last_lines() {
        text.push_str("\n  | ");
        text.push_str(line);
    }
    anyhow::anyhow!(text)
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
        state.examples().display(),
        state.config().display()
    ));
}

/// What ends the demo: Ctrl-C, a SIGTERM, a closed terminal.
struct Interruptions {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Interruptions {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// How long tokens of workloads hold; they are made anew at half of it.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How long one request of the demo to a part of it may take.
const PATIENCE: Duration = Duration::from_secs(10);
