use std::collections::BTreeMap;

use periplus_insight::is_error;
use periplus_segment::bucket_of;

use super::MemoryStore;
use super::attributes::each_group;
use crate::{RED_WINDOW_NANO, RedPoint, RedQuery, RedSeries, TimeRange};

/// Counts the spans of the windows that begin in the range.
pub(super) async fn series(store: &MemoryStore, query: &RedQuery) -> Vec<RedSeries> {
    let mut all: BTreeMap<_, BTreeMap<u64, RedPoint>> = BTreeMap::new();
    // A window that begins in the range has spans beyond its end.
    let TimeRange { end_unix_nano, .. } = query.range;
    let spans = TimeRange {
        end_unix_nano: end_unix_nano.saturating_add(RED_WINDOW_NANO),
        ..query.range
    };
    each_group(store, spans, |group| {
        let service = group.resource.service_name();
        for span in &group.spans {
            let window = span.start_unix_nano - span.start_unix_nano % RED_WINDOW_NANO;
            if !query.range.contains(window) || !query.wants(service, &span.name, span.kind) {
                continue;
            }
            let operation = (service.to_owned(), span.name.clone(), span.kind);
            let start = query.point_of(window);
            let point = all.entry(operation).or_default().entry(start).or_default();
            point.start_unix_nano = start;
            point.spans += 1;
            point.errors += u64::from(is_error(span));
            let bucket = bucket_of(span.duration_nano());
            point.durations.add(&[(bucket, 1)]);
        }
    })
    .await;
    let series = all
        .into_iter()
        .map(|((service, name, kind), points)| RedSeries {
            service,
            name,
            kind,
            points: points.into_values().collect(),
        });
    series.collect()
}
