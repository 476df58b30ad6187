//! Zipkin v2 JSON ⇄ model (zipkin-api `zipkin2-api.yaml`; normalisation as in `zipkin2.Span`).

use std::net::{Ipv4Addr, Ipv6Addr};

use periplus_model::{Attribute, Event, Link, SpanId, SpanKind, StatusCode, TraceId, Value};
use periplus_wire::otlp::{MAX_ATTRIBUTES, decode_json as decode_otlp};
use periplus_wire::zipkin::{ABSENT_START, DEBUG, SHARED, decode_json, encode_json};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// A list of one span with these members, besides ids.
fn list(members: &Json) -> Vec<u8> {
    let mut span = json!({"traceId": "463ac35c9f6413ad48485a3953bb6124", "id": "a2fb4a1d1a96d312"});
    let object = span.as_object_mut().expect("an object");
    for (key, value) in members.as_object().expect("an object") {
        object.insert(key.clone(), value.clone());
    }
    json!([span]).to_string().into_bytes()
}

fn decode(members: &Json) -> Result<periplus_model::SpanGroup, String> {
    let mut batch = decode_json(&list(members)).map_err(|error| error.to_string())?;
    assert_eq!(batch.span_count(), 1);
    Ok(batch.groups.remove(0))
}

/// The one span of a list, with a timestamp so that only what is tested shows.
fn span(members: &Json) -> periplus_model::Span {
    let mut members = members.clone();
    let object = members.as_object_mut().expect("an object");
    object.entry("timestamp").or_insert_with(|| json!(1));
    decode(&members)
        .unwrap_or_else(|error| panic!("{members}: {error}"))
        .spans
        .remove(0)
}

fn attributes(members: &Json) -> Vec<(String, Value)> {
    let list = span(members).attributes.into_iter();
    list.map(|Attribute { key, value }| (key, value)).collect()
}

fn texts(list: &[(&str, &str)]) -> Vec<(String, Value)> {
    let list = list.iter();
    list.map(|(key, value)| ((*key).to_owned(), Value::from(*value)))
        .collect()
}

#[test]
fn ids_are_normalised() {
    let cases = [
        ("1", "1", None, (0, 1), 1, None),
        (
            "48485a3953bb6124",
            "a",
            Some("b"),
            (0, 0x4848_5a39_53bb_6124),
            0xa,
            Some(0xb),
        ),
        (
            "1648485a3953bb6124",
            "a",
            None,
            (0x16, 0x4848_5a39_53bb_6124),
            0xa,
            None,
        ),
        (
            "000000000000000048485a3953bb6124",
            "a",
            None,
            (0, 0x4848_5a39_53bb_6124),
            0xa,
            None,
        ),
        (
            "463AC35C9F6413AD48485A3953BB6124",
            "A",
            None,
            (0x463a_c35c_9f64_13ad, 0x4848_5a39_53bb_6124),
            0xa,
            None,
        ),
        ("1", "a", Some("0000000000000000"), (0, 1), 0xa, None),
        ("1", "a", Some("000000000000000a"), (0, 1), 0xa, None),
    ];
    for (trace, id, parent, (high, low), span_id, parent_id) in cases {
        let span = span(&json!({"traceId": trace, "id": id, "parentId": parent}));
        assert_eq!(span.trace_id, TraceId::from_halves(high, low), "{trace}");
        assert_eq!(span.span_id, SpanId::from_u64(span_id), "{id}");
        assert_eq!(
            span.parent_span_id,
            parent_id.map(SpanId::from_u64),
            "{parent:?}"
        );
    }
}

