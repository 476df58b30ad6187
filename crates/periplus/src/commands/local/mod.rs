//! A mesh of processes on this machine: what `demo` and `up` have in common.

pub(crate) mod parts;
pub(crate) mod progress;
pub(crate) mod state;

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use periplus_local::{Event, Events, Limits, Mesh, Part, StartError, Supervisor};
use tokio::signal::unix::{Signal, SignalKind, signal};

use progress::Screen;
use state::State;

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

/// How a mesh ended.
pub(crate) enum Outcome {
    /// It did what it was asked to do.
    Done,
    /// Somebody has pressed Ctrl-C.
    Interrupted,
}

/// Runs the parts for as long as `live` does, or until somebody interrupts it, and stops them. `see` is told
/// of all events.
pub(crate) async fn run<L>(
    parts: Vec<Part>,
    (state, screen): (&State, &Screen),
    interruptions: &mut Interruptions,
    see: impl Fn(&Event),
    live: L,
) -> anyhow::Result<Outcome>
where
    L: AsyncFnOnce(&Supervisor) -> anyhow::Result<Outcome>,
{
    let (supervisor, mut events) = Supervisor::new(parts, Limits::default())?;
    let outcome = tokio::select! {
        outcome = live(&supervisor) => outcome,
        () = tell(&mut events, screen, state, &see) => anyhow::bail!("the supervisor has ended"),
        () = interruptions.next() => Ok(Outcome::Interrupted),
    };
    screen.clear();
    if let Ok(Outcome::Interrupted) = outcome {
        screen.line("stopping (Ctrl-C again to stop at once)");
    }
    let stop = async {
        tokio::join!(supervisor.stop(), tell(&mut events, screen, state, &see));
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
    }
    outcome
}

/// Starts all parts.
pub(crate) async fn start(supervisor: &Supervisor, state: &State) -> anyhow::Result<()> {
    let started = supervisor.start().await;
    // The last part is told of before whatever comes next.
    tokio::task::yield_now().await;
    started.map_err(|error| explain(&error, state))
}

/// Makes the tokens of workloads anew before they end, for ever.
pub(crate) async fn keep_tokens(state: &State, mesh: &Mesh, screen: &Screen) -> Infallible {
    loop {
        tokio::time::sleep(TOKEN_LIFETIME / 2).await;
        if let Err(error) = state.issue_tokens(mesh) {
            screen.trouble(&format!("  {error:#}"));
        }
    }
}

/// Shows events until there are no more.
async fn tell(events: &mut Events, screen: &Screen, state: &State, see: &impl Fn(&Event)) {
    while let Some(event) = events.next().await {
        see(&event);
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

/// What ends a mesh: Ctrl-C, a SIGTERM, a closed terminal.
pub(crate) struct Interruptions {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Interruptions {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// How long tokens of workloads hold; they are made anew at half of it.
pub(crate) const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
