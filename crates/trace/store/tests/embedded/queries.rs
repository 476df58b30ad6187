//! What queries may take, and that they do not stand in the way of those who write.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use periplus_model::{TraceId, Value};
use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::embedded::{Durability, EmbeddedStore, Options};
use periplus_store::{
    AttributeKey, Detail, Incomplete, Outcome, RedQuery, ScanQuery, Scope, SpanFilter,
    SpanSink as _, SpanStore as _, StoreError, TimeRange, TraceFilter, TraceQuery, parse,
    span_matches,
};

use crate::script::{open, options, runtime};
use crate::suite::build::{Draft, SECOND, batch, noon, span, trace_id};

/// A store with many spans, all in one table.
fn full_table(spans: u64) -> EmbeddedStore {
    let options = Options {
        durability: Durability::Memory,
        table_bytes: u64::MAX,
        max_table_bytes: u64::MAX,
        ..options()
    };
    let store = open(&SimulatedDisk::new(), options).unwrap();
    let runtime = runtime();
    for first in (0..spans).step_by(5_000) {
        let drafts = (first..first + 5_000).map(|n| {
            let service = ["a", "b", "c"][n as usize % 3];
            span(n / 10, service, n % 10 + 1)
                .starting(noon() + n)
                .with("user", format!("user {n}"))
                .with_event("e", n as i64)
        });
        runtime.block_on(store.append(batch(drafts))).unwrap();
    }
    store
}

