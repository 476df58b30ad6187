//! Zipkin v2 protobuf ⇄ model, against prost's reading of `zipkin.proto`.

use std::collections::HashMap;

use periplus_wire::zipkin::{decode_json, decode_proto, encode_json, encode_proto};
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value as Json, json};

use crate::zipkin::born_as_zipkin;

#[derive(Clone, PartialEq, Message)]
struct ListOfSpans {
    #[prost(message, repeated, tag = "1")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    parent_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    id: Vec<u8>,
    #[prost(int32, tag = "4")]
    kind: i32,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "6")]
    timestamp: u64,
    #[prost(uint64, tag = "7")]
    duration: u64,
    #[prost(message, optional, tag = "8")]
    local_endpoint: Option<Endpoint>,
    #[prost(message, optional, tag = "9")]
    remote_endpoint: Option<Endpoint>,
    #[prost(message, repeated, tag = "10")]
    annotations: Vec<Annotation>,
    #[prost(map = "string, string", tag = "11")]
    tags: HashMap<String, String>,
    #[prost(bool, tag = "12")]
    debug: bool,
    #[prost(bool, tag = "13")]
    shared: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Endpoint {
    #[prost(string, tag = "1")]
    service_name: String,
    #[prost(bytes = "vec", tag = "2")]
    ipv4: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    ipv6: Vec<u8>,
    #[prost(int32, tag = "4")]
    port: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Annotation {
    #[prost(fixed64, tag = "1")]
    timestamp: u64,
    #[prost(string, tag = "2")]
    value: String,
}

fn span() -> Span {
    Span {
        trace_id: vec![0, 0, 0, 0, 0, 0, 0, 1],
        id: vec![0, 0, 0, 0, 0, 0, 0, 2],
        ..Span::default()
    }
}

fn body(span: Span) -> Vec<u8> {
    ListOfSpans { spans: vec![span] }.encode_to_vec()
}

/// The span as v2 JSON says it.
fn read(span: Span) -> Json {
    let batch = decode_proto(&body(span)).expect("a span");
    let spans: Json = serde_json::from_slice(&encode_json(&batch)).expect("JSON");
    spans[0].clone()
}

#[test]
fn every_field_has_its_place() {
    let full = Span {
        trace_id: (1..=16).collect(),
        parent_id: vec![0, 0, 0, 0, 0, 0, 0, 9],
        kind: 1,
        name: "get /".to_owned(),
        timestamp: 1_795_332_552_157_501,
        duration: 300,
        local_endpoint: Some(Endpoint {
            service_name: "web".to_owned(),
            ipv4: vec![10, 0, 0, 1],
            ipv6: vec![0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            port: 8080,
        }),
        remote_endpoint: Some(Endpoint {
            service_name: "app".to_owned(),
            ..Endpoint::default()
        }),
        annotations: vec![Annotation {
            timestamp: 1_795_332_552_157_502,
            value: "sent".to_owned(),
        }],
        tags: HashMap::from([
            ("error".to_owned(), String::new()),
            ("a".to_owned(), "b".to_owned()),
        ]),
        debug: true,
        // A client's does not count.
        shared: true,
        ..span()
    };
    assert_eq!(
        read(full),
        json!({
            "traceId": "0102030405060708090a0b0c0d0e0f10", "parentId": "0000000000000009",
            "id": "0000000000000002", "kind": "CLIENT", "name": "get /",
            "timestamp": 1_795_332_552_157_501_u64, "duration": 300,
            "localEndpoint": {
                "serviceName": "web", "ipv4": "10.0.0.1", "ipv6": "2001:db8::1", "port": 8080,
            },
            "remoteEndpoint": {"serviceName": "app"},
            "annotations": [{"timestamp": 1_795_332_552_157_502_u64, "value": "sent"}],
            "tags": {"error": "", "a": "b"}, "debug": true,
        })
    );
}

#[test]
fn fields_are_normalised() {
    let ids = json!({"traceId": "0000000000000001", "id": "0000000000000002"});
    let with = |members: Json| {
        let mut all = ids.clone();
        let object = all.as_object_mut().expect("an object");
        object.extend(members.as_object().expect("an object").clone());
        all
    };
    let remote = |endpoint| Span {
        remote_endpoint: Some(endpoint),
        ..span()
    };
    let ipv6 = |bytes: &[u8]| Endpoint {
        ipv6: bytes.to_vec(),
        ..Endpoint::default()
    };
    let at = |address| with(json!({ "remoteEndpoint": address }));
    for (what, span, expected) in [
        ("a bare span", span(), with(json!({}))),
        (
            "an unknown kind",
            Span { kind: 7, ..span() },
            with(json!({})),
        ),
        (
            "a parent of zero",
            Span {
                parent_id: vec![0; 8],
                ..span()
            },
            with(json!({})),
        ),
        (
            "its own parent",
            Span {
                parent_id: vec![2],
                ..span()
            },
            with(json!({})),
        ),
        (
            "short ids",
            Span {
                trace_id: vec![1],
                id: vec![2],
                ..span()
            },
            with(json!({})),
        ),
        (
            "an id of 128 bits whose high half is zero",
            Span {
                trace_id: vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                ..span()
            },
            with(json!({})),
        ),
        (
            "IPv4 in IPv6, as such",
            remote(ipv6(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1])),
            at(json!({"ipv4": "10.0.0.1"})),
        ),
        (
            "IPv4 mapped into IPv6 stays IPv6",
            remote(ipv6(&[
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1,
            ])),
            at(json!({"ipv6": "::ffff:10.0.0.1"})),
        ),
        (
            "this machine",
            remote(ipv6(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])),
            at(json!({"ipv6": "::1"})),
        ),
        ("no address", remote(ipv6(&[1, 2, 3])), with(json!({}))),
        (
            "a port below zero",
            remote(Endpoint {
                port: -1,
                ..Endpoint::default()
            }),
            with(json!({})),
        ),
    ] {
        assert_eq!(read(span), expected, "{what}");
    }
    for empty in [&b""[..], &[0x12, 0]] {
        assert_eq!(decode_proto(empty).map(|batch| batch.span_count()), Ok(0));
    }
}

