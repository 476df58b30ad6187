//! Spans into a Parquet file, and back.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use periplus_model::{Batch, TraceId};
use periplus_parquet::{ExportOptions, export_range};
use periplus_store::embedded::disk::RealDisk;
use periplus_store::embedded::{EmbeddedStore, Options, inventory};
use periplus_store::{Field, Intrinsic, SpanFilter, SpanSink as _, StoreError, TimeRange};

use super::Place;
use crate::commands::instant;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write traces as a Parquet file, for DuckDB and other tools
    Export(Export),
    /// Add the spans of a Parquet file that an export wrote
    Import(Import),
}

/// The traces that are meant: those whose earliest span starts in it.
#[derive(Debug, clap::Args)]
struct Range {
    /// Only traces that begin then or later, such as 2026-11-22T07:30:00Z [default: all]
    #[arg(long, value_name = "TIME", value_parser = instant::parse)]
    from: Option<u64>,

    /// Only traces that begin before [default: all]
    #[arg(long, value_name = "TIME", value_parser = instant::parse)]
    to: Option<u64>,
}

impl Range {
    fn times(&self) -> TimeRange {
        TimeRange {
            start_unix_nano: self.from.unwrap_or(TimeRange::ALL.start_unix_nano),
            end_unix_nano: self.to.unwrap_or(TimeRange::ALL.end_unix_nano),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    #[command(flatten)]
    place: Place,

    #[command(flatten)]
    range: Range,

    /// The file
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    place: Place,

    #[command(flatten)]
    range: Range,

    /// Only traces with a span of this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,

    /// The file; it must not exist
    file: PathBuf,
}

/// Runs the command.
pub(super) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Export(args) => export(args),
        Command::Import(args) => import(args),
    }
}

fn export(args: Export) -> anyhow::Result<()> {
    let file = args.file;
    if file.exists() {
        bail!("{} exists: name another file", file.display());
    }
    let range = args.range.times();
    let filter = match args.service {
        Some(name) => SpanFilter::equals(Field::Intrinsic(Intrinsic::Service), &*name),
        None => SpanFilter::True,
    };
    let dir = args.place.dir()?;
    // Of a directory that is not there, none must be made.
    inventory(&RealDisk, &dir)
        .with_context(|| format!("cannot look into the store in {}", dir.display()))?;
    let store = open(&dir, false)?;
    // Under its name there is a whole file or none.
    let part = file.with_added_extension("part");
    let target =
        File::create(&part).with_context(|| format!("cannot create {}", part.display()))?;
    let exported = runtime()?.block_on(export_range(
        &store,
        range,
        filter,
        target,
        ExportOptions::default(),
    ));
    let written = exported
        .map_err(anyhow::Error::from)
        .and_then(|(counts, target)| {
            target.sync_all()?;
            fs::rename(&part, &file)?;
            Ok(counts)
        });
    store.close()?;
    let counts = match written {
        Ok(counts) => counts,
        Err(e) => {
            // What is wrong is said already; a part that stays does no harm.
            let _ = fs::remove_file(&part);
            return Err(e.context(format!("cannot export to {}", file.display())));
        }
    };
    println!(
        "{} traces with {} spans, {} bytes",
        counts.traces, counts.spans, counts.bytes
    );
    if counts.incomplete {
        bail!(
            "a part of the store is damaged: {} has only what can be read; 'periplus store check' \
             says what is missing",
            file.display()
        );
    }
    Ok(())
}

fn import(args: Import) -> anyhow::Result<()> {
    let mut file = periplus_parquet::Import::open(&args.file)?;
    for column in file.ignored_columns() {
        println!("note: column {column} is none of an export, and left out");
    }
    let chosen = match args.range.times() {
        TimeRange::ALL => None,
        range => Some(beginning_in(&args.file, range)?),
    };
    let store = open(&args.place.dir()?, true)?;
    let runtime = runtime()?;
    let mut spans = 0;
    for batch in file.by_ref() {
        let mut batch = batch?;
        if let Some(chosen) = &chosen {
            retain(&mut batch, chosen);
        }
        let count = batch.span_count();
        let appended = runtime.block_on(append(&store, batch));
        appended.with_context(|| format!("{spans} spans were imported, then it failed"))?;
        spans += count;
    }
    store.flush()?;
    store.close()?;
    let traces = chosen.map_or(file.counts().traces, |chosen| chosen.len() as u64);
    println!("{traces} traces with {spans} spans");
    Ok(())
}

/// The traces of a file that begin in a range. The earliest span of a trace may be anywhere in the file, so
/// all of it is read; a start of zero is unknown and does not count.
fn beginning_in(file: &Path, range: TimeRange) -> anyhow::Result<HashSet<TraceId>> {
    let mut begins: HashMap<TraceId, u64> = HashMap::new();
    for batch in periplus_parquet::Import::open(file)? {
        for span in batch?.groups.iter().flat_map(|group| &group.spans) {
            let begin = begins.entry(span.trace_id).or_default();
            if *begin == 0 || (1..*begin).contains(&span.start_unix_nano) {
                *begin = span.start_unix_nano;
            }
        }
    }
    let inside = begins
        .into_iter()
        .filter(|(_, begin)| range.contains(*begin));
    Ok(inside.map(|(id, _)| id).collect())
}

/// Leaves the spans of these traces.
fn retain(batch: &mut Batch, traces: &HashSet<TraceId>) {
    for group in &mut batch.groups {
        group.spans.retain(|span| traces.contains(&span.trace_id));
    }
    batch.groups.retain(|group| !group.spans.is_empty());
}

/// Waits as long as the store is busy writing what it has.
async fn append(store: &EmbeddedStore, batch: Batch) -> Result<(), StoreError> {
    loop {
        match store.append(batch.clone()).await {
            Err(StoreError::Busy { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            done => return done,
        }
    }
}

/// The store, as it is: dropping what is old is for the server, which was told what to keep.
fn open(dir: &Path, background: bool) -> anyhow::Result<EmbeddedStore> {
    let options = Options {
        background,
        retention: None,
        max_disk_bytes: None,
        // An export reads for as long as it takes; whoever waits for it can end it.
        query_timeout: Duration::MAX,
        // And has each trace in memory, however large: there is no other way out for it.
        query_bytes: u64::MAX,
        max_query_bytes: u64::MAX,
        ..Options::default()
    };
    EmbeddedStore::open(dir, options)
        .with_context(|| format!("cannot open the store in {}", dir.display()))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.context("cannot start a runtime")
}
