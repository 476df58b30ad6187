//! The engine with a disk against the one in memory: spans arrive, tables become segments, segments
//! are merged, the process ends in order or is killed, in any order; after each of these both give
//! the same answers.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt;
use periplus_store::embedded::disk::{Crash, SimulatedDisk};
use periplus_store::embedded::{EmbeddedStore, Options};
use periplus_store::{
    MemoryStore, RED_WINDOW_NANO, RedQuery, RedSeries, Scope, SpanSink as _, TimeRange,
    TraceFilter, TraceQuery, red_bucket_bounds,
};
use periplus_wire::otlp::encode_protobuf;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::reference::{any_span, identify, trace_filter};
use crate::suite::build::{Draft, SECOND, Store, batch, contents, noon, write};

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<Draft>),
    WriteOtlp(Vec<Draft>),
    Flush,
    Compact,
    /// An orderly end and a start.
    Reopen,
    /// A power cut and a start.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let spans = || {
        // Over some minutes and, rarely, hours.
        let far = prop_oneof![4 => Just(0), 2 => 0..30_u64, 1 => 0..9_000_u64];
        vec((any_span(), far), 1..8).prop_map(|spans| {
            let spans = spans.into_iter().map(|(draft, far)| {
                let start = draft.span.start_unix_nano + far * SECOND;
                draft.starting(start)
            });
            spans.collect::<Vec<_>>()
        })
    };
    prop_oneof![
        4 => spans().prop_map(Step::Write),
        2 => spans().prop_map(Step::WriteOtlp),
        3 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

fn open(disk: &SimulatedDisk) -> Arc<EmbeddedStore> {
    let options = Options {
        background: false,
        log_file_bytes: 4_096,
        retention: None,
        ..Options::default()
    };
    let store = EmbeddedStore::open_on(Arc::new(disk.clone()), Path::new("/"), options);
    Arc::new(store.expect("a store that opens"))
}

/// Both engines, and what they were told.
struct Both {
    runtime: Runtime,
    disk: SimulatedDisk,
    embedded: Arc<EmbeddedStore>,
    memory: Store,
    spans: Vec<Draft>,
}

impl Both {
    fn new() -> Self {
        let disk = SimulatedDisk::new();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        Self {
            runtime: runtime.expect("a runtime"),
            embedded: open(&disk),
            disk,
            memory: Arc::new(MemoryStore::default()),
            spans: Vec::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Write(spans) | Step::WriteOtlp(spans) => {
                self.runtime.block_on(write(&self.memory, spans.clone()));
                self.spans.extend(spans.iter().cloned());
                let batch = batch(spans.clone());
                let written = match step {
                    Step::WriteOtlp(_) => {
                        let request = encode_protobuf(&batch);
                        let taken = self
                            .runtime
                            .block_on(self.embedded.append_otlp(request.into()));
                        taken.map(|_| ()).map_err(|error| error.to_string())
                    }
                    _ => (self.runtime.block_on(self.embedded.append(batch)))
                        .map_err(|error| error.to_string()),
                };
                written.expect("the store takes the batch");
            }
            Step::Flush => self.embedded.flush().expect("a disk that is well"),
            Step::Compact => {
                self.embedded.compact().expect("a disk that is well");
            }
            Step::Reopen => {
                self.embedded.close().expect("a disk that is well");
                self.disk = self.disk.after(Crash::KeepAll);
                self.embedded = open(&self.disk);
            }
            Step::Crash => {
                self.disk = self.disk.after(Crash::DropUnsynced);
                self.embedded = open(&self.disk);
            }
        }
    }

    fn compare(&self, filters: &[TraceFilter], (range, limit): (TimeRange, usize)) {
        let embedded: Store = self.embedded.clone();
        let ask = |store: &Store, query: TraceQuery| {
            let search = store.search(query).expect("a query that can be answered");
            let traces: Result<Vec<_>, _> = self.runtime.block_on(search.try_collect());
            traces.expect("an answer")
        };
        for filter in filters {
            for (range, limit) in [(TimeRange::ALL, usize::MAX), (range, limit)] {
                let query = || TraceQuery::new(range, filter.clone(), limit);
                let (found, expected) = (ask(&embedded, query()), ask(&self.memory, query()));
                let ids = |traces: &[periplus_store::StoredTrace]| {
                    traces.iter().map(|trace| trace.id).collect::<Vec<_>>()
                };
                assert_eq!(ids(&found), ids(&expected), "{filter}");
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(contents(&found.groups), contents(&expected.groups));
                }
            }
        }
        self.compare_traces(&embedded);
        self.compare_lists(&embedded);
        for range in [TimeRange::ALL, range] {
            let edges = |store: &Store| self.runtime.block_on(store.dependencies(range));
            let expected = edges(&self.memory).expect("an answer");
            let found = edges(&embedded).expect("an answer");
            if self.lies_near(range) {
                assert_eq!(found, expected, "{range:?}");
            }
            for step in [Some(10), Some(30), Some(60), Some(300), Some(1_200), None] {
                let step_nano = step.map(|seconds| seconds * SECOND);
                let query = RedQuery {
                    step_nano,
                    ..RedQuery::new(range)
                };
                let found = self.runtime.block_on(embedded.red_by(query));
                let expected = plain_red(&self.spans, range, step_nano);
                assert_eq!(found.expect("an answer"), expected, "{range:?} {step:?}");
            }
        }
    }

    /// Whether all spans of the traces with spans in the range are such that the graph must look for
    /// them.
    fn lies_near(&self, range: TimeRange) -> bool {
        let hour = 3_600 * SECOND;
        let near = TimeRange {
            start_unix_nano: range.start_unix_nano.saturating_sub(hour),
            end_unix_nano: range.end_unix_nano.saturating_add(hour),
        };
        let starts = |draft: &&Draft, range: TimeRange| range.contains(draft.span.start_unix_nano);
        let inside = self.spans.iter().filter(|draft| starts(draft, range));
        let traces: HashSet<_> = inside.map(|draft| draft.span.trace_id).collect();
        let of_traces = self.spans.iter();
        of_traces
            .filter(|draft| traces.contains(&draft.span.trace_id))
            .all(|draft| starts(&draft, near))
    }

    fn compare_traces(&self, embedded: &Store) {
        for id in 1..8 {
            let id = periplus_model::TraceId::from_halves(0, id);
            let read = |store: &Store| self.runtime.block_on(store.trace(id)).expect("an answer");
            let (found, expected) = (read(embedded), read(&self.memory));
            let found = found.as_ref().map(|trace| contents(&trace.groups));
            let expected = expected.as_ref().map(|trace| contents(&trace.groups));
            assert_eq!(found, expected, "{id}");
        }
    }

    fn compare_lists(&self, embedded: &Store) {
        let stores = [embedded, &self.memory];
        let [found, expected] =
            stores.map(|store| self.runtime.block_on(store.services()).expect("an answer"));
        assert_eq!(found, expected);
        for service in expected.iter().map(String::as_str).chain(["absent"]) {
            for kind in [None, Some(periplus_model::SpanKind::Client)] {
                let [found, expected] = stores.map(|store| {
                    let operations = self.runtime.block_on(store.operations(service, kind));
                    operations.expect("an answer")
                });
                assert_eq!(found, expected, "{service} {kind:?}");
            }
        }
        for scope in [Scope::Any, Scope::Span, Scope::Resource, Scope::Event] {
            let [found, expected] = stores.map(|store| {
                let keys = self.runtime.block_on(store.attribute_keys(scope, "", 3));
                keys.expect("an answer")
            });
            assert_eq!(found, expected, "{scope:?}");
            for (key, prefix) in [("a", ""), ("7", "7"), ("service.name", "")] {
                let [found, expected] = stores.map(|store| {
                    let values = store.attribute_values(key, scope, prefix, 4);
                    self.runtime.block_on(values).expect("an answer")
                });
                assert_eq!(found, expected, "{scope:?} {key} {prefix}");
            }
        }
    }
}

