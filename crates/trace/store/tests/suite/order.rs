//! Which traces are answered, in which order, and while what happens.

use std::collections::HashSet;

use futures_util::StreamExt;
use periplus_store::{Detail, SpanFilter, TimeRange, TraceFilter, TraceQuery};

use super::build::{
    Query, SECOND, Store, contents, noon, service_is, span, tag_is, trace_id, write,
};

pub(crate) async fn the_newest_traces_come_first_up_to_the_limit(store: Store) {
    let at = |trace, second: u64| span(trace, "a", 1).starting(noon() + second * SECOND);
    // Written in another order than they start in.
    for (trace, second) in [(3, 30), (1, 10), (5, 50), (2, 20), (4, 40)] {
        write(&store, [at(trace, second)]).await;
    }
    let query = || Query::from(service_is("a"));
    assert_eq!(query().ids(&store).await, [5, 4, 3, 2, 1]);
    assert_eq!(query().limit(2).ids(&store).await, [5, 4]);
    assert_eq!(query().limit(0).ids(&store).await, [0; 0]);

    // An earlier span makes the trace an older one; a later one or one without a start does not.
    write(&store, [at(5, 5), at(4, 99)]).await;
    write(&store, [span(4, "b", 1).starting(0)]).await;
    assert_eq!(query().ids(&store).await, [4, 3, 2, 1, 5]);
    let everywhere = Query::from(SpanFilter::True);
    assert_eq!(everywhere.ids(&store).await, [4, 3, 2, 1, 5]);
}

pub(crate) async fn the_range_is_half_open_and_about_spans(store: Store) {
    write(
        &store,
        [
            span(1, "a", 1).starting(noon()),
            span(2, "a", 1).starting(noon() + 10).lasting(SECOND),
            span(3, "a", 1).starting(noon() - 5),
            span(3, "b", 2).starting(noon() + 5),
        ],
    )
    .await;
    let between = |from: i64, until: i64| {
        let time = |offset| noon().wrapping_add_signed(offset);
        Query::from(service_is("a")).between(time(from), time(until))
    };
    let cases: Vec<((i64, i64), &[u64])> = vec![
        ((0, 1), &[1]),
        ((-100, 0), &[3]),
        ((1, 10), &[]),
        // What runs during the range but started before it is outside.
        ((11, 100), &[]),
        ((0, 11), &[2, 1]),
        ((-5, 11), &[2, 1, 3]),
        ((5, 5), &[]),
        ((10, -10), &[]),
    ];
    for ((from, until), expected) in cases {
        let found = between(from, until).ids(&store).await;
        assert_eq!(found, expected, "{from} to {until}");
    }
    // The matching span must start inside, the others come along.
    let found = Query::from(service_is("b"))
        .between(noon(), noon() + 6)
        .run(&store)
        .await;
    assert_eq!(found[0].span_count(), 2);
}

pub(crate) async fn an_outline_has_what_it_was_asked_for(store: Store) {
    let full = span(1, "a", 1)
        .with("kept", 1_i64)
        .with("other", 2_i64)
        .with_event("of", "an event")
        .with_link("of", "a link");
    write(&store, [full, span(1, "b", 2).with("kept", "text")]).await;
    // The same id twice: only their attributes tell them apart.
    write(
        &store,
        [
            span(2, "a", 1).with("other", 1_i64),
            span(2, "a", 1).with("other", 2_i64),
        ],
    )
    .await;
    let query = |filter| TraceQuery {
        detail: Detail::Outline(&["kept"]),
        ..TraceQuery::new(TimeRange::ALL, TraceFilter::AnySpan(filter), 10)
    };
    let search = async |query| {
        let search = store.search(query).expect("a query");
        let found: Vec<_> = search.map(|trace| trace.expect("a trace")).collect().await;
        assert!(!found.is_empty());
        found
    };
    let found = search(query(SpanFilter::True)).await;
    assert_eq!(found.len(), 2);
    let groups = |id| {
        let trace = found.iter().find(|trace| trace.id == trace_id(id));
        contents(&trace.expect("the trace").groups)
    };
    for (_, _, span) in groups(1) {
        assert!(span.attribute("kept").is_some(), "{span:?}");
    }
    let numbers: Vec<_> = groups(2)
        .iter()
        .map(|(_, _, span)| span.attribute("other").cloned())
        .collect();
    assert_eq!(numbers, [Some(1_i64.into()), Some(2_i64.into())]);
    // What is not shown is searched all the same.
    let found = search(query(tag_is("other", "2"))).await;
    assert_eq!(found.len(), 2);
    let negated = TraceFilter::Not(Box::new(TraceFilter::AnySpan(tag_is("of", "an event"))));
    let found = search(TraceQuery {
        filter: negated,
        ..query(SpanFilter::True)
    });
    assert_eq!(found.await[0].id, trace_id(2));
}

fn all() -> TraceQuery {
    let filter = TraceFilter::AnySpan(SpanFilter::True);
    TraceQuery::new(TimeRange::ALL, filter, usize::MAX)
}

pub(crate) async fn a_dropped_search_disturbs_nothing(store: Store) {
    for trace in 1..=300 {
        write(&store, [span(trace, "a", 1).starting(noon() + trace)]).await;
    }
    let mut search = store.find_traces(all());
    let first = search.next().await.expect("a trace").expect("no error");
    assert_eq!(first.id, trace_id(300));
    // With the search still open, others are served.
    write(&store, [span(301, "a", 1)]).await;
    assert!(
        store
            .trace(trace_id(301))
            .await
            .expect("an answer")
            .is_some()
    );
    drop(search);
    assert_eq!(store.stats().traces, 301);
}

pub(crate) async fn a_search_beside_writers_answers_each_trace_once(store: Store) {
    for trace in 1..=300 {
        write(&store, [span(trace, "a", 1).starting(noon() + trace)]).await;
    }
    let mut search = store.find_traces(all());
    let mut seen = HashSet::new();
    let mut moved = 0;
    while let Some(found) = search.next().await {
        let id = found.expect("no error").id;
        assert!(seen.insert(id), "{id} twice");
        // What was just answered becomes older than what is still to come.
        moved += 1;
        write(&store, [span(id.low(), "a", 2).starting(noon() - moved)]).await;
    }
    assert_eq!(seen.len(), 300);
}
