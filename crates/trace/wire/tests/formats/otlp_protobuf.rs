//! OTLP protobuf ⇄ model (opentelemetry-proto 1.x, `trace/v1/trace.proto`).

use crate::support::proto::{
    self, Any, AnyValue, ArrayValue, KeyValue, KeyValueList, bare_span, request, text,
};
use periplus_model::{Attribute, Batch, SpanId, SpanKind, StatusCode, TraceId, Value};
use periplus_wire::otlp::{
    DecodeError, Decoded, MAX_ATTRIBUTES, MAX_DEPTH, MAX_EVENTS, MAX_LINKS, MAX_VALUES, Refused,
    decode_protobuf, encode_protobuf,
};
use proptest::prelude::*;
use prost::Message;

fn decode(request: &proto::Request) -> Decoded {
    decode_protobuf(&request.encode_to_vec()).expect("well-formed protobuf")
}

/// The one span of a request, or why it was refused.
fn decode_span(span: proto::Span) -> Result<periplus_model::Span, String> {
    let decoded = decode(&request(vec![span]));
    match decoded.batch.groups.as_slice() {
        [group] => Ok(group.spans[0].clone()),
        _ => Err(decoded.refused.to_string()),
    }
}

#[test]
fn every_field_has_its_number() {
    let span = proto::Span {
        trace_state: "k=v".to_owned(),
        parent_span_id: vec![9; 8],
        name: "GET /".to_owned(),
        kind: 3,
        start_time_unix_nano: 1_795_332_558_270_715_000,
        end_time_unix_nano: 1_795_332_558_327_012_000,
        attributes: vec![text("a", "b")],
        dropped_attributes_count: 1,
        events: vec![proto::Event {
            time_unix_nano: 7,
            name: "retry".to_owned(),
            attributes: vec![text("c", "d")],
            dropped_attributes_count: 2,
        }],
        dropped_events_count: 3,
        links: vec![proto::Link {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            trace_state: "l=m".to_owned(),
            attributes: vec![text("e", "f")],
            dropped_attributes_count: 4,
            flags: 0x301,
        }],
        dropped_links_count: 5,
        status: Some(proto::Status {
            message: "broken".to_owned(),
            code: 2,
        }),
        flags: 0x101,
        ..bare_span()
    };
    let mut whole = request(vec![span]);
    let of_resource = &mut whole.resource_spans[0];
    of_resource.schema_url = "https://resource".to_owned();
    of_resource.resource = Some(proto::Resource {
        attributes: vec![text("service.name", "s")],
        dropped_attributes_count: 6,
    });
    let of_scope = &mut of_resource.scope_spans[0];
    of_scope.schema_url = "https://scope".to_owned();
    of_scope.scope = Some(proto::Scope {
        name: "envoy".to_owned(),
        version: "1.40.0".to_owned(),
        attributes: vec![text("g", "h")],
        dropped_attributes_count: 7,
    });
    let decoded = decode(&whole);
    assert!(decoded.refused.is_empty());
    insta::assert_debug_snapshot!(decoded.batch);
}

#[test]
fn values_keep_their_types() {
    let any = |any| Some(AnyValue { value: Some(any) });
    let list = vec![
        ("string", any(Any::String(String::new())), Value::from("")),
        ("bool", any(Any::Bool(false)), Value::Bool(false)),
        ("int", any(Any::Int(-1)), Value::Int(-1)),
        ("least", any(Any::Int(i64::MIN)), Value::Int(i64::MIN)),
        ("double", any(Any::Double(0.0)), Value::Double(0.0)),
        (
            "bytes",
            any(Any::Bytes(vec![0, 255])),
            Value::Bytes(vec![0, 255]),
        ),
        ("unset", Some(AnyValue { value: None }), Value::Empty),
        ("missing", None, Value::Empty),
        (
            "array",
            any(Any::Array(ArrayValue {
                values: vec![AnyValue { value: None }],
            })),
            Value::Array(vec![Value::Empty]),
        ),
        (
            "map",
            any(Any::Map(KeyValueList {
                values: vec![text("k", "v")],
            })),
            Value::Map(vec![Attribute::new("k", "v")]),
        ),
    ];
    let attributes = list
        .iter()
        .map(|(key, value, _)| KeyValue {
            key: (*key).to_owned(),
            value: value.clone(),
        })
        .collect();
    let span = decode_span(proto::Span {
        attributes,
        ..bare_span()
    })
    .expect("a good span");
    for (attribute, (key, _, value)) in span.attributes.iter().zip(&list) {
        assert_eq!(
            (&attribute.key, &attribute.value),
            (&(*key).to_owned(), value)
        );
    }
    assert_eq!(span.attributes.len(), list.len());
}

