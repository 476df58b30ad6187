//! The exporters of the hot path: what they leave out, what they escape, and that they allocate
//! nothing.

use periplus_model::{SpanId, SpanKind, StatusCode, TraceId};
use periplus_wire::export::{FixedTags, SpanRef, Tag, otlp, zipkin, zipkin_proto};
use periplus_wire::otlp::decode_protobuf;
use periplus_wire::tag;
use proptest::prelude::*;
use serde_json::json;

const TAGS: [Tag<'_>; 15] = [
    tag!("component", "proxy"),
    tag!("downstream_cluster", "-"),
    tag!("guid:x-request-id", "fbd46b43-c075-9a0d-9a54-97ff56b88bfa"),
    tag!("http.method", "GET"),
    tag!("http.protocol", "HTTP/1.1"),
    tag!("http.status_code", "200"),
    tag!("http.url", "http://reviews:9080/reviews/0"),
    tag!(
        "node_id",
        "sidecar~10.0.0.2~productpage-v1-xyz.default~default.svc.cluster.local"
    ),
    tag!("peer.address", "127.0.0.1"),
    tag!("request_size", "0"),
    tag!("response_flags", "-"),
    tag!("response_size", "417"),
    tag!(
        "upstream_cluster",
        "outbound|9080||reviews.default.svc.cluster.local"
    ),
    tag!(
        "upstream_cluster.name",
        "outbound|9080||reviews.default.svc.cluster.local"
    ),
    tag!("zone", "z1"),
];

const SPAN: SpanRef<'static> = SpanRef {
    trace_id: TraceId::from_halves(0x5c7f_54f2_5cd9_a558, 0x9d5d_5720_cf2c_0581),
    span_id: SpanId::from_u64(0xeb0d_fff2_5987_f57b),
    parent_span_id: Some(SpanId::from_u64(0x656b_1db2_8f5b_c6f0)),
    kind: SpanKind::Client,
    name: "reviews.default.svc.cluster.local:9080/*",
    start_unix_micros: 1_795_332_552_174_632,
    duration_micros: 33_294,
    tags: &TAGS,
    shared: false,
    trace_state: "",
    flags: 0x301,
    status: StatusCode::Unset,
};

/// A tag whose name nobody has written yet.
fn tag_of((name, value): (&'static str, &'static str)) -> Tag<'static> {
    Tag::new(name, value)
}

fn zipkin_json(span: &SpanRef<'_>) -> serde_json::Value {
    let endpoint = zipkin::LocalEndpoint::new("a \"b\"", Some("2001:db8::1".parse().expect("IP")));
    let mut body = Vec::new();
    zipkin::begin_list(&mut body);
    zipkin::append_span(&mut body, &endpoint, span);
    zipkin::append_span(&mut body, &endpoint, span);
    zipkin::end_list(&mut body);
    let spans: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(spans[0], spans[1]);
    spans[0].clone()
}

#[test]
fn zipkin_leaves_out_what_envoy_leaves_out() {
    let root = SpanRef {
        trace_id: TraceId::from_halves(0, 7),
        parent_span_id: None,
        kind: SpanKind::Internal,
        tags: &[("zone", ""), ("a", "1"), ("grpc.message", "")].map(tag_of),
        shared: true,
        ..SPAN
    };
    assert_eq!(
        zipkin_json(&root),
        json!({
            "traceId": "0000000000000007",
            "id": "eb0dfff25987f57b",
            "name": "reviews.default.svc.cluster.local:9080/*",
            "timestamp": 1_795_332_552_174_632_u64,
            "duration": 33_294,
            "localEndpoint": {"serviceName": "a \"b\"", "ipv6": "2001:db8::1", "port": 0},
            "tags": {"a": "1"},
            "shared": true,
        })
    );
    for tags in [&[][..], &[tag!("zone", "")][..]] {
        let bare = zipkin_json(&SpanRef { tags, ..SPAN });
        assert_eq!(bare.get("tags"), None);
        assert_eq!(bare.get("shared"), None);
    }
    let nowhere = zipkin::LocalEndpoint::new("s", None);
    let mut body = Vec::new();
    zipkin::append_span(&mut body, &nowhere, &SPAN);
    let span: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        span["localEndpoint"],
        json!({"serviceName": "s", "port": 0})
    );
}

