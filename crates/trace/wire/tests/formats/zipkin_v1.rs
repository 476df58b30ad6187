//! Zipkin v1, JSON and Thrift → model: the rules of the conversion to v2, one table.

use periplus_wire::zipkin::{
    DEBUG, DecodeError, Encoding, decode_json_v1, decode_thrift, encode_json,
};
use serde_json::{Value as Json, json};

use crate::support::thrift::Thrift;
use crate::support::zipkin_thrift;

/// A span of version 1, and the spans of version 2 that it stands for; both without ids.
struct Case {
    rule: &'static str,
    v1: Json,
    v2: Vec<Json>,
}

fn with_ids(mut span: Json) -> Json {
    let object = span.as_object_mut().expect("an object");
    for (key, value) in [
        ("traceId", "463ac35c9f6413ad48485a3953bb6124"),
        ("parentId", "000000000000000b"),
        ("id", "a2fb4a1d1a96d312"),
        ("name", "get"),
    ] {
        object.insert(key.to_owned(), json!(value));
    }
    span
}

fn web() -> Json {
    json!({"serviceName": "web", "ipv4": "10.0.0.1", "port": 8080})
}

fn app() -> Json {
    json!({"serviceName": "app", "ipv4": "10.0.0.2"})
}

/// Of the same service, elsewhere.
fn web_too() -> Json {
    json!({"serviceName": "Web", "ipv6": "2001:db8::c001"})
}

fn note(timestamp: u64, value: &str, endpoint: &Json) -> Json {
    json!({"timestamp": timestamp, "value": value, "endpoint": endpoint})
}

fn tag(key: &str, value: &str, endpoint: &Json) -> Json {
    json!({"key": key, "value": value, "endpoint": endpoint})
}

fn address(key: &str, endpoint: &Json) -> Json {
    json!({"key": key, "value": true, "endpoint": endpoint})
}