#[test]
fn unknown_numbers_count_as_not_said() {
    for (kind, code) in [(6, 3), (-1, -1), (i32::MAX, i32::MIN)] {
        let span = decode_span(proto::Span {
            kind,
            status: Some(proto::Status {
                message: String::new(),
                code,
            }),
            ..bare_span()
        })
        .expect("a good span");
        assert_eq!(span.kind, SpanKind::Unspecified);
        assert_eq!(span.status.code, StatusCode::Unset);
    }
}

#[test]
fn a_span_with_bad_ids_is_refused_alone() {
    let link = |trace_id, span_id| proto::Link {
        trace_id,
        span_id,
        ..proto::Link::default()
    };
    let with_link = |trace_id, span_id| proto::Span {
        links: vec![link(trace_id, span_id)],
        ..bare_span()
    };
    let cases = [
        (
            proto::Span {
                trace_id: vec![],
                ..bare_span()
            },
            "trace_id is missing or zero",
        ),
        (
            proto::Span {
                trace_id: vec![0; 16],
                ..bare_span()
            },
            "trace_id is missing or zero",
        ),
        (
            proto::Span {
                trace_id: vec![1; 8],
                ..bare_span()
            },
            "trace_id has 8 bytes instead of 16",
        ),
        (
            proto::Span {
                span_id: vec![],
                ..bare_span()
            },
            "span_id is missing or zero",
        ),
        (
            proto::Span {
                span_id: vec![0; 8],
                ..bare_span()
            },
            "span_id is missing or zero",
        ),
        (
            proto::Span {
                span_id: vec![1; 16],
                ..bare_span()
            },
            "span_id has 16 bytes instead of 8",
        ),
        (
            proto::Span {
                parent_span_id: vec![1; 4],
                ..bare_span()
            },
            "parent_span_id has 4 bytes instead of 8",
        ),
        (
            with_link(vec![1; 15], vec![1; 8]),
            "a link's trace_id has 15 bytes instead of 16",
        ),
        (
            with_link(vec![1; 16], vec![1; 9]),
            "a link's span_id has 9 bytes instead of 8",
        ),
    ];
    for (span, reason) in cases {
        let decoded = decode(&request(vec![bare_span(), span, bare_span()]));
        assert_eq!(decoded.batch.span_count(), 2, "{reason}");
        let expected = Refused {
            spans: 1,
            reasons: vec![format!(
                "resource_spans[0].scope_spans[0].spans[1]: {reason}"
            )],
        };
        assert_eq!(decoded.refused, expected);
    }
    let rooted = proto::Span {
        parent_span_id: vec![0; 8],
        links: vec![link(vec![], vec![])],
        ..bare_span()
    };
    let span = decode_span(rooted).expect("a zero parent is none, an empty link is one");
    assert_eq!(span.parent_span_id, None);
    assert_eq!(span.links[0].trace_id, TraceId::ZERO);
    assert_eq!(span.links[0].span_id, SpanId::ZERO);
}

#[test]
fn the_message_about_refused_spans_is_short() {
    let bad = proto::Span::default();
    let decoded = decode(&request(vec![bad; 1000]));
    assert_eq!(decoded.batch, Batch::default());
    insta::assert_snapshot!(decoded.refused.to_string().replace("; ", ";\n"));
}

