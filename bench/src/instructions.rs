//! User instructions per request, counted by callgrind: the same on a busy machine as on a quiet
//! one, so this is what CI gates on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::peers::{self, Part, Peer, Process, Programs, Surroundings};
use crate::proxy::run_load;

/// Flags of the count.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    /// The peers to count; without any, ours, and the parts of everything
    #[arg(long)]
    peer: Vec<String>,
    /// Requests of the shorter of the two runs
    #[arg(long, default_value_t = 1000)]
    requests: u64,
    /// The most instructions per request for each of our peers, one `NAME NUMBER` in each line
    #[arg(long, default_value = "bench/instruction-budget.txt")]
    budget: PathBuf,
}

/// Without any named, these are counted, and the parts of everything.
const OURS: [Peer; 5] = [
    Peer::PeriplusZipkin,
    Peer::PeriplusOtlp,
    Peer::PeriplusGrpc,
    Peer::PeriplusIstio,
    Peer::PeriplusFull,
];

/// What is promised, and not kept yet: the budgets only keep it from becoming more.
const EVERYTHING: u64 = 25_000;
const MANY_ROUTES: f64 = 1.02;

/// The most that a thousand routes may cost, of what ten do.
const MANY_ROUTES_BUDGET: f64 = 1.05;

/// Counts, prints tables, and fails when one of ours is over its budget.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let budgets = fs::read_to_string(&args.budget)
        .with_context(|| format!("no budget in {}", args.budget.display()))?;
    let peers: Vec<Peer> = match args.peer.as_slice() {
        [] => OURS.into_iter().chain(Part::ALL.map(Peer::Part)).collect(),
        names => Peer::named(names)?,
    };
    let directory = tempfile::tempdir()?;
    let around = Surroundings::start(&args.programs, directory.path())?;
    let mut over = Vec::new();
    let mut counts = BTreeMap::new();
    println!("| peer | user instructions/request | budget |\n|---|---|---|");
    for peer in peers {
        let count = count(args, peer, &around)?;
        counts.insert(peer, count);
        let budget = budget_of(&budgets, peer)?;
        let shown = budget.map_or("–".to_owned(), |budget| budget.to_string());
        println!("| {} | {count} | {shown} |", peer.name());
        if budget.is_some_and(|budget| count > budget) {
            over.push(peer.name());
        }
    }
    print_parts(&counts);
    if let Some(count) = counts.get(&Peer::PeriplusFull) {
        let kept = kept(*count <= EVERYTHING);
        println!("\nEverything on costs {count} (promised ≤ {EVERYTHING}: {kept})");
    }
    if let Some(ratio) = print_routes(&counts)
        && ratio > MANY_ROUTES_BUDGET
    {
        over.push("a thousand routes");
    }
    ensure!(over.is_empty(), "over budget: {}", over.join(", "));
    Ok(())
}

/// What each part costs alone, beside a proxy that has none of them.
fn print_parts(counts: &BTreeMap<Peer, u64>) {
    let Some(nothing) = counts.get(&Peer::Part(Part::Nothing)) else {
        return;
    };
    println!("\n| part of everything | user instructions/request more |\n|---|---|");
    for part in [Part::Spans, Part::Metrics, Part::Log, Part::Rbac] {
        let peer = Peer::Part(part);
        if let Some(count) = counts.get(&peer) {
            println!("| {} | {} |", peer.name(), count.saturating_sub(*nothing));
        }
    }
}

/// What a thousand routes cost, of what ten do.
fn print_routes(counts: &BTreeMap<Peer, u64>) -> Option<f64> {
    let few = *counts.get(&Peer::Part(Part::Routes10))?;
    let many = *counts.get(&Peer::Part(Part::Routes1000))?;
    let ratio = many as f64 / few as f64;
    let kept = kept(ratio <= MANY_ROUTES);
    println!(
        "\nA thousand routes cost {ratio:.3} × what ten do (promised ≤ {MANY_ROUTES}: {kept})"
    );
    Some(ratio)
}

fn kept(is_kept: bool) -> &'static str {
    if is_kept { "met" } else { "missed" }
}

/// The difference of two runs of N and 2N requests: connections and start-up cancel out.
fn count(args: &Args, peer: Peer, around: &Surroundings) -> anyhow::Result<u64> {
    let (process, address, out) = Process::under_callgrind(peer, &args.programs, around)?;
    let connections = if peer.is_grpc() { "2" } else { "16" };
    let load = |requests: u64| {
        let requests = requests.to_string();
        let mut flags = peer.load(address);
        flags.extend(
            [
                "--connections",
                connections,
                "--warmup-ms",
                "0",
                "--requests",
                &requests,
            ]
            .map(str::to_owned),
        );
        run_load(&flags)
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
    peers::check(peer, address, args.requests, around)?;
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
    let mut lines = budgets.lines().filter_map(|line| line.split_once(' '));
    let line = lines.find(|(name, _)| *name == peer.name());
    line.map(|(_, budget)| budget.trim().parse().context("the budget is no number"))
        .transpose()
}
