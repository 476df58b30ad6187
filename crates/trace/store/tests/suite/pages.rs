//! Pages, budgets, and how a search ends.

use std::time::Duration;

use futures_util::StreamExt;
use periplus_store::{
    Budget, Comparison, Field, Intrinsic, Literal, Outcome, Pattern, SpanFilter, StoreError,
    TimeRange, TraceFilter, TraceQuery,
};

use super::build::{Query, Store, line, noon, span, write};

pub(crate) async fn each_trace_is_on_one_page(store: Store) {
    // Some start at the same time, some have no start at all.
    for trace in 1..=23 {
        let start = if trace % 7 == 0 {
            0
        } else {
            noon() + trace / 3
        };
        write(&store, [span(trace, "a", 1).starting(start)]).await;
        write(&store, [span(trace, "b", 2).below(1).starting(start)]).await;
    }
    for text in ["*", "child{service=b}", "NOT {service=c}", "service=b"] {
        let all = line(text).ids(&store).await;
        assert_eq!(all.len(), 23, "{text}");
        for size in [1, 7, 23] {
            let mut pages = Vec::new();
            let mut after = None;
            loop {
                let page = line(text).limit(size).after(after).run(&store).await;
                let Some(last) = page.last() else { break };
                // What is newer than the page changes nothing behind it.
                let newer = span(100 + pages.len() as u64, "late", 1).starting(noon() + 100);
                if text == "service=b" {
                    write(&store, [newer]).await;
                }
                after = Some(last.cursor().to_string().parse().expect("a cursor"));
                pages.extend(page.iter().map(|trace| trace.id.low()));
            }
            assert_eq!(pages, all, "{text} by {size}");
        }
        if text == "*" {
            let first = Query::from(SpanFilter::True).limit(1).run(&store).await;
            let none = line(text).after(Some(first[0].cursor())).between(0, 1);
            assert_eq!(none.ids(&store).await, [21, 14, 7]);
        }
    }
}

pub(crate) async fn a_search_says_how_it_ended(store: Store) {
    for trace in 1..=10 {
        let text = "x".repeat(1_000);
        let draft = span(trace, "a", 1).starting(noon() + trace);
        write(&store, [draft.with("k", text.as_str())]).await;
    }
    let unlimited = Budget::UNLIMITED;
    let (found, outcome) = line("*").run_to_the_end(&store).await;
    assert_eq!((found.len(), outcome), (10, Outcome::Complete));
    let (found, outcome) = line("*").limit(9).run_to_the_end(&store).await;
    assert_eq!((found.len(), outcome), (9, Outcome::Limit));

    let budgets = [
        (
            Budget {
                time: Some(Duration::ZERO),
                ..unlimited
            },
            0..=0,
            "too long",
        ),
        (
            Budget {
                scanned_spans: 4,
                ..unlimited
            },
            4..=4,
            "too many spans",
        ),
        (
            Budget {
                answer_bytes: 5_000,
                ..unlimited
            },
            1..=4,
            "too much memory",
        ),
    ];
    for (budget, expected, why) in budgets {
        for text in ["*", "trace:spans=1"] {
            let (found, outcome) = line(text).within(budget).run_to_the_end(&store).await;
            assert!(
                expected.contains(&found.len()),
                "{text} {budget:?} {}",
                found.len()
            );
            // The newest, without a gap.
            let ids: Vec<u64> = found.iter().map(|trace| trace.id.low()).collect();
            let newest: Vec<u64> = (1..=10).rev().take(ids.len()).collect();
            assert_eq!(ids, newest, "{budget:?}");
            match outcome {
                Outcome::Partial { reason } => assert!(reason.contains(why), "{reason}"),
                other => panic!("{text} {budget:?}: {other:?}"),
            }
        }
    }
    let enough = Budget {
        time: Some(Duration::from_secs(600)),
        scanned_spans: 10,
        scanned_bytes: 1 << 20,
        answer_bytes: 1 << 20,
    };
    let (found, outcome) = line("*").within(enough).run_to_the_end(&store).await;
    assert_eq!((found.len(), outcome), (10, Outcome::Complete));

    // A search that nobody reads any more holds nothing up.
    let everything = TraceFilter::AnySpan(SpanFilter::True);
    let query = TraceQuery::new(TimeRange::ALL, everything, 5);
    let mut search = store.search(query).expect("a search");
    assert!(search.next().await.is_some());
    assert_eq!(search.outcome(), None);
    drop(search);
    write(&store, [span(11, "a", 1)]).await;
    assert_eq!(line("*").ids(&store).await.len(), 11);
}

pub(crate) async fn what_nobody_could_answer_is_refused(store: Store) {
    let mut deep = SpanFilter::True;
    for _ in 0..200 {
        deep = SpanFilter::Not(Box::new(deep));
    }
    let wide = SpanFilter::And(vec![SpanFilter::True; 5_000]);
    let compare = |comparison, literal| SpanFilter::Compare {
        field: Field::Intrinsic(Intrinsic::Name),
        comparison,
        literal,
    };
    let pattern = Literal::Pattern(Pattern::new("x").expect("a pattern"));
    let cases = [
        (deep, "levels deep"),
        (wide, "parts"),
        (compare(Comparison::Equal, pattern), "regular expression"),
        (
            compare(Comparison::Matches, "x".into()),
            "regular expression",
        ),
    ];
    for (filter, why) in cases {
        let filter = TraceFilter::AnySpan(filter);
        match store.search(TraceQuery::new(TimeRange::ALL, filter, 1)) {
            Err(StoreError::InvalidQuery { reason }) => assert!(reason.contains(why), "{reason}"),
            other => panic!("{why}: {other:?}"),
        }
    }
}
