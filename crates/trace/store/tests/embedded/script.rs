//! A store that is written to step by step, and the check of what is left of it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use periplus_model::TraceId;
use periplus_store::embedded::disk::{Disk, SimulatedDisk};
use periplus_store::embedded::{Durability, EmbeddedStore, Options};
use periplus_store::{SpanFilter, SpanSink as _, StoreError, TimeRange, TraceFilter, TraceQuery};
use periplus_wire::otlp::encode_protobuf;
use tokio::runtime::Runtime;

use crate::suite::build::{Draft, SECOND, Store, batch, noon, span, trace_id};

/// Nothing happens by itself; files are small, so that there are many.
pub(crate) fn options() -> Options {
    Options {
        background: false,
        log_file_bytes: 4_096,
        reserve_bytes: 1_024,
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

/// The trace that retention drops.
pub(crate) const OLD: u64 = 2_000;

/// The moment at which the retention of [`options`] drops [`OLD`] and nothing else.
pub(crate) fn old_goes() -> u64 {
    noon() + 91 * 3_600 * SECOND
}

/// A batch ten hours older than the others.
fn old_draft() -> Draft {
    span(OLD, "old", 1).starting(noon() - 10 * 3_600 * SECOND)
}

/// What became of the batches.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) acknowledged: Vec<u64>,
    pub(crate) refused: Vec<u64>,
    pub(crate) old: Old,
}

/// What is known of the trace that retention drops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Old {
    /// It was never acknowledged, or is being dropped: it may be there.
    #[default]
    Unknown,
    Acknowledged,
    Dropped,
}

/// Writes batches, one by one and several at a time, and between them what the engine's threads would
/// do, or beside them. Goes on after failures.
pub(crate) fn run(store: &EmbeddedStore, numbers: Range<u64>) -> Log {
    steps(store, numbers, false)
}

/// The same, and a batch that retention drops; the store has the retention of [`options`].
pub(crate) fn run_with_retention(store: &EmbeddedStore, numbers: Range<u64>) -> Log {
    steps(store, numbers, true)
}

fn steps(store: &EmbeddedStore, numbers: Range<u64>, retention: bool) -> Log {
    let runtime = runtime();
    let mut log = Log::default();
    let mut left = numbers;
    while let Some(number) = left.next() {
        let mut group = vec![number];
        // Three at once share a group of the log.
        if number % 7 == 4 {
            group.extend(left.by_ref().take(2));
        }
        std::thread::scope(|threads| {
            if number % 7 == 3 {
                // Failures of these must not matter.
                threads.spawn(|| drop(store.flush()));
            }
            let written = join_all(group.iter().map(|number| write(store, *number)));
            for (number, written) in group.iter().zip(runtime.block_on(written)) {
                match written {
                    true => log.acknowledged.push(*number),
                    false => log.refused.push(*number),
                }
            }
        });
        for number in group {
            if number % 3 == 2 {
                let _ = store.flush();
            }
            if number % 8 == 7 {
                let _ = store.compact();
            }
            let old = || batch([old_draft()]);
            if retention && number == 3 && runtime.block_on(store.append(old())).is_ok() {
                log.old = Old::Acknowledged;
            }
            if number == 9 && log.old == Old::Acknowledged {
                log.old = match store.flush().and_then(|()| store.retain(old_goes())) {
                    Ok(kept) if kept.spans == 1 => Old::Dropped,
                    _ => Old::Unknown,
                };
            }
        }
    }
    log
}

/// By either way in; whether it is acknowledged.
async fn write(store: &EmbeddedStore, number: u64) -> bool {
    if number.is_multiple_of(2) {
        store.append(batch(drafts(number))).await.is_ok()
    } else {
        let request = encode_protobuf(&batch(drafts(number)));
        store.append_otlp(request.into()).await.is_ok()
    }
}

/// Panics if the trace that retention drops is there and should not be, or the other way round.
pub(crate) fn check_old(store: &Store, old: Old, context: &str) {
    let found = runtime().block_on(store.trace(trace_id(OLD))).unwrap();
    let spans = found.map_or(0, |trace| trace.span_count());
    let allowed = match old {
        Old::Unknown => 0..=1,
        Old::Acknowledged => 1..=1,
        Old::Dropped => 0..=0,
    };
    assert!(
        allowed.contains(&spans),
        "{context}: {spans} old spans, {old:?}"
    );
}

/// Which of so many moments are tried: one in `one_in`, by a seed; all of them where
/// `PERIPLUS_CRASH_SWEEP` is set (`cargo xtask crash`).
pub(crate) fn moments(count: u64, one_in: u64) -> Vec<u64> {
    if std::env::var_os("PERIPLUS_CRASH_SWEEP").is_some() {
        return (0..count).collect();
    }
    let mut chance = fastrand::Rng::with_seed(count ^ one_in);
    (0..count).filter(|_| chance.u64(..one_in) == 0).collect()
}

/// The batches that are there; panics if one is there in part or more than once.
pub(crate) fn present(store: &Store, numbers: Range<u64>) -> Vec<u64> {
    examine(store, numbers).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

/// Why batches could not be looked at.
#[derive(Debug, PartialEq)]
pub(crate) enum Wrong {
    /// The store says that it cannot answer.
    Refused(String),
    /// One is there in part, or more than once.
    Content(String),
}

/// The batches that are there.
pub(crate) fn examine(store: &Store, numbers: Range<u64>) -> Result<Vec<u64>, Wrong> {
    let runtime = runtime();
    let refused = |error: StoreError| Wrong::Refused(error.to_string());
    let read = |id: TraceId| {
        let found = runtime.block_on(store.trace(id)).map_err(refused)?;
        let groups = found.map(|trace| trace.groups).unwrap_or_default();
        let mut ids: Vec<u64> = (groups.iter())
            .flat_map(|group| &group.spans)
            .map(|span| span.span_id.as_u64())
            .collect();
        ids.sort_unstable();
        Ok(ids)
    };
    let shared = read(trace_id(1_000))?;
    let mut present = Vec::new();
    for number in numbers {
        let own = read(trace_id(number))?;
        let others = shared.iter().filter(|id| **id == number + 1).count();
        match (&own[..], others) {
            ([], 0) => {}
            ([1, 2, 3], 1) => present.push(number),
            _ => {
                let wrong = format!("batch {number} is there as {own:?} and {others}");
                return Err(Wrong::Content(wrong));
            }
        }
    }
    // The search must say the same.
    let all = TraceFilter::AnySpan(SpanFilter::True);
    let all = store.find_traces(TraceQuery::new(TimeRange::ALL, all, usize::MAX));
    let found: Vec<_> = runtime.block_on(all.try_collect()).map_err(refused)?;
    let mut found: Vec<u64> = found.iter().map(|trace| trace.id.low()).collect();
    found.retain(|id| *id != OLD);
    let all = found.len();
    found.retain(|id| *id < 1_000);
    found.sort_unstable();
    if found != present || (all > found.len()) == present.is_empty() {
        let wrong = format!("{present:?} are there, {found:?} are found");
        return Err(Wrong::Content(wrong));
    }
    Ok(present)
}

pub(crate) fn durability(durability: Durability) -> Options {
    Options {
        durability,
        ..options()
    }
}
