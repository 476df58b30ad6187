//! CPU per request at saturation: all peers, interleaved, ratios within a round.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::cpu;
use crate::load::Report;
use crate::peers::{self, BEHIND, Part, Peer, Programs, Surroundings};

/// Flags that all comparisons in rounds have.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) programs: Programs,
    /// Rounds; each visits everybody once, in another order
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Milliseconds of each measurement
    #[arg(long, default_value_t = 2500)]
    pub(crate) duration_ms: u64,
}

/// Flags of the comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// The peers to measure; without any, all but the parts of everything
    #[arg(long)]
    peer: Vec<String>,
    /// Measure also what each part of everything costs by itself
    #[arg(long)]
    parts: bool,
    /// Keep-alive connections, each with one request under way; calls have an eighth as many
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Calls under way on each connection of HTTP/2
    #[arg(long, default_value_t = 32)]
    streams: usize,
}

/// What we promise: the median ratio of the first peer's CPU per request to the second's.
const GATES: [(Peer, Peer, f64); 8] = [
    (Peer::PeriplusZipkin, Peer::EnvoyZipkin, 0.2),
    (Peer::PeriplusOtlp, Peer::EnvoyOtlp, 0.3),
    (Peer::PeriplusZipkin, Peer::HaproxyHttp, 1.4),
    (Peer::PeriplusGrpc, Peer::EnvoyGrpc, 0.15),
    (Peer::PeriplusFull, Peer::EnvoyFull, 0.12),
    (Peer::PeriplusFull, Peer::EnvoyZipkin, 0.13),
    (Peer::PeriplusFull, Peer::EnvoyOtlp, 0.2),
    (Peer::PeriplusFull, Peer::HaproxyHttp, 1.0),
];

/// The most that a part of everything adds by itself. They are 1.5, 0.7 and 1.5 µs where HAProxy takes 14.5 for a
/// request, and are held against what it takes here.
const PARTS: [(Part, f64); 3] = [
    (Part::Spans, 1.5 / 14.5),
    (Part::Metrics, 0.7 / 14.5),
    (Part::Log, 1.5 / 14.5),
];

struct Sample {
    cpu_us_per_request: f64,
    requests_per_second: f64,
    utilisation: f64,
    p50_us: u64,
    p99_us: u64,
    spans_per_request: f64,
    resident_mib: f64,
}

/// Runs the comparison and prints two Markdown tables; fails when a gate is missed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let around = Surroundings::start(&args.common.programs, directory.path())?;
    let mut samples: BTreeMap<Peer, Vec<Sample>> = BTreeMap::new();
    let mut order = Peer::named(&args.peer)?;
    if args.parts {
        let parts = [
            Part::Nothing,
            Part::Spans,
            Part::Metrics,
            Part::Log,
            Part::Rbac,
        ];
        order.extend(parts.map(Peer::Part));
    }
    for round in 0..args.common.rounds {
        shuffle(&mut order, round as u64);
        for &peer in &order {
            let sample = measure(args, peer, &around)
                .with_context(|| format!("measuring {} in round {round}", peer.name()))?;
            eprintln!(
                "round {round}: {:<16} {:>6.1} µs/request, core {:>3.0} % busy",
                peer.name(),
                sample.cpu_us_per_request,
                sample.utilisation * 100.0
            );
            samples.entry(peer).or_default().push(sample);
        }
    }
    print_peers(&samples);
    print_gates(&samples)
}

fn measure(args: &Args, peer: Peer, around: &Surroundings) -> anyhow::Result<Sample> {
    let (process, address) = peer.start(&args.common.programs, around)?;
    let before = around.counts(peer)?;
    let pid = process.id();
    let connections = match peer.is_grpc() {
        true => args.connections.div_ceil(8),
        false => args.connections,
    };
    let mut flags = peer.load(address);
    let mut add = |flag: &str, value: u64| flags.extend([flag.to_owned(), value.to_string()]);
    add("--pid", pid.into());
    add("--connections", connections as u64);
    add("--duration-ms", args.common.duration_ms);
    if peer.is_grpc() {
        add("--streams", args.streams as u64);
    }
    let report = run_load(&flags)?;
    let after = settled(around, peer, &before, &report)?;
    ensure!(report.errors == 0, "{} requests failed", report.errors);
    let requests = (after.requests - before.requests) as f64;
    if peer.traces() {
        let with_context = (after.with_context - before.with_context) as f64;
        ensure!(
            with_context / requests > 0.999,
            "trace context did not reach the origin"
        );
        let spans = after.spans - before.spans;
        ensure!(
            spans >= report.total,
            "{} requests were answered, and only {spans} spans have reached the sink",
            report.total
        );
    }
    peers::check(peer, address, report.total, around)?;
    Ok(Sample {
        cpu_us_per_request: report.cpu_us / report.requests as f64,
        requests_per_second: report.requests as f64 / report.seconds,
        utilisation: report.cpu_us / 1e6 / report.seconds,
        p50_us: report.p50_us,
        p99_us: report.p99_us,
        spans_per_request: (after.spans - before.spans) as f64 / requests,
        resident_mib: cpu::resident_kib(pid)? as f64 / 1024.0,
    })
}

