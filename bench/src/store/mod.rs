//! The store against its peers: what spans cost to take and to keep, and how long answers take.

mod ask;
mod corpus;
mod crowd;
pub(crate) mod http;
mod load;
mod ours;
mod peers;
pub(crate) mod process;
mod questions;
mod report;
mod rows;
mod serve;
mod soak;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;

use corpus::{Corpus, Workload};
use peers::Peer;
use questions::Patience;

/// Flags of the comparison.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The periplus binary, built with the release profile
    #[arg(long, env = "PERIPLUS_BIN", default_value = "target/release/periplus")]
    periplus: PathBuf,
    /// How many spans; our promises are about 10000000
    #[arg(long, default_value_t = 2_000_000)]
    spans: usize,
    /// Reference workloads
    #[arg(
        long = "workload",
        value_enum,
        value_delimiter = ',',
        default_value = "demo,tracegen"
    )]
    workloads: Vec<Workload>,
    /// Spans of a request: those of the reference workloads, about 4 MB; SDKs send 512
    #[arg(long, default_value_t = 8_192)]
    per_request: usize,
    /// Requests under way
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// When our server says that spans are stored
    #[arg(long, default_value = "fsync")]
    durability: String,
    /// The cores of the engine that is measured, as taskset takes them
    #[arg(long, default_value = "0")]
    cores: String,
    /// The peers to compare with
    #[arg(
        long = "peer",
        value_enum,
        value_delimiter = ',',
        default_value = "jaeger,otel,signoz,duckdb,parquet"
    )]
    peers: Vec<Peer>,
    /// Leave all peers out
    #[arg(long, conflicts_with = "peers")]
    no_peers: bool,
    /// Leave our own store out
    #[arg(long)]
    no_ours: bool,
    /// Rows that a peer gets at once: large batches favour it
    #[arg(long, default_value_t = 262_144)]
    peer_batch: usize,
    /// How often a question is asked at most
    #[arg(long, default_value_t = 200)]
    repetitions: usize,
    /// How long a question is asked at most, seconds
    #[arg(long, default_value_t = 10)]
    seconds_per_question: u64,
    /// Where the files of the run are made and removed: on the disk that is to be measured
    #[arg(long, default_value = "target/bench")]
    directory: PathBuf,
    /// Instead of the comparison: take spans for so many minutes, and fail if memory grows
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..))]
    soak: Option<u32>,
    /// Leave the files of the run where they are
    #[arg(long)]
    keep: bool,
    /// Where the peers are installed
    #[arg(long, default_value = ".peers/store")]
    peers_directory: PathBuf,
}

impl Args {
    fn patience(&self) -> Patience {
        Patience {
            repetitions: self.repetitions,
            per_question: Duration::from_secs(self.seconds_per_question),
        }
    }

    fn peers(&self) -> Vec<Peer> {
        match self.no_peers {
            true => Vec::new(),
            false => Peer::ALL
                .into_iter()
                .filter(|peer| self.peers.contains(peer))
                .collect(),
        }
    }
}

/// Runs the comparison and prints Markdown tables; fails when a promise is missed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(minutes) = args.soak {
        return soak::run(args, minutes);
    }
    let peers = args.peers();
    let python = match peers.is_empty() {
        true => None,
        false => Some(peers::environment(&std::path::absolute(
            &args.peers_directory,
        )?)?),
    };
    let mut missed = 0;
    for workload in &args.workloads {
        let mut directory = corpus::directory(&std::path::absolute(&args.directory)?)?;
        directory.disable_cleanup(args.keep);
        eprintln!("{}: making {} spans", workload.name(), args.spans);
        let chunk = python.is_some().then_some(args.peer_batch);
        let corpus = Corpus::make(
            directory.path(),
            *workload,
            args.spans,
            args.per_request,
            chunk,
        )?;
        let questions = questions::about(&corpus.facts);
        let ours = match args.no_ours {
            true => None,
            false => {
                eprintln!("  Periplus");
                Some(ours::measure(args, &corpus, directory.path(), &questions)?)
            }
        };
        let mut theirs = Vec::new();
        for peer in &peers {
            let Some(python) = &python else { break };
            eprintln!("  {peer:?}");
            let around = (&corpus, directory.path(), &*args.cores);
            theirs.push(peers::run(
                *peer,
                python,
                around,
                &questions,
                args.patience(),
            )?);
        }
        report::print(&corpus, ours.as_ref(), &theirs);
        if let Some(ours) = &ours {
            missed += report::print_gates(&corpus, ours);
        }
    }
    ensure!(missed == 0, "{missed} promises missed");
    Ok(())
}