#[test]
fn a_query_never_makes_a_writer_wait() {
    let store = Arc::new(full_table(60_000));
    let done = Arc::new(AtomicBool::new(false));
    let (reader, stop) = (Arc::clone(&store), Arc::clone(&done));
    // No event has such a name, so that all spans are looked at.
    let filter = parse(r#"event:name=~".*nothing.*""#).unwrap();
    let query = std::thread::spawn(move || {
        let begin = Instant::now();
        let mut asked = 0;
        while !stop.load(Ordering::Relaxed) || asked == 0 {
            let query = TraceQuery::new(TimeRange::ALL, filter.clone(), 20);
            let found = runtime().block_on(reader.search(query).unwrap().count());
            assert_eq!(found, 0);
            asked += 1;
        }
        begin.elapsed() / asked
    });
    let runtime = runtime();
    let mut waited: Vec<Duration> = Vec::new();
    for n in 0..300_u64 {
        let drafts = [span(1_000_000 + n, "w", 1)];
        let begin = Instant::now();
        runtime.block_on(store.append(batch(drafts))).unwrap();
        waited.push(begin.elapsed());
        std::thread::yield_now();
    }
    done.store(true, Ordering::Relaxed);
    let query_took = query.join().unwrap();
    waited.sort();
    let median = waited[waited.len() / 2];
    // Queries follow each other: writers that wait for a look at all of the table wait about half as
    // long as one takes, nearly always. What the machine does besides makes few of them wait.
    assert!(
        median < query_took / 8,
        "writers waited {median:?}, queries took {query_took:?}"
    );
}

#[test]
fn a_query_that_takes_too_much_memory_is_ended() {
    let options = Options {
        query_bytes: 200_000,
        ..options()
    };
    let store = open(&SimulatedDisk::new(), options).unwrap();
    let runtime = runtime();
    let large = (1..=3_000).map(|id| span(1, "large", id).with("k", "v"));
    runtime.block_on(store.append(batch(large))).unwrap();
    let many = (2..4_000).map(|trace| span(trace, "small", 1).named(&format!("{trace}")));
    runtime.block_on(store.append(batch(many))).unwrap();
    for _ in 0..2 {
        assert!(
            runtime
                .block_on(store.trace(trace_id(2)))
                .unwrap()
                .is_some()
        );
        let red = runtime.block_on(store.red(TimeRange::ALL));
        assert!(matches!(red, Err(StoreError::QueryLimit { .. })), "{red:?}");
        let all = TraceQuery::new(
            TimeRange::ALL,
            TraceFilter::AnySpan(SpanFilter::True),
            10_000,
        );
        let found: Vec<_> = runtime.block_on(store.find_traces(all).collect());
        let last = found.last().unwrap();
        assert!(
            matches!(last, Err(StoreError::QueryLimit { .. })),
            "{last:?}"
        );
        assert_eq!(store.engine_stats().query_bytes, 0);
        // From memory first, then from the disk.
        store.flush().unwrap();
    }
}

/// The others are on the pages around it, and the large one is on one of them, not whole.
#[test]
fn a_trace_that_takes_too_much_memory_is_cut_and_hides_no_other() {
    const LARGE: u64 = 5;
    let limited = Options {
        query_bytes: 400_000,
        ..options()
    };
    let disk = SimulatedDisk::new();
    let store = open(&disk, limited).unwrap();
    let runtime = runtime();
    for trace in 1..=9 {
        let starting = noon() + trace * SECOND;
        let spans = if trace == LARGE { 6_000 } else { 2 };
        // The first comes last: a cut trace lacks it.
        let drafts = (1..=spans).rev().map(|id| {
            let span = span(trace, "s", id).starting(starting + id);
            span.with("k", "v")
        });
        runtime.block_on(store.append(batch(drafts))).unwrap();
    }
    let start = noon() + LARGE * SECOND + 1;
    let too_large = Some(Incomplete::TooLarge {
        start_unix_nano: start,
    });
    let some = parse(r#"k="v""#).unwrap();
    let both = TraceFilter::And(vec![some.clone(), some.clone()]);
    let pages = |filter: &TraceFilter, answer_bytes: u64| {
        let mut pages: Vec<Vec<(TraceId, bool, usize)>> = Vec::new();
        let mut after = None;
        loop {
            let mut query = TraceQuery::new(TimeRange::ALL, filter.clone(), 4);
            query.budget.answer_bytes = answer_bytes;
            query.after = after;
            let mut search = store.search(query).unwrap();
            let mut page = Vec::new();
            while let Some(trace) = runtime.block_on(search.next()) {
                let trace = trace.unwrap();
                after = Some(trace.cursor());
                let is_cut = trace.incomplete == too_large;
                assert!(is_cut || trace.incomplete.is_none());
                page.push((trace.id, is_cut, trace.span_count()));
            }
            assert!(!page.is_empty() || search.outcome() == Some(Outcome::Complete));
            pages.push(page);
            if search.outcome() == Some(Outcome::Complete) {
                return pages;
            }
            assert!(pages.len() < 9, "{pages:?}");
        }
    };
    for _ in 0..3 {
        let trace = runtime.block_on(store.trace(trace_id(LARGE)));
        let trace = trace.unwrap().unwrap();
        assert_eq!(trace.incomplete, too_large);
        assert_eq!(trace.cursor().start_unix_nano, start);
        assert!((500..6_000).contains(&trace.span_count()));
        let searches = [
            (&some, 100_000, 400),
            (&some, u64::MAX, 2_000),
            (&both, 100_000, 2_000),
            (&both, u64::MAX, 2_000),
        ];
        for (filter, answer_bytes, most) in searches {
            let found = pages(filter, answer_bytes).concat();
            let ids: Vec<_> = found.iter().map(|(id, ..)| *id).collect();
            let all: Vec<_> = (1..=9).rev().map(trace_id).collect();
            assert_eq!(ids, all);
            let cut: Vec<_> = found.iter().filter(|(_, is_cut, _)| *is_cut).collect();
            let [(id, _, spans)] = cut[..] else {
                panic!("{cut:?}")
            };
            assert_eq!(*id, trace_id(LARGE));
            assert!((100..most).contains(spans), "{answer_bytes}: {spans}");
        }
        assert_eq!(store.engine_stats().query_bytes, 0);
        store.flush().unwrap();
        store.compact().unwrap();
    }
    drop(store);
    let unlimited = Options {
        query_bytes: u64::MAX,
        max_query_bytes: u64::MAX,
        ..options()
    };
    let store = open(&disk, unlimited).unwrap();
    let whole = runtime.block_on(store.trace(trace_id(LARGE)));
    let whole = whole.unwrap().unwrap();
    assert_eq!((whole.incomplete, whole.span_count()), (None, 6_000));
}

/// A graph that lacks calls would be wrong: there the query ends. A search whose outline does not tell spans apart
/// reads the trace again, as far as it goes.
#[test]
fn what_needs_a_whole_trace_ends_where_it_is_too_large() {
    let options = Options {
        query_bytes: 400_000,
        ..options()
    };
    let store = open(&SimulatedDisk::new(), options).unwrap();
    let runtime = runtime();
    for half in 0..2 {
        // Each id comes twice.
        let drafts = (1..=3_000).map(|id| {
            let span = span(1, "s", id).starting(noon() + half * 3_000 + id);
            span.with("k", "v")
        });
        runtime.block_on(store.append(batch(drafts))).unwrap();
        store.flush().unwrap();
    }
    let calls = runtime.block_on(store.dependencies(TimeRange::ALL));
    assert!(
        matches!(calls, Err(StoreError::QueryLimit { .. })),
        "{calls:?}"
    );
    let mut query = TraceQuery::new(TimeRange::ALL, parse(r#"k="v""#).unwrap(), 4);
    query.detail = Detail::Outline(&["k"]);
    let found = runtime.block_on(store.search(query).unwrap().next());
    let found = found.unwrap().unwrap();
    assert!(matches!(
        found.incomplete,
        Some(Incomplete::TooLarge { .. })
    ));
    assert!((100..6_000).contains(&found.span_count()));
    assert_eq!(store.engine_stats().query_bytes, 0);
}

#[test]
fn what_is_kept_decoded_has_a_limit() {
    let options = Options {
        cache_bytes: 300_000,
        ..options()
    };
    let store = open(&SimulatedDisk::new(), options).unwrap();
    let runtime = runtime();
    for number in 0..12_u64 {
        let drafts = (0..1_000).map(|n| {
            span(number * 10_000 + n, "s", 1)
                .starting(noon() + number * SECOND + n)
                .with("k", format!("value {}", n % 500))
        });
        runtime.block_on(store.append(batch(drafts))).unwrap();
        store.flush().unwrap();
    }
    let filter = parse(r#"k=~".*""#).unwrap();
    let mut most = 0;
    for _ in 0..2 {
        let query = TraceQuery::new(TimeRange::ALL, filter.clone(), usize::MAX);
        let found = runtime.block_on(store.search(query).unwrap().count());
        assert_eq!(found, 12_000);
        most = most.max(store.engine_stats().cached_bytes);
    }
    // What is used last may go beyond it until the next use.
    assert!((100_000..500_000).contains(&most), "{most}");
}

#[test]
fn keys_and_values_come_from_columns_without_dictionaries_too() {
    let store = open(&SimulatedDisk::new(), options()).unwrap();
    let runtime = runtime();
    // More keys than there are columns: the last ones have none of their own.
    let many = |trace: u64, from: u64| -> Vec<Draft> {
        let mut drafts = Vec::new();
        for n in from..from + 1_100 {
            drafts.push(span(trace, "s", n + 1).with(&format!("key.{n:04}"), n as i64));
        }
        drafts
    };
    runtime.block_on(store.append(batch(many(1, 0)))).unwrap();
    for round in 0..2 {
        let keys = store.attribute_keys(Scope::Span, "key.", 10_000);
        let keys = runtime.block_on(keys).unwrap();
        assert_eq!(keys.len(), 1_100, "{round}");
        let last = AttributeKey {
            scope: Scope::Span,
            key: "key.1099".to_owned(),
        };
        assert_eq!(keys.last(), Some(&last));
        let values = store.attribute_values("key.1099", Scope::Any, "", 10);
        assert_eq!(runtime.block_on(values).unwrap(), [Value::Int(1_099)]);
        store.flush().unwrap();
    }
    let unique = (0..3_000_u64).map(|n| span(n + 10, "s", 1).with("id", format!("{n:05}")));
    runtime.block_on(store.append(batch(unique))).unwrap();
    for _ in 0..2 {
        let values = store.attribute_values("id", Scope::Span, "0299", 3);
        let values = runtime.block_on(values).unwrap();
        let expected = ["02990", "02991", "02992"].map(Value::from);
        assert_eq!(values, expected);
        store.flush().unwrap();
    }
}

#[test]
fn a_text_comes_before_another_value_that_reads_the_same() {
    let store = open(&SimulatedDisk::new(), options()).unwrap();
    let runtime = runtime();
    let value = |trace: u64, value: Value| batch([span(trace, "s", 1).with("k", value)]);
    let append = |batch| runtime.block_on(store.append(batch)).unwrap();
    append(value(1, true.into()));
    store.flush().unwrap();
    append(value(2, "true".into()));
    let values = store.attribute_values("k", Scope::Any, "", 1);
    assert_eq!(runtime.block_on(values).unwrap(), [Value::from("true")]);
}

#[test]
fn red_is_summed_by_step_and_of_what_is_asked_for() {
    let store = open(&SimulatedDisk::new(), options()).unwrap();
    let runtime = runtime();
    for n in 0..60_u64 {
        let service = ["a", "b"][n as usize % 2];
        let draft = span(n, service, 1).starting(noon() + n * SECOND);
        runtime
            .block_on(store.append(batch([draft.lasting(1_000 * (n + 1))])))
            .unwrap();
        if n % 25 == 24 {
            store.flush().unwrap();
        }
    }
    let query = RedQuery {
        service: Some("a".to_owned()),
        step_nano: Some(30 * SECOND),
        ..RedQuery::new(TimeRange::ALL)
    };
    let found = runtime.block_on(store.red_by(query.clone())).unwrap();
    assert_eq!(found.len(), 1);
    let points: Vec<_> = (found[0].points.iter())
        .map(|point| (point.start_unix_nano - noon(), point.spans))
        .collect();
    assert_eq!(points, [(0, 15), (30 * SECOND, 15)]);
    let whole = RedQuery {
        step_nano: None,
        ..query
    };
    let found = runtime.block_on(store.red_by(whole)).unwrap();
    assert_eq!(found[0].points.len(), 1);
    let [median] = found[0].points[0].quantiles([0.5]).unwrap();
    assert!(median.abs_diff(29_000) < 1_000, "{median}");
}

#[test]
fn a_scan_gives_the_spans_that_match_and_no_others() {
    let store = open(&SimulatedDisk::new(), options()).unwrap();
    let runtime = runtime();
    for first in (0..12_000_u64).step_by(3_000) {
        let drafts = (first..first + 3_000).map(|n| {
            span(n / 7, ["a", "b"][n as usize % 2], n % 7 + 1)
                .starting(noon() + n)
                .lasting(n)
                .with("id", format!("id {n}"))
        });
        runtime.block_on(store.append(batch(drafts))).unwrap();
        if first < 9_000 {
            store.flush().unwrap();
        }
    }
    let range = TimeRange {
        start_unix_nano: noon() + 100,
        end_unix_nano: noon() + 11_000,
    };
    for (line, expected) in [
        ("service=a duration>=5us", 3_000),
        ("duration>1h", 0),
        (r#"id="id 777""#, 1),
        (r#"id="id 11500""#, 0),
        (r#"id="nobody""#, 0),
        ("*", 10_900),
    ] {
        let TraceFilter::AnySpan(filter) = parse(line).unwrap() else {
            panic!("{line} is about one span");
        };
        let query = ScanQuery::new(range, filter);
        let count = runtime.block_on(store.count(query.clone())).unwrap();
        assert_eq!(count, expected, "{line}");
        let pieces: Vec<_> = runtime.block_on(store.scan(query.clone()).collect());
        let mut ids = HashSet::new();
        for group in pieces.into_iter().flat_map(Result::unwrap) {
            for span in &group.spans {
                assert!(range.contains(span.start_unix_nano));
                assert!(span_matches(&query.filter, &group, span), "{line}");
                assert!(ids.insert((span.trace_id, span.span_id)), "{line}");
            }
        }
        assert_eq!(ids.len() as u64, expected, "{line}");
    }
    let TraceFilter::AnySpan(filter) = parse("parent{service=a}").unwrap() else {
        panic!("it is about one span");
    };
    let refused = runtime.block_on(store.count(ScanQuery::new(range, filter)));
    assert!(
        matches!(refused, Err(StoreError::InvalidQuery { .. })),
        "{refused:?}"
    );
}
