//! Span encoders for the proxy's hot path: borrowed spans in, wire bytes out.
//!
//! Nothing is allocated besides what the output `Vec` needs to grow: a caller that reuses its buffer
//! allocates nothing at all. Spans come out exactly as a real Envoy writes them, as Zipkin v2 JSON
//! ([`zipkin`]) or protobuf ([`zipkin_proto`]), or as OTLP protobuf ([`otlp`]).

mod cursor;

pub mod otlp;
pub mod zipkin;
pub mod zipkin_proto;

use periplus_model::{SpanId, SpanKind, StatusCode, TraceId};

use crate::json_text::push_string;

/// A finished span, borrowed from the exchange that it describes.
#[derive(Clone, Copy, Debug)]
pub struct SpanRef<'a> {
    /// The trace that it belongs to.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// The parent's id; `None` on a root.
    pub parent_span_id: Option<SpanId>,
    /// Its role in the call.
    pub kind: SpanKind,
    /// The operation's name.
    pub name: &'a str,
    /// When it began, microseconds since the Unix epoch.
    pub start_unix_micros: u64,
    /// How long it took, in microseconds.
    pub duration_micros: u64,
    /// Its tags, in the order in which they are written. Zipkin drops those with an empty value,
    /// OTLP keeps them.
    pub tags: &'a [(&'a str, &'a str)],
    /// Zipkin only: the span id is the caller's.
    pub shared: bool,
    /// OTLP only: the W3C `tracestate`.
    pub trace_state: &'a str,
    /// OTLP only: W3C flags in the low byte, "parent is remote" in bits 8 and 9.
    pub flags: u32,
    /// OTLP only: how it ended.
    pub status: StatusCode,
}

/// Tags that many spans have in common (those of a node, of a cluster), encoded once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixedTags {
    /// `"key":"value",…`, without those whose value is empty.
    json: Vec<u8>,
    /// `Span.attributes` fields.
    protobuf: Vec<u8>,
    /// `zipkin.proto3.Span.tags` fields, without those whose value is empty.
    zipkin: Vec<u8>,
}

impl FixedTags {
    /// These tags, in this order.
    pub fn new(tags: &[(&str, &str)]) -> Self {
        let mut encoded = Self::default();
        for (key, value) in tags {
            otlp::push_attribute(&mut encoded.protobuf, otlp::SPAN_ATTRIBUTES, key, value);
            zipkin_proto::push_tag(&mut encoded.zipkin, key, value);
            if value.is_empty() {
                continue;
            }
            let json = &mut encoded.json;
            if !json.is_empty() {
                json.push(b',');
            }
            push_string(json, key);
            json.push(b':');
            push_string(json, value);
        }
        encoded
    }
}
