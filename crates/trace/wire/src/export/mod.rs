//! Span encoders for the proxy's hot path: borrowed spans in, wire bytes out.
//!
//! Nothing is allocated besides what the output `Vec` needs to grow: a caller that reuses its buffer
//! allocates nothing at all. Spans come out exactly as a real Envoy writes them, as Zipkin v2 JSON
//! ([`zipkin`]) or protobuf ([`zipkin_proto`]), or as OTLP protobuf ([`otlp`]); records of access logs as the latter
//! ([`otlp_logs`]).

mod cursor;

pub mod otlp;
pub mod otlp_logs;
pub mod zipkin;
pub mod zipkin_proto;

use std::borrow::Cow;

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
    pub tags: &'a [Tag<'a>],
    /// Zipkin only: the span id is the caller's.
    pub shared: bool,
    /// OTLP only: the W3C `tracestate`.
    pub trace_state: &'a str,
    /// OTLP only: W3C flags in the low byte, "parent is remote" in bits 8 and 9.
    pub flags: u32,
    /// OTLP only: how it ended.
    pub status: StatusCode,
}

/// A tag of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    /// The name, and what follows it and what stands before it if it is the second or a later tag of a span in
    /// JSON: `","name":"`. Empty if nobody has written that yet.
    json: &'a str,
    name: &'a str,
    value: &'a [u8],
    /// The value is known to be UTF-8.
    is_text: bool,
}

impl<'a> Tag<'a> {
    /// A tag of any name.
    pub const fn new(name: &'a str, value: &'a str) -> Self {
        Self::written(name, "", value)
    }

    /// A tag of the same name.
    #[inline]
    pub const fn with<'v>(self, value: &'v str) -> Tag<'v>
    where
        'a: 'v,
    {
        Tag::written(self.name, self.json, value)
    }

    /// A tag of the same name whose value nobody has looked at: what in it is no UTF-8 is reported as U+FFFD.
    #[inline]
    pub const fn with_bytes<'v>(self, value: &'v [u8]) -> Tag<'v>
    where
        'a: 'v,
    {
        Tag {
            value,
            is_text: false,
            ..self
        }
    }

    /// Its value.
    pub fn value(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.value)
    }

    /// Its name.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// A tag whose name is part of the program, see [`tag!`](crate::tag).
    #[doc(hidden)]
    #[inline]
    pub const fn written(name: &'a str, json: &'a str, value: &'a str) -> Self {
        Self {
            json,
            name,
            value: value.as_bytes(),
            is_text: true,
        }
    }

    fn is_utf8(&self) -> bool {
        self.is_text || self.value.is_ascii() || std::str::from_utf8(self.value).is_ok()
    }
}

/// Hands on a span whose tags are all UTF-8.
#[inline]
fn with_texts(span: &SpanRef<'_>, write: impl FnOnce(&SpanRef<'_>)) {
    match span.tags.iter().all(Tag::is_utf8) {
        true => write(span),
        false => with_lossy(span, write),
    }
}

/// The rare span with a value that is not.
#[cold]
fn with_lossy(span: &SpanRef<'_>, write: impl FnOnce(&SpanRef<'_>)) {
    let lossy = |tag: &Tag<'_>| String::from_utf8_lossy(tag.value).into_owned();
    let values: Vec<String> = span.tags.iter().map(lossy).collect();
    let tags = span.tags.iter().zip(&values);
    let tags: Vec<Tag<'_>> = tags.map(|(tag, value)| tag.with(value)).collect();
    write(&SpanRef {
        tags: &tags,
        ..*span
    });
}

/// A tag whose name is a literal in which JSON has nothing to escape: what surrounds it is written when the program is
/// compiled.
#[macro_export]
macro_rules! tag {
    ($name:literal, $value:expr $(,)?) => {
        $crate::export::Tag::written($name, concat!("\",\"", $name, "\":\""), $value)
    };
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
            zipkin_proto::push_tag(&mut encoded.zipkin, key, value.as_bytes());
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
