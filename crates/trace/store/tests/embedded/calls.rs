//! The dependency graph is that of all traces assembled whole, wherever their spans lie.

use std::collections::BTreeMap;

use periplus_insight::{Trace, dependencies_where};
use periplus_model::{SpanKind, Status, StatusCode};
use periplus_store::embedded::EmbeddedStore;
use periplus_store::embedded::disk::{Crash, Fault, SimulatedDisk};
use periplus_store::{DependencyEdge, SpanSink as _, SpanStore as _, TimeRange};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::script::{open, options, runtime};
use crate::suite::build::{Draft, SECOND, batch, noon, span, trace_id};

const TRACES: u64 = 5;
const MINUTE: u64 = 60 * SECOND;

/// What happens to the store, one after the other.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Draft>),
    Flush,
    Compact,
    /// Asks in between, so that what is kept for the next query grows old.
    Ask,
}

/// Few ids, so that spans have parents in other batches, and some ids occur twice.
fn draft() -> impl Strategy<Value = Draft> {
    let ids = (0..TRACES, 1..7_u64, option::weighted(0.7, 1..7_u64));
    let what = (0..6, 0..3, "[abc]?", 0..4_u64);
    let peer = option::of(prop_oneof![Just("db"), Just("a"), Just("")]);
    (ids, what, peer, 0..3_u64).prop_map(
        |((trace, id, parent), (kind, status, service, minute), peer, second)| {
            let start = noon() + minute * MINUTE + second * 20 * SECOND + id;
            let mut draft = span(trace, &service, id)
                .kind(SpanKind::from_number(kind))
                .starting(start)
                .change(|draft| {
                    draft.span.status = Status {
                        code: StatusCode::from_number(status),
                        message: String::new(),
                    };
                });
            if let Some(parent) = parent.filter(|parent| *parent != id) {
                draft = draft.below(parent);
            }
            match peer {
                Some(peer) => draft.with("peer.service", peer),
                None => draft,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => vec(draft(), 1..5).prop_map(Step::Append),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Ask),
    ]
}

/// Ranges with ends inside minutes and between them, and some that hold all.
fn range() -> impl Strategy<Value = TimeRange> {
    let end = || prop_oneof![(0..13_u64).prop_map(|n| noon() + n * 20 * SECOND), Just(0)];
    (end(), end()).prop_map(|(start, end)| TimeRange {
        start_unix_nano: start,
        end_unix_nano: if end == 0 { u64::MAX } else { end },
    })
}

fn ask(runtime: &Runtime, store: &EmbeddedStore, range: TimeRange) -> Vec<DependencyEdge> {
    runtime.block_on(store.dependencies(range)).unwrap()
}

/// By assembling every trace.
fn expected(runtime: &Runtime, store: &EmbeddedStore, range: TimeRange) -> Vec<DependencyEdge> {
    let mut edges: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for trace in 0..TRACES {
        let Some(trace) = runtime.block_on(store.trace(trace_id(trace))).unwrap() else {
            continue;
        };
        let assembled = Trace::assemble(&trace.groups);
        for edge in dependencies_where(&assembled, |span| range.contains(span.start_unix_nano)) {
            let (calls, errors) = edges.entry((edge.parent, edge.child)).or_default();
            *calls += edge.calls;
            *errors += edge.errors;
        }
    }
    let edge = |((parent, child), (call_count, error_count))| DependencyEdge {
        parent,
        child,
        call_count,
        error_count,
    };
    edges.into_iter().map(edge).collect()
}

#[test]
fn what_could_not_be_read_once_is_read_the_next_time() {
    let runtime = runtime();
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).unwrap();
    let caller = span(1, "a", 1).kind(SpanKind::Client);
    let called = span(1, "b", 2).below(1).kind(SpanKind::Server);
    for draft in [caller, called] {
        runtime.block_on(store.append(batch([draft]))).unwrap();
        store.flush().unwrap();
    }
    let expected = ask(&runtime, &store, TimeRange::ALL);
    assert_eq!(expected.len(), 1);
    drop(store);
    for failing in 0.. {
        let disk = disk.after(Crash::KeepAll);
        let store = open(&disk, options()).unwrap();
        let before = disk.reads();
        let at = before + failing;
        disk.plan(Fault::FailedRead(at..at + 1));
        let _lacking = ask(&runtime, &store, TimeRange::ALL);
        let reads = disk.reads() - before;
        disk.heal();
        let found = ask(&runtime, &store, TimeRange::ALL);
        assert_eq!(found, expected, "read {failing} of {reads}");
        if failing >= reads {
            assert!(reads > 4, "{reads}");
            break;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_graph_is_that_of_whole_traces(
        steps in vec(step(), 1..14),
        ranges in vec(range(), 4),
    ) {
        let runtime = runtime();
        let store = open(&SimulatedDisk::new(), options()).unwrap();
        for step in steps {
            match step {
                Step::Append(drafts) => runtime.block_on(store.append(batch(drafts))).unwrap(),
                Step::Flush => store.flush().unwrap(),
                Step::Compact => drop(store.compact().unwrap()),
                Step::Ask => {
                    let found = ask(&runtime, &store, TimeRange::ALL);
                    prop_assert_eq!(found, expected(&runtime, &store, TimeRange::ALL));
                }
            }
        }
        for range in ranges.into_iter().chain([TimeRange::ALL]) {
            // Once more with what was kept of the first time.
            for _ in 0..2 {
                let found = ask(&runtime, &store, range);
                prop_assert_eq!(found, expected(&runtime, &store, range), "{:?}", range);
            }
        }
    }
}
