//! What each receiver costs: the same spans in every format, to one pinned process.

mod formats;
mod send;
pub(crate) mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::store::process;
use formats::Format;
use server::Server;

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Spans of each format
    #[arg(long, default_value_t = 400_000)]
    spans: usize,
    /// Spans of one request
    #[arg(long, default_value_t = 50)]
    per_request: usize,
    /// The core of the receivers
    #[arg(long, default_value = "0")]
    core: String,
    /// The core of the sender
    #[arg(long, default_value = "1")]
    sender_core: usize,
    /// Where the store's directories are made
    #[arg(long, default_value = "target")]
    dir: std::path::PathBuf,
}

/// How long the receivers may take for the spans of one format.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures every format with both sinks and prints the table.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let own = rustix::thread::Pid::from_raw(0);
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(args.sender_core);
    rustix::thread::sched_setaffinity(own, &cores).context("cannot choose the sender's core")?;

    let batches = formats::batches(args.spans, args.per_request)?;
    let spans: usize = batches.iter().map(periplus_model::Batch::span_count).sum();
    println!("{spans} spans, {} requests\n", batches.len());
    println!("| receiver | bytes/span | CPU µs/span, counted only | CPU µs/span, stored |");
    println!("|---|---|---|---|");
    for format in Format::ALL {
        let requests: Vec<_> = batches
            .iter()
            .map(|batch| (format.encode(batch), batch.span_count()))
            .collect();
        let bytes: usize = requests.iter().map(|(bytes, _)| bytes.len()).sum();
        let counted = measure(args, format, &requests, spans, None)?;
        let data = tempfile::tempdir_in(&args.dir)?;
        let stored = measure(args, format, &requests, spans, Some(data.path()))?;
        println!(
            "| {} | {:.0} | {:.2} | {:.2} |",
            format.name(),
            bytes as f64 / spans as f64,
            micros(counted, spans),
            micros(stored, spans)
        );
    }
    Ok(())
}

fn micros(cpu: Duration, spans: usize) -> f64 {
    cpu.as_secs_f64() * 1e6 / spans as f64
}

/// The CPU time from the first request until all spans are taken.
fn measure(
    args: &Args,
    format: Format,
    requests: &[send::Request],
    spans: usize,
    data: Option<&Path>,
) -> anyhow::Result<Duration> {
    let server = Server::start(&args.core, data)?;
    let before = process::cpu_of(server.pid())?;
    send::all(format, requests, &server)?;
    let deadline = Instant::now() + PATIENCE;
    while server.accepted()? < spans as u64 {
        ensure!(
            Instant::now() < deadline,
            "{}: spans are missing",
            format.name()
        );
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let accepted = server.accepted()?;
    ensure!(
        accepted == spans as u64,
        "{}: {accepted} of {spans} spans were taken",
        format.name()
    );
    Ok(process::cpu_of(server.pid())? - before)
}