#[test]
fn unknown_fields_and_empty_messages_are_ignored() {
    let mut bytes = request(vec![bare_span()]).encode_to_vec();
    let whole = decode_protobuf(&bytes);
    bytes.extend_from_slice(&[
        0xf8, 0x06, 1, 0xfa, 0x06, 2, b'h', b'i', 0xfb, 0x06, 0xfc, 0x06,
    ]);
    assert_eq!(decode_protobuf(&bytes), whole);
    assert_eq!(decode_protobuf(&[]), Ok(Decoded::default()));
    assert_eq!(
        decode_protobuf(&[0x0a, 4, 0x0a, 0, 0x12, 0]),
        Ok(Decoded::default())
    );
}

#[test]
fn fields_in_any_order_and_in_pieces_are_one_message() {
    let mut bytes = Vec::new();
    let one = request(vec![bare_span()]).resource_spans.remove(0);
    let reversed = [
        proto::ResourceSpans {
            scope_spans: one.scope_spans.clone(),
            ..proto::ResourceSpans::default()
        }
        .encode_to_vec(),
        proto::ResourceSpans {
            resource: one.resource,
            ..proto::ResourceSpans::default()
        }
        .encode_to_vec(),
        proto::ResourceSpans {
            resource: Some(proto::Resource {
                attributes: vec![text("zone", "z1")],
                dropped_attributes_count: 0,
            }),
            ..proto::ResourceSpans::default()
        }
        .encode_to_vec(),
    ]
    .concat();
    prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(reversed.len() as u64, &mut bytes);
    bytes.extend_from_slice(&reversed);
    let decoded = decode_protobuf(&bytes).expect("well-formed protobuf");
    let resource = &decoded.batch.groups[0].resource;
    assert_eq!(resource.service_name(), "reviews.default");
    assert_eq!(resource.attribute("zone"), Some(&Value::from("z1")));
}

/// A length-delimited field.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out
}

/// A request around the bytes of one span.
fn around(span: &[u8]) -> Vec<u8> {
    field(1, &field(2, &field(2, span)))
}

#[test]
fn malformed_requests_are_refused_with_the_fields_name() {
    let attribute = |inner: &[u8]| around(&field(9, inner));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![0x0a], "ExportTraceServiceRequest is cut short"),
        (vec![0x0a, 5, 0], "ExportTraceServiceRequest is cut short"),
        (
            vec![0x08, 1],
            "ExportTraceServiceRequest.resource_spans has protobuf wire type 0 instead of 2",
        ),
        (field(1, &[0x12, 9]), "ResourceSpans is cut short"),
        (field(1, &field(2, &[0x12, 9])), "ScopeSpans is cut short"),
        (around(&[0x0a, 16, 1, 2]), "Span is cut short"),
        (around(&[0x39, 1, 2]), "Span is cut short"),
        (around(&[0x07]), "Span has an invalid field key"),
        (around(&[0x00, 1]), "Span has an invalid field key"),
        (
            around(&[
                0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ]),
            "Span has a number of more than 64 bits",
        ),
        (
            around(&[0x08, 1]),
            "Span.trace_id has protobuf wire type 0 instead of 2",
        ),
        (
            around(&[0x38, 1]),
            "Span.start_time_unix_nano has protobuf wire type 0 instead of 1",
        ),
        (
            around(&[0x80, 0x01, 1]),
            "Span.flags has protobuf wire type 0 instead of 5",
        ),
        (
            around(&field(6, b"")),
            "Span.kind has protobuf wire type 2 instead of 0",
        ),
        (around(&field(5, b"\xff")), "Span.name is not valid UTF-8"),
        (
            around(&field(3, b"\xc3\x28")),
            "Span.trace_state is not valid UTF-8",
        ),
        (
            around(&field(15, &field(2, b"\xff"))),
            "Status.message is not valid UTF-8",
        ),
        (
            around(&field(11, &field(2, b"\xff"))),
            "Span.Event.name is not valid UTF-8",
        ),
        (
            around(&field(13, &field(3, b"\xff"))),
            "Span.Link.trace_state is not valid UTF-8",
        ),
        (
            attribute(&field(1, b"\xff")),
            "KeyValue.key is not valid UTF-8",
        ),
        (
            attribute(&field(2, &field(1, b"\xff"))),
            "AnyValue.string_value is not valid UTF-8",
        ),
        (
            attribute(&field(2, &field(5, &[0x08, 1]))),
            "ArrayValue.values has protobuf wire type 0 instead of 2",
        ),
        (
            attribute(&field(2, &field(6, &field(1, &field(1, b"\xff"))))),
            "KeyValue.key is not valid UTF-8",
        ),
        (
            field(1, &field(1, &field(1, &field(1, b"\xff")))),
            "KeyValue.key is not valid UTF-8",
        ),
        (
            field(1, &field(3, b"\xff")),
            "ResourceSpans.schema_url is not valid UTF-8",
        ),
        (
            field(1, &field(2, &field(1, &field(1, b"\xff")))),
            "InstrumentationScope.name is not valid UTF-8",
        ),
    ];
    for (bytes, message) in cases {
        let error = decode_protobuf(&bytes).expect_err(message);
        assert_eq!(error, DecodeError::Protobuf(message.to_owned()));
    }
}

