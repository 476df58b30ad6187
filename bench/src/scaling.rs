//! One worker and two: what a request costs. Where it costs the same, and the work is shared evenly, two
//! cores serve twice as many.
//!
//! The load generator and the origin need cores of their own. With fewer than four, requests per second say
//! nothing about the proxy, and the cost of a request is what is left to compare.

use anyhow::ensure;

use crate::cpu;
use crate::peers::{Peer, Process, Surroundings};
use crate::proxy::{Common, quartiles, run_load};

/// Flags of the comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
}

/// What we promise: how much more CPU-limited throughput two workers have than one.
const PROMISED: f64 = 1.9;
/// The least share of the work that each of two workers must have for the comparison to mean anything.
const LEAST_SHARE: f64 = 0.3;

/// Prints a Markdown table; fails when the promise is missed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let around = Surroundings::start(&args.common.programs, directory.path())?;
    let (mut one, mut two, mut gains) = (Vec::new(), Vec::new(), Vec::new());
    let mut least_share = 1.0_f64;
    for _ in 0..args.common.rounds {
        let (alone, _) = measure(args, 1, &around)?;
        let (shared, share) = measure(args, 2, &around)?;
        gains.push(2.0 * alone / shared);
        one.push(alone);
        two.push(shared);
        least_share = least_share.min(share);
    }
    println!("| workers | CPU µs/request, median | least share of a worker |\n|---|---|---|");
    println!("| 1 | {:.1} | 100 % |", quartiles(one).1);
    println!(
        "| 2 | {:.1} | {:.0} % |",
        quartiles(two).1,
        least_share * 100.0
    );
    let (low, median, high) = quartiles(gains);
    println!(
        "\nCPU-limited throughput of two workers: {median:.2} [{low:.2}–{high:.2}] × that of one (promised ≥ {PROMISED})"
    );
    ensure!(
        least_share >= LEAST_SHARE,
        "one worker had {:.0} % of the work only: more connections would spread it better",
        least_share * 100.0
    );
    ensure!(median >= PROMISED, "the promise is missed");
    Ok(())
}

/// CPU time per request, and the least busy worker's share of it.
fn measure(args: &Args, workers: u32, around: &Surroundings) -> anyhow::Result<(f64, f64)> {
    let peer = Peer::PeriplusZipkin;
    let (mut command, address) = peer.command(&args.common.programs, around)?;
    let count = command.last_mut().filter(|last| *last == "1");
    *count.ok_or_else(|| anyhow::anyhow!("the command does not end with the workers"))? =
        workers.to_string();
    let cores = if workers == 1 { "0" } else { "0,1" };
    let process = Process::start(peer.name(), cores, &command, &around.directory)?;
    process.wait_for(address)?;
    let mut flags = peer.load(address);
    let pid = process.id().to_string();
    let duration = args.common.duration_ms.to_string();
    flags.extend(
        [
            "--pid",
            &pid,
            "--connections",
            "256",
            "--duration-ms",
            &duration,
        ]
        .map(str::to_owned),
    );
    let report = run_load(&flags)?;
    ensure!(report.errors == 0, "{} requests failed", report.errors);
    let times = cpu::of_threads(process.id(), "worker-")?;
    ensure!(
        times.len() == workers as usize,
        "{} workers run",
        times.len()
    );
    let all: f64 = times.iter().sum();
    let least = times.iter().copied().fold(f64::MAX, f64::min);
    Ok((report.cpu_us / report.requests as f64, least / all))
}