#[test]
fn times_are_microseconds_and_may_be_missing() {
    let at = |members: Json| {
        let group = decode(&members).expect("a good span");
        let span = &group.spans[0];
        let absent = span.attribute(ABSENT_START) == Some(&Value::Bool(true));
        (span.start_unix_nano, span.end_unix_nano, absent)
    };
    assert_eq!(
        at(json!({"timestamp": 7, "duration": 3})),
        (7000, 10_000, false)
    );
    assert_eq!(at(json!({"timestamp": 7})), (7000, 7000, false));
    assert_eq!(at(json!({"duration": 3})), (0, 3000, true));
    assert_eq!(at(json!({})), (0, 0, true));
    assert_eq!(at(json!({"timestamp": 0, "duration": 0})), (0, 0, true));
    assert_eq!(at(json!({"timestamp": -1, "duration": -1})), (0, 0, true));
    assert_eq!(
        at(json!({"timestamp": null, "duration": null})),
        (0, 0, true)
    );
    assert_eq!(
        at(json!({"timestamp": "7", "duration": 3.0})),
        (7000, 10_000, false)
    );
}

#[test]
fn endpoints_become_attributes() {
    let group = decode(&json!({
        "timestamp": 1,
        "localEndpoint": {"serviceName": "Frontend", "ipv4": "10.0.0.1", "ipv6": "2001:DB8::1", "port": 8080},
        "remoteEndpoint": {"serviceName": "backend", "ipv4": "10.0.0.2", "port": "9090"},
    }))
    .expect("a good span");
    assert_eq!(group.resource.service_name(), "Frontend");
    let found: Vec<(String, Value)> = group.spans[0]
        .attributes
        .iter()
        .map(|it| (it.key.clone(), it.value.clone()))
        .collect();
    assert_eq!(
        found,
        texts(&[
            ("network.local.address", "10.0.0.1"),
            ("network.local.address", "2001:db8::1"),
            ("net.host.port", "8080"),
            ("service.peer.name", "backend"),
            ("network.peer.address", "10.0.0.2"),
            ("net.peer.port", "9090"),
        ])
    );
    let remote = |endpoint: Json| attributes(&json!({"remoteEndpoint": endpoint}));
    let cases = [
        (json!(null), &[][..]),
        (json!({}), &[]),
        (json!({"serviceName": "", "ipv4": "", "port": 0}), &[]),
        (json!({"port": -1}), &[]),
        (
            json!({"ipv6": "::ffff:10.0.0.9"}),
            &[("network.peer.address", "10.0.0.9")],
        ),
        (
            json!({"ipv6": "::10.0.0.9"}),
            &[("network.peer.address", "10.0.0.9")],
        ),
        (json!({"ipv6": "::1"}), &[("network.peer.address", "::1")]),
        (
            json!({"ipv6": "2001:0db8:0:0:0:0:0:1"}),
            &[("network.peer.address", "2001:db8::1")],
        ),
        (
            json!({"ipv4": "a.name"}),
            &[("network.peer.address", "a.name")],
        ),
        (json!({"unknown": {"x": []}}), &[]),
    ];
    for (endpoint, expected) in cases {
        assert_eq!(remote(endpoint.clone()), texts(expected), "{endpoint}");
    }
    let nobody = decode(&json!({"localEndpoint": {"serviceName": ""}})).expect("a good span");
    assert!(nobody.resource.attributes.is_empty());
}