#[test]
fn a_bad_id_does_not_hide_bytes_that_cannot_be_read() {
    let span = [field(1, b"short"), vec![0x2a, 9]].concat();
    assert!(decode_protobuf(&around(&span)).is_err());
}

#[test]
fn every_cut_of_a_request_is_an_error_or_a_shorter_request() {
    let whole = request(vec![bare_span()]).encode_to_vec();
    for cut in 1..whole.len() {
        assert!(decode_protobuf(&whole[..cut]).is_err(), "cut at {cut}");
    }
}

fn nested(depth: usize) -> AnyValue {
    let innermost = AnyValue {
        value: Some(Any::Int(1)),
    };
    (0..depth).fold(innermost, |value, level| AnyValue {
        value: Some(if level % 2 == 0 {
            Any::Array(ArrayValue {
                values: vec![value],
            })
        } else {
            Any::Map(KeyValueList {
                values: vec![KeyValue {
                    key: String::new(),
                    value: Some(value),
                }],
            })
        }),
    })
}

fn with_value(value: AnyValue) -> proto::Span {
    proto::Span {
        attributes: vec![KeyValue {
            key: "k".to_owned(),
            value: Some(value),
        }],
        ..bare_span()
    }
}

#[test]
fn nesting_is_bounded() {
    assert!(decode_span(with_value(nested(MAX_DEPTH))).is_ok());
    for depth in [MAX_DEPTH + 1, 10_000] {
        // Prost would overflow its own stack on the way down: the bytes are nested by hand.
        let mut bytes = field(1, b"x");
        for _ in 0..depth {
            bytes = field(5, &field(1, &bytes));
        }
        let bad = [bare_span().encode_to_vec(), field(9, &field(2, &bytes))].concat();
        let good = field(2, &bare_span().encode_to_vec());
        let request = field(1, &field(2, &[field(2, &bad), good].concat()));
        let decoded = decode_protobuf(&request).expect("only the span is refused");
        assert_eq!((decoded.batch.span_count(), decoded.refused.spans), (1, 1));
        assert!(
            decoded
                .refused
                .to_string()
                .contains("nested more than 32 deep"),
            "{}",
            decoded.refused
        );
        let of_resource = field(1, &field(1, &field(1, &field(2, &bytes))));
        assert_eq!(decode_protobuf(&of_resource), Err(DecodeError::TooDeep));
    }
}

