//! The calls of a segment are those that the assembled traces have.

use std::collections::BTreeMap;
use std::sync::Arc;

use periplus_insight::{Trace, dependencies_where};
use periplus_model::{
    Attribute, Batch, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, Status, StatusCode,
    TraceId,
};
use periplus_segment::{Builder, Calls, EncodeOptions, MINUTE_NANO, Segment};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Draft {
    service: String,
    span: Span,
}

fn draft() -> impl Strategy<Value = Draft> {
    let ids = (0..3_u64, 1..9_u64, option::of(0..9_u64));
    let attribute = prop_oneof![
        Just(Attribute::new("peer.service", "db")),
        Just(Attribute::new("service.peer.name", "")),
        Just(Attribute::new("error", true)),
        Just(Attribute::new("error", "true")),
        Just(Attribute::new("peer.service", 7_i64)),
    ];
    let what = (0..6, 0..3, vec(attribute, 0..2), "[abc]?", 0..3_u64);
    (ids, what).prop_map(
        |((trace, id, parent), (kind, status, attributes, service, minute))| {
            let start = 1_760_000_000_000_000_000 + minute * MINUTE_NANO + id;
            Draft {
                service,
                span: Span {
                    trace_id: TraceId::from_halves(0, trace),
                    span_id: SpanId::from_u64(id),
                    parent_span_id: parent.map(SpanId::from_u64),
                    kind: SpanKind::from_number(kind),
                    status: Status {
                        code: StatusCode::from_number(status),
                        message: String::new(),
                    },
                    start_unix_nano: start,
                    end_unix_nano: start + 1_000,
                    attributes,
                    ..Span::default()
                },
            }
        },
    )
}

/// Traces as they should be: each span below another one, though by another clock that may be later.
fn sound() -> impl Strategy<Value = Vec<Draft>> {
    vec((draft(), any::<prop::sample::Index>()), 1..14).prop_map(|drafts| {
        let mut traces: BTreeMap<TraceId, Vec<SpanId>> = BTreeMap::new();
        let place = |(n, (mut draft, parent)): (usize, (Draft, prop::sample::Index))| {
            let above = traces.entry(draft.span.trace_id).or_default();
            draft.span.span_id = SpanId::from_u64(100 + n as u64);
            draft.span.parent_span_id =
                (!above.is_empty()).then(|| above[parent.index(above.len())]);
            above.push(draft.span.span_id);
            draft
        };
        drafts.into_iter().enumerate().map(place).collect()
    })
}

fn batch(drafts: &[Draft]) -> Batch {
    let group = |draft: &Draft| SpanGroup {
        resource: Arc::new(match &*draft.service {
            "" => Resource::default(),
            service => Resource::of_service(service),
        }),
        scope: Arc::new(Scope::default()),
        spans: vec![draft.span.clone()],
    };
    Batch {
        groups: drafts.iter().map(group).collect(),
    }
}

type Edges = BTreeMap<(u64, String, String), (u64, u64)>;

/// What a builder says of its calls is what its segment says, however it is asked.
fn compare_builder(builder: &Builder, calls: &Calls) {
    let rows = builder.span_count();
    let whole = builder.calls(0..builder.trace_count(), rows);
    assert_eq!(whole.edges, calls.edges);
    let mut unsettled = whole.unsettled;
    let mut expected = calls.unsettled.clone();
    unsettled.sort();
    expected.sort();
    assert_eq!(unsettled, expected);
    assert_eq!(builder.calls(0..builder.trace_count(), 0), Calls::default());
}

/// The calls of the settled traces by assembling them; how many traces are not settled.
fn compare(drafts: &[Draft]) -> usize {
    let mut builder = Builder::new();
    builder.append(&batch(drafts)).expect("room");
    let options = EncodeOptions::default().with_group_spans(4);
    let segment = Segment::open(builder.encode(&options)).expect("sound");
    let calls = segment.calls().expect("sound");
    compare_builder(&builder, &calls);
    let mut expected = Edges::new();
    for trace in 0..3 {
        let id = TraceId::from_halves(0, trace);
        let Some(groups) = builder.trace(id).filter(|_| !calls.unsettled.contains(&id)) else {
            continue;
        };
        let groups: Vec<_> = groups.into_iter().map(Arc::new).collect();
        let trace = Trace::assemble(&groups);
        for minute in 0..9 {
            let start = (1_760_000_000_000_000_000 / MINUTE_NANO + minute) * MINUTE_NANO;
            let inside = |span: &Span| span.start_unix_nano / MINUTE_NANO * MINUTE_NANO == start;
            for edge in dependencies_where(&trace, inside) {
                let key = (start, edge.parent, edge.child);
                let (calls, errors) = expected.entry(key).or_default();
                *calls += edge.calls;
                *errors += edge.errors;
            }
        }
    }
    let found: Edges = (calls.edges.iter().cloned())
        .map(|edge| {
            let key = (edge.start_unix_nano, edge.parent, edge.child);
            (key, (edge.calls, edge.errors))
        })
        .collect();
    assert_eq!(found, expected);
    calls.unsettled.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn calls_of_any_traces_are_those_of_the_assembled_ones(drafts in vec(draft(), 1..14)) {
        compare(&drafts);
    }

    #[test]
    fn sound_traces_are_settled(drafts in sound()) {
        prop_assert_eq!(compare(&drafts), 0);
    }
}
