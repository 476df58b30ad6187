//! A store that is written to step by step, and the check of what is left of it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use periplus_model::TraceId;
use periplus_store::embedded::disk::{Disk, SimulatedDisk};
use periplus_store::embedded::{Durability, EmbeddedStore, Options};
use periplus_store::{SpanFilter, SpanSink as _, StoreError};
use periplus_wire::otlp::encode_protobuf;
use tokio::runtime::Runtime;

use crate::suite::build::{Draft, Query, SECOND, Store, batch, noon, span, trace_id};

/// Nothing happens by itself; files are small, so that there are many.
pub(crate) fn options() -> Options {
    Options {
        background: false,
        log_file_bytes: 4_096,
        retention: Some(Duration::from_secs(100 * 3_600)),
        ..Options::default()
    }
}

pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().build().unwrap()
}

pub(crate) fn open(disk: &SimulatedDisk, options: Options) -> Result<EmbeddedStore, StoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    EmbeddedStore::open_on(disk, Path::new("/"), options)
}

/// The spans of this batch: a trace of its own, and one that all batches share.
pub(crate) fn drafts(number: u64) -> Vec<Draft> {
    let shared = span(1_000, "shared", number + 1).starting(noon() + number * SECOND);
    // Every fourth lies in another hour.
    let start = noon() + (number % 4) / 3 * 3_600 * SECOND + number * SECOND;
    let own = (1..=3).map(|id| {
        span(number, "own", id)
            .starting(start)
            .with("n", number as i64)
    });
    own.chain([shared]).collect()
}

/// What became of the batches.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) acknowledged: Vec<u64>,
    pub(crate) refused: Vec<u64>,
}

/// Writes batches, and between them what the engine's threads would do. Goes on after failures.
pub(crate) fn run(store: &EmbeddedStore, numbers: Range<u64>) -> Log {
    let runtime = runtime();
    let mut log = Log::default();
    for number in numbers {
        // By either way in.
        let written = if number % 2 == 0 {
            runtime
                .block_on(store.append(batch(drafts(number))))
                .is_ok()
        } else {
            let request = encode_protobuf(&batch(drafts(number)));
            runtime.block_on(store.append_otlp(request.into())).is_ok()
        };
        match written {
            true => log.acknowledged.push(number),
            false => log.refused.push(number),
        }
        // Failures of these must not matter.
        if number % 3 == 2 {
            let _ = store.flush();
        }
        if number % 8 == 7 {
            let _ = store.compact();
        }
    }
    log
}

/// The batches that are there; panics if one is there in part or more than once.
pub(crate) fn present(store: &Store, numbers: Range<u64>) -> Vec<u64> {
    examine(store, numbers).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// The batches that are there; an error if one is there in part or more than once.
pub(crate) fn examine(store: &Store, numbers: Range<u64>) -> Result<Vec<u64>, String> {
    let runtime = runtime();
    let read = |id: TraceId| {
        let found = runtime.block_on(store.trace(id)).unwrap();
        let groups = found.map(|trace| trace.groups).unwrap_or_default();
        let mut ids: Vec<u64> = (groups.iter())
            .flat_map(|group| &group.spans)
            .map(|span| span.span_id.as_u64())
            .collect();
        ids.sort_unstable();
        ids
    };
    let shared = read(trace_id(1_000));
    let mut present = Vec::new();
    for number in numbers {
        let own = read(trace_id(number));
        let others = shared.iter().filter(|id| **id == number + 1).count();
        match (&own[..], others) {
            ([], 0) => {}
            ([1, 2, 3], 1) => present.push(number),
            _ => return Err(format!("batch {number} is there as {own:?} and {others}")),
        }
    }
    // The search must say the same.
    let mut found = runtime.block_on(Query::from(SpanFilter::True).ids(store));
    let all = found.len();
    found.retain(|id| *id != 1_000);
    found.sort_unstable();
    if found != present || (all > found.len()) == present.is_empty() {
        return Err(format!("{present:?} are there, {found:?} are found"));
    }
    Ok(present)
}

pub(crate) fn durability(durability: Durability) -> Options {
    Options {
        durability,
        ..options()
    }
}