#[test]
fn nested_values_are_bounded() {
    let array = |length| AnyValue {
        value: Some(Any::Array(ArrayValue {
            values: vec![AnyValue { value: None }; length],
        })),
    };
    assert!(decode_span(with_value(array(MAX_VALUES))).is_ok());
    let refused = decode_span(with_value(array(MAX_VALUES + 1))).expect_err("too many");
    assert!(
        refused.contains("more than 16384 nested values"),
        "{refused}"
    );
}

#[test]
fn lists_are_bounded_and_what_is_dropped_is_counted() {
    let attributes = vec![text("k", "v"); MAX_ATTRIBUTES + 3];
    let span = decode_span(proto::Span {
        attributes: attributes.clone(),
        dropped_attributes_count: 4,
        events: [
            vec![proto::Event {
                attributes,
                ..proto::Event::default()
            }],
            vec![proto::Event::default(); MAX_EVENTS],
        ]
        .concat(),
        dropped_events_count: u32::MAX,
        links: vec![proto::Link::default(); MAX_LINKS + 2],
        ..bare_span()
    })
    .expect("a good span");
    assert_eq!(span.attributes.len(), MAX_ATTRIBUTES);
    assert_eq!(span.dropped_attributes_count, 7);
    assert_eq!(span.events.len(), MAX_EVENTS);
    assert_eq!(span.events[0].dropped_attributes_count, 3);
    assert_eq!(span.dropped_events_count, u32::MAX);
    assert_eq!(span.links.len(), MAX_LINKS);
    assert_eq!(span.dropped_links_count, 2);
}

#[test]
fn not_a_number_keeps_its_bits() {
    let bits = 0x7ff8_dead_beef_0001;
    let value = AnyValue {
        value: Some(Any::Double(f64::from_bits(bits))),
    };
    let span = decode_span(with_value(value)).expect("a good span");
    let Value::Double(number) = span.attributes[0].value else {
        panic!("a double, not {:?}", span.attributes[0]);
    };
    assert_eq!(number.to_bits(), bits);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_decodes_to_the_same(batch in crate::support::batch()) {
        let decoded = decode_protobuf(&encode_protobuf(&batch));
        prop_assert_eq!(decoded, Ok(Decoded { batch, refused: Refused::default() }));
    }

    #[test]
    fn prost_reads_and_writes_the_same(batch in crate::support::batch()) {
        let ours = encode_protobuf(&batch);
        let theirs = proto::Request::decode(ours.as_slice()).expect("prost reads it");
        let decoded = decode_protobuf(&theirs.encode_to_vec());
        prop_assert_eq!(decoded.map(|decoded| decoded.batch), Ok(batch));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_do_no_harm(bytes: Vec<u8>) {
        let _ = decode_protobuf(&bytes);
        let _ = decode_protobuf(&around(&bytes));
        let _ = decode_protobuf(&around(&[bare_span().encode_to_vec(), field(9, &bytes)].concat()));
    }

    #[test]
    fn changed_requests_do_no_harm(seed in 0..64_usize, mutations in crate::support::mutations()) {
        let mut bytes = corpus()[seed % corpus().len()].clone();
        for mutation in &mutations {
            mutation.apply(&mut bytes);
        }
        // Whatever was read must be writable, and read back.
        if let Ok(decoded) = decode_protobuf(&bytes) {
            let again = decode_protobuf(&encode_protobuf(&decoded.batch)).expect("our own bytes");
            prop_assert_eq!(again.batch.span_count(), decoded.batch.span_count());
        }
    }
}

/// Some valid requests, made once.
fn corpus() -> &'static [Vec<u8>] {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    static CORPUS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    CORPUS.get_or_init(|| {
        let mut runner = TestRunner::deterministic();
        (0..64)
            .map(|_| {
                let tree = crate::support::batch()
                    .new_tree(&mut runner)
                    .expect("a batch");
                encode_protobuf(&tree.current())
            })
            .collect()
    })
}