#[test]
fn kinds_flags_and_status() {
    for (kind, expected) in [
        (json!("CLIENT"), SpanKind::Client),
        (json!("SERVER"), SpanKind::Server),
        (json!("PRODUCER"), SpanKind::Producer),
        (json!("CONSUMER"), SpanKind::Consumer),
        (json!(null), SpanKind::Unspecified),
    ] {
        assert_eq!(span(&json!({"kind": kind})).kind, expected);
    }
    let internal = span(&json!({"tags": {"span.kind": "internal"}}));
    assert_eq!(
        (internal.kind, internal.attributes.len()),
        (SpanKind::Internal, 0)
    );

    let flag = |name: &str| vec![(name.to_owned(), Value::Bool(true))];
    assert_eq!(
        attributes(&json!({"kind": "SERVER", "shared": true})),
        flag(SHARED)
    );
    assert_eq!(attributes(&json!({"kind": "CLIENT", "shared": true})), []);
    assert_eq!(attributes(&json!({"shared": false, "debug": false})), []);
    assert_eq!(
        attributes(&json!({"shared": null, "debug": true})),
        flag(DEBUG)
    );

    let cases = [
        (json!({}), StatusCode::Unset, "", 0),
        (json!({"error": "true"}), StatusCode::Error, "", 1),
        (json!({"error": ""}), StatusCode::Error, "", 1),
        (json!({"error": "false"}), StatusCode::Error, "", 1),
        (json!({"otel.status_code": "OK"}), StatusCode::Ok, "", 0),
        (
            json!({"otel.status_code": "UNSET"}),
            StatusCode::Unset,
            "",
            0,
        ),
        (json!({"otel.status_code": "odd"}), StatusCode::Unset, "", 1),
        (
            json!({"otel.status_code": "ERROR", "otel.status_description": "why"}),
            StatusCode::Error,
            "why",
            0,
        ),
        (
            json!({"error": "e", "otel.status_code": "OK"}),
            StatusCode::Error,
            "",
            1,
        ),
    ];
    for (tags, code, message, left) in cases {
        let span = span(&json!({"tags": tags}));
        assert_eq!(span.status.code, code, "{tags}");
        assert_eq!(span.status.message, message, "{tags}");
        assert_eq!(span.attributes.len(), left, "{tags}");
    }
}

#[test]
fn tags_keep_their_order_and_become_texts() {
    let body = br#"[{"traceId":"1","id":"2","timestamp":1,"tags":{"z":"1","a":"","n":1.5,"i":-7,"u":18446744073709551615,"b":true,"z":"2"}}]"#;
    let batch = decode_json(body).expect("a good list");
    let span = &batch.groups[0].spans[0];
    let found: Vec<(&str, &Value)> = span
        .attributes
        .iter()
        .map(|it| (it.key.as_str(), &it.value))
        .collect();
    let expected = [
        ("z", "1"),
        ("a", ""),
        ("n", "1.5"),
        ("i", "-7"),
        ("u", "18446744073709551615"),
        ("b", "true"),
        ("z", "2"),
    ]
    .map(|(key, value)| (key, Value::from(value)));
    assert_eq!(found, expected.each_ref().map(|(key, value)| (*key, value)));
}

#[test]
fn tags_that_describe_the_maker_go_to_resource_and_scope() {
    let group = decode(&json!({
        "timestamp": 1,
        "localEndpoint": {"serviceName": "s"},
        "tags": {
            "telemetry.sdk.language": "go", "host.name": "h", "k8s.pod.name": "p",
            "service.version": "7", "hostess": "no",
            "otel.scope.name": "lib", "otel.library.name": "lib",
            "otel.scope.version": "1", "otel.library.version": "2",
        },
    }))
    .expect("a good span");
    let keys: Vec<&str> = group
        .resource
        .attributes
        .iter()
        .map(|it| it.key.as_str())
        .collect();
    let mut sorted = keys[1..].to_vec();
    sorted.sort_unstable();
    assert_eq!(keys[0], "service.name");
    assert_eq!(
        sorted,
        [
            "host.name",
            "k8s.pod.name",
            "service.version",
            "telemetry.sdk.language"
        ]
    );
    assert_eq!(group.scope.name, "lib");
    // Two versions: one is the scope's, the other stays a tag.
    assert_eq!(group.scope.version.len(), 1);
    assert_eq!(group.spans[0].attributes.len(), 2);
}

#[test]
fn spans_are_grouped_by_who_made_them() {
    let of = |id: &str, service: &str| json!({"traceId": "1", "id": id, "localEndpoint": {"serviceName": service}});
    let body = json!([
        of("1", "a"),
        of("2", "b"),
        of("3", "a"),
        of("4", "a"),
        of("5", "b")
    ]);
    let batch = decode_json(body.to_string().as_bytes()).expect("a good list");
    let groups: Vec<(&str, Vec<u64>)> = batch
        .groups
        .iter()
        .map(|group| {
            let ids = group.spans.iter().map(|span| span.span_id.as_u64());
            (group.resource.service_name(), ids.collect())
        })
        .collect();
    assert_eq!(groups, [("a", vec![1, 3, 4]), ("b", vec![2, 5])]);
}