#[test]
fn malformed_lists_are_refused() {
    let endpoint = |port| Endpoint {
        port,
        ..Endpoint::default()
    };
    for (body, text) in [
        (b"[]".to_vec(), "Expected a PROTO3 encoded list\n"),
        (b"\x0c\0\0\0\0".to_vec(), "Expected a PROTO3 encoded list\n"),
        (
            b"\x0a\x05\x01".to_vec(),
            "Malformed reading List<Span> from proto3: ListOfSpans is cut short",
        ),
        (
            b"\x0a\x02\x0a\x05".to_vec(),
            "Malformed reading List<Span> from proto3: Span is cut short",
        ),
        (
            b"\x0a\x00".to_vec(),
            "Missing : traceId at $[0] reading List<Span> from proto3",
        ),
        (
            body(Span {
                id: Vec::new(),
                ..span()
            }),
            "Missing : id at $[0] reading List<Span> from proto3",
        ),
        (
            body(Span {
                trace_id: vec![0; 16],
                ..span()
            }),
            "traceId is all zeros at $[0] reading List<Span> from proto3",
        ),
        (
            body(Span {
                trace_id: vec![1; 17],
                ..span()
            }),
            "traceId.length > 32 at $[0] reading List<Span> from proto3",
        ),
        (
            body(Span {
                id: vec![1; 9],
                ..span()
            }),
            "id.length > 16 at $[0] reading List<Span> from proto3",
        ),
        (
            body(Span {
                local_endpoint: Some(endpoint(65_536)),
                ..span()
            }),
            "invalid port 65536 at $[0] reading List<Span> from proto3",
        ),
        (
            body(Span {
                timestamp: u64::MAX,
                ..span()
            }),
            "timestamp 9223372036854775807 is out of range at $[0] reading List<Span> from proto3",
        ),
    ] {
        let error = decode_proto(&body).expect_err(text);
        assert_eq!(error.to_string(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn protobuf_says_what_json_says(born in born_as_zipkin()) {
        let batch = decode_json(json!([born]).to_string().as_bytes()).expect("a span");
        let written = encode_proto(&batch);
        prop_assert_eq!(ListOfSpans::decode(&*written).expect("protobuf").spans.len(), 1);
        let read = decode_proto(&written).expect("a span");
        prop_assert_eq!(encode_json(&read), encode_json(&batch));
    }

    #[test]
    fn whatever_the_model_holds_is_written(batch in crate::support::batch()) {
        let written = encode_proto(&batch);
        let list = ListOfSpans::decode(&*written).expect("protobuf");
        prop_assert_eq!(list.spans.len(), batch.span_count());
    }

    #[test]
    fn random_bytes_do_no_harm(bytes: Vec<u8>) {
        let _ = decode_proto(&bytes);
    }
}