/// Waits until the spans of the run have arrived, at most as long as Envoy's flush interval.
fn settled(
    around: &Surroundings,
    peer: Peer,
    before: &crate::peers::Counts,
    report: &Report,
) -> anyhow::Result<crate::peers::Counts> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(6);
    loop {
        let counts = around.counts(peer)?;
        let enough = !peer.traces() || counts.spans - before.spans >= report.total;
        if enough || std::time::Instant::now() > deadline {
            return Ok(counts);
        }
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
}

/// Runs the load generator as a process of its own, on the other core.
pub(crate) fn run_load(flags: &[impl AsRef<OsStr>]) -> anyhow::Result<Report> {
    let output = Command::new("taskset")
        .args(["-c", "1"])
        .args(BEHIND)
        .arg(std::env::current_exe()?)
        .args(flags)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn print_peers(samples: &BTreeMap<Peer, Vec<Sample>>) {
    println!(
        "| peer | CPU µs/request, median [q1–q3] | requests/s | core busy | p50 µs | p99 µs | spans/request | RSS MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (peer, samples) in samples {
        let of = |field: &dyn Fn(&Sample) -> f64| quartiles(samples.iter().map(field).collect());
        let (q1, median, q3) = of(&|s| s.cpu_us_per_request);
        println!(
            "| {} | {median:.1} [{q1:.1}–{q3:.1}] | {:.0} | {:.0} % | {:.0} | {:.0} | {:.3} | {:.1} |",
            peer.name(),
            of(&|s| s.requests_per_second).1,
            of(&|s| s.utilisation).1 * 100.0,
            of(&|s| s.p50_us as f64).1,
            of(&|s| s.p99_us as f64).1,
            of(&|s| s.spans_per_request).1,
            of(&|s| s.resident_mib).1,
        );
    }
}

fn print_gates(samples: &BTreeMap<Peer, Vec<Sample>>) -> anyhow::Result<()> {
    let gates = GATES.into_iter().filter_map(|(ours, theirs, promised)| {
        let pairs = samples.get(&ours)?.iter().zip(samples.get(&theirs)?);
        let ratios = pairs.map(|(a, b)| a.cpu_us_per_request / b.cpu_us_per_request);
        let name = format!("{} ÷ {}", ours.name(), theirs.name());
        Some((name, ratios.collect(), promised))
    });
    let of = |peer: Peer| samples.get(&peer);
    let parts = PARTS.into_iter().filter_map(|(part, promised)| {
        let nothing = of(Peer::Part(Part::Nothing))?;
        let with = of(Peer::Part(part))?.iter().zip(nothing);
        let added =
            with.map(|(with, nothing)| with.cpu_us_per_request - nothing.cpu_us_per_request);
        let theirs = of(Peer::HaproxyHttp)?.iter();
        let ratios = added
            .zip(theirs)
            .map(|(added, theirs)| added / theirs.cpu_us_per_request);
        let name = format!("what {} adds ÷ haproxy-http", Peer::Part(part).name());
        Some((name, ratios.collect(), (promised * 1000.0).round() / 1000.0))
    });
    print_ratios(
        "ratio of CPU per request, within a round",
        gates.chain(parts).collect(),
    )
}

/// Prints a table of ratios, each with the most that is promised; fails when the median of one is more.
pub(crate) fn print_ratios(title: &str, gates: Vec<(String, Vec<f64>, f64)>) -> anyhow::Result<()> {
    println!("\n| {title} | median [q1–q3] | promised | |");
    println!("|---|---|---|---|");
    let mut missed = 0;
    for (name, ratios, promised) in gates {
        let (q1, median, q3) = quartiles(ratios);
        let verdict = if median <= promised { "met" } else { "missed" };
        missed += usize::from(median > promised);
        println!("| {name} | {median:.3} [{q1:.3}–{q3:.3}] | ≤ {promised} | {verdict} |");
    }
    ensure!(missed == 0, "{missed} promises missed");
    Ok(())
}

pub(crate) fn quartiles(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |q: f64| {
        let position = q * (values.len() - 1) as f64;
        let (low, high) = (
            values[position.floor() as usize],
            values[position.ceil() as usize],
        );
        low + (high - low) * position.fract()
    };
    (at(0.25), at(0.5), at(0.75))
}

/// Fisher and Yates with a small generator: another order each round, the same in each run.
fn shuffle(order: &mut [Peer], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for i in (1..order.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        order.swap(i, (state >> 33) as usize % (i + 1));
    }
}
