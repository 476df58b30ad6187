//! User instructions per request, counted by callgrind: the same on a busy machine as on a quiet
//! one, so this is what CI gates on.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::peers::{self, Member, Part, Peer, Process, Programs, Surroundings, free_address};
use crate::proxy::run_load;
use crate::{chain, relay};

/// Flags of the count.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    /// The peers to count; without any, ours, the hops of mutual TLS and TCP, and the parts of everything
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

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Counted {
    Peer(Peer),
    /// The sidecar that begins mutual TLS, each request traced.
    TlsClient,
    /// The one at its other end.
    TlsServer,
    /// A relay of bytes.
    Relay,
}

/// Those that are no peers of other benchmarks by themselves.
const HOPS: [Counted; 3] = [Counted::TlsClient, Counted::TlsServer, Counted::Relay];

/// What runs under callgrind, and what is around it for that.
struct Running {
    process: Process,
    out: PathBuf,
    /// Where it is asked.
    address: SocketAddr,
    /// The load generator for it.
    load: Vec<String>,
    _others: Vec<Process>,
}

impl Counted {
    /// The name in tables and budgets.
    const fn name(self) -> &'static str {
        match self {
            Self::Peer(peer) => peer.name(),
            Self::TlsClient => "mtls-client",
            Self::TlsServer => "mtls-server",
            Self::Relay => "tcp-relay",
        }
    }

    fn named(name: &str) -> anyhow::Result<Self> {
        match HOPS.into_iter().find(|hop| hop.name() == name) {
            Some(hop) => Ok(hop),
            None => Ok(Self::Peer(Peer::named(&[name.to_owned()])?[0])),
        }
    }

    fn start(self, programs: &Programs, around: &Surroundings) -> anyhow::Result<Running> {
        let directory = &around.directory;
        let under = |command| Process::under_callgrind(self.name(), command, directory);
        let ours = |node, control| Member::Periplus.command(programs, node, control, directory);
        let mut others = Vec::new();
        let (process, out, address, load) = match self {
            Self::Peer(peer) => {
                let (command, address) = peer.command(programs, around)?;
                let (process, out) = under(command)?;
                process.wait_for(address)?;
                (process, out, address, peer.load(address))
            }
            Self::TlsClient | Self::TlsServer => {
                let (outer, inner) = (free_address()?, free_address()?);
                let control = chain::tell(outer, inner, around)?;
                let (counted, other) = match self {
                    Self::TlsClient => (chain::OUTER, chain::INNER),
                    _ => (chain::INNER, chain::OUTER),
                };
                others.push(Member::Periplus.start(programs, other, control, directory)?);
                let (process, out) = under(ours(counted, control)?)?;
                process.wait_until_served(outer, "bench")?;
                (process, out, outer, load_of(outer))
            }
            Self::Relay => {
                let address = free_address()?;
                let control = relay::tell(address, around.origin)?;
                let (process, out) = under(ours(relay::NODE, control)?)?;
                process.wait_for(address)?;
                (process, out, address, load_of(address))
            }
        };
        Ok(Running {
            process,
            out,
            address,
            load,
            _others: others,
        })
    }
}

fn load_of(address: SocketAddr) -> Vec<String> {
    let address = address.to_string();
    ["load", "--address", &address, "--host", "bench"]
        .map(str::to_owned)
        .to_vec()
}

/// What is promised, and not kept yet: the budgets only keep it from becoming more.
const EVERYTHING: u64 = 25_000;
const MANY_ROUTES: f64 = 1.02;

/// The most that a thousand routes may cost, of what ten do.
const MANY_ROUTES_BUDGET: f64 = 1.05;

/// Counts, prints tables, and fails when one of ours is over its budget.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let budgets = fs::read_to_string(&args.budget)
        .with_context(|| format!("no budget in {}", args.budget.display()))?;
    let all: Vec<Counted> = match args.peer.as_slice() {
        [] => {
            let peers = OURS.into_iter().map(Counted::Peer).chain(HOPS);
            let parts = Part::ALL.map(Peer::Part).map(Counted::Peer);
            peers.chain(parts).collect()
        }
        names => names
            .iter()
            .map(|name| Counted::named(name))
            .collect::<anyhow::Result<_>>()?,
    };
    let directory = tempfile::tempdir()?;
    let around = Surroundings::start(&args.programs, directory.path())?;
    let mut over = Vec::new();
    let mut counts = BTreeMap::new();
    println!("| peer | user instructions/request | budget |\n|---|---|---|");
    for counted in all {
        let count = count(args, counted, &around)?;
        if let Counted::Peer(peer) = counted {
            counts.insert(peer, count);
        }
        let budget = budget_of(&budgets, counted.name())?;
        let shown = budget.map_or("–".to_owned(), |budget| budget.to_string());
        println!("| {} | {count} | {shown} |", counted.name());
        if budget.is_some_and(|budget| count > budget) {
            over.push(counted.name());
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
fn count(args: &Args, counted: Counted, around: &Surroundings) -> anyhow::Result<u64> {
    let running = counted.start(&args.programs, around)?;
    let is_grpc = matches!(counted, Counted::Peer(peer) if peer.is_grpc());
    let connections = if is_grpc { "2" } else { "16" };
    let load = |requests: u64| {
        let requests = requests.to_string();
        let mut flags = running.load.clone();
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
        control(&running.process, "--zero")?;
        let report = load(requests)?;
        ensure!(report.errors == 0, "{} requests failed", report.errors);
        control(&running.process, "--dump")?;
        totals[i] = (newest_total(&running.out)?, report.total);
    }
    if let Counted::Peer(peer) = counted {
        peers::check(peer, running.address, args.requests, around)?;
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

fn budget_of(budgets: &str, of: &str) -> anyhow::Result<Option<u64>> {
    let mut lines = budgets.lines().filter_map(|line| line.split_once(' '));
    let line = lines.find(|(name, _)| *name == of);
    line.map(|(_, budget)| budget.trim().parse().context("the budget is no number"))
        .transpose()
}
