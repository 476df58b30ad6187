//! Who called whom.

use periplus_model::SpanKind;
use periplus_store::{DependencyEdge, TimeRange};

use super::build::{Draft, SECOND, Store, noon, span, write};

/// A call as two sidecars report it.
fn call(trace: u64, caller: &str, called: &str, start: u64) -> [Draft; 2] {
    [
        span(trace, caller, 1)
            .kind(SpanKind::Client)
            .starting(start),
        span(trace, called, 2)
            .kind(SpanKind::Server)
            .below(1)
            .starting(start),
    ]
}

fn edge(parent: &str, child: &str, call_count: u64, error_count: u64) -> DependencyEdge {
    DependencyEdge {
        parent: parent.to_owned(),
        child: child.to_owned(),
        call_count,
        error_count,
    }
}

pub(crate) async fn calls_are_summed_over_traces(store: Store) {
    for trace in 1..=3 {
        write(&store, call(trace, "world", "hello", noon())).await;
    }
    // The halves may arrive apart.
    for half in call(4, "hello", "world", noon()) {
        write(&store, [half.with("error", true)]).await;
    }
    let edges = store.dependencies(TimeRange::ALL).await.expect("an answer");
    assert_eq!(
        edges,
        [edge("hello", "world", 1, 1), edge("world", "hello", 3, 0)]
    );
}

pub(crate) async fn calls_count_if_their_span_starts_in_the_range(store: Store) {
    assert_eq!(
        store.dependencies(TimeRange::ALL).await.expect("an answer"),
        []
    );
    write(&store, call(1, "a", "b", noon())).await;
    write(&store, call(2, "a", "b", noon() + SECOND)).await;
    // One trace with a call on either side of the end of the range.
    write(&store, call(3, "a", "c", noon() + SECOND - 1)).await;
    let late = span(3, "d", 3).kind(SpanKind::Server).below(1);
    write(&store, [late.starting(noon() + SECOND)]).await;
    let range = TimeRange {
        start_unix_nano: noon(),
        end_unix_nano: noon() + SECOND,
    };
    let edges = store.dependencies(range).await.expect("an answer");
    assert_eq!(edges, [edge("a", "b", 1, 0), edge("a", "c", 1, 0)]);
}
