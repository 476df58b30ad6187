//! What a real Envoy 1.40 reported, read by the decoders and written again by the exporters.
//!
//! The captures are `fixtures/envoy_zipkin.json`, spans as they were on the wire, and
//! `fixtures/envoy_otlp.json`, the same for OTLP with hex ids and attributes flattened to a map.

use std::fmt::Write;

use periplus_model::{Batch, SpanKind, StatusCode};
use periplus_wire::export::{SpanRef, Tag, otlp as export_otlp, zipkin as export_zipkin};
use periplus_wire::{otlp, zipkin};
use prost::Message;
use serde_json::Value;

use crate::support::proto;

const ZIPKIN: &str = include_str!("fixtures/envoy_zipkin.json");

fn zipkin_spans() -> Vec<Value> {
    serde_json::from_str(ZIPKIN).expect("the fixture is a list")
}

fn otlp_captures() -> Vec<Value> {
    serde_json::from_str(include_str!("fixtures/envoy_otlp.json")).expect("the fixture is a list")
}

/// A batch on as few lines as possible.
fn show(batch: &Batch) -> String {
    let mut out = String::new();
    for group in &batch.groups {
        writeln!(out, "= {:?}", group.resource.attributes).expect("a String takes all");
        if !group.scope.name.is_empty() {
            writeln!(out, "  {} {}", group.scope.name, group.scope.version).expect("as above");
        }
        for span in &group.spans {
            writeln!(
                out,
                "- {:?} {:?} {} {} parent {:?}\n  {} + {} flags {:#x} {:?}",
                span.name,
                span.kind,
                span.trace_id,
                span.span_id,
                span.parent_span_id,
                span.start_unix_nano,
                span.duration_nano(),
                span.flags,
                span.status.code,
            )
            .expect("as above");
            for attribute in &span.attributes {
                writeln!(out, "    {} = {:?}", attribute.key, attribute.value).expect("as above");
            }
            for event in &span.events {
                writeln!(out, "  @ {} {}", event.time_unix_nano, event.name).expect("as above");
            }
        }
    }
    out
}

#[test]
fn zipkin_captures_are_read() {
    let batch = zipkin::decode_json(ZIPKIN.as_bytes()).expect("Envoy's spans");
    insta::assert_snapshot!(show(&batch));
}

#[test]
fn zipkin_captures_are_written_back_without_loss() {
    let batch = zipkin::decode_json(ZIPKIN.as_bytes()).expect("Envoy's spans");
    let written: Vec<Value> =
        serde_json::from_slice(&zipkin::encode_json(&batch)).expect("a list of spans");
    let mut expected = zipkin_spans();
    for span in &mut expected {
        // Port 0 is no port.
        let endpoint = span["localEndpoint"].as_object_mut().expect("an object");
        endpoint.remove("port");
    }
    let key = |span: &Value| (span["id"].to_string(), span["kind"].to_string());
    let sorted = |mut spans: Vec<Value>| {
        spans.sort_by_key(key);
        spans
    };
    assert_eq!(written.len(), expected.len());
    for (written, expected) in sorted(written).iter().zip(sorted(expected)) {
        assert_eq!(*written, expected);
    }
}

#[test]
fn the_exporter_writes_zipkin_spans_as_envoy_does() {
    let mut body = Vec::new();
    export_zipkin::begin_list(&mut body);
    let captured = zipkin_spans();
    for span in &captured {
        let tags = tags_of(&span["tags"]);
        let endpoint = &span["localEndpoint"];
        let address = text(&endpoint["ipv4"]).parse().expect("an address");
        let endpoint =
            export_zipkin::LocalEndpoint::new(text(&endpoint["serviceName"]), Some(address));
        export_zipkin::append_span(
            &mut body,
            &endpoint,
            &SpanRef {
                trace_id: text(&span["traceId"]).parse().expect("an id"),
                span_id: text(&span["id"]).parse().expect("an id"),
                parent_span_id: span["parentId"]
                    .as_str()
                    .map(|id| id.parse().expect("an id")),
                kind: if span["kind"] == "SERVER" {
                    SpanKind::Server
                } else {
                    SpanKind::Client
                },
                name: text(&span["name"]),
                start_unix_micros: span["timestamp"].as_u64().expect("a number"),
                duration_micros: span["duration"].as_u64().expect("a number"),
                tags: &tags,
                shared: span["shared"] == true,
                trace_state: "",
                flags: 0,
                status: StatusCode::Unset,
            },
        );
    }
    export_zipkin::end_list(&mut body);
    let written: Vec<Value> = serde_json::from_slice(&body).expect("a list of spans");
    let mut expected = captured;
    for span in &mut expected {
        // Envoy takes the finish annotation from another clock than the duration.
        let end = span["timestamp"].as_u64().expect("a number")
            + span["duration"].as_u64().expect("a number");
        span["annotations"][0]["timestamp"] = end.into();
    }
    assert_eq!(written, expected);
}

