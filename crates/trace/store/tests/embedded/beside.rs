//! Writers and readers at the same time, while tables become segments and segments are merged.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use periplus_store::embedded::Options;
use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::{
    SpanFilter, SpanSink as _, SpanStore as _, StoreError, TimeRange, TraceFilter, TraceQuery,
};

use crate::script::open;
use crate::suite::build::{batch, noon, span, trace_id};

const WRITERS: u64 = 4;
const BATCHES: u64 = 60;

#[test]
fn what_is_acknowledged_is_found_at_once_and_once() {
    let store = open(
        &SimulatedDisk::new(),
        Options {
            table_bytes: 20_000,
            table_age: Duration::from_millis(20),
            ..Options::default()
        },
    );
    let store = Arc::new(store.unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let done = Arc::new(AtomicBool::new(false));
    // Of each writer the number of batches that were acknowledged.
    let acknowledged: Arc<[AtomicU64]> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();

    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
            runtime.spawn(async move {
                for number in 0..BATCHES {
                    let trace = writer * 1_000 + number;
                    let at = noon() + number;
                    let drafts = (1..=4).map(|id| span(trace, "w", id).starting(at));
                    // One trace to which all batches of this writer add.
                    let long = span(9_000 + writer, "w", number + 1).starting(at);
                    let drafts = batch(drafts.chain([long]));
                    store.append(drafts).await.unwrap();
                    acknowledged[writer as usize].store(number + 1, Ordering::SeqCst);
                    // What was acknowledged is there for whoever asks next.
                    let found = store.trace(trace_id(trace)).await.unwrap();
                    assert_eq!(found.map(|trace| trace.span_count()), Some(4));
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            let acknowledged = Arc::clone(&acknowledged);
            runtime.spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    let before: Vec<u64> = acknowledged
                        .iter()
                        .map(|n| n.load(Ordering::SeqCst))
                        .collect();
                    let filter = TraceFilter::AnySpan(SpanFilter::True);
                    let all = TraceQuery::new(TimeRange::ALL, filter, usize::MAX);
                    let found: Vec<_> = store.find_traces(all).try_collect().await.unwrap();
                    let ids: HashSet<u64> = found.iter().map(|trace| trace.id.low()).collect();
                    assert_eq!(ids.len(), found.len(), "a trace came twice");
                    for (writer, count) in (0..).zip(before) {
                        let there =
                            (0..count).all(|number| ids.contains(&(writer * 1_000 + number)));
                        assert!(there, "writer {writer}: not all of {count} in {ids:?}");
                    }
                    for trace in &found {
                        let spans = trace.span_count() as u64;
                        assert!(spans == 4 || trace.id.low() >= 9_000, "{spans}");
                    }
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for writer in writers {
            writer.await.unwrap();
        }
        done.store(true, Ordering::SeqCst);
        for reader in readers {
            reader.await.unwrap();
        }
        for writer in 0..WRITERS {
            let long = store.trace(trace_id(9_000 + writer)).await.unwrap();
            assert_eq!(long.map(|trace| trace.span_count() as u64), Some(BATCHES));
        }
    });
    let stats = store.engine_stats();
    assert!(stats.flushes > 2 && stats.merges > 0, "{stats:?}");
}

#[test]
fn a_query_may_not_take_for_ever() {
    let store = open(
        &SimulatedDisk::new(),
        Options {
            query_timeout: Duration::ZERO,
            ..Options::default()
        },
    );
    let store = store.unwrap();
    let runtime = crate::script::runtime();
    runtime
        .block_on(store.append(batch([span(1, "a", 1)])))
        .unwrap();
    let filter = TraceFilter::AnySpan(SpanFilter::True);
    let all = TraceQuery::new(TimeRange::ALL, filter, 1);
    let found = runtime.block_on(store.find_traces(all).try_collect::<Vec<_>>());
    assert!(
        matches!(found, Err(StoreError::QueryLimit { .. })),
        "{found:?}"
    );
    let edges = runtime.block_on(store.dependencies(TimeRange::ALL));
    assert!(
        matches!(edges, Err(StoreError::QueryLimit { .. })),
        "{edges:?}"
    );
}
