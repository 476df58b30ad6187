//! What was written is what is read.

use periplus_model::{Attribute, Scope, SpanId, SpanKind, Status, StatusCode, TraceId, Value};
use periplus_store::{AppendOtlpError, Operation};
use periplus_wire::otlp::encode_protobuf;

use super::build::{Draft, SECOND, Store, batch, contents, noon, span, trace_id, write};

/// Jaeger's example trace: five spans of three services.
fn example() -> Vec<Draft> {
    let example = |service: &str, id, name: &str| {
        span(0x11, &format!("example-service-{service}"), id)
            .named(&format!("example-operation-{name}"))
            .lasting(100_000)
    };
    vec![
        example("2", 4, "2"),
        example("3", 5, "1"),
        example("1", 3, "1"),
        example("1", 6, "3").kind(SpanKind::Server),
        example("1", 7, "4").kind(SpanKind::Client),
    ]
}

pub(crate) async fn services_are_sorted_and_each_is_listed_once(store: Store) {
    assert!(store.services().await.expect("services").is_empty());
    write(&store, example()).await;
    write(&store, [span(1, "example-service-3", 1)]).await;
    assert_eq!(
        store.services().await.expect("services"),
        [
            "example-service-1",
            "example-service-2",
            "example-service-3"
        ]
    );
}

pub(crate) async fn operations_are_listed_by_service_and_kind(store: Store) {
    write(&store, example()).await;
    write(&store, example()).await;
    let operation = |name: &str, kind| Operation {
        name: format!("example-operation-{name}"),
        kind,
    };
    let all = [
        operation("1", SpanKind::Unspecified),
        operation("3", SpanKind::Server),
        operation("4", SpanKind::Client),
    ];
    let of = |kind| store.operations("example-service-1", kind);
    assert_eq!(of(None).await.expect("operations"), all);
    assert_eq!(
        of(Some(SpanKind::Server)).await.expect("operations"),
        all[1..2]
    );
    assert_eq!(of(Some(SpanKind::Producer)).await.expect("operations"), []);
    assert_eq!(
        store.operations("unknown", None).await.expect("operations"),
        []
    );
}

pub(crate) async fn a_trace_comes_back_whole(store: Store) {
    write(&store, example()).await;
    write(&store, [span(0x12, "example-service-1", 3)]).await;
    let expected = batch(example())
        .groups
        .into_iter()
        .map(Into::into)
        .collect::<Vec<_>>();
    let found = store
        .trace(trace_id(0x11))
        .await
        .expect("an answer")
        .expect("the trace");
    assert_eq!(found.id, trace_id(0x11));
    assert_eq!(found.span_count(), 5);
    assert_eq!(contents(&found.groups), contents(&expected));
}

pub(crate) async fn an_unknown_trace_is_not_an_error(store: Store) {
    write(&store, example()).await;
    // The low half alone is another trace.
    for id in [trace_id(0x12), TraceId::from_halves(1, 0x11), TraceId::ZERO] {
        assert_eq!(store.trace(id).await.expect("an answer"), None);
    }
}

pub(crate) async fn a_large_trace_comes_back_whole(store: Store) {
    let spans = (1..=10_008).map(|id| span(0x11, "large", id).below(id / 2));
    write(&store, spans).await;
    let found = store
        .trace(trace_id(0x11))
        .await
        .expect("an answer")
        .expect("the trace");
    assert_eq!(found.span_count(), 10_008);
}

pub(crate) async fn spans_with_the_same_id_are_all_kept(store: Store) {
    let spans = (0..200_u64).map(|i| {
        let id = if i.is_multiple_of(20) { 7 } else { i + 100 };
        span(0x11, "twice", id)
    });
    write(&store, spans).await;
    let found = store
        .trace(trace_id(0x11))
        .await
        .expect("an answer")
        .expect("the trace");
    let same = (found.groups.iter())
        .flat_map(|group| &group.spans)
        .filter(|span| span.span_id == SpanId::from_u64(7));
    assert_eq!(same.count(), 10);
    assert_eq!(found.span_count(), 200);
}

pub(crate) async fn a_trace_that_arrives_in_pieces_is_one(store: Store) {
    for draft in example() {
        write(&store, [draft]).await;
    }
    let found = store
        .trace(trace_id(0x11))
        .await
        .expect("an answer")
        .expect("the trace");
    let expected = batch(example())
        .groups
        .into_iter()
        .map(Into::into)
        .collect::<Vec<_>>();
    assert_eq!(contents(&found.groups), contents(&expected));
    assert_eq!(store.stats().spans, 5);
    assert!((1..=5).contains(&store.stats().traces));
}