fn cases() -> Vec<Case> {
    let (web, app, web_too) = (&web(), &app(), &web_too());
    let nobody = &Json::Null;
    let case = |rule, v1, v2: &[Json]| Case {
        rule,
        v1,
        v2: v2.to_vec(),
    };
    vec![
        case(
            "1: what has no endpoint goes to the first span, which the first endpoint claims",
            json!({
                "timestamp": 1, "duration": 2,
                "annotations": [note(3, "lonely", nobody)],
                "binaryAnnotations": [tag("a", "b", nobody), tag("c", "d", web)],
            }),
            &[json!({
                "timestamp": 1, "duration": 2, "localEndpoint": web,
                "annotations": [{"timestamp": 3, "value": "lonely"}], "tags": {"a": "b", "c": "d"},
            })],
        ),
        case(
            "1: a service's name tells spans apart, its addresses and its case do not",
            json!({
                "annotations": [note(1, "x", web), note(2, "y", web_too), note(3, "z", app)],
                "debug": true,
            }),
            &[
                json!({"localEndpoint": web, "debug": true, "annotations": [
                    {"timestamp": 1, "value": "x"}, {"timestamp": 2, "value": "y"},
                ]}),
                json!({"localEndpoint": app, "debug": true, "annotations": [
                    {"timestamp": 3, "value": "z"},
                ]}),
            ],
        ),
        case(
            "2: without an endpoint `cs` and `cr` are notes",
            json!({"annotations": [note(1, "cs", nobody), note(2, "cr", nobody)]}),
            &[json!({"annotations": [
                {"timestamp": 1, "value": "cs"}, {"timestamp": 2, "value": "cr"},
            ]})],
        ),
        case(
            "2: the wire's steps of no message are notes",
            json!({"annotations": [note(1, "ws", web), note(2, "wr", app)]}),
            &[
                json!({"localEndpoint": web, "annotations": [{"timestamp": 1, "value": "ws"}]}),
                json!({"localEndpoint": app, "annotations": [{"timestamp": 2, "value": "wr"}]}),
            ],
        ),
        case(
            "3: a client that began with its span, by its end",
            json!({"timestamp": 5, "duration": 10, "annotations": [note(15, "cr", web)]}),
            &[json!({"kind": "CLIENT", "timestamp": 5, "duration": 10, "localEndpoint": web})],
        ),
        case(
            "3: and a server",
            json!({"timestamp": 5, "duration": 10, "annotations": [note(15, "ss", web)]}),
            &[json!({"kind": "SERVER", "timestamp": 5, "duration": 10, "localEndpoint": web})],
        ),
        case(
            "3: not if the end differs",
            json!({"timestamp": 5, "duration": 10, "annotations": [note(16, "cr", web)]}),
            &[json!({
                "kind": "CLIENT", "timestamp": 5, "duration": 10, "localEndpoint": web,
                "annotations": [{"timestamp": 16, "value": "cr"}],
            })],
        ),
        case(
            "4: both sides, the client's time that of the span",
            json!({
                "timestamp": 1, "duration": 10,
                "annotations": [
                    note(2, "cs", web), note(4, "sr", app), note(7, "ss", app), note(9, "cr", web),
                ],
            }),
            &[
                json!({"kind": "CLIENT", "timestamp": 1, "duration": 10, "localEndpoint": web}),
                json!({
                    "kind": "SERVER", "timestamp": 4, "duration": 3, "localEndpoint": app,
                    "shared": true,
                }),
            ],
        ),
        case(
            "4: both sides, the client's time between its steps",
            json!({
                "timestamp": 1,
                "annotations": [
                    note(2, "cs", web), note(4, "sr", app), note(7, "ss", app), note(9, "cr", web),
                ],
            }),
            &[
                json!({"kind": "CLIENT", "timestamp": 2, "duration": 7, "localEndpoint": web}),
                json!({
                    "kind": "SERVER", "timestamp": 4, "duration": 3, "localEndpoint": app,
                    "shared": true,
                }),
            ],
        ),
        case(
            "4: a call to oneself",
            json!({
                "timestamp": 1, "duration": 10,
                "annotations": [
                    note(1, "cs", web), note(4, "sr", web_too), note(7, "ss", web_too),
                    note(11, "cr", web),
                ],
            }),
            &[
                json!({"kind": "CLIENT", "timestamp": 1, "duration": 10, "localEndpoint": web}),
                json!({
                    "kind": "SERVER", "timestamp": 4, "duration": 3, "localEndpoint": web_too,
                    "shared": true,
                }),
            ],
        ),
        case(
            "4: one way",
            json!({"annotations": [note(1, "cs", web), note(4, "sr", app)]}),
            &[
                json!({"kind": "CLIENT", "timestamp": 1, "localEndpoint": web}),
                json!({"kind": "SERVER", "timestamp": 4, "localEndpoint": app, "shared": true}),
            ],
        ),
        case(
            "5: a client alone",
            json!({"annotations": [note(2, "cs", web), note(9, "cr", web)]}),
            &[json!({"kind": "CLIENT", "timestamp": 2, "duration": 7, "localEndpoint": web})],
        ),
        case(
            "5 and 7: a server alone, which left the time to its client",
            json!({"annotations": [note(2, "sr", web), note(9, "ss", web)]}),
            &[json!({
                "kind": "SERVER", "timestamp": 2, "duration": 7, "localEndpoint": web,
                "shared": true,
            })],
        ),
        case(
            "5: a server alone, which made the id",
            json!({
                "timestamp": 1, "duration": 9,
                "annotations": [note(2, "sr", web), note(9, "ss", web)],
            }),
            &[json!({"kind": "SERVER", "timestamp": 1, "duration": 9, "localEndpoint": web})],
        ),
        case(
            "6: a client whose answer is outstanding",
            json!({"annotations": [note(2, "cs", web)]}),
            &[json!({"kind": "CLIENT", "timestamp": 2, "localEndpoint": web})],
        ),
        case(
            "6: ends without beginnings",
            json!({"annotations": [note(5, "ss", app), note(9, "cr", web)]}),
            &[
                json!({"kind": "SERVER", "localEndpoint": app, "annotations": [
                    {"timestamp": 5, "value": "ss"},
                ]}),
                json!({"kind": "CLIENT", "localEndpoint": web, "annotations": [
                    {"timestamp": 9, "value": "cr"},
                ]}),
            ],
        ),
        case(
            "6: the span's time goes to the first",
            json!({
                "timestamp": 1, "duration": 20,
                "annotations": [note(5, "ss", app), note(9, "cr", web)],
            }),
            &[
                json!({
                    "kind": "SERVER", "timestamp": 1, "duration": 20, "localEndpoint": app,
                    "annotations": [{"timestamp": 5, "value": "ss"}],
                }),
                json!({"kind": "CLIENT", "localEndpoint": web, "annotations": [
                    {"timestamp": 9, "value": "cr"},
                ]}),
            ],
        ),
        case(
            "7: a server that began, without the span's time",
            json!({"annotations": [note(2, "sr", web)]}),
            &[json!({"kind": "SERVER", "timestamp": 2, "localEndpoint": web, "shared": true})],
        ),
        case(
            "7: with the span's time it is not shared",
            json!({"timestamp": 2, "annotations": [note(2, "sr", web)]}),
            &[json!({"kind": "SERVER", "timestamp": 2, "localEndpoint": web})],
        ),
        case(
            "7: with it, but a duration that only the steps know",
            json!({
                "timestamp": 1, "annotations": [note(2, "sr", web), note(9, "ss", web)],
            }),
            &[json!({
                "kind": "SERVER", "timestamp": 2, "duration": 7, "localEndpoint": web,
                "shared": true,
            })],
        ),
        case(
            "8: a message sent and received",
            json!({"annotations": [
                note(1, "ms", web), note(3, "ws", web), note(6, "wr", app), note(8, "mr", app),
            ]}),
            &[
                json!({"kind": "PRODUCER", "timestamp": 1, "duration": 2, "localEndpoint": web}),
                json!({
                    "kind": "CONSUMER", "timestamp": 6, "duration": 2, "localEndpoint": app,
                    "shared": true,
                }),
            ],
        ),
        case(
            "8: the same, the wire not seen, and of one service",
            json!({"annotations": [note(1, "ms", web), note(8, "mr", web)]}),
            &[
                json!({"kind": "PRODUCER", "timestamp": 1, "localEndpoint": web}),
                json!({"kind": "CONSUMER", "timestamp": 8, "localEndpoint": web, "shared": true}),
            ],
        ),
        case(
            "8: only sent",
            json!({"annotations": [note(1, "ms", web), note(3, "ws", web)]}),
            &[json!({"kind": "PRODUCER", "timestamp": 1, "duration": 2, "localEndpoint": web})],
        ),
        case(
            "8: only received",
            json!({"annotations": [note(6, "wr", web), note(8, "mr", web)]}),
            &[json!({"kind": "CONSUMER", "timestamp": 6, "duration": 2, "localEndpoint": web})],
        ),
        case(
            "8: only received, the wire not seen",
            json!({"annotations": [note(8, "mr", web)]}),
            &[json!({"kind": "CONSUMER", "timestamp": 8, "localEndpoint": web})],
        ),
        case(
            "9: two addresses and no step",
            json!({
                "timestamp": 1, "duration": 2,
                "binaryAnnotations": [address("ca", web), address("sa", app)],
            }),
            &[json!({
                "timestamp": 1, "duration": 2, "localEndpoint": web, "remoteEndpoint": app,
            })],
        ),
        case(
            "9: the address called alone makes no kind",
            json!({"binaryAnnotations": [tag("lc", "", web), address("sa", app)]}),
            &[json!({"localEndpoint": web, "remoteEndpoint": app})],
        ),
        case(
            "9: the caller's address alone makes a server, and a broker's is ignored",
            json!({"binaryAnnotations": [
                tag("lc", "", web), address("ca", app), address("ma", app),
            ]}),
            &[json!({"kind": "SERVER", "localEndpoint": web, "remoteEndpoint": app})],
        ),
        case(
            "9: addresses of both sides, also those that hold no `true`",
            json!({
                "timestamp": 1, "duration": 10,
                "annotations": [
                    note(1, "cs", web), note(4, "sr", app), note(7, "ss", app), note(11, "cr", web),
                ],
                "binaryAnnotations": [tag("ca", "1", web), address("sa", app)],
            }),
            &[
                json!({
                    "kind": "CLIENT", "timestamp": 1, "duration": 10, "localEndpoint": web,
                    "remoteEndpoint": app,
                }),
                json!({
                    "kind": "SERVER", "timestamp": 4, "duration": 3, "localEndpoint": app,
                    "remoteEndpoint": web, "shared": true,
                }),
            ],
        ),
        case(
            "9: the caller's address that is the server's own is none",
            json!({
                "timestamp": 1, "annotations": [note(1, "sr", web)],
                "binaryAnnotations": [address("ca", web)],
            }),
            &[json!({"kind": "SERVER", "timestamp": 1, "localEndpoint": web})],
        ),
        case(
            "9: Finagle names the caller after the server",
            json!({
                "timestamp": 1, "annotations": [note(1, "sr", web)],
                "binaryAnnotations": [address("ca", web_too)],
            }),
            &[json!({
                "kind": "SERVER", "timestamp": 1, "localEndpoint": web,
                "remoteEndpoint": {"ipv6": "2001:db8::c001"},
            })],
        ),
        case(
            "9: the address called of a client that only received",
            json!({
                "annotations": [note(9, "cr", web)], "binaryAnnotations": [address("sa", app)],
            }),
            &[json!({
                "kind": "CLIENT", "localEndpoint": web, "remoteEndpoint": app,
                "annotations": [{"timestamp": 9, "value": "cr"}],
            })],
        ),
        case(
            "9: the broker of both sides",
            json!({
                "annotations": [note(1, "ms", web), note(8, "mr", app)],
                "binaryAnnotations": [address("ma", &json!({"serviceName": "kafka"}))],
            }),
            &[
                json!({
                    "kind": "PRODUCER", "timestamp": 1, "localEndpoint": web,
                    "remoteEndpoint": {"serviceName": "kafka"},
                }),
                json!({
                    "kind": "CONSUMER", "timestamp": 8, "localEndpoint": app, "shared": true,
                    "remoteEndpoint": {"serviceName": "kafka"},
                }),
            ],
        ),
        case(
            "10: `lc` is a tag if it says something",
            json!({"binaryAnnotations": [tag("lc", "jdbc", web), tag("error", "", web)]}),
            &[json!({"localEndpoint": web, "tags": {"lc": "jdbc", "error": ""}})],
        ),
        case(
            "what Zipkin drops: numbers and booleans",
            json!({"binaryAnnotations": [
                {"key": "a", "value": 200, "endpoint": web}, {"key": "b", "value": 1.5},
                {"key": "c", "value": true}, {"key": "d", "value": -3},
            ]}),
            &[json!({
                "localEndpoint": web, "tags": {"a": "200", "b": "1.5", "c": "true", "d": "-3"},
            })],
        ),
    ]
}

