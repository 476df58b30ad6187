//! Keys and values of attributes, for those who complete what is typed.

use std::sync::Arc;

use periplus_filter::{Scalar, Scope as Where};
use periplus_model::{Attribute, Batch, Event, Resource, Scope, Span, SpanGroup, Value};
use periplus_segment::{AttributeKey, AttributeType, Builder, EncodeOptions, Segment};

fn segment() -> Segment {
    let span = |n: usize| Span {
        name: "operation".to_owned(),
        attributes: vec![
            Attribute::new("route", ["/a", "/b/1", "/b/2", "/c"][n % 4]),
            Attribute::new("code", n as i64),
            Attribute::new("id", format!("id {n}")),
        ],
        events: vec![Event {
            attributes: vec![Attribute::new("route", "/b/event")],
            ..Event::default()
        }],
        ..Span::default()
    };
    let mut resource = Resource::of_service("shop");
    resource
        .attributes
        .push(Attribute::new("list", Value::Array(vec![])));
    let batch = Batch {
        groups: vec![SpanGroup {
            resource: Arc::new(resource),
            scope: Arc::new(Scope {
                attributes: vec![Attribute::new("yes", true)],
                ..Scope::default()
            }),
            spans: (0..100).map(span).collect(),
        }],
    };
    let mut builder = Builder::new();
    builder.append(&batch).expect("room");
    let bytes = builder.encode(&EncodeOptions::default());
    Segment::open(bytes).expect("a sound segment")
}

#[test]
fn keys_are_listed_by_scope() {
    let segment = segment();
    let keys = |scope| {
        let mut keys = std::collections::BTreeSet::new();
        let listed = segment.attribute_keys(scope, |key| {
            keys.insert(key);
        });
        listed.expect("a sound segment");
        keys.into_iter().collect::<Vec<_>>()
    };
    let key = |key: &str, ty| AttributeKey {
        key: key.to_owned(),
        ty,
    };
    let span = [
        key("code", AttributeType::Int),
        key("id", AttributeType::Text),
        key("route", AttributeType::Text),
    ];
    assert_eq!(keys(Where::Span), span);
    assert_eq!(keys(Where::Event), span[2..]);
    assert_eq!(
        keys(Where::Resource),
        [
            key("list", AttributeType::Nested),
            key("service.name", AttributeType::Text)
        ]
    );
    assert_eq!(
        keys(Where::Instrumentation),
        [key("yes", AttributeType::Bool)]
    );
    assert_eq!(keys(Where::Any).len(), 6);
}

#[test]
fn values_are_listed_by_prefix() {
    let segment = segment();
    let values = |scope, key, prefix, limit| {
        let mut values: Vec<String> = Vec::new();
        let listed = segment.attribute_values((scope, key), prefix, limit, |value| {
            if let Scalar::Text(text) = value {
                values.push(text.to_owned());
            }
        });
        listed.expect("a sound segment");
        values.sort();
        values
    };
    assert_eq!(
        values(Where::Span, "route", "", 9),
        ["/a", "/b/1", "/b/2", "/c"]
    );
    assert_eq!(values(Where::Span, "route", "/b", 9), ["/b/1", "/b/2"]);
    assert_eq!(
        values(Where::Any, "route", "/b", 9),
        ["/b/1", "/b/2", "/b/event"]
    );
    assert_eq!(values(Where::Span, "route", "", 2), ["/a", "/b/1"]);
    assert_eq!(values(Where::Any, "service.name", "s", 9), ["shop"]);
    assert!(values(Where::Any, "route", "x", 9).is_empty());
    // Most of these are unique: no dictionary has them, the row groups do.
    assert!(values(Where::Span, "id", "", 9).is_empty());
    assert!(
        !segment
            .has_plain_values(Where::Span, "route")
            .expect("sound")
    );
    for (key, count) in [("id", 100), ("code", 100)] {
        assert!(segment.has_plain_values(Where::Span, key).expect("sound"));
        let mut found = 0;
        let listed = segment
            .group(0)
            .attribute_values((Where::Span, key), |_| found += 1);
        listed.expect("a sound segment");
        assert_eq!(found, count, "{key}");
    }
}
