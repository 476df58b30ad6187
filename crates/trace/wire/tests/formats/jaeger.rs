//! Jaeger's Thrift and protobuf → model (OpenTelemetry collector, `pkg/translator/jaeger`), and the
//! model → `jaeger.api_v2`.

use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, SpanGroup, SpanId, SpanKind, StatusCode,
    TraceId, Value,
};
use periplus_wire::jaeger::{
    DEBUG, ThriftProtocol, append_span, decode_agent_message, decode_post_spans,
    decode_thrift_batch, project_process, project_span,
};
use periplus_wire::otlp::{Decoded, MAX_ATTRIBUTES};
use proptest::prelude::*;
use prost::Message;

use crate::support::jaeger::{
    JBatch, JSpan, JTag, JValue, PBatch, PProcess, PSpan, PTime, PostSpansRequest, boolean, int,
    text,
};
use crate::support::thrift::{Thrift, binary_call, compact_call, old_binary_call};
use crate::support::{self, mutations};

/// A span with ids and times, so that only what is tested shows.
fn span() -> JSpan {
    JSpan {
        high: 0x1111_2222_3333_4444,
        low: 0x9999_aaaa_bbbb_cccc,
        id: 0xfedc_ba98_7654_3210,
        name: b"get".to_vec(),
        start: 1_795_332_552_157_501,
        duration: 1_250,
        ..JSpan::default()
    }
}

fn batch_of(span: JSpan) -> JBatch {
    JBatch {
        service: b"shop".to_vec(),
        tags: Vec::new(),
        spans: vec![span],
    }
}

fn arguments(batch: &JBatch) -> Thrift {
    Thrift::Struct(vec![(1, batch.thrift())])
}

