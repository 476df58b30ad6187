use std::sync::Arc;

use futures_util::FutureExt;
use periplus_model::Batch;
use periplus_store::{MemoryStore, StoreError, TimeRange};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::suite::build::{Draft, Store, batch, noon, span, trace_id};

/// A span that takes a little more than this many bytes.
fn heavy(trace: u64, service: &str, bytes: usize) -> Draft {
    span(trace, service, 1).with("filler", "x".repeat(bytes))
}

/// The engine answers at once.
fn append(store: &Store, drafts: impl IntoIterator<Item = Draft>) -> Result<(), StoreError> {
    store
        .append(batch(drafts))
        .now_or_never()
        .expect("no waiting")
}

fn holds(store: &Store, trace: u64) -> bool {
    let found = store
        .trace(trace_id(trace))
        .now_or_never()
        .expect("no waiting");
    found.expect("an answer").is_some()
}

fn services(store: &Store) -> Vec<String> {
    let services = store.services().now_or_never().expect("no waiting");
    services.expect("an answer")
}

fn store(max_bytes: u64) -> Store {
    Arc::new(MemoryStore::new(max_bytes))
}

#[test]
fn the_trace_that_was_quiet_for_longest_goes_first() {
    let store = store(100_000);
    for trace in 1..=4 {
        append(&store, [heavy(trace, &format!("s{trace}"), 20_000)]).expect("room");
    }
    // The first trace is still arriving, so the second one goes.
    append(&store, [span(1, "s1", 2)]).expect("room");
    append(&store, [heavy(5, "s5", 20_000)]).expect("room after eviction");
    assert_eq!(
        (1..=5).map(|t| holds(&store, t)).collect::<Vec<_>>(),
        [true, false, true, true, true]
    );
    assert_eq!(services(&store), ["s1", "s3", "s4", "s5"]);
    let operations = store
        .operations("s2", None)
        .now_or_never()
        .expect("no waiting");
    assert_eq!(operations.expect("an answer"), []);

    let stats = store.stats();
    assert_eq!((stats.traces, stats.spans), (4, 5));
    assert_eq!((stats.evicted_traces, stats.evicted_spans), (1, 1));
    assert_eq!(stats.accepted_spans, 6);
    assert!(stats.bytes <= stats.max_bytes);
}

#[test]
fn late_spans_of_an_evicted_trace_make_it_anew() {
    let store = store(100_000);
    for trace in 1..=9 {
        append(&store, [heavy(trace, "a", 20_000)]).expect("room");
    }
    assert!(!holds(&store, 1));
    append(&store, [span(1, "a", 2)]).expect("room");
    assert!(holds(&store, 1));
}

#[test]
fn what_cannot_fit_is_refused_and_nothing_is_evicted_for_it() {
    let store = store(100_000);
    append(&store, [heavy(1, "a", 40_000)]).expect("room");
    let of_all = append(&store, (2..=4).map(|trace| heavy(trace, "a", 40_000)));
    let of_one = append(&store, [heavy(2, "a", 60_000)]);
    for (refused, text) in [
        (of_all, "bytes in all, 100000 at most"),
        (of_one, "bytes for one trace, 50000 at most"),
    ] {
        let error = refused.expect_err("too large");
        assert!(matches!(error, StoreError::TooLarge { .. }));
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(holds(&store, 1));
    assert_eq!(store.stats().spans, 1);
    assert_eq!(store.stats().evicted_spans, 0);
}

#[test]
fn a_trace_that_never_ends_cannot_push_out_the_others() {
    let store = store(100_000);
    append(&store, [heavy(1, "a", 10_000)]).expect("room");
    for _ in 0..100 {
        append(&store, [heavy(2, "a", 10_000)]).expect("taken or refused, not an error");
    }
    assert!(holds(&store, 1));
    let stats = store.stats();
    assert_eq!(stats.accepted_spans + stats.refused_spans, 101);
    assert!(stats.refused_spans > 90);
    assert_eq!(stats.evicted_spans, 0);
}

#[test]
fn equal_resources_are_held_once() {
    let store = store(10_000_000);
    let big = || span(1, "a", 1).with_resource("command line", "x".repeat(10_000));
    append(&store, [big()]).expect("room");
    let once = store.stats().bytes;
    assert!(once > 10_000);
    for id in 0..50 {
        append(
            &store,
            [big().change(|d| d.span.trace_id = trace_id(100 + id))],
        )
        .expect("room");
    }
    assert!(
        store.stats().bytes < once + 50 * 3_000,
        "{:?}",
        store.stats()
    );
}

#[test]
fn nothing_costs_nothing() {
    let store = store(1_000);
    store
        .append(Batch::default())
        .now_or_never()
        .expect("no waiting")
        .expect("nothing fits");
    let empty = batch([]);
    store
        .append(empty)
        .now_or_never()
        .expect("no waiting")
        .expect("nothing fits");
    assert_eq!(store.stats().bytes, 0);
    assert_eq!(store.stats().traces, 0);
    let edges = store
        .dependencies(TimeRange::ALL)
        .now_or_never()
        .expect("no waiting");
    assert_eq!(edges.expect("an answer"), []);
}

proptest! {
    /// Whatever comes: never more than the limit, and the books balance.
    #[test]
    fn the_limit_holds_and_the_books_balance(
        batches in vec(vec((1..20_u64, 0..3_usize, 0..6_000_usize, -50..50_i64), 0..6), 0..60),
    ) {
        let store = store(30_000);
        let mut sent = 0;
        for spans in batches {
            let count = spans.len() as u64;
            let drafts = spans.into_iter().map(|(trace, service, bytes, offset)| {
                heavy(trace, ["a", "b", "c"][service], bytes)
                    .with_resource("r", (bytes % 3) as i64)
                    .named(["x", "y"][bytes % 2])
                    .starting(noon().wrapping_add_signed(offset))
            });
            if append(&store, drafts).is_ok() {
                sent += count;
            }
            let stats = store.stats();
            prop_assert!(stats.bytes <= stats.max_bytes, "{stats:?}");
            prop_assert_eq!(stats.accepted_spans + stats.refused_spans, sent);
            prop_assert_eq!(stats.accepted_spans, stats.spans + stats.evicted_spans);
            let held = (1..20).filter(|trace| holds(&store, *trace)).count();
            prop_assert_eq!(stats.traces, held as u64);
        }
        // Crowd everything out with two traces at most: what they replaced must have left no bytes,
        // no service and no operation behind.
        for trace in 1_000..1_100 {
            append(&store, [heavy(trace, "last", 11_000)]).expect("room after eviction");
        }
        prop_assert_eq!(services(&store), ["last"]);
        let stats = store.stats();
        let fresh = crate::bounds::store(30_000);
        for trace in 0..stats.traces {
            append(&fresh, [heavy(trace, "last", 11_000)]).expect("room");
        }
        prop_assert_eq!(stats.bytes, fresh.stats().bytes);
    }
}
