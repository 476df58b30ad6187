//! What comes back is what went out.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use periplus_model::{Attribute, Resource, Scope, Span, SpanGroup, SpanId, TraceId, Value};
use periplus_parquet::{ExportError, ExportOptions, Exporter, Import, export, export_range};
use periplus_store::{
    MemoryStore, SpanFilter, SpanSink as _, SpanStore, StoreError, StoredTrace, TimeRange,
    TraceFilter, TraceQuery,
};
use proptest::prelude::*;

use crate::support::{contents, read, traces, write};

fn groups(traces: &[StoredTrace]) -> Vec<SpanGroup> {
    contents(traces.iter().flat_map(|trace| &trace.groups).map(|g| &**g))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_field_comes_back_in_its_place(traces in traces(), row_group_spans in 1..8_usize) {
        let options = ExportOptions { row_group_spans, ..ExportOptions::default() };
        let (counts, file) = write(&traces, options);
        prop_assert_eq!(counts.bytes, file.len() as u64);
        prop_assert_eq!(counts.traces, traces.len() as u64);
        let spans: usize = traces.iter().map(StoredTrace::span_count).sum();
        prop_assert_eq!(counts.row_groups, spans.div_ceil(row_group_spans) as u64);

        let batches = read(file).unwrap();
        let read = contents(batches.iter().flat_map(|batch| &batch.groups));
        prop_assert_eq!(read, groups(&traces));
    }
}

fn trace(id: u64, groups: usize, spans: usize) -> StoredTrace {
    let resource = Resource {
        attributes: vec![Attribute::new("load", f64::NAN)],
        ..Resource::of_service("cart")
    };
    let group = |n: usize| SpanGroup {
        resource: Arc::new(resource.clone()),
        scope: Arc::new(Scope::default()),
        spans: (0..spans).map(|i| span(id, n * spans + i)).collect(),
    };
    StoredTrace {
        id: TraceId::from_halves(0, id),
        groups: (0..groups).map(|n| Arc::new(group(n))).collect(),
        incomplete: None,
    }
}

fn span(trace: u64, n: usize) -> Span {
    Span {
        trace_id: TraceId::from_halves(0, trace),
        span_id: SpanId::from_u64(n as u64 + 1),
        start_unix_nano: 1_760_000_000_000_000_000 + trace * 1_000_000_000 + n as u64,
        end_unix_nano: 1_760_000_000_500_000_000 + trace * 1_000_000_000,
        ..Span::default()
    }
}

#[test]
fn a_file_without_spans_is_whole() {
    let (counts, file) = write(&[], ExportOptions::default());
    assert_eq!((counts.spans, counts.row_groups), (0, 0));
    assert!(read(file).unwrap().is_empty());
}

#[test]
fn groups_stay_apart_and_whole_over_row_groups() {
    let traces = [trace(1, 3, 700), trace(2, 1, 1), trace(3, 2, 2_000)];
    let options = ExportOptions {
        row_group_spans: 1_500,
        ..ExportOptions::default()
    };
    let (counts, file) = write(&traces, options);
    assert_eq!((counts.spans, counts.row_groups), (6_101, 5));
    let mut import = Import::new(bytes::Bytes::from(file), "f".to_owned()).unwrap();
    assert_eq!(import.promised_spans(), 6_101);
    assert!(import.ignored_columns().is_empty());
    let batches: Vec<_> = import.by_ref().map(Result::unwrap).collect();
    let read = contents(batches.iter().flat_map(|batch| &batch.groups));
    assert!(read == groups(&traces));
    let counts = import.counts();
    assert_eq!((counts.spans, counts.traces, counts.batches), (6_101, 3, 1));
}

#[test]
fn a_huge_group_comes_in_parts() {
    let (_, file) = write(&[trace(1, 1, 70_000)], ExportOptions::default());
    let batches = read(file).unwrap();
    let sizes: Vec<_> = batches
        .iter()
        .map(periplus_model::Batch::span_count)
        .collect();
    assert!(
        sizes.len() > 1 && sizes.iter().all(|n| *n <= 4 * 8 * 1024),
        "{sizes:?}"
    );
    let spans = batches
        .iter()
        .flat_map(|b| &b.groups)
        .flat_map(|g| &g.spans);
    assert!(spans.cloned().eq((0..70_000).map(|n| span(1, n))));
}