/// The batch in each of the encodings.
fn decode_all(batch: &JBatch) -> [(&'static str, Decoded); 5] {
    let call = arguments(batch);
    let agent = |bytes: &[u8], protocol| decode_agent_message(bytes, protocol).expect("a message");
    let (binary, compact) = (ThriftProtocol::Binary, ThriftProtocol::Compact);
    [
        (
            "body",
            decode_thrift_batch(&batch.thrift().binary()).expect("a batch"),
        ),
        ("binary", agent(&binary_call("emitBatch", &call), binary)),
        (
            "old binary",
            agent(&old_binary_call("emitBatch", &call), binary),
        ),
        ("compact", agent(&compact_call("emitBatch", &call), compact)),
        (
            "protobuf",
            decode_post_spans(&batch.protobuf()).expect("a request"),
        ),
    ]
}

/// What every encoding of the batch says.
fn decode(batch: &JBatch) -> Decoded {
    let [(_, first), rest @ ..] = decode_all(batch);
    for (name, decoded) in rest {
        assert_eq!(decoded, first, "{name}");
    }
    first
}

/// The one span of a batch, and who made it.
fn group(batch: &JBatch) -> SpanGroup {
    let mut decoded = decode(batch);
    assert!(decoded.refused.is_empty(), "{}", decoded.refused);
    assert_eq!(decoded.batch.span_count(), 1);
    decoded.batch.groups.remove(0)
}

fn tagged(tags: &[JTag]) -> SpanGroup {
    group(&batch_of(JSpan {
        tags: tags.to_vec(),
        ..span()
    }))
}

fn attributes(list: &[Attribute]) -> Vec<(&str, &Value)> {
    list.iter().map(|it| (it.key.as_str(), &it.value)).collect()
}

fn keys(list: &[Attribute]) -> Vec<&str> {
    list.iter().map(|it| it.key.as_str()).collect()
}

#[test]
fn ids_and_times_are_read() {
    let group = group(&batch_of(JSpan {
        parent: 7,
        flags: 1,
        ..span()
    }));
    assert_eq!(*group.resource, Resource::of_service("shop"));
    let span = &group.spans[0];
    assert_eq!(
        span.trace_id,
        TraceId::from_halves(0x1111_2222_3333_4444, 0x9999_aaaa_bbbb_cccc)
    );
    assert_eq!(span.span_id, SpanId::from_u64(0xfedc_ba98_7654_3210));
    assert_eq!(span.parent_span_id, Some(SpanId::from_u64(7)));
    assert_eq!(span.name, "get");
    assert_eq!(span.flags, 1);
    assert_eq!(span.start_unix_nano, 1_795_332_552_157_501_000);
    assert_eq!(span.duration_nano(), 1_250_000);
    assert_eq!(span.kind, SpanKind::Unspecified);
    assert_eq!(span.status.code, StatusCode::Unset);
    assert!(span.links.is_empty());
}

#[test]
fn every_type_of_tag_is_kept() {
    let group = tagged(&[
        text("t", "text"),
        boolean("b", false),
        int("i", i64::MIN),
        (b"d".to_vec(), JValue::Double(-0.5)),
        (b"x".to_vec(), JValue::Binary(vec![0, 0xff])),
        int("i", 2),
    ]);
    assert_eq!(
        attributes(&group.spans[0].attributes),
        [
            ("t", &Value::from("text")),
            ("b", &Value::Bool(false)),
            ("i", &Value::Int(i64::MIN)),
            ("d", &Value::Double(-0.5)),
            ("x", &Value::Bytes(vec![0, 0xff])),
            ("i", &Value::Int(2)),
        ]
    );
}

#[test]
fn kinds_and_statuses_are_told_by_tags() {
    use SpanKind::{Client, Server, Unspecified};
    use StatusCode::{Error, Ok, Unset};
    let kind = |word| text("span.kind", word);
    let code = |word| text("otel.status_code", word);
    let description = text("otel.status_description", "why");
    let message = text("http.status_message", "Not Found");
    type Case<'a> = (Vec<JTag>, SpanKind, StatusCode, &'a str, Vec<&'a str>);
    let cases: Vec<Case<'_>> = vec![
        (vec![], Unspecified, Unset, "", vec![]),
        (
            vec![kind("internal")],
            SpanKind::Internal,
            Unset,
            "",
            vec![],
        ),
        (
            vec![kind("producer")],
            SpanKind::Producer,
            Unset,
            "",
            vec![],
        ),
        (
            vec![kind("consumer")],
            SpanKind::Consumer,
            Unset,
            "",
            vec![],
        ),
        // A word of its own is kept.
        (vec![kind("RPC")], Unspecified, Unset, "", vec!["span.kind"]),
        (
            vec![kind("client"), kind("server")],
            Server,
            Unset,
            "",
            vec![],
        ),
        (
            vec![int("span.kind", 1)],
            Unspecified,
            Unset,
            "",
            vec!["span.kind"],
        ),
        // The boolean tag is the truth.
        (vec![boolean("error", true)], Unspecified, Error, "", vec![]),
        (
            vec![boolean("error", true), code("OK")],
            Unspecified,
            Error,
            "",
            vec![],
        ),
        (
            vec![boolean("error", true), description.clone()],
            Unspecified,
            Error,
            "why",
            vec![],
        ),
        (
            vec![boolean("error", true), message.clone()],
            Unspecified,
            Error,
            "Not Found",
            vec!["http.status_message"],
        ),
        (
            vec![message.clone(), boolean("error", true), description.clone()],
            Unspecified,
            Error,
            "why",
            vec!["http.status_message"],
        ),
        (
            vec![boolean("error", false)],
            Unspecified,
            Unset,
            "",
            vec!["error"],
        ),
        (
            vec![text("error", "true")],
            Unspecified,
            Unset,
            "",
            vec!["error"],
        ),
        (
            vec![boolean("error", false), boolean("error", true)],
            Unspecified,
            Error,
            "",
            vec!["error"],
        ),
        // The OpenTelemetry tag comes next.
        (vec![code("ok")], Unspecified, Ok, "", vec![]),
        (
            vec![code("Error"), description.clone()],
            Unspecified,
            Error,
            "why",
            vec![],
        ),
        (
            vec![code("UNSET"), description.clone()],
            Unspecified,
            Unset,
            "why",
            vec![],
        ),
        (
            vec![code("BAD")],
            Unspecified,
            Unset,
            "",
            vec!["otel.status_code"],
        ),
        (
            vec![boolean("error", false), code("ERROR")],
            Unspecified,
            Error,
            "",
            vec!["error"],
        ),
        (
            vec![code("OK"), int("http.status_code", 500)],
            Unspecified,
            Ok,
            "",
            vec!["http.status_code"],
        ),
        (
            vec![description],
            Unspecified,
            Unset,
            "",
            vec!["otel.status_description"],
        ),
        // Then the HTTP status.
        (
            vec![int("http.status_code", 404), kind("client"), message],
            Client,
            Error,
            "Not Found",
            vec!["http.status_code", "http.status_message"],
        ),
        (
            vec![kind("server"), int("http.status_code", 404)],
            Server,
            Unset,
            "",
            vec!["http.status_code"],
        ),
        (
            vec![int("http.status_code", 404)],
            Unspecified,
            Error,
            "",
            vec!["http.status_code"],
        ),
        (
            vec![kind("server"), text("http.status_code", "503")],
            Server,
            Error,
            "",
            vec!["http.status_code"],
        ),
        (
            vec![int("http.status_code", 302)],
            Unspecified,
            Unset,
            "",
            vec!["http.status_code"],
        ),
        (
            vec![text("http.status_code", "x")],
            Unspecified,
            Unset,
            "",
            vec!["http.status_code"],
        ),
    ];
    for (tags, kind, code, message, left) in cases {
        let group = tagged(&tags);
        let span = &group.spans[0];
        assert_eq!(span.kind, kind, "{tags:?}");
        assert_eq!(span.status.code, code, "{tags:?}");
        assert_eq!(span.status.message, message, "{tags:?}");
        assert_eq!(keys(&span.attributes), left, "{tags:?}");
    }
}