#[test]
fn annotations_are_events() {
    let events = |value: &str| {
        let mut span = span(&json!({"annotations": [{"timestamp": 5, "value": value}]}));
        span.events.remove(0)
    };
    let event = |name: &str, attributes, dropped| Event {
        time_unix_nano: 5000,
        name: name.to_owned(),
        attributes,
        dropped_attributes_count: dropped,
    };
    assert_eq!(events("ws"), event("ws", vec![], 0));
    assert_eq!(events(""), event("", vec![], 0));
    assert_eq!(events("a|b|c"), event("a|b|c", vec![], 0));
    assert_eq!(events("a|{}|x"), event("a|{}|x", vec![], 0));
    assert_eq!(events("a|[1]|0"), event("a|[1]|0", vec![], 0));
    assert_eq!(events("a|{}|3"), event("a", vec![], 3));
    let deep = format!("a|{{\"k\":{}{}}}|0", "[".repeat(33), "]".repeat(33));
    assert_eq!(events(&deep), event(&deep, vec![], 0));
    let packed = r#"a|{b|{"s":"x|y","i":1,"d":0.5,"t":true,"n":null,"l":[1],"m":{"k":"v"}}|2"#;
    let attributes = vec![
        Attribute::new("s", "x|y"),
        Attribute::new("i", 1),
        Attribute::new("d", 0.5),
        Attribute::new("t", true),
        Attribute::new("n", Value::Empty),
        Attribute::new("l", Value::Array(vec![Value::Int(1)])),
        Attribute::new("m", Value::Map(vec![Attribute::new("k", "v")])),
    ];
    assert_eq!(events(packed), event("a|{b", attributes, 2));
}

#[test]
fn what_the_collector_hid_is_found() {
    let span = span(&json!({"tags": {
        "w3c.tracestate": "a=b",
        "otlp.link.0": "463ac35c9f6413ad48485a3953bb6124|a2fb4a1d1a96d312|s=t|{\"k\":\"v\"}|2",
        "otlp.link.1": "no link",
        "otel.dropped_attributes_count": "1",
        "otel.dropped_events_count": "2",
        "otel.dropped_links_count": "many",
    }}));
    assert_eq!(span.trace_state, "a=b");
    assert_eq!(
        span.links,
        [Link {
            trace_id: TraceId::from_halves(0x463a_c35c_9f64_13ad, 0x4848_5a39_53bb_6124),
            span_id: SpanId::from_u64(0xa2fb_4a1d_1a96_d312),
            trace_state: "s=t".to_owned(),
            flags: 0,
            attributes: vec![Attribute::new("k", "v")],
            dropped_attributes_count: 2,
        }]
    );
    assert_eq!(span.dropped_attributes_count, 1);
    assert_eq!(span.dropped_events_count, 2);
    let left: Vec<&str> = span.attributes.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(left, ["otel.dropped_links_count", "otlp.link.1"]);
}