/// Both forms of Zipkin say the same.
#[test]
fn zipkin_protobuf_says_what_json_says() {
    let fixed = FixedTags::new(&[("component", "proxy"), ("empty", "")]);
    let addresses = ["10.0.0.2", "2001:db8::1"].map(|text| text.parse().expect("IP"));
    for kind in [
        SpanKind::Client,
        SpanKind::Server,
        SpanKind::Producer,
        SpanKind::Consumer,
        SpanKind::Internal,
    ] {
        for (trace_id, parent_span_id, shared) in [
            (SPAN.trace_id, SPAN.parent_span_id, true),
            (TraceId::from_halves(0, 7), None, false),
        ] {
            for address in addresses {
                let endpoint = zipkin::LocalEndpoint::new("a \"b\"", Some(address));
                let span = SpanRef {
                    trace_id,
                    parent_span_id,
                    kind,
                    shared,
                    ..SPAN
                };
                let (mut json, mut protobuf) = (Vec::new(), Vec::new());
                zipkin::begin_list(&mut json);
                for _ in 0..2 {
                    zipkin::append_span_with(&mut json, &endpoint, &[&fixed], &span);
                    zipkin_proto::append_span_with(&mut protobuf, &endpoint, &[&fixed], &span);
                }
                zipkin::end_list(&mut json);
                let json = periplus_wire::zipkin::decode_json(&json).expect("JSON");
                let protobuf = periplus_wire::zipkin::decode_proto(&protobuf).expect("protobuf");
                assert_eq!(json, protobuf);
            }
        }
    }
}

#[test]
fn otlp_keeps_empty_values_and_writes_every_status() {
    for status in [StatusCode::Unset, StatusCode::Ok, StatusCode::Error] {
        let span = SpanRef {
            tags: &[Tag::new("zone", "")],
            trace_state: "k=v",
            status,
            ..SPAN
        };
        let mut run = Vec::new();
        otlp::append_span(&mut run, &span);
        otlp::append_span(&mut run, &span);
        let envelope = otlp::Envelope::new(&[("service.name", "s")], "envoy", "");
        let mut body = Vec::new();
        envelope.append_request(&mut body, &run);
        let mut in_two_parts = Vec::new();
        envelope.append_head(&mut in_two_parts, run.len());
        in_two_parts.extend_from_slice(&run);
        assert_eq!(body, in_two_parts);
        let decoded = decode_protobuf(&body).expect("a request");
        let group = &decoded.batch.groups[0];
        assert_eq!(group.resource.service_name(), "s");
        assert_eq!(group.spans.len(), 2);
        let read = &group.spans[1];
        assert_eq!(read.attributes.len(), 1);
        assert_eq!(read.trace_state, "k=v");
        assert_eq!(read.flags, 0x301);
        assert_eq!(read.status.code, status);
        assert_eq!(read.start_unix_nano, 1_795_332_552_174_632_000);
        assert_eq!(read.duration_nano(), 33_294_000);
    }
}

#[test]
fn fixed_tags_come_first_and_read_like_others() {
    let all = [
        ("a", "1"),
        ("q", "\"x\""),
        ("empty", ""),
        ("b", "2"),
        ("c", "3"),
    ];
    // Some names were written when this was compiled.
    let tags = [
        tag!("a", "1"),
        tag_of(all[1]),
        tag_of(all[2]),
        tag_of(all[3]),
        tag!("c", "3"),
    ];
    let endpoint = zipkin::LocalEndpoint::new("s", None);
    for first in 0..=all.len() {
        for second in first..=all.len() {
            let blocks = [&all[..first], &all[first..second]].map(FixedTags::new);
            let fixed = [&blocks[0], &blocks[1]];
            let (whole, own) = (
                SpanRef {
                    tags: &tags,
                    ..SPAN
                },
                SpanRef {
                    tags: &tags[second..],
                    ..SPAN
                },
            );
            let (mut expected, mut written) = (Vec::new(), Vec::new());
            zipkin::append_span(&mut expected, &endpoint, &whole);
            zipkin::append_span_with(&mut written, &endpoint, &fixed, &own);
            assert_eq!(
                written.escape_ascii().to_string(),
                expected.escape_ascii().to_string()
            );
            let (mut expected, mut written) = (Vec::new(), Vec::new());
            otlp::append_span(&mut expected, &whole);
            otlp::append_span_with(&mut written, &fixed, &own);
            assert_eq!(written, expected);
        }
    }
}