pub(crate) async fn a_batch_may_mix_traces(store: Store) {
    // In one group even: one resource, spans of three traces.
    let mut group = span(1, "mixed", 1).group();
    for trace in [2, 3, 1] {
        group.spans.push(span(trace, "mixed", 10 + trace).span);
    }
    let taken = store
        .append(periplus_model::Batch {
            groups: vec![group],
        })
        .await;
    taken.expect("the store takes the batch");
    for (trace, spans) in [(1, 2), (2, 1), (3, 1)] {
        let found = store
            .trace(trace_id(trace))
            .await
            .expect("an answer")
            .expect("the trace");
        assert_eq!(found.span_count(), spans, "trace {trace}");
        assert!(
            found
                .groups
                .iter()
                .all(|group| group.resource.service_name() == "mixed")
        );
    }
    assert_eq!(store.stats().accepted_spans, 4);
}

pub(crate) async fn odd_names_are_kept(store: Store) {
    let names = ["a/b", "a%2Fb", "ä ö", " ", "x\0y", "\u{10ffff}"];
    for (trace, name) in (1..).zip(names) {
        write(&store, [span(trace, name, 1).named(name)]).await;
    }
    // A span without a service is kept, and its service is not listed.
    write(&store, [span(100, "", 1)]).await;
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    assert_eq!(store.services().await.expect("services"), sorted);
    for name in names {
        let operations = store.operations(name, None).await.expect("operations");
        assert_eq!(operations.len(), 1, "{name:?}");
        assert_eq!(operations[0].name, name);
    }
    assert!(
        store
            .trace(trace_id(100))
            .await
            .expect("an answer")
            .is_some()
    );
}

pub(crate) async fn nothing_is_changed_on_the_way(store: Store) {
    let nested = Value::Map(vec![
        Attribute::new(
            "list",
            Value::Array(vec![1_i64.into(), "two".into(), Value::Empty]),
        ),
        Attribute::new("same key", "1"),
        Attribute::new("same key", "2"),
    ]);
    let full = span(7, "full", 1)
        .with("text", "ä")
        .with("empty", "")
        .with("flag", true)
        .with("int", i64::MIN)
        .with("double", 72.5)
        .with("bytes", Value::Bytes(vec![0, 255]))
        .with("nested", nested)
        .with("same key", "1")
        .with("same key", "2")
        .with_event("e", 1_i64)
        .with_link("l", 2_i64)
        .with_resource("r", 3_i64)
        .change(|draft| {
            draft.resource.dropped_attributes_count = 1;
            draft.resource.schema_url = "https://example.org/resource".to_owned();
            draft.scope = Scope {
                name: "library".to_owned(),
                version: "1.2".to_owned(),
                attributes: vec![Attribute::new("s", 4_i64)],
                dropped_attributes_count: 2,
                schema_url: "https://example.org/scope".to_owned(),
            };
            let span = &mut draft.span;
            span.trace_id = TraceId::from_halves(u64::MAX, 7);
            span.trace_state = "a=b".to_owned();
            span.flags = 0x301;
            span.status = Status {
                code: StatusCode::Error,
                message: "why".to_owned(),
            };
            span.events[0].name = "event".to_owned();
            span.links[0].trace_state = "c=d".to_owned();
            span.links[0].flags = 1;
            (span.dropped_attributes_count, span.dropped_events_count) = (3, 4);
            span.dropped_links_count = 5;
        });
    // Times that make no sense are kept as well.
    let bare = full.clone().change(|draft| {
        draft.span.span_id = SpanId::ZERO;
        draft.span.start_unix_nano = noon();
        draft.span.end_unix_nano = noon() - SECOND;
    });
    let id = full.span.trace_id;
    write(&store, [full.clone(), bare.clone()]).await;
    let found = store
        .trace(id)
        .await
        .expect("an answer")
        .expect("the trace");
    let expected = batch([full, bare])
        .groups
        .into_iter()
        .map(Into::into)
        .collect::<Vec<_>>();
    assert_eq!(contents(&found.groups), contents(&expected));
}

pub(crate) async fn otlp_requests_are_taken_as_they_come(store: Store) {
    // Jaeger's example, and a span that no trace can have.
    let nobody = example().remove(0).change(|draft| {
        draft.span.trace_id = TraceId::ZERO;
    });
    let request = encode_protobuf(&batch(example().into_iter().chain([nobody])));
    let taken = store.append_otlp(request.into()).await.expect("a request");
    assert_eq!((taken.spans, taken.refused.spans), (5, 1));
    let found = store
        .trace(trace_id(0x11))
        .await
        .expect("an answer")
        .expect("the trace");
    let expected = batch(example())
        .groups
        .into_iter()
        .map(Into::into)
        .collect::<Vec<_>>();
    assert_eq!(contents(&found.groups), contents(&expected));

    let broken = store.append_otlp(vec![0x0a, 0xff].into()).await;
    assert!(
        matches!(broken, Err(AppendOtlpError::Decode(_))),
        "{broken:?}"
    );
    assert_eq!(store.stats().accepted_spans, 5);
}
