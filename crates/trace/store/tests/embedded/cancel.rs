//! Queries that nobody waits for any more, and queries whose turn does not come.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, TryStreamExt as _};
use periplus_store::embedded::disk::{Crash, SimulatedDisk};
use periplus_store::embedded::{EmbeddedStore, Options};
use periplus_store::{
    ScanQuery, SpanFilter, SpanSink as _, SpanStore as _, StoreError, TimeRange, TraceFilter,
    TraceQuery, parse,
};
use tokio::runtime::Runtime;

use crate::gate::GatedDisk;
use crate::script::{open, options, runtime};
use crate::suite::build::{batch, noon, span, trace_id};

const SEGMENTS: u64 = 8;

/// Segments that all have spans of one trace, and of others.
fn written() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    for segment in 0..SEGMENTS {
        let shared = (0..100).map(|n| (1, segment * 100 + n + 1));
        let own = (0..20).map(|n| (1_000 + segment * 100 + n, 1));
        let drafts = shared.chain(own).map(|(trace, id)| {
            let span = span(trace, "service", id).starting(noon() + id);
            span.with("user", format!("user {trace} {id}"))
                .with_event("e", "x")
        });
        runtime().block_on(store.append(batch(drafts))).unwrap();
        store.flush().unwrap();
    }
    assert_eq!(store.segments().len() as u64, SEGMENTS);
    drop(store);
    disk
}

/// A store that has read nothing of its segments yet.
fn fresh(disk: &SimulatedDisk, options: Options) -> (GatedDisk, Arc<EmbeddedStore>) {
    let disk = GatedDisk::above(disk.after(Crash::KeepAll));
    let store = EmbeddedStore::open_on(Arc::new(disk.clone()), Path::new("/"), options).unwrap();
    (disk, Arc::new(store))
}

fn threads() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_time().build().unwrap()
}

type Ask = fn(Arc<EmbeddedStore>) -> BoxFuture<'static, Result<(), StoreError>>;

fn trace(store: Arc<EmbeddedStore>) -> BoxFuture<'static, Result<(), StoreError>> {
    Box::pin(async move {
        let found = store.trace(trace_id(1)).await?.unwrap();
        let spans = found.groups.iter().map(|it| it.spans.len());
        assert_eq!(spans.sum::<usize>() as u64, SEGMENTS * 100);
        Ok(())
    })
}

fn count(store: Arc<EmbeddedStore>) -> BoxFuture<'static, Result<(), StoreError>> {
    Box::pin(async move {
        let filter = parse(r#"span.user=~".*1""#).unwrap();
        let TraceFilter::AnySpan(filter) = filter else {
            panic!("a filter of spans")
        };
        let found = store.count(ScanQuery::new(TimeRange::ALL, filter)).await?;
        assert!(found > 0);
        Ok(())
    })
}

fn scan(store: Arc<EmbeddedStore>) -> BoxFuture<'static, Result<(), StoreError>> {
    Box::pin(async move {
        let all = store.scan(ScanQuery::new(TimeRange::ALL, SpanFilter::True));
        all.try_for_each(|_| async { Ok(()) }).await
    })
}

fn search(store: Arc<EmbeddedStore>) -> BoxFuture<'static, Result<(), StoreError>> {
    Box::pin(async move {
        let filter = parse(r#"event:name=~".*nothing.*""#).unwrap();
        let found = store.find_traces(TraceQuery::new(TimeRange::ALL, filter, 20));
        found.try_for_each(|_| async { Ok(()) }).await
    })
}

/// Waits until this holds.
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

#[test]
fn a_query_that_is_dropped_ends_and_gives_back_what_it_holds() {
    let disk = written();
    let queries: [(&str, Ask); 4] = [
        ("trace", trace),
        ("count", count),
        ("scan", scan),
        ("search", search),
    ];
    for (name, ask) in queries {
        // How much there is to read.
        let (gate, store) = fresh(&disk, options());
        let before = gate.below.reads();
        runtime().block_on(ask(store)).unwrap();
        let reads = gate.below.reads() - before;
        assert!(reads >= 3 * SEGMENTS, "{name}: {reads}");

        let (gate, store) = fresh(&disk, options());
        gate.shut_reads_after(reads / 2);
        let threads = threads();
        let asked = threads.spawn(ask(Arc::clone(&store)));
        gate.until_reads_wait(1);
        if name == "trace" {
            assert!(store.engine_stats().query_bytes > 0, "what was read so far");
        }
        asked.abort();
        assert!(
            threads
                .block_on(asked)
                .is_err_and(|error| error.is_cancelled())
        );
        let before = gate.below.reads();
        gate.open_reads();
        // The last one who holds the store is its work.
        until(name, || {
            Arc::strong_count(&store) == 1 && store.engine_stats().query_bytes == 0
        });
        drop(threads);
        let more = gate.below.reads() - before;
        assert!(
            more < reads / 4,
            "{name}: {more} reads of {reads} for nobody"
        );
    }
}

#[test]
fn a_query_waits_for_its_turn_no_longer_than_it_may_take() {
    let slots = 2 * thread::available_parallelism().map_or(1, usize::from);
    let options = Options {
        query_timeout: Duration::from_secs(1),
        ..options()
    };
    let disk = written();
    for (kind, ask) in [("trace", trace as Ask), ("search", search)] {
        let (gate, store) = fresh(&disk, options);
        gate.shut_reads_after(0);
        let threads = threads();
        let mut asked: FuturesUnordered<_> = (0..slots + 10)
            .map(|_| threads.spawn(ask(Arc::clone(&store))))
            .collect();
        gate.until_reads_wait(1);
        for _ in 0..10 {
            let answer = threads.block_on(asked.next()).unwrap().unwrap();
            let error = answer.unwrap_err();
            assert!(
                error.to_string().contains("others are being answered"),
                "{kind}: {error}"
            );
        }
        // Those who had a turn wait for the disk; when they are gone, others have theirs.
        for waiting in asked.iter() {
            assert!(!waiting.is_finished(), "{kind}");
            waiting.abort();
        }
        gate.open_reads();
        until(kind, || threads.block_on(ask(Arc::clone(&store))).is_ok());
    }
}