#[test]
fn scope_and_trace_state_are_told_by_tags() {
    let group = tagged(&[
        text("otel.scope.name", "io.lib"),
        text("w3c.tracestate", "a=1"),
        text("otel.scope.version", "2"),
        text("k", "v"),
    ]);
    assert_eq!(group.scope.name, "io.lib");
    assert_eq!(group.scope.version, "2");
    assert_eq!(group.spans[0].trace_state, "a=1");
    assert_eq!(keys(&group.spans[0].attributes), ["k"]);

    let group = tagged(&[text("otel.scope.version", "2")]);
    assert_eq!(*group.scope, Scope::default(), "a version needs a name");
    assert_eq!(keys(&group.spans[0].attributes), ["otel.scope.version"]);
}

#[test]
fn spans_of_several_scopes_part() {
    let scoped = |name: &str| JSpan {
        tags: vec![text("otel.scope.name", name)],
        ..span()
    };
    let decoded = decode(&JBatch {
        spans: vec![scoped("a"), scoped("b"), scoped("a")],
        ..batch_of(span())
    });
    let counts: Vec<_> = decoded
        .batch
        .groups
        .iter()
        .map(|group| (group.scope.name.as_str(), group.spans.len()))
        .collect();
    assert_eq!(counts, [("a", 2), ("b", 1)]);
}