/// As it is written, ids and the names' case aside.
fn sorted(spans: &[u8]) -> Json {
    serde_json::from_slice(spans).expect("a list of spans")
}

#[test]
fn a_span_of_version_1_becomes_those_of_version_2() {
    for Case { rule, v1, v2 } in cases() {
        let v1 = json!([with_ids(v1)]);
        let v2 = Json::Array(v2.into_iter().map(with_ids).collect());
        let from_json = decode_json_v1(v1.to_string().as_bytes())
            .unwrap_or_else(|error| panic!("{rule}: {error}"));
        assert_eq!(sorted(&encode_json(&from_json)), v2, "{rule}");
        let from_thrift = decode_thrift(&zipkin_thrift::list(&v1))
            .unwrap_or_else(|error| panic!("{rule}: {error}"));
        assert_eq!(sorted(&encode_json(&from_thrift)), v2, "{rule}, in Thrift");
    }
}

#[test]
fn nulls_empty_lists_and_short_ids_are_taken() {
    let body = br#" [{"traceId":"1","id":"2","parentId":null,"name":null,"timestamp":null,
        "annotations":[],"binaryAnnotations":null,"debug":false,"unknown":{"x":[1]}},
        {"traceId":"00000000000000010000000000000002","id":"3","parentId":"3","name":"Get",
        "annotations":[{"timestamp":1,"value":"x","endpoint":{"serviceName":"","port":0}}],
        "binaryAnnotations":[{"key":"list","value":[1,{"a":2}]},{"key":"nothing"}]}] "#;
    let batch = decode_json_v1(body).expect("two spans");
    let spans: Vec<_> = batch.groups.iter().flat_map(|group| &group.spans).collect();
    assert_eq!(spans.len(), 2);
    assert_eq!(spans[1].parent_span_id, None, "its own parent");
    assert_eq!(spans[1].name, "Get");
    assert_eq!(spans[1].events.len(), 1);
    assert_eq!(
        spans[1].dropped_attributes_count, 2,
        "no text stands for them"
    );
    assert_eq!(batch.groups[0].resource.service_name(), "");
    for empty in ["", " ", "[]"] {
        let batch = decode_json_v1(empty.as_bytes()).expect("nothing");
        assert_eq!(batch.span_count(), 0);
    }
    assert_eq!(decode_thrift(b"").map(|batch| batch.span_count()), Ok(0));
    let old_reporter = b"\x0b\0\0\0\0";
    assert_eq!(
        decode_thrift(old_reporter).map(|batch| batch.span_count()),
        Ok(0)
    );
}

