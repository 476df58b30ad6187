use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-zäö\0]{0,6}", Just("x".repeat(300))]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Empty),
        text().prop_map(Value::String),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>()
            .prop_filter("equality", |v| !v.is_nan())
            .prop_map(Value::Double),
        proptest::collection::vec(any::<u8>(), 0..5).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let entry = (text(), inner.clone()).prop_map(|(k, v)| Attribute::new(k, v));
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::Array),
            proptest::collection::vec(entry, 0..4).prop_map(Value::Map),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<Attribute>> {
    let attribute = (text(), value()).prop_map(|(k, v)| Attribute::new(k, v));
    proptest::collection::vec(attribute, 0..4)
}

fn span() -> impl Strategy<Value = Span> {
    let event = (any::<u64>(), text(), attributes(), any::<u32>()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    );
    let link = (any::<[u8; 16]>(), text(), attributes(), any::<u32>()).prop_map(
        |(id, trace_state, attributes, flags)| Link {
            trace_id: TraceId::from_bytes(id),
            span_id: SpanId::from_u64(flags.into()),
            trace_state,
            flags,
            attributes,
            dropped_attributes_count: flags / 2,
        },
    );
    (
        (
            any::<[u8; 16]>(),
            any::<u64>(),
            proptest::option::of(any::<u64>()),
        ),
        (text(), text(), text(), any::<u32>(), 0..6_i32, 0..3_i32),
        (any::<u64>(), any::<u64>(), attributes(), any::<u32>()),
        proptest::collection::vec(event, 0..3),
        proptest::collection::vec(link, 0..3),
    )
        .prop_map(|(ids, texts, rest, events, links)| Span {
            trace_id: TraceId::from_bytes(ids.0),
            span_id: SpanId::from_u64(ids.1),
            parent_span_id: ids.2.map(SpanId::from_u64),
            trace_state: texts.0,
            name: texts.1,
            flags: texts.3,
            kind: SpanKind::from_number(texts.4),
            status: Status {
                code: StatusCode::from_number(texts.5),
                message: texts.2,
            },
            start_unix_nano: rest.0,
            end_unix_nano: rest.1,
            attributes: rest.2,
            dropped_attributes_count: rest.3,
            dropped_events_count: rest.3 / 2,
            dropped_links_count: rest.3 / 3,
            events,
            links,
        })
}

fn batch() -> impl Strategy<Value = Batch> {
    let group = (
        attributes(),
        text(),
        proptest::collection::vec(span(), 0..4),
        any::<u8>(),
    );
    proptest::collection::vec(group, 0..4).prop_map(|groups| {
        let mut batch = Batch::default();
        for (attributes, text, spans, same) in groups {
            let mut resource = Arc::new(Resource {
                attributes: attributes.clone(),
                dropped_attributes_count: same.into(),
                schema_url: text.clone(),
            });
            let mut scope = Arc::new(Scope {
                name: text.clone(),
                version: text.clone(),
                attributes,
                dropped_attributes_count: same.into(),
                schema_url: text,
            });
            if let Some(before) = batch.groups.last() {
                let before: &SpanGroup = before;
                if same & 1 != 0 {
                    resource = before.resource.clone();
                }
                if same & 2 != 0 {
                    scope = before.scope.clone();
                }
            }
            batch.groups.push(SpanGroup {
                resource,
                scope,
                spans,
            });
        }
        batch
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(batch in batch()) {
        let mut bytes = Vec::new();
        prop_assert!(encode(&batch, &mut bytes));
        prop_assert_eq!(decode(&bytes), Ok(batch));
    }

    #[test]
    fn nothing_that_is_read_is_trusted(batch in batch(), cut in any::<usize>(), flip in any::<u8>()) {
        let mut bytes = Vec::new();
        prop_assert!(encode(&batch, &mut bytes));
        let cut = cut % bytes.len();
        prop_assert!(decode(&bytes[..cut]).is_err());
        bytes[cut] ^= flip;
        // Any answer but a panic is fine: the checksum above is what finds damage.
        let _ = decode(&bytes);
        bytes[cut] ^= flip;
        bytes.push(0);
        prop_assert_eq!(decode(&bytes), Err(DecodeError::Trailing));
    }
}

#[test]
fn numbers_of_things_are_not_believed() {
    // Four thousand million groups in six bytes.
    assert_eq!(
        decode(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
        Err(DecodeError::Truncated)
    );
}

#[test]
fn values_may_not_nest_without_end() {
    let nested = |depth| (0..depth).fold(Value::Empty, |inner, _| Value::Array(vec![inner]));
    for (depth, fine) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false)] {
        let resource = Resource {
            attributes: vec![Attribute::new("k", nested(depth))],
            ..Resource::default()
        };
        let batch = Batch {
            groups: vec![SpanGroup {
                resource: Arc::new(resource),
                ..SpanGroup::default()
            }],
        };
        let mut bytes = Vec::new();
        assert_eq!(encode(&batch, &mut bytes), fine);
        assert_eq!(decode(&bytes).is_ok(), fine);
    }
}
