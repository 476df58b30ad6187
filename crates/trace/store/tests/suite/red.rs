//! Rates, errors and durations. An engine may say that it does not keep them.

use periplus_model::{SpanKind, Status, StatusCode};
use periplus_store::{RED_WINDOW_NANO, StoreError, TimeRange, red_bucket_bounds};

use super::build::{Store, noon, span, write};

pub(crate) async fn rates_errors_and_durations_are_summed(store: Store) {
    for trace in 1..=6 {
        // Three in each of two windows; one fails.
        let start = noon() + trace % 2 * RED_WINDOW_NANO + trace;
        let draft = span(trace, "a", 1)
            .named("get")
            .kind(SpanKind::Server)
            .starting(start)
            .lasting(1_000);
        let draft = draft.change(|draft| {
            if trace == 4 {
                draft.span.status = Status {
                    code: StatusCode::Error,
                    message: String::new(),
                };
            }
        });
        write(&store, [draft]).await;
    }
    write(&store, [span(9, "b", 1)]).await;
    let found = match store.red(TimeRange::ALL).await {
        Err(StoreError::Unsupported { .. }) => return,
        found => found.expect("an answer"),
    };
    let names: Vec<_> = found
        .iter()
        .map(|series| (&*series.service, &*series.name))
        .collect();
    assert_eq!(names, [("a", "get"), ("b", "operation")]);
    let points: Vec<_> = found[0]
        .points
        .iter()
        .map(|point| (point.start_unix_nano - noon(), point.spans, point.errors))
        .collect();
    assert_eq!(points, [(0, 3, 1), (RED_WINDOW_NANO, 3, 0)]);
    for point in &found[0].points {
        assert_eq!(point.durations.iter().map(|(_, n)| n).sum::<u64>(), 3);
        for (bucket, _) in point.durations.iter() {
            let (least, most) = red_bucket_bounds(bucket);
            assert!(least <= 1_000 && 1_000 <= most, "{least} to {most}");
        }
    }
    let second = TimeRange {
        start_unix_nano: noon() + 1,
        end_unix_nano: u64::MAX,
    };
    let found = store.red(second).await.expect("an answer");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].points.len(), 1);
}
