//! Through the log, the table, segments, merges and a restart.

use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use periplus_model::{SpanGroup, SpanId, TraceId};
use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::embedded::{EmbeddedStore, Options};
use periplus_store::{
    AppendOtlpError, SpanFilter, SpanSink as _, SpanStore as _, TimeRange, TraceFilter, TraceQuery,
};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use tokio::runtime::Runtime;

use crate::oracle::{self, Refusal, Traces};
use crate::ours::{assert_same, request, written};
use crate::support::{self, Mutation, mutations, proto};

/// An engine of which every step is taken by hand.
pub(crate) struct Steps {
    disk: SimulatedDisk,
    store: EmbeddedStore,
    runtime: Runtime,
    expected: Traces,
}

impl Steps {
    pub(crate) fn new() -> Self {
        let disk = SimulatedDisk::new();
        Self {
            store: open(&disk),
            disk,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap(),
            expected: Traces::new(),
        }
    }

    /// Sends a request, and compares the answer.
    pub(crate) fn send(&mut self, body: &[u8]) {
        let answer = self
            .runtime
            .block_on(self.store.append_otlp(body.to_vec().into()));
        match (answer, oracle::read(body)) {
            (Ok(taken), Ok(expected)) => {
                let spans: usize = expected.traces.values().map(Vec::len).sum();
                assert_eq!(
                    (taken.spans, taken.refused.spans),
                    (spans as u64, expected.refused)
                );
                for (id, mut spans) in expected.traces {
                    let known = self.expected.entry(id).or_default();
                    known.append(&mut spans);
                    known.sort();
                }
            }
            (Err(AppendOtlpError::Decode(_)), Err(_)) => {}
            (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
        }
    }

    /// By its id, and in a search, each trace has what is expected.
    pub(crate) fn compare(&self, context: &str) {
        self.compare_traces(context);
        self.compare_search(context);
    }

    pub(crate) fn compare_traces(&self, context: &str) {
        for (id, expected) in &self.expected {
            let found = self.runtime.block_on(self.store.trace(*id)).unwrap();
            let found = found.unwrap_or_else(|| panic!("{context}: {id} is missing"));
            let found = written(found.groups.iter().map(|group| &**group));
            assert_same(&found, expected, *id, context);
        }
    }

    fn compare_search(&self, context: &str) {
        let all = TraceFilter::AnySpan(SpanFilter::True);
        let all = self
            .store
            .find_traces(TraceQuery::new(TimeRange::ALL, all, usize::MAX));
        let found: Vec<_> = self.runtime.block_on(all.try_collect()).unwrap();
        let mut missing: std::collections::BTreeSet<_> = self.expected.keys().collect();
        for trace in &found {
            assert!(
                missing.remove(&trace.id),
                "{context}: {} comes twice or is not ours",
                trace.id
            );
            let found = written(trace.groups.iter().map(|group| &**group));
            assert_same(&found, &self.expected[&trace.id], trace.id, context);
        }
        // The range is half-open: the last moment of all is in none.
        missing.retain(|id| {
            let spans = &self.expected[*id];
            spans.iter().any(|one| start(one) != u64::MAX)
        });
        assert!(missing.is_empty(), "{context}: {missing:?} are not found");
    }

    pub(crate) fn flush(&self) {
        self.store.flush().unwrap();
    }

    pub(crate) fn compact(&self) {
        self.store.compact().unwrap();
    }

    pub(crate) fn reopen(&mut self) {
        self.store.close().unwrap();
        // The directory is held until the last one is gone.
        self.store = open(&SimulatedDisk::new());
        self.store = open(&self.disk);
    }
}

fn start(one: &[u8]) -> u64 {
    let request = proto::Request::decode(one).unwrap();
    request.resource_spans[0].scope_spans[0].spans[0].start_time_unix_nano
}

fn open(disk: &SimulatedDisk) -> EmbeddedStore {
    let options = Options {
        background: false,
        retention: None,
        max_disk_bytes: None,
        // Small, so that the log has several.
        log_file_bytes: 64 << 10,
        // The largest traces are compared whole.
        query_bytes: u64::MAX,
        max_query_bytes: u64::MAX,
        ..Options::default()
    };
    EmbeddedStore::open_on(Arc::new(disk.clone()), Path::new("/"), options).unwrap()
}

/// All requests, compared at every stage.
pub(crate) fn through(requests: &[Vec<u8>]) {
    let mut steps = Steps::new();
    let parts = requests.len().div_ceil(3).max(1);
    for part in requests.chunks(parts) {
        for body in part {
            steps.send(body);
        }
        steps.compare("in the table");
        steps.flush();
        steps.compare("in segments");
    }
    steps.compact();
    steps.compare("merged");
    steps.reopen();
    steps.compare("opened again");
    // What the log has is the same as what the table had.
    for body in requests.iter().take(parts) {
        steps.send(body);
    }
    steps.disk = steps
        .disk
        .after(periplus_store::embedded::disk::Crash::DropUnsynced);
    steps.store = open(&steps.disk);
    steps.compare("replayed from the log");
}

/// Few ids, so that traces have several spans, in several requests, and some ids come twice.
fn few_ids(groups: &mut [SpanGroup]) {
    for span in groups.iter_mut().flat_map(|group| &mut group.spans) {
        span.trace_id = TraceId::from_halves(span.trace_id.low() % 2, span.trace_id.low() % 5);
        if span.trace_id.is_zero() {
            span.trace_id = TraceId::from_halves(0, 9);
        }
        span.span_id = SpanId::from_u64(span.span_id.as_u64() % 9 + 1);
        let parent = span.parent_span_id.map(|id| id.as_u64() % 10);
        span.parent_span_id = parent.filter(|id| *id > 0).map(SpanId::from_u64);
    }
}

fn requests() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(support::batch(), 1..8).prop_map(|batches| {
        let batches = batches.into_iter().map(|mut batch| {
            few_ids(&mut batch.groups);
            request(&batch.groups).encode_to_vec()
        });
        batches.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn generated_spans_come_back(requests in requests()) {
        through(&requests);
    }

    #[test]
    fn what_is_left_of_changed_requests_comes_back(
        mut requests in requests(),
        changes in vec((0..8_usize, mutations()), 1..4),
    ) {
        for (at, mutations) in &changes {
            let at = at % requests.len();
            mutations.iter().for_each(|mutation: &Mutation| mutation.apply(&mut requests[at]));
        }
        through(&requests);
    }
}

#[test]
fn the_demo_comes_back() {
    let requests: Vec<_> =
        periplus_workload::demo_requests(2_000, periplus_workload::START_UNIX_NANO, 200).collect();
    through(&requests);
}

#[test]
fn tracegen_comes_back() {
    // Over ten days: many hours, and such as are too old for their own.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let start = now.as_nanos() as u64 - 9 * 86_400 * 1_000_000_000;
    let requests: Vec<_> = periplus_workload::tracegen_requests(80, 9, 10, start, 100).collect();
    through(&requests);
}

/// The refusal that the oracle and the engine both know.
#[test]
fn a_value_beyond_the_limits_refuses_its_span_or_its_request() {
    let mut deep = proto::AnyValue::default();
    for _ in 0..33 {
        let values = vec![deep];
        deep = proto::AnyValue {
            value: Some(proto::Any::Array(proto::ArrayValue { values })),
        };
    }
    let attribute = || proto::KeyValue {
        key: "deep".to_owned(),
        value: Some(deep.clone()),
    };
    let mut span = proto::bare_span();
    span.attributes.push(attribute());
    let mut request = proto::request(vec![span, proto::bare_span()]);
    let mut steps = Steps::new();
    steps.send(&request.encode_to_vec());
    assert_eq!(steps.expected.values().map(Vec::len).sum::<usize>(), 1);
    let resource = request.resource_spans[0].resource.as_mut().unwrap();
    resource.attributes.push(attribute());
    assert!(matches!(
        oracle::read(&request.encode_to_vec()),
        Err(Refusal::Limits)
    ));
    steps.send(&request.encode_to_vec());
    steps.compare("after a refusal");
}