#[test]
fn otlp_captures_are_read() {
    let requests: Vec<proto::ResourceSpans> = otlp_captures().iter().map(as_proto).collect();
    let bytes = proto::Request {
        resource_spans: requests,
    }
    .encode_to_vec();
    let decoded = otlp::decode_protobuf(&bytes).expect("Envoy's spans");
    assert!(decoded.refused.is_empty());
    insta::assert_snapshot!(show(&decoded.batch));
    assert_eq!(
        otlp::decode_protobuf(&otlp::encode_protobuf(&decoded.batch)),
        Ok(decoded)
    );
}

#[test]
fn the_exporter_writes_otlp_spans_as_envoy_does() {
    for capture in otlp_captures() {
        let span = &capture["span"];
        let tags = tags_of(&span["attributes"]);
        let mut run = Vec::new();
        let start = nanos(&span["start_time_unix_nano"]) / 1000;
        export_otlp::append_span(
            &mut run,
            &SpanRef {
                trace_id: text(&span["trace_id"]).parse().expect("an id"),
                span_id: text(&span["span_id"]).parse().expect("an id"),
                parent_span_id: span["parent_span_id"]
                    .as_str()
                    .map(|id| id.parse().expect("an id")),
                kind: kind(span),
                name: text(&span["name"]),
                start_unix_micros: start,
                duration_micros: nanos(&span["end_time_unix_nano"]) / 1000 - start,
                tags: &tags,
                shared: true,
                trace_state: "",
                flags: span["flags"].as_u64().expect("a number") as u32,
                status: status(span),
            },
        );
        let resource = string_map(&capture["resource"]);
        let scope = &capture["scope"];
        let (name, version) = match scope {
            Value::Null => ("", ""),
            _ => (text(&scope["name"]), text(&scope["version"])),
        };
        let envelope = export_otlp::Envelope::new(&resource, name, version);
        let mut body = Vec::new();
        envelope.append_request(&mut body, &run);
        let expected = proto::Request {
            resource_spans: vec![as_proto(&capture)],
        };
        assert_eq!(
            proto::Request::decode(body.as_slice()),
            Ok(expected.clone())
        );
        assert_eq!(body, expected.encode_to_vec(), "byte for byte");
    }
}

/// A capture as the messages that it was.
fn as_proto(capture: &Value) -> proto::ResourceSpans {
    let span = &capture["span"];
    let attributes = |map: &Value| {
        let map = string_map(map);
        map.iter()
            .map(|(key, value)| proto::text(key, value))
            .collect()
    };
    proto::ResourceSpans {
        resource: Some(proto::Resource {
            attributes: attributes(&capture["resource"]),
            dropped_attributes_count: 0,
        }),
        scope_spans: vec![proto::ScopeSpans {
            scope: Some(proto::Scope {
                name: capture["scope"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                version: capture["scope"]["version"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                ..proto::Scope::default()
            }),
            spans: vec![proto::Span {
                trace_id: bytes(&span["trace_id"]),
                span_id: bytes(&span["span_id"]),
                parent_span_id: bytes(&span["parent_span_id"]),
                name: text(&span["name"]).to_owned(),
                kind: kind(span) as i32,
                start_time_unix_nano: nanos(&span["start_time_unix_nano"]),
                end_time_unix_nano: nanos(&span["end_time_unix_nano"]),
                attributes: attributes(&span["attributes"]),
                // Decoders print an empty status as nothing; Envoy writes it.
                status: Some(proto::Status {
                    message: String::new(),
                    code: status(span) as i32,
                }),
                flags: span["flags"].as_u64().expect("a number") as u32,
                ..proto::Span::default()
            }],
            schema_url: String::new(),
        }],
        schema_url: String::new(),
    }
}

fn kind(span: &Value) -> SpanKind {
    match text(&span["kind"]) {
        "SPAN_KIND_SERVER" => SpanKind::Server,
        "SPAN_KIND_CLIENT" => SpanKind::Client,
        other => panic!("Envoy makes no {other}"),
    }
}

fn status(span: &Value) -> StatusCode {
    if span["status"]["code"] == "STATUS_CODE_ERROR" {
        StatusCode::Error
    } else {
        StatusCode::Unset
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn nanos(value: &Value) -> u64 {
    text(value).parse().expect("digits")
}

fn bytes(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap_or_default();
    (0..digits.len() / 2)
        .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("hex"))
        .collect()
}

fn tags_of(value: &Value) -> Vec<Tag<'_>> {
    let entries = string_map(value).into_iter();
    entries.map(|(name, value)| Tag::new(name, value)).collect()
}

fn string_map(value: &Value) -> Vec<(&str, &str)> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| (key.as_str(), text(value)))
        .collect()
}