#[test]
fn empty_bodies_are_empty_lists() {
    for body in ["", " \n", "[]", " [ ] "] {
        let batch = decode_json(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(batch.span_count(), 0);
    }
}

#[test]
fn malformed_lists_are_refused_as_zipkin_words_it() {
    let ids = r#""traceId":"1","id":"2""#;
    let cases = [
        "{}".to_owned(),
        "null".to_owned(),
        "hello".to_owned(),
        format!("{{{ids}}}"),
        format!(r#"[{{{ids},"binaryAnnotations":[]}}]"#),
        format!(r#"[{{{ids},"name":7,"binaryAnnotations":[]}}]"#),
        "[".to_owned(),
        "[{]".to_owned(),
        "[7]".to_owned(),
        "[[]]".to_owned(),
        "[null]".to_owned(),
        format!("[{{{ids}}}] trailing"),
        format!("[{{{ids}}},{{}}]"),
        r#"[{"traceId":"1"}]"#.to_owned(),
        r#"[{"traceId":null,"id":"2"}]"#.to_owned(),
        r#"[{"traceId":"","id":"2"}]"#.to_owned(),
        r#"[{"traceId":"1","id":""}]"#.to_owned(),
        r#"[{"traceId":"00000000000000000000000000000000","id":"2"}]"#.to_owned(),
        r#"[{"traceId":"1","id":"0000000000000000"}]"#.to_owned(),
        r#"[{"traceId":"0x1","id":"2"}]"#.to_owned(),
        r#"[{"traceId":"1","id":"-2"}]"#.to_owned(),
        format!(r#"[{{"traceId":"{}","id":"2"}}]"#, "1".repeat(33)),
        r#"[{"traceId":"1","id":"11111111111111111"}]"#.to_owned(),
        format!(r#"[{{{ids},"parentId":"11111111111111111"}}]"#),
        format!(r#"[{{{ids},"parentId":""}}]"#),
        format!(r#"[{{{ids},"parentId":"x"}}]"#),
        format!(r#"[{{{ids},"kind":"INTERNAL"}}]"#),
        format!(r#"[{{{ids},"kind":"client"}}]"#),
        format!(r#"[{{{ids},"timestamp":"soon"}}]"#),
        format!(r#"[{{{ids},"timestamp":1.5}}]"#),
        format!(r#"[{{{ids},"timestamp":9223372036854775807}}]"#),
        format!(r#"[{{{ids},"timestamp":9223372036854775808}}]"#),
        format!(r#"[{{{ids},"timestamp":9223372036854775,"duration":9223372036854775807}}]"#),
        format!(r#"[{{{ids},"localEndpoint":{{"port":65536}}}}]"#),
        format!(r#"[{{{ids},"localEndpoint":"here"}}]"#),
        format!(r#"[{{{ids},"annotations":[{{"timestamp":1,"value":"a"}},{{"timestamp":1}}]}}]"#),
        format!(r#"[{{{ids},"annotations":[{{"value":"v"}}]}}]"#),
        format!(r#"[{{{ids},"annotations":[{{"timestamp":-1,"value":"v"}}]}}]"#),
        format!(r#"[{{{ids},"annotations":{{}}}}]"#),
        format!(r#"[{{{ids},"tags":{{"a":null}}}}]"#),
        format!(r#"[{{{ids},"tags":{{"a":{{}}}}}}]"#),
        format!(r#"[{{{ids},"tags":[]}}]"#),
        format!(r#"[{{{ids},"shared":"true"}}]"#),
        "[".repeat(100_000),
    ];
    let errors: Vec<String> = cases
        .iter()
        .map(|body| match decode_json(body.as_bytes()) {
            Ok(batch) => panic!("{body} was read as {batch:?}"),
            Err(error) => error.to_string(),
        })
        .collect();
    let listed: Vec<String> = errors.iter().map(|error| format!("{error:?}")).collect();
    insta::assert_snapshot!(listed.join("\n"));
    assert!(decode_json(b"[{\"traceId\":\"1\",\"id\":\"2\",\"name\":\"\xff\"}]").is_err());
}

#[test]
fn lists_are_bounded_and_what_is_dropped_is_counted() {
    let tags: serde_json::Map<String, Json> = (0..MAX_ATTRIBUTES + 5)
        .map(|i| (format!("t{i}"), json!("v")))
        .collect();
    let span = span(&json!({ "tags": tags }));
    assert_eq!(span.attributes.len(), MAX_ATTRIBUTES);
    assert_eq!(span.dropped_attributes_count, 5);
}

#[test]
fn a_span_of_opentelemetry_is_written_by_its_specification() {
    let decoded = decode_otlp(include_bytes!("fixtures/otlp_example.json")).expect("well-formed");
    let body = encode_json(&decoded.batch);
    let written: Json = serde_json::from_slice(&body).expect("JSON");
    insta::assert_snapshot!(serde_json::to_string_pretty(&written).expect("JSON"));

    let back = decode_json(&body).expect("our own list");
    let (back, born) = (&back.groups[0], &decoded.batch.groups[0]);
    assert_eq!(back.resource.service_name(), "reviews.default");
    assert_eq!(
        back.resource.attribute("process.pid"),
        Some(&Value::from("4711"))
    );
    assert_eq!(
        (&back.scope.name, &back.scope.version),
        (&born.scope.name, &born.scope.version)
    );
    let (back, born) = (&back.spans[0], &born.spans[0]);
    assert_eq!(back.trace_state, born.trace_state);
    assert_eq!(back.status, born.status);
    assert_eq!(back.events, born.events);
    assert_eq!(back.links[0].trace_id, born.links[0].trace_id);
    assert_eq!(
        (back.start_unix_nano, back.end_unix_nano),
        (born.start_unix_nano, born.end_unix_nano)
    );
}

#[test]
fn values_that_are_no_texts_become_texts() {
    for (value, text) in [
        (Value::Int(200), "200"),
        (Value::Double(200.0), "200"),
        (Value::Double(-0.5), "-0.5"),
        (Value::Double(1e20), "100000000000000000000"),
        (Value::Double(1e21), "1e21"),
        (Value::Double(f64::NAN), "NaN"),
        (Value::Bool(true), "true"),
        (Value::Bytes(b"ab".to_vec()), "YWI="),
        (
            Value::Array(vec![Value::Double(2.0), Value::from("x")]),
            r#"[2.0,"x"]"#,
        ),
    ] {
        let mut batch = periplus_model::Batch {
            groups: vec![decode(&json!({})).expect("well-formed")],
        };
        batch.groups[0].spans[0].attributes = vec![Attribute::new("tag", value.clone())];
        let written: Json = serde_json::from_slice(&encode_json(&batch)).expect("JSON");
        assert_eq!(written[0]["tags"]["tag"], text, "{value:?}");
    }
}

#[test]
fn the_peer_of_a_client_is_the_first_that_names_one() {
    let remote = |kind: i32, attributes: &[(&str, &str)]| {
        let span = periplus_model::Span {
            kind: SpanKind::from_number(kind),
            attributes: attributes
                .iter()
                .map(|(key, value)| Attribute::new(*key, *value))
                .collect(),
            ..periplus_model::Span::default()
        };
        let batch = periplus_model::Batch {
            groups: vec![periplus_model::SpanGroup {
                spans: vec![span],
                ..periplus_model::SpanGroup::default()
            }],
        };
        let list: Json = serde_json::from_slice(&encode_json(&batch)).expect("JSON");
        list[0]["remoteEndpoint"]["serviceName"].clone()
    };
    let both = [("server.address", "db"), ("peer.service", "orders")];
    assert_eq!(remote(3, &both), json!("orders"));
    assert_eq!(remote(4, &both[..1]), json!("db"));
    assert_eq!(remote(2, &both), json!(null));
    assert_eq!(remote(3, &[]), json!(null));
}

/// Spans as Zipkin's own libraries report them.
pub(crate) fn born_as_zipkin() -> impl Strategy<Value = Json> {
    let ids = (
        "[1-9a-f]{16}([0-9a-f]{15}[1-9a-f])?",
        "[1-9a-f]{16}",
        proptest::option::of("[1-9a-f]{16}"),
    );
    let kind = proptest::option::of(prop_oneof![
        Just("CLIENT"),
        Just("SERVER"),
        Just("PRODUCER"),
        Just("CONSUMER")
    ]);
    let time = || proptest::option::of(1..4_000_000_000_000_000_i64);
    let key = prop_oneof![
        "[a-z]{1,6}",
        Just("error".to_owned()),
        Just("host.name".to_owned()),
        Just("peer.address.x".to_owned())
    ];
    let tags = proptest::collection::btree_map(key, any::<String>(), 0..4);
    let annotations =
        proptest::collection::vec((0..4_000_000_000_000_000_i64, "[a-z|{}0-9]{0,8}"), 0..3);
    let endpoint = || {
        proptest::option::of((
            proptest::option::of("[A-Za-z.-]{1,8}"),
            proptest::option::of(any::<u32>()),
            proptest::option::of(any::<u128>()),
            proptest::option::of(1..u16::MAX),
        ))
    };
    (
        ids,
        (kind, "[A-Za-z /]{0,8}"),
        (time(), time()),
        (endpoint(), endpoint()),
        (annotations, tags),
        any::<(bool, bool)>(),
    )
        .prop_map(
            |(ids, (kind, name), (timestamp, duration), ends, (annotations, tags), flags)| {
                let mut span = serde_json::Map::new();
                let mut put = |key: &str, value: Json| {
                    let empty = value.is_null()
                        || value == ""
                        || value == false
                        || value.as_object().is_some_and(serde_json::Map::is_empty)
                        || value.as_array().is_some_and(Vec::is_empty);
                    if !empty {
                        span.insert(key.to_owned(), value);
                    }
                };
                put("traceId", json!(ids.0));
                put("id", json!(ids.1));
                put("parentId", json!(ids.2.filter(|parent| *parent != ids.1)));
                put("kind", json!(kind));
                put("name", json!(name));
                put("timestamp", json!(timestamp));
                put("duration", json!(duration));
                for (key, end) in [("localEndpoint", ends.0), ("remoteEndpoint", ends.1)] {
                    let mut object = serde_json::Map::new();
                    if let Some((name, v4, v6, port)) = end {
                        // Texts such as `::ffff:1.2.3.4` are IPv4: not written back as they came.
                        let v6 = v6.map(|bits| Ipv6Addr::from(bits | 1 << 120).to_string());
                        for (key, value) in [
                            ("serviceName", json!(name)),
                            (
                                "ipv4",
                                json!(v4.map(|bits| Ipv4Addr::from(bits).to_string())),
                            ),
                            ("ipv6", json!(v6)),
                            ("port", json!(port)),
                        ] {
                            if !value.is_null() {
                                object.insert(key.to_owned(), value);
                            }
                        }
                    }
                    put(key, Json::Object(object));
                }
                put(
                    "annotations",
                    annotations
                        .into_iter()
                        .map(|(timestamp, value)| json!({"timestamp": timestamp, "value": value}))
                        .collect(),
                );
                put("tags", json!(tags));
                put("debug", json!(flags.0));
                put("shared", json!(flags.1 && kind != Some("CLIENT")));
                Json::Object(span)
            },
        )
}

proptest! {
    #[test]
    fn spans_born_as_zipkin_are_written_back_without_loss(born in born_as_zipkin()) {
        let body = json!([born]).to_string();
        let batch = decode_json(body.as_bytes());
        prop_assert!(batch.is_ok(), "{:?} of {}", batch, body);
        let written: Json =
            serde_json::from_slice(&encode_json(&batch.expect("checked"))).expect("JSON");
        prop_assert_eq!(&written[0], &born);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_model_holds_is_written_as_a_list_that_reads_back(batch in crate::support::batch()) {
        let list: Vec<Json> = serde_json::from_slice(&encode_json(&batch)).expect("JSON");
        prop_assert_eq!(list.len(), batch.span_count());
        let back = decode_json(&encode_json(&batch));
        prop_assert_eq!(back.map(|back| back.span_count()), Ok(batch.span_count()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_text_does_no_harm(bytes: Vec<u8>, text in "[\\[\\]{}\":,a-zA-Z0-9.eE|+-]{0,40}") {
        let _ = decode_json(&bytes);
        let _ = decode_json(format!("[{text}]").as_bytes());
        let annotated = json!({"annotations": [{"timestamp": 1, "value": text}], "tags": {"otlp.link.0": text}});
        prop_assert!(decode_json(&list(&annotated)).is_ok());
    }

    #[test]
    fn changed_captures_do_no_harm(mutations in crate::support::mutations()) {
        let mut bytes = include_bytes!("fixtures/envoy_zipkin.json").to_vec();
        bytes.truncate(2500);
        for mutation in &mutations {
            mutation.apply(&mut bytes);
        }
        bytes.extend_from_slice(b"}}]");
        let _ = decode_json(&bytes);
    }
}