#[test]
fn row_groups_are_bounded_in_bytes() {
    let mut trace = trace(1, 1, 16);
    for span in &mut Arc::make_mut(&mut trace.groups[0]).spans {
        span.attributes = vec![Attribute::new("body", "x".repeat(1024 * 1024))];
    }
    let options = ExportOptions {
        row_group_bytes: 4 * 1024 * 1024,
        ..ExportOptions::default()
    };
    let (counts, file) = write(&[trace.clone()], options);
    assert_eq!(counts.row_groups, 4);
    let batches = read(file).unwrap();
    let spans = batches
        .iter()
        .flat_map(|b| &b.groups)
        .flat_map(|g| &g.spans);
    assert!(spans.eq(&trace.groups[0].spans));
}

#[test]
fn a_value_that_could_not_be_read_back_is_refused() {
    let mut trace = trace(7, 1, 1);
    let deep = (0..101).fold(Value::Empty, |inner, _| Value::Array(vec![inner]));
    Arc::make_mut(&mut trace.groups[0]).spans[0].attributes = vec![Attribute::new("deep", deep)];
    let mut exporter = Exporter::new(Vec::new(), ExportOptions::default()).unwrap();
    let error = exporter.push(&trace).unwrap_err().to_string();
    assert!(
        error.contains("0007") && error.contains("\"deep\""),
        "{error}"
    );
}

#[tokio::test]
async fn a_store_fills_a_store() {
    let one = MemoryStore::default();
    for n in 0..50 {
        let groups = trace(n, 2, 3)
            .groups
            .iter()
            .map(|g| (**g).clone())
            .collect();
        one.append(periplus_model::Batch { groups }).await.unwrap();
    }
    let all = everything(&one).await;
    let (counts, file) = export_range(
        &one,
        TimeRange::ALL,
        SpanFilter::True,
        Vec::new(),
        ExportOptions::default(),
    )
    .await
    .unwrap();
    assert_eq!((counts.traces, counts.spans), (50, 300));

    let other = MemoryStore::default();
    for batch in read(file).unwrap() {
        other.append(batch).await.unwrap();
    }
    assert_eq!(groups(&everything(&other).await), groups(&all));
}

async fn everything(store: &MemoryStore) -> Vec<StoredTrace> {
    let everything = TraceFilter::AnySpan(SpanFilter::True);
    let query = TraceQuery::new(TimeRange::ALL, everything, usize::MAX);
    store.find_traces(query).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_trace_is_in_one_of_the_ranges_that_follow_each_other() {
    let store = MemoryStore::default();
    for n in 0..10 {
        let mut groups: Vec<_> = trace(n, 1, 2)
            .groups
            .iter()
            .map(|g| (**g).clone())
            .collect();
        // Each goes on in the second of the next one.
        groups[0].spans[1].start_unix_nano += 1_000_000_000;
        store
            .append(periplus_model::Batch { groups })
            .await
            .unwrap();
    }
    let (mut traces, mut elsewhere) = (0, 0);
    let begin = 1_760_000_000_000_000_000;
    for second in (0..12).map(|n| begin + n * 1_000_000_000) {
        let range = TimeRange {
            start_unix_nano: second,
            end_unix_nano: second + 1_000_000_000,
        };
        let options = ExportOptions::default();
        let exported = export_range(&store, range, SpanFilter::True, Vec::new(), options).await;
        let (counts, _) = exported.unwrap();
        assert!(counts.traces <= 1);
        traces += counts.traces;
        elsewhere += counts.traces_of_other_ranges;
    }
    assert_eq!((traces, elsewhere), (10, 10));
}

#[tokio::test]
async fn a_store_that_fails_ends_the_export() {
    let failed = StoreError::Busy {
        reason: "full".to_owned(),
    };
    let traces = futures_util::stream::iter([Ok(trace(1, 1, 5)), Err(failed)]);
    let exported = export(traces.boxed(), Vec::new(), ExportOptions::default()).await;
    assert!(matches!(exported, Err(ExportError::Store { spans: 5, .. })));
}

#[test]
fn a_disk_that_is_full_ends_the_export() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            match self.0.checked_sub(bytes.len()) {
                Some(left) => {
                    self.0 = left;
                    Ok(bytes.len())
                }
                None => Err(std::io::ErrorKind::StorageFull.into()),
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (_, file) = write(&[trace(1, 2, 50)], ExportOptions::default());
    for room in (0..file.len()).step_by(97) {
        let exported = Exporter::new(Full(room), ExportOptions::default()).and_then(|mut e| {
            e.push(&trace(1, 2, 50))?;
            e.finish()
        });
        assert!(exported.is_err(), "with room for {room} bytes");
    }
}
