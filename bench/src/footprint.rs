//! What a proxy costs that has nothing to do: the time until it serves, its memory, and that of each idle
//! connection.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::cpu;
use crate::peers::{Peer, Process, Programs, Surroundings, ask};
use crate::proxy::quartiles;

/// Flags of the comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    /// Starts of each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Idle keep-alive connections
    #[arg(long, default_value_t = 9_000)]
    connections: usize,
}

/// The most time until ours serves, of what Envoy takes: 20 ms where Envoy takes 68. What it takes to start anything
/// here differs by the hour, and is held against what it takes Envoy in the same round.
const READY: f64 = 20.0 / 68.0;
const IDLE_MIB: f64 = 10.0;
const CONNECTION_BYTES: f64 = 4096.0;

const PEERS: [Peer; 3] = [Peer::PeriplusZipkin, Peer::EnvoyZipkin, Peer::HaproxyHttp];

/// How long a proxy has to come to rest before its memory is looked at.
const REST: Duration = Duration::from_millis(700);

struct Sample {
    ready_ms: f64,
    idle_mib: f64,
    bytes_per_connection: f64,
}

/// Prints a Markdown table; fails when a promise is missed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let around = Surroundings::start(&args.programs, directory.path())?;
    println!(
        "| | ready after ms | idle RSS MiB | B/idle connection, of {} |",
        args.connections
    );
    println!("|---|---|---|---|");
    let rounds = (0..args.rounds).map(|_| {
        let [ours, envoy, haproxy] = PEERS;
        Ok([
            measure(args, ours, &around)?,
            measure(args, envoy, &around)?,
            measure(args, haproxy, &around)?,
        ])
    });
    let rounds = rounds.collect::<anyhow::Result<Vec<_>>>()?;
    let median = |of: &dyn Fn(&[Sample; 3]) -> f64| quartiles(rounds.iter().map(of).collect()).1;
    for (at, peer) in PEERS.into_iter().enumerate() {
        println!(
            "| {} | {:.1} | {:.1} | {:.0} |",
            peer.name(),
            median(&|round| round[at].ready_ms),
            median(&|round| round[at].idle_mib),
            median(&|round| round[at].bytes_per_connection)
        );
    }
    let promises = [
        (
            "ready, of Envoy's time",
            median(&|[ours, envoy, _]| ours.ready_ms / envoy.ready_ms),
            READY,
        ),
        (
            "idle RSS, MiB",
            median(&|[ours, ..]| ours.idle_mib),
            IDLE_MIB,
        ),
        (
            "bytes of an idle connection",
            median(&|[ours, ..]| ours.bytes_per_connection),
            CONNECTION_BYTES,
        ),
    ];
    println!("\n| | ours | promised | |\n|---|---|---|---|");
    let mut missed = Vec::new();
    for (name, value, most) in promises {
        let is_met = value <= most;
        let verdict = if is_met { "met" } else { "**missed**" };
        println!("| {name} | {value:.3} | ≤ {most:.3} | {verdict} |");
        if !is_met {
            missed.push(format!("{name}: {value:.3} > {most:.3}"));
        }
    }
    ensure!(missed.is_empty(), "missed: {}", missed.join(", "));
    Ok(())
}

/// Starts a peer, and how long that takes until it lets clients in, in milliseconds.
fn start(
    peer: Peer,
    command: &[String],
    address: SocketAddr,
    around: &Surroundings,
) -> anyhow::Result<(Process, f64)> {
    let begin = Instant::now();
    let core = crate::peers::PROXY_CORE;
    let process = Process::start(peer.name(), core, command, &around.directory)?;
    while TcpStream::connect(address).is_err() {
        ensure!(
            begin.elapsed() < Duration::from_secs(60),
            "{} does not come up",
            peer.name()
        );
        std::thread::park_timeout(Duration::from_micros(200));
    }
    Ok((process, begin.elapsed().as_secs_f64() * 1e3))
}

fn measure(args: &Args, peer: Peer, around: &Surroundings) -> anyhow::Result<Sample> {
    let (command, address) = peer.command(&args.programs, around)?;
    let host = peer.host();
    // The first start is not measured: it has the program's file read, which takes the disk its time.
    drop(start(peer, &command, address, around)?);
    let (process, ready_ms) = start(peer, &command, address, around)?;
    // Before it has served anything there is memory that only a first request makes it take.
    drop(ask(address, host)?);
    std::thread::park_timeout(REST);
    let idle_kib = cpu::resident_kib(process.id())?;
    let open = (0..args.connections).map(|_| ask(address, host));
    let open = open
        .collect::<anyhow::Result<Vec<_>>>()
        .context("the connections cannot be opened; mind the limit of open files (ulimit -n)")?;
    std::thread::park_timeout(REST);
    let busy_kib = cpu::resident_kib(process.id())?;
    drop(open);
    Ok(Sample {
        ready_ms,
        idle_mib: idle_kib as f64 / 1024.0,
        bytes_per_connection: busy_kib.saturating_sub(idle_kib) as f64 * 1024.0
            / args.connections as f64,
    })
}
