//! A look at the directory that spans are kept in, without a server.

mod parquet;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use periplus_store::embedded::disk::RealDisk;
use periplus_store::embedded::{EmbeddedStore, Inventory, Options, SegmentEntry, check, inventory};
use serde::Serialize;

use super::data_dir;

/// Flags.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read all that is stored and say what is damaged; changes nothing, unless told to
    Check {
        #[command(flatten)]
        place: Place,

        /// Save what can be read of damaged segments and drop the rest of them; their bytes are copied
        /// to quarantine/ first
        #[arg(long)]
        repair: bool,
    },
    /// How many spans and bytes there are, by hour
    Stats {
        #[command(flatten)]
        place: Place,

        /// How to print them
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Turn the log into segments and merge small segments; the server does so by itself
    Compact(Place),
    #[command(flatten)]
    Parquet(parquet::Command),
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The directory [default: $XDG_DATA_HOME/periplus, or ~/.local/share/periplus]
    #[arg(long, value_name = "DIR", env = "PERIPLUS_DATA")]
    data: Option<PathBuf>,
}

impl Place {
    fn dir(self) -> anyhow::Result<PathBuf> {
        self.data.map_or_else(data_dir::default, Ok)
    }
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Check { place, repair } => run_check(place, repair),
        Command::Stats { place, output } => run_stats(place, output),
        Command::Compact(place) => run_compact(place),
        Command::Parquet(command) => parquet::run(command),
    }
}

fn run_check(place: Place, repair: bool) -> anyhow::Result<()> {
    let dir = place.dir()?;
    if repair {
        run_repair(&dir)?;
    }
    let found = check(&RealDisk, &dir)
        .with_context(|| format!("cannot check the store in {}", dir.display()))?;
    println!(
        "{} segments with {} spans, and {} spans in the log",
        found.segments, found.segment_spans, found.log_spans
    );
    if found.quarantine_bytes > 0 {
        println!(
            "note: {} holds {} bytes of what could not be read; nothing needs them",
            dir.join("quarantine").display(),
            found.quarantine_bytes
        );
    }
    for note in &found.notes {
        println!("note: {note} (the next start takes care of it)");
    }
    for damage in &found.damages {
        println!("damaged: {damage}");
    }
    match found.damages.len() {
        0 => Ok(()),
        1 => bail!(
            "1 part is damaged: its spans are left out of answers, all others are served; 'periplus \
             store check --repair' saves what can be read of a segment"
        ),
        n => bail!(
            "{n} parts are damaged: their spans are left out of answers, all others are served; \
             'periplus store check --repair' saves what can be read of segments"
        ),
    }
}

fn run_repair(dir: &Path) -> anyhow::Result<()> {
    let store = open_quietly(dir)?;
    // What the start has found, which includes what is damaged in the log.
    for finding in &store.recovery().findings {
        println!("found: {finding}");
    }
    let salvaged = store.salvage()?;
    for segment in &salvaged {
        println!(
            "repaired: segment {} of {}: {} spans saved, {} dropped; {}",
            segment.segment,
            segment.hour,
            segment.saved_spans,
            segment.dropped_spans,
            match &segment.copy {
                Some(copy) => format!("its bytes are in {copy}"),
                None => "its file was missing".to_owned(),
            }
        );
    }
    if salvaged.is_empty() {
        println!("no segment is damaged");
    }
    store.close()?;
    Ok(())
}

/// Opens the store of a directory that is there, to change only what is asked for.
pub(super) fn open_quietly(dir: &Path) -> anyhow::Result<EmbeddedStore> {
    // Of a directory that is not there, none must be made.
    inventory(&RealDisk, dir)
        .with_context(|| format!("cannot look into the store in {}", dir.display()))?;
    let options = Options {
        background: false,
        // Dropping is for the server, which was told what to keep.
        retention: None,
        max_disk_bytes: None,
        ..Options::default()
    };
    EmbeddedStore::open(dir, options)
        .with_context(|| format!("cannot open the store in {}", dir.display()))
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sum {
    segments: u64,
    traces: u64,
    spans: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, entry: &SegmentEntry) {
        self.segments += 1;
        self.traces += entry.traces;
        self.spans += entry.spans;
        self.bytes += entry.bytes;
    }

    fn line(&self, name: &str) -> String {
        let Self {
            segments,
            traces,
            spans,
            bytes,
        } = self;
        let per_span = *bytes as f64 / (*spans).max(1) as f64;
        format!("{name:<14} {segments:>8} {traces:>12} {spans:>12} {bytes:>14} {per_span:>10.1}")
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    hours: BTreeMap<String, Sum>,
    total: Sum,
    log_files: u64,
    log_bytes: u64,
}

fn run_stats(place: Place, output: Output) -> anyhow::Result<()> {
    let dir = place.dir()?;
    let found = inventory(&RealDisk, &dir)
        .with_context(|| format!("cannot look into the store in {}", dir.display()))?;
    let stats = sum_up(&found);
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&stats)?),
        Output::Table => {
            println!(
                "{:<14} {:>8} {:>12} {:>12} {:>14} {:>10}",
                "HOUR (UTC)", "SEGMENTS", "TRACES", "SPANS", "BYTES", "BYTES/SPAN"
            );
            for (hour, sum) in &stats.hours {
                println!("{}", sum.line(hour));
            }
            println!("{}", stats.total.line("all"));
            println!(
                "the log: {} files, {} bytes",
                stats.log_files, stats.log_bytes
            );
        }
    }
    Ok(())
}

fn sum_up(found: &Inventory) -> Stats {
    let mut stats = Stats {
        hours: BTreeMap::new(),
        total: Sum::default(),
        log_files: found.log_files,
        log_bytes: found.log_bytes,
    };
    for entry in &found.segments {
        stats.hours.entry(entry.hour_name()).or_default().add(entry);
        stats.total.add(entry);
    }
    stats
}

fn run_compact(place: Place) -> anyhow::Result<()> {
    let dir = place.dir()?;
    let store = open_quietly(&dir)?;
    store.flush()?;
    let (segments, before) = size(&store.segments());
    store.compact()?;
    let (merged, after) = size(&store.segments());
    println!("{segments} segments with {before} bytes became {merged} with {after} bytes");
    store.close()?;
    Ok(())
}

fn size(segments: &[SegmentEntry]) -> (usize, u64) {
    let bytes = segments.iter().map(|entry| entry.bytes).sum();
    (segments.len(), bytes)
}