#[test]
fn malformed_json_is_refused_as_zipkin_words_it() {
    let ids = r#""traceId":"1","id":"2""#;
    let many: Vec<Json> = (0..17)
        .map(|i| note(1, "x", &json!({"serviceName": format!("s{i}")})))
        .collect();
    let many = Json::Array(many);
    let not_list = "Expected a JSON_V1 encoded list\n";
    let version_2 = "Expected a JSON_V1 encoded list, but received: JSON_V2\n";
    for (body, text) in [
        ("{}".to_owned(), not_list),
        ("hello".to_owned(), not_list),
        (format!(r#"[{{{ids},"localEndpoint":{{}}}}]"#), version_2),
        (format!(r#"[{{{ids},"tags":{{}}}}]"#), version_2),
        (
            format!(r#"[{{{ids},"name":7,"remoteEndpoint":{{}}}}]"#),
            version_2,
        ),
        (
            r#"[{"id":"2"}]"#.to_owned(),
            "Missing : traceId at $[0] reading List<Span> from json",
        ),
        (
            r#"[{"traceId":"x","id":"2"}]"#.to_owned(),
            "x should be lower-hex encoded with no prefix at $[0] reading List<Span> from json",
        ),
        (
            format!(r#"[{{{ids},"annotations":[{{"timestamp":1}}]}}]"#),
            "Incomplete annotation at $[0].annotations[0] reading List<Span> from json",
        ),
        (
            format!(r#"[{{{ids},"binaryAnnotations":[{{"value":"1"}}]}}]"#),
            "Incomplete binary annotation at $[0].binaryAnnotations[0] reading List<Span> from json",
        ),
        (
            format!(r#"[{{{ids},"annotations":{many}}}]"#),
            "more than 16 services in one span at $[0] reading List<Span> from json",
        ),
        (
            "[{]".to_owned(),
            "Malformed reading List<Span> from json: key must be a string at line 1 column 3",
        ),
    ] {
        let error = decode_json_v1(body.as_bytes()).expect_err(&body);
        assert_eq!(error.to_string(), text, "{body}");
    }
}

#[test]
fn malformed_thrift_is_refused() {
    let one = zipkin_thrift::list(&json!([with_ids(json!({}))]));
    for end in 1..one.len() {
        let error = decode_thrift(&one[..end]).expect_err("a cut");
        assert!(
            matches!(
                error,
                DecodeError::Malformed {
                    encoding: Encoding::Thrift,
                    ..
                }
            ),
            "{end}: {error}"
        );
    }
    let not_list = Err(DecodeError::NotAList(Encoding::Thrift));
    assert_eq!(decode_thrift(b"[]"), not_list);
    assert_eq!(decode_thrift(b"\x0a\x01\x00"), not_list);
    let no_ids = b"\x0c\0\0\0\x01\0";
    assert_eq!(
        decode_thrift(no_ids).expect_err("no ids").to_string(),
        "Missing : traceId at $[0] reading List<Span> from TBinary"
    );
    // The largest count, and nothing behind it.
    assert!(decode_thrift(b"\x0c\x7f\xff\xff\xff").is_err());
}

#[test]
fn thrift_has_types_and_addresses_of_its_own() {
    let ipv6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let host = Thrift::Struct(vec![
        (1, Thrift::I32(-1_062_731_519)),
        (2, Thrift::I16(-1)),
        (3, Thrift::text("web")),
        (4, Thrift::Bytes(ipv6.to_vec())),
    ]);
    let tags = [
        (2, &[0xff, 0xfe][..]),
        (3, &[0, 0, 0, 7]),
        (4, &[0, 0, 0, 0, 0, 0, 1, 0]),
        (5, &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0]),
        (1, b"\x00\xff"),
        (0, &[0]),
        (6, "grüße".as_bytes()),
        (3, &[1]),
        (9, &[1]),
    ];
    let tag = |(i, (kind, value)): (usize, &(i32, &[u8]))| {
        Thrift::Struct(vec![
            (1, Thrift::text(&format!("t{i}"))),
            (2, Thrift::Bytes(value.to_vec())),
            (3, Thrift::I32(*kind)),
            (4, host.clone()),
        ])
    };
    let tags = tags.iter().enumerate().map(tag).collect();
    // Notes without a time or a text are dropped, as in Zipkin.
    let note = Thrift::Struct(vec![(1, Thrift::I64(5))]);
    let span = Thrift::Struct(vec![
        (1, Thrift::I64(2)),
        (4, Thrift::I64(-1)),
        (12, Thrift::I64(-2)),
        (9, Thrift::Bool(true)),
        (6, Thrift::List(vec![note])),
        (8, Thrift::List(tags)),
    ]);
    let batch = decode_thrift(&Thrift::List(vec![span]).binary()).expect("a span");
    let span = &batch.groups[0].spans[0];
    assert_eq!(span.trace_id.high(), -2_i64 as u64);
    assert_eq!(span.attribute(DEBUG), Some(&true.into()));
    assert!(span.events.is_empty());
    assert_eq!(span.dropped_attributes_count, 2);
    let written: Json = sorted(&encode_json(&batch));
    assert_eq!(
        written[0]["localEndpoint"],
        json!({
            "serviceName": "web", "ipv4": "192.168.1.1", "ipv6": "2001:db8::1", "port": 65535,
        })
    );
    assert_eq!(
        written[0]["tags"],
        json!({
            "t0": "-2", "t1": "7", "t2": "256", "t3": "1.5", "t4": "AP8=", "t5": "false",
            "t6": "grüße", "otel.dropped_attributes_count": "2",
        })
    );
}