#[test]
fn references_become_parent_and_links() {
    let (high, low) = (span().high, span().low);
    let child = (false, high, low, 5);
    let follows = (true, high, low, 6);
    let foreign = (false, 0, 9, 5);
    /// The parent, and the links: span, trace's low half, type.
    type Case = (
        u64,
        Vec<(bool, u64, u64, u64)>,
        Option<u64>,
        Vec<(u64, u64, &'static str)>,
    );
    let cases: [Case; 9] = [
        (0, vec![], None, vec![]),
        (5, vec![], Some(5), vec![]),
        // Said twice, meant once.
        (5, vec![child], Some(5), vec![]),
        (0, vec![child], Some(5), vec![]),
        (
            0,
            vec![follows, child],
            Some(5),
            vec![(6, low, "follows_from")],
        ),
        (0, vec![follows], Some(6), vec![(6, low, "follows_from")]),
        (0, vec![foreign], None, vec![(5, 9, "child_of")]),
        (5, vec![foreign], Some(5), vec![(5, 9, "child_of")]),
        (
            0,
            vec![child, (false, high, low, 8)],
            Some(5),
            vec![(8, low, "child_of")],
        ),
    ];
    for (parent, references, expected, links) in cases {
        let group = group(&batch_of(JSpan {
            parent,
            references: references.clone(),
            ..span()
        }));
        let span = &group.spans[0];
        assert_eq!(
            span.parent_span_id.map(SpanId::as_u64),
            expected,
            "{references:?}"
        );
        let found: Vec<_> = span
            .links
            .iter()
            .map(|link| {
                let kind = link.attributes[0].value.as_str().expect("a type");
                assert_eq!(link.attributes[0].key, "opentracing.ref_type");
                (link.span_id.as_u64(), link.trace_id.low(), kind)
            })
            .collect();
        assert_eq!(found, links, "{references:?}");
    }
}

#[test]
fn logs_become_events() {
    let group = group(&batch_of(JSpan {
        logs: vec![
            (
                1_795_332_552_157_600,
                vec![int("n", 1), text("event", "cache miss")],
            ),
            (5, vec![text("message", "no name")]),
            (6, vec![int("event", 3)]),
            (7, vec![]),
        ],
        ..span()
    }));
    let events = &group.spans[0].events;
    assert_eq!(
        events[0],
        Event {
            time_unix_nano: 1_795_332_552_157_600_000,
            name: "cache miss".to_owned(),
            attributes: vec![Attribute::new("n", 1_i64)],
            dropped_attributes_count: 0,
        }
    );
    assert_eq!(
        (events[1].name.as_str(), events[1].time_unix_nano),
        ("", 5_000)
    );
    assert_eq!(keys(&events[2].attributes), ["event"]);
    assert_eq!(events.len(), 4);
}

#[test]
fn processes_become_resources() {
    type Case<'a> = (&'a str, Vec<JTag>, Vec<(&'a str, Value)>);
    let cases: [Case<'_>; 6] = [
        ("", vec![], vec![]),
        ("OTLPResourceNoServiceName", vec![], vec![]),
        (
            "",
            vec![text("ip", "10.0.0.1")],
            vec![("ip", "10.0.0.1".into())],
        ),
        (
            "shop",
            vec![
                text("hostname", "h1"),
                text("jaeger.version", "Python-4.8.0"),
            ],
            vec![
                ("service.name", "shop".into()),
                ("host.name", "h1".into()),
                ("opencensus.exporterversion", "Jaeger-Python-4.8.0".into()),
            ],
        ),
        (
            "shop",
            vec![text("hostname", "h1"), text("host.name", "h2")],
            vec![
                ("service.name", "shop".into()),
                ("hostname", "h1".into()),
                ("host.name", "h2".into()),
            ],
        ),
        (
            "shop",
            vec![int("pid", 7)],
            vec![("service.name", "shop".into()), ("pid", Value::Int(7))],
        ),
    ];
    for (service, tags, expected) in cases {
        let group = group(&JBatch {
            service: service.into(),
            tags,
            spans: vec![span()],
        });
        let expected: Vec<_> = expected.iter().map(|(key, value)| (*key, value)).collect();
        assert_eq!(attributes(&group.resource.attributes), expected);
    }
}

#[test]
fn texts_that_are_not_utf8_are_kept_as_bytes() {
    let bad = b"a\xffb".to_vec();
    let group = group(&JBatch {
        service: bad.clone(),
        tags: vec![],
        spans: vec![JSpan {
            name: bad.clone(),
            tags: vec![
                (b"value".to_vec(), JValue::Text(bad.clone())),
                (bad.clone(), JValue::Text(b"v".to_vec())),
                (b"\xfe".to_vec(), JValue::Int(7)),
            ],
            logs: vec![(1, vec![(b"event".to_vec(), JValue::Text(bad.clone()))])],
            ..span()
        }],
    });
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    assert_eq!(
        attributes(&group.resource.attributes),
        [("service.name", &bytes(&bad))]
    );
    assert_eq!(
        project_process(&group.resource).service_name,
        "service-name-wrong-type"
    );
    let span = &group.spans[0];
    assert_eq!(span.name, "invalid-span-name");
    assert_eq!(
        attributes(&span.attributes),
        [
            ("value", &bytes(&bad)),
            ("invalid-tag-key-1", &bytes(b"a\xffb:v")),
            ("invalid-tag-key-2", &bytes(b"\xfe:7")),
            ("invalid-span-name", &bytes(&bad)),
        ]
    );
    assert_eq!(span.events[0].name, "invalid-event-name");
    assert_eq!(
        attributes(&span.events[0].attributes),
        [("invalid-event-name", &bytes(&bad))]
    );
}

#[test]
fn a_debug_span_says_so() {
    let group = group(&batch_of(JSpan { flags: 3, ..span() }));
    assert_eq!(group.spans[0].flags, 1);
    assert_eq!(
        attributes(&group.spans[0].attributes),
        [(DEBUG, &Value::Bool(true))]
    );
}

#[test]
fn a_negative_duration_ends_before_it_starts() {
    let group = group(&batch_of(JSpan {
        duration: -2,
        ..span()
    }));
    let span = &group.spans[0];
    assert_eq!(span.end_unix_nano, span.start_unix_nano - 2_000);
    assert_eq!(span.duration_nano(), 0);
}

#[test]
fn a_bad_span_is_refused_alone() {
    let cases = [
        (JSpan { id: 0, ..span() }, "the span id is zero"),
        (
            JSpan {
                high: 0,
                low: 0,
                ..span()
            },
            "the trace id is zero",
        ),
        (
            JSpan {
                duration: i64::MAX,
                ..span()
            },
            "the end lies before 1970 or beyond 2554",
        ),
        (
            JSpan {
                logs: vec![(-1, vec![])],
                ..span()
            },
            "a log's timestamp lies before 1970 or beyond 2554",
        ),
    ];
    for (bad, reason) in cases {
        let decoded = decode(&JBatch {
            spans: vec![span(), bad, span()],
            ..batch_of(span())
        });
        assert_eq!(decoded.batch.span_count(), 2);
        assert_eq!(
            decoded.refused.to_string(),
            format!("1 span refused: spans[1]: {reason}")
        );
    }
    // Each encoding names its own field.
    for (name, decoded) in decode_all(&batch_of(JSpan {
        start: -1,
        ..span()
    })) {
        let field = if name == "protobuf" {
            "start_time"
        } else {
            "startTime"
        };
        assert_eq!(
            decoded.refused.to_string(),
            format!("1 span refused: spans[0]: {field} lies before 1970 or beyond 2554")
        );
    }
}

#[test]
fn more_tags_than_the_limit_are_counted() {
    let tags: Vec<_> = (0..MAX_ATTRIBUTES as i64 + 3)
        .map(|i| int("n", i))
        .collect();
    let group = tagged(&tags);
    assert_eq!(group.spans[0].attributes.len(), MAX_ATTRIBUTES);
    assert_eq!(group.spans[0].dropped_attributes_count, 3);
}

#[test]
fn a_span_of_its_own_process_belongs_to_that() {
    let own = |service: &str| PSpan {
        process: Some(PProcess {
            service_name: service.into(),
            tags: vec![],
        }),
        ..span().protobuf()
    };
    let request = PostSpansRequest {
        batch: Some(PBatch {
            spans: vec![own("a"), span().protobuf(), own("b"), own("a")],
            process: Some(PProcess {
                service_name: b"batch".to_vec(),
                tags: vec![],
            }),
        }),
    };
    let decoded = decode_post_spans(&request.encode_to_vec()).expect("a request");
    let counts: Vec<_> = decoded
        .batch
        .groups
        .iter()
        .map(|group| (group.resource.service_name(), group.spans.len()))
        .collect();
    assert_eq!(counts, [("a", 2), ("batch", 1), ("b", 1)]);
}

#[test]
fn ids_of_64_bits_are_read_from_protobuf() {
    let of = |trace: &[u8], span_id: &[u8]| {
        let request = PostSpansRequest {
            batch: Some(PBatch {
                spans: vec![PSpan {
                    trace_id: trace.to_vec(),
                    span_id: span_id.to_vec(),
                    ..span().protobuf()
                }],
                process: None,
            }),
        };
        decode_post_spans(&request.encode_to_vec()).expect("a request")
    };
    let decoded = of(&[0, 0, 0, 0, 0, 0, 0, 9], &[0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(
        decoded.batch.groups[0].spans[0].trace_id,
        TraceId::from_halves(0, 9)
    );
    for (trace, id, reason) in [
        (
            &[1_u8; 15][..],
            &[1_u8; 8][..],
            "trace_id has 15 bytes instead of 16 or 8",
        ),
        (&[], &[1; 8], "the trace id is zero"),
        (&[1; 16], &[1; 7], "span_id has 7 bytes instead of 8"),
    ] {
        let refused = of(trace, id).refused.to_string();
        assert_eq!(refused, format!("1 span refused: spans[0]: {reason}"));
    }
    assert_eq!(
        decode_post_spans(b"").expect("an empty request").batch,
        Batch::default()
    );
}

#[test]
fn malformed_batches_are_refused_with_the_place() {
    let without = |id: i16| {
        let Thrift::Struct(mut fields) = span().thrift() else {
            unreachable!("a span is a struct");
        };
        fields.retain(|field| field.0 != id);
        let process = Thrift::Struct(vec![(1, Thrift::text("shop"))]);
        let spans = Thrift::List(vec![Thrift::Struct(fields)]);
        Thrift::Struct(vec![(1, process), (2, spans)]).binary()
    };
    let tags = |tag: Vec<(i16, Thrift)>| {
        let tags = Thrift::List(vec![Thrift::Struct(tag)]);
        let process = Thrift::Struct(vec![(1, Thrift::text("shop")), (2, tags)]);
        Thrift::Struct(vec![(1, process), (2, Thrift::List(vec![]))]).binary()
    };
    let cases = [
        (
            vec![],
            "cut short at byte 0: 1 more bytes are announced, 0 are left",
        ),
        (vec![0], "Batch.process is missing"),
        (
            b"{\"spans\":[]}".to_vec(),
            "byte 0: 123 is no type of a value",
        ),
        (without(1), "Span.traceIdLow is missing"),
        (without(7), "Span.flags is missing"),
        (without(9), "Span.duration is missing"),
        (tags(vec![(2, Thrift::I32(0))]), "Tag.key is missing"),
        (tags(vec![(1, Thrift::text("k"))]), "Tag.vType is missing"),
        (
            tags(vec![(1, Thrift::I64(1))]),
            "Tag.key is a i64 instead of a string",
        ),
        (
            Thrift::Struct(vec![(1, Thrift::Struct(vec![]))]).binary(),
            "Process.serviceName is missing",
        ),
    ];
    for (bytes, reason) in cases {
        let error = decode_thrift_batch(&bytes).expect_err(reason).to_string();
        assert_eq!(error, format!("not a Jaeger batch in Thrift: {reason}"));
    }
    let compact = |bytes: &[u8]| {
        decode_agent_message(bytes, ThriftProtocol::Compact)
            .expect_err("a refusal")
            .to_string()
    };
    let call = arguments(&batch_of(span()));
    assert_eq!(
        compact(&compact_call("emitZipkin\nBatch", &call)),
        "a message calls 'emitZipkin\\nBatch': an agent has emitBatch"
    );
    let mut answer = compact_call("emitBatch", &call);
    answer[1] = 2 << 5 | 1;
    assert_eq!(
        compact(&answer),
        "a message of type 2 is no call: an agent is called, it is not answered"
    );
    assert_eq!(
        compact(&compact_call("emitBatch", &Thrift::Struct(vec![]))),
        "not a Jaeger batch in Thrift: emitBatch.batch is missing"
    );
    let protobuf = decode_post_spans(b"\x0a\x02\x0a\x05").expect_err("a refusal");
    assert_eq!(
        protobuf.to_string(),
        "not a Jaeger batch in protobuf: Batch is cut short"
    );
}

/// Unknown fields of later versions, of every type, are passed over.
#[test]
fn unknown_fields_are_passed_over() {
    let unknown = Thrift::Struct(vec![
        (1, Thrift::List(vec![Thrift::Double(0.5)])),
        (2, Thrift::Bool(true)),
        (300, Thrift::Struct(vec![(1, Thrift::text("x"))])),
    ]);
    let Thrift::Struct(mut fields) = span().thrift() else {
        unreachable!("a span is a struct");
    };
    fields.push((99, unknown.clone()));
    let process = Thrift::Struct(vec![(1, Thrift::text("shop")), (50, unknown.clone())]);
    let spans = Thrift::List(vec![Thrift::Struct(fields)]);
    // The spans before their process, too.
    let batch = Thrift::Struct(vec![(2, spans), (1, process), (4, unknown)]);
    let call = compact_call("emitBatch", &Thrift::Struct(vec![(1, batch)]));
    let decoded = decode_agent_message(&call, ThriftProtocol::Compact).expect("a message");
    assert_eq!(decoded, decode(&batch_of(span())));
}

#[test]
fn spans_are_written_as_the_query_service_sends_them() {
    let mut group = tagged(&[
        int("n", 0),
        boolean("error", true),
        text("span.kind", "client"),
    ]);
    group.spans[0].links.push(Link {
        trace_id: TraceId::from_halves(0, 9),
        span_id: SpanId::from_u64(5),
        ..Link::default()
    });
    group.spans[0].start_unix_nano += 7;
    let mut out = Vec::new();
    let span = project_span(&group.spans[0], &group.scope);
    let process = project_process(&group.resource);
    append_span(&mut out, 1, &span, &process, &["odd".to_owned()]);
    // As a chunk: the spans of `PBatch` have the same number as those of a `SpansResponseChunk`.
    let chunk = PBatch::decode(&out[..]).expect("a chunk");
    let [written] = &chunk.spans[..] else {
        panic!("{chunk:?}");
    };
    assert_eq!(written.trace_id.len(), 16);
    assert_eq!(written.operation_name, b"get");
    assert_eq!(
        written.start_time,
        Some(PTime {
            seconds: 1_795_332_552,
            nanos: 157_501_007
        })
    );
    assert_eq!(
        written.duration,
        Some(PTime {
            seconds: 0,
            nanos: 1_249_993
        })
    );
    assert_eq!(written.references[0].ref_type, 1);
    let tags: Vec<_> = written
        .tags
        .iter()
        .map(|tag| (std::str::from_utf8(&tag.key).expect("text"), tag.v_type))
        .collect();
    assert_eq!(
        tags,
        [
            ("n", 2),
            ("span.kind", 0),
            ("otel.status_code", 0),
            ("error", 1)
        ]
    );
    assert_eq!(
        written.process.as_ref().map(|it| &it.service_name[..]),
        Some(&b"shop"[..])
    );
    assert_eq!(written.warnings, ["odd"]);
    assert_eq!(written.process_id, "");
}

fn views(batch: &Batch) -> Vec<String> {
    let mut views = Vec::new();
    for group in &batch.groups {
        let process = project_process(&group.resource);
        for span in &group.spans {
            let mut span = project_span(span, &group.scope);
            span.tags.sort_by_key(|tag| format!("{tag:?}"));
            views.push(format!("{process:?} {span:?}"));
        }
    }
    views.sort_unstable();
    views
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What Jaeger shows of any span, sent again, shows the same.
    #[test]
    fn what_is_shown_reads_back(batch in support::batch()) {
        let mut message = Vec::new();
        for group in &batch.groups {
            let process = project_process(&group.resource);
            for span in &group.spans {
                append_span(&mut message, 1, &project_span(span, &group.scope), &process, &[]);
            }
        }
        let mut request = Vec::new();
        prost::encoding::bytes::encode(1, &message, &mut request);
        let decoded = decode_post_spans(&request).expect("what was written");
        prop_assert!(decoded.refused.is_empty(), "{}", decoded.refused);
        prop_assert_eq!(views(&decoded.batch), views(&batch));
    }

    /// The encodings agree on any span.
    #[test]
    fn encodings_agree(batch in support::batch()) {
        for group in &batch.groups {
            let spans = group.spans.iter().map(|it| JSpan::of(&project_span(it, &group.scope)));
            decode(&JBatch::of(&project_process(&group.resource), spans.collect()));
        }
    }

    /// Broken bytes are refused, or they are spans; nothing else.
    #[test]
    fn mutations_never_panic(batch in support::batch(), changes in mutations()) {
        let Some(group) = batch.groups.first() else { return Ok(()); };
        let spans = group.spans.iter().map(|it| JSpan::of(&project_span(it, &group.scope)));
        let batch = JBatch::of(&project_process(&group.resource), spans.collect());
        let call = arguments(&batch);
        let mut bytes = [
            batch.thrift().binary(),
            binary_call("emitBatch", &call),
            compact_call("emitBatch", &call),
            batch.protobuf(),
        ];
        for bytes in &mut bytes {
            changes.iter().for_each(|change| change.apply(bytes));
        }
        let _ = decode_thrift_batch(&bytes[0]);
        let _ = decode_agent_message(&bytes[1], ThriftProtocol::Binary);
        let _ = decode_agent_message(&bytes[2], ThriftProtocol::Compact);
        let _ = decode_post_spans(&bytes[3]);
    }
}

#[test]
fn resources_are_shared() {
    let decoded = decode(&JBatch {
        spans: vec![
            span(),
            JSpan {
                tags: vec![text("otel.scope.name", "x")],
                ..span()
            },
        ],
        ..batch_of(span())
    });
    let [one, two] = &decoded.batch.groups[..] else {
        panic!("{decoded:?}");
    };
    assert!(Arc::ptr_eq(&one.resource, &two.resource));
}