#[test]
fn a_buffer_that_is_reused_does_not_grow() {
    let endpoint = zipkin::LocalEndpoint::new("productpage.default", Some([10, 0, 0, 2].into()));
    let mut buffer = Vec::with_capacity(16 * 1024);
    let (begin, capacity) = (buffer.as_ptr(), buffer.capacity());
    for _ in 0..3 {
        buffer.clear();
        zipkin::begin_list(&mut buffer);
        for _ in 0..5 {
            zipkin::append_span(&mut buffer, &endpoint, &SPAN);
        }
        zipkin::end_list(&mut buffer);
        buffer.clear();
        for _ in 0..5 {
            otlp::append_span(&mut buffer, &SPAN);
        }
    }
    assert_eq!((buffer.as_ptr(), buffer.capacity()), (begin, capacity));
}

proptest! {
    #[test]
    fn any_span_reads_back_from_either_format(
        name: String, tags in proptest::collection::vec(any::<(String, String)>(), 0..6),
        trace: u128, span: u64, parent: Option<u64>, kind in 0..6_i32, start in 0..u64::MAX / 2000,
        duration in 0..u64::MAX / 2000, state: String, flags: u32, status in 0..3_i32,
    ) {
        let tags: Vec<Tag<'_>> = tags.iter().map(|(name, value)| Tag::new(name, value)).collect();
        let span = SpanRef {
            trace_id: TraceId::from_bytes((trace | 1).to_be_bytes()),
            span_id: SpanId::from_u64(span | 1),
            parent_span_id: parent.map(|id| SpanId::from_u64(id | 1)),
            kind: SpanKind::from_number(kind),
            name: &name,
            start_unix_micros: start,
            duration_micros: duration,
            tags: &tags,
            shared: false,
            trace_state: &state,
            flags,
            status: StatusCode::from_number(status),
        };
        let json = zipkin_json(&span);
        prop_assert_eq!(json["name"].as_str(), Some(name.as_str()));
        prop_assert_eq!(json["timestamp"].as_u64(), Some(start));

        let mut run = Vec::new();
        otlp::append_span(&mut run, &span);
        let mut body = Vec::new();
        otlp::Envelope::new(&[], "", "").append_request(&mut body, &run);
        let decoded = decode_protobuf(&body).expect("a request");
        let read = &decoded.batch.groups[0].spans[0];
        prop_assert_eq!(read.trace_id, span.trace_id);
        prop_assert_eq!(read.span_id, span.span_id);
        prop_assert_eq!(read.parent_span_id, span.parent_span_id);
        prop_assert_eq!(read.kind, span.kind);
        prop_assert_eq!(&read.name, &name);
        prop_assert_eq!(read.start_unix_nano, start * 1000);
        prop_assert_eq!(read.duration_nano(), duration * 1000);
        prop_assert_eq!(&read.trace_state, &state);
        prop_assert_eq!(read.flags, flags);
        prop_assert_eq!(read.status.code, span.status);
        prop_assert_eq!(read.attributes.len(), tags.len());
        for (attribute, tag) in read.attributes.iter().zip(&tags) {
            prop_assert_eq!(&attribute.key, tag.name());
            prop_assert_eq!(attribute.value.as_str(), Some(&*tag.value()));
        }
    }
}

#[test]
fn bytes_that_are_no_utf8_are_replaced() {
    let tags = [
        tag!("é", ""),
        tag!("a", "").with_bytes(b"x\xffy"),
        tag!("b", "").with_bytes("é".as_bytes()),
        Tag::new("c", "\u{1f600}"),
    ];
    let span = SpanRef {
        tags: &tags,
        ..SPAN
    };
    let expected = json!({"a": "x\u{fffd}y", "b": "é", "c": "\u{1f600}"});
    assert_eq!(zipkin_json(&span)["tags"], expected);

    let mut run = Vec::new();
    otlp::append_span(&mut run, &span);
    let mut body = Vec::new();
    otlp::Envelope::new(&[], "", "").append_request(&mut body, &run);
    let decoded = decode_protobuf(&body).expect("a request");
    let read = &decoded.batch.groups[0].spans[0].attributes;
    let values: Vec<_> = read.iter().map(|read| read.value.as_str()).collect();
    assert_eq!(
        values,
        [Some(""), Some("x\u{fffd}y"), Some("é"), Some("\u{1f600}")]
    );

    let mut list = Vec::new();
    let endpoint = zipkin::LocalEndpoint::new("s", None);
    zipkin_proto::append_span_with(&mut list, &endpoint, &[], &span);
    let found = has(&list, "x\u{fffd}y");
    assert!(found, "{}", list.escape_ascii());
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}