/// Rates, errors and durations, span by span. None of the spans here fails.
fn plain_red(spans: &[Draft], range: TimeRange, step: Option<u64>) -> Vec<RedSeries> {
    let mut series: BTreeMap<_, BTreeMap<u64, Vec<u64>>> = BTreeMap::new();
    for draft in spans {
        let span = &draft.span;
        let window = span.start_unix_nano / RED_WINDOW_NANO * RED_WINDOW_NANO;
        if range.contains(window) {
            let of = (draft.resource.service_name(), &*span.name, span.kind);
            let windows = series.entry(of).or_default();
            let point = step.map_or(range.start_unix_nano, |step| window / step * step);
            windows.entry(point).or_default().push(span.duration_nano());
        }
    }
    let bucket = |duration: &u64| {
        let buckets = 0..=u16::MAX;
        let found = buckets.into_iter().find(|bucket| {
            let (least, most) = red_bucket_bounds(*bucket);
            (least..=most).contains(duration)
        });
        found.expect("a bucket")
    };
    let point = |(start, durations): (u64, Vec<u64>)| {
        let mut point = periplus_store::RedPoint {
            start_unix_nano: start,
            spans: durations.len() as u64,
            ..Default::default()
        };
        for duration in &durations {
            point.durations.add(&[(bucket(duration), 1)]);
        }
        point
    };
    let series = series
        .into_iter()
        .map(|((service, name, kind), windows)| RedSeries {
            service: service.to_owned(),
            name: name.to_owned(),
            kind,
            points: windows.into_iter().map(point).collect(),
        });
    series.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_happens_between_both_engines_agree(
        mut steps in vec(step(), 1..24),
        filters in vec(trace_filter(), 6),
        range in (0..30_u64, 0..40_u64),
        seconds in prop_oneof![Just(0), 0..3_000_u64],
        limit in 0..12_usize,
    ) {
        let written = steps.iter_mut().filter_map(|step| match step {
            Step::Write(spans) | Step::WriteOtlp(spans) => Some(spans),
            _ => None,
        });
        identify(written);
        let range = TimeRange {
            start_unix_nano: noon() + range.0,
            end_unix_nano: noon() + seconds * SECOND + range.1,
        };
        let mut both = Both::new();
        for step in &steps {
            both.take(step);
            both.compare(&filters[..2], (range, limit));
        }
        both.compare(&filters, (range, limit));
    }
}
