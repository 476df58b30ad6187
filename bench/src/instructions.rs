//! User instructions per request, counted by callgrind: the same on a busy machine as on a quiet
//! one, so this is what CI gates on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::peers::{Peer, Process, Programs, Surroundings};
use crate::proxy::run_load;

/// Flags of the count.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    /// The peers to count; without any, ours
    #[arg(long)]
    peer: Vec<String>,
    /// Requests of the shorter of the two runs
    #[arg(long, default_value_t = 1000)]
    requests: u64,
    /// The most instructions per request for each of our peers, one `NAME NUMBER` in each line
    #[arg(long, default_value = "bench/instruction-budget.txt")]
    budget: PathBuf,
}

/// Counts, prints a table, and fails when one of ours is over its budget.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let budgets = fs::read_to_string(&args.budget)
        .with_context(|| format!("no budget in {}", args.budget.display()))?;
    let peers: Vec<Peer> = match args.peer.as_slice() {
        [] => vec![
            Peer::PeriplusZipkin,
            Peer::PeriplusOtlp,
            Peer::PeriplusGrpc,
            Peer::PeriplusIstio,
        ],
        names => Peer::named(names)?,
    };
    let directory = tempfile::tempdir()?;
    let around = Surroundings::start(&args.programs, directory.path())?;
    let mut over = Vec::new();
    println!("| peer | user instructions/request | budget |\n|---|---|---|");
    for peer in peers {
        let count = count(args, peer, &around)?;
        let budget = budget_of(&budgets, peer)?;
        let shown = budget.map_or("–".to_owned(), |budget| budget.to_string());
        println!("| {} | {count} | {shown} |", peer.name());
        if budget.is_some_and(|budget| count > budget) {
            over.push(peer.name());
        }
    }
    ensure!(over.is_empty(), "over budget: {}", over.join(", "));
    Ok(())
}

/// The difference of two runs of N and 2N requests: connections and start-up cancel out.
fn count(args: &Args, peer: Peer, around: &Surroundings) -> anyhow::Result<u64> {
    let (process, address, out) = Process::under_callgrind(peer, &args.programs, around)?;
    let [generator, host] = peer.load();
    let connections = if peer.is_grpc() { "2" } else { "16" };
    let load = |requests: u64| {
        run_load(&[
            generator,
            "--address",
            &address.to_string(),
            "--host",
            host,
            "--connections",
            connections,
            "--warmup-ms",
            "0",
            "--requests",
            &requests.to_string(),
        ])
    };
    load(args.requests)?;
    let mut totals = [(0, 0); 2];
    for (i, requests) in [args.requests, 2 * args.requests].into_iter().enumerate() {
        control(&process, "--zero")?;
        let report = load(requests)?;
        ensure!(report.errors == 0, "{} requests failed", report.errors);
        control(&process, "--dump")?;
        totals[i] = (newest_total(&out)?, report.total);
    }
    let [(short, few), (long, many)] = totals;
    Ok((long - short) / (many - few))
}

fn control(process: &Process, flag: &str) -> anyhow::Result<()> {
    let pid = process.id().to_string();
    let output = Command::new("callgrind_control")
        .args([flag, &pid])
        .output()?;
    ensure!(output.status.success(), "callgrind_control {flag} failed");
    Ok(())
}

/// The total of the newest dump beside `out` (callgrind numbers them `out.1`, `out.2`, …).
fn newest_total(out: &Path) -> anyhow::Result<u64> {
    let newest = (1..).map(|n| PathBuf::from(format!("{}.{n}", out.display())));
    let Some(dump) = newest.take_while(|dump| dump.exists()).last() else {
        bail!("callgrind wrote no dump");
    };
    let text = fs::read_to_string(dump)?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("totals: ")
                .or(line.strip_prefix("summary: "))
        })
        .and_then(|total| total.split_whitespace().next())
        .and_then(|total| total.parse().ok())
        .context("the dump has no total")
}

fn budget_of(budgets: &str, peer: Peer) -> anyhow::Result<Option<u64>> {
    let line = budgets
        .lines()
        .find_map(|line| line.strip_prefix(peer.name()));
    line.map(|rest| rest.trim().parse().context("the budget is no number"))
        .transpose()
}
