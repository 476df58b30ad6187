//! Zipkin v2 JSON, as Envoy's Zipkin tracer reports it.
//!
//! A list is begun, appended to and ended in one buffer:
//!
//! ```
//! use periplus_model::{SpanId, SpanKind, StatusCode, TraceId};
//! use periplus_wire::export::{SpanRef, Tag, zipkin};
//!
//! let endpoint = zipkin::LocalEndpoint::new("reviews.default", Some([10, 0, 0, 3].into()));
//! let span = SpanRef {
//!     trace_id: TraceId::from_halves(0, 0xabc),
//!     span_id: SpanId::from_u64(0xabc),
//!     parent_span_id: None,
//!     kind: SpanKind::Server,
//!     name: "reviews:9080/*",
//!     start_unix_micros: 1_760_000_000_000_000,
//!     duration_micros: 250,
//!     tags: &[Tag::new("http.status_code", "200"), Tag::new("zone", "")],
//!     shared: false,
//!     trace_state: "",
//!     flags: 0,
//!     status: StatusCode::Unset,
//! };
//! let mut body = Vec::new();
//! zipkin::begin_list(&mut body);
//! zipkin::append_span(&mut body, &endpoint, &span);
//! zipkin::end_list(&mut body);
//! assert_eq!(
//!     String::from_utf8(body).unwrap(),
//!     concat!(
//!         r#"[{"traceId":"0000000000000abc","id":"0000000000000abc","kind":"SERVER","#,
//!         r#""name":"reviews:9080/*","timestamp":1760000000000000,"duration":250,"#,
//!         r#""localEndpoint":{"serviceName":"reviews.default","ipv4":"10.0.0.3","port":0},"#,
//!         r#""annotations":[{"timestamp":1760000000000250,"value":"ss"}],"#,
//!         r#""tags":{"http.status_code":"200"}}]"#,
//!     )
//! );
//! ```

use std::net::IpAddr;

use periplus_model::SpanKind;

use super::cursor::Cursor;
use super::{FixedTags, SpanRef, Tag, with_texts};
use crate::json_text::{count_unusual, needs_escape, push_escaped, push_string};
use crate::protobuf::push_bytes;

/// The `localEndpoint` of a proxy's spans, encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalEndpoint {
    json: Vec<u8>,
    /// `zipkin.proto3.Endpoint`.
    pub(super) protobuf: Vec<u8>,
}

impl LocalEndpoint {
    /// Of a service (`node.cluster`) at an address. The port is 0, as Envoy writes it.
    pub fn new(service_name: &str, address: Option<IpAddr>) -> Self {
        let mut json = b",\"localEndpoint\":{\"serviceName\":".to_vec();
        push_string(&mut json, service_name);
        if let Some(address) = address {
            json.extend_from_slice(match address {
                IpAddr::V4(_) => b",\"ipv4\":",
                IpAddr::V6(_) => b",\"ipv6\":",
            });
            push_string(&mut json, &address.to_string());
        }
        json.extend_from_slice(b",\"port\":0}");
        let mut protobuf = Vec::new();
        push_bytes(&mut protobuf, 1, service_name.as_bytes());
        match address {
            Some(IpAddr::V4(address)) => push_bytes(&mut protobuf, 2, &address.octets()),
            Some(IpAddr::V6(address)) => push_bytes(&mut protobuf, 3, &address.octets()),
            None => {}
        }
        Self { json, protobuf }
    }
}

/// Begins a list of spans.
#[inline]
pub fn begin_list(out: &mut Vec<u8>) {
    out.push(b'[');
}

/// Ends a list of spans.
#[inline]
pub fn end_list(out: &mut Vec<u8>) {
    out.push(b']');
}

/// Appends a span to a list that was begun in `out`.
///
/// As from Envoy: a 64-bit trace id has 16 digits; `parentId` is left out of roots, `shared` unless
/// it is true, tags with an empty value always; the finish annotation (`cr` of a client, `ss` of a
/// server) is written, the start is `timestamp`.
pub fn append_span(out: &mut Vec<u8>, endpoint: &LocalEndpoint, span: &SpanRef<'_>) {
    append_span_with(out, endpoint, &[], span);
}

/// Appends a span like [`append_span`], with `fixed` tags before its own.
pub fn append_span_with(
    out: &mut Vec<u8>,
    endpoint: &LocalEndpoint,
    fixed: &[&FixedTags],
    span: &SpanRef<'_>,
) {
    if !matches!(out.last(), None | Some(b'[')) {
        out.push(b',');
    }
    // Texts are copied as they are, and checked all at once: in the own tags all must be ASCII, and nothing but the
    // quotes around keys and values may need escaping.
    let begin = out.len();
    out.resize(begin + length_bound(endpoint, fixed, span), 0);
    let end = out.len();
    let mut cursor = Cursor::new(&mut out[begin..]);
    write_head(&mut cursor, endpoint, span);
    let any_fixed = write_fixed_tags(&mut cursor, fixed);
    let tags_begin = end - cursor.left();
    let tags = write_tags(&mut cursor, any_fixed, span.tags);
    let tags_end = end - cursor.left();
    write_tail(&mut cursor, any_fixed || tags > 0, span.shared);
    let written = end - cursor.left();
    let clean = !needs_escape(span.name.as_bytes())
        && count_unusual(&out[tags_begin..tags_end]) == quotes(any_fixed, tags);
    out.truncate(if clean { written } else { begin });
    if !clean {
        with_texts(span, |span| append_escaping(out, endpoint, fixed, span));
    }
}

/// The rare span with a text that must be escaped.
#[cold]
fn append_escaping(
    out: &mut Vec<u8>,
    endpoint: &LocalEndpoint,
    fixed: &[&FixedTags],
    span: &SpanRef<'_>,
) {
    write_head(out, endpoint, span);
    let any_fixed = write_fixed_tags(out, fixed);
    let tags = write_tags(out, any_fixed, span.tags);
    write_tail(out, any_fixed || tags > 0, span.shared);
}

/// At most this many bytes are written for a span in which nothing must be escaped.
#[inline]
fn length_bound(endpoint: &LocalEndpoint, fixed: &[&FixedTags], span: &SpanRef<'_>) -> usize {
    /// All that does not depend on the span: the names of fields, ids and numbers.
    const FIXED: usize = 384;
    /// The quotes, the colon and the comma of a tag.
    const PER_TAG: usize = 6;
    let fixed = fixed
        .iter()
        .fold(0, |sum, tags| sum + tags.json.len() + PER_TAG);
    let tags = span.tags.iter().fold(0, |sum, tag| {
        sum + tag.name.len() + tag.value.len() + PER_TAG
    });
    FIXED + endpoint.json.len() + span.name.len() + fixed + tags
}

/// Where JSON goes.
trait Sink {
    /// JSON of a length that is known when this is compiled.
    fn put<const N: usize>(&mut self, json: &[u8; N]);
    /// JSON.
    fn put_slice(&mut self, json: &[u8]);
    /// The inside of a string.
    fn put_text(&mut self, text: &str);
    /// The same of a tag's value.
    fn put_value(&mut self, tag: &Tag<'_>);
}

/// Copies texts as they are.
impl Sink for Cursor<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, json: &[u8; N]) {
        Cursor::put(self, json);
    }

    #[inline]
    fn put_slice(&mut self, json: &[u8]) {
        Cursor::put_slice(self, json);
    }

    #[inline]
    fn put_text(&mut self, text: &str) {
        Cursor::put_slice(self, text.as_bytes());
    }

    #[inline]
    fn put_value(&mut self, tag: &Tag<'_>) {
        Cursor::put_slice(self, tag.value);
    }
}

/// Escapes texts.
impl Sink for Vec<u8> {
    fn put<const N: usize>(&mut self, json: &[u8; N]) {
        self.extend_from_slice(json);
    }

    fn put_slice(&mut self, json: &[u8]) {
        self.extend_from_slice(json);
    }

    fn put_text(&mut self, text: &str) {
        push_escaped(self, text);
    }

    fn put_value(&mut self, tag: &Tag<'_>) {
        push_escaped(self, &String::from_utf8_lossy(tag.value));
    }
}

/// Everything before the tags.
#[inline]
fn write_head(to: &mut impl Sink, endpoint: &LocalEndpoint, span: &SpanRef<'_>) {
    to.put(b"{\"traceId\":\"");
    let trace_id = span.trace_id.to_hex();
    match trace_id.last_chunk::<16>() {
        Some(low) if span.trace_id.is_64_bit() => to.put(low),
        _ => to.put(&trace_id),
    }
    if let Some(parent) = span.parent_span_id {
        to.put(b"\",\"parentId\":\"");
        to.put(&parent.to_hex());
    }
    to.put(b"\",\"id\":\"");
    to.put(&span.span_id.to_hex());
    match span.kind {
        SpanKind::Client => to.put(b"\",\"kind\":\"CLIENT"),
        SpanKind::Server => to.put(b"\",\"kind\":\"SERVER"),
        SpanKind::Producer => to.put(b"\",\"kind\":\"PRODUCER"),
        SpanKind::Consumer => to.put(b"\",\"kind\":\"CONSUMER"),
        SpanKind::Internal | SpanKind::Unspecified => {}
    }
    to.put(b"\",\"name\":\"");
    to.put_text(span.name);
    to.put(b"\",\"timestamp\":");
    put_number(to, span.start_unix_micros);
    to.put(b",\"duration\":");
    put_number(to, span.duration_micros);
    to.put_slice(&endpoint.json);
    let finish = match span.kind {
        SpanKind::Client => b"cr",
        SpanKind::Server => b"ss",
        _ => return,
    };
    to.put(b",\"annotations\":[{\"timestamp\":");
    let end = span.start_unix_micros.saturating_add(span.duration_micros);
    put_number(to, end);
    to.put(b",\"value\":\"");
    to.put(finish);
    to.put(b"\"}]");
}

/// Says whether there are any.
#[inline]
fn write_fixed_tags(to: &mut impl Sink, fixed: &[&FixedTags]) -> bool {
    let mut any = false;
    for tags in fixed.iter().filter(|tags| !tags.json.is_empty()) {
        if any {
            to.put(b",");
        } else {
            to.put(b",\"tags\":{");
        }
        to.put_slice(&tags.json);
        any = true;
    }
    any
}

/// Says how many were written.
#[inline]
fn write_tags(to: &mut impl Sink, any_before: bool, tags: &[Tag<'_>]) -> usize {
    let mut written = 0;
    for tag in tags.iter().filter(|tag| !tag.value.is_empty()) {
        match tag.json.as_bytes() {
            json if written > 0 && !json.is_empty() => to.put_slice(json),
            json => {
                match (written, any_before) {
                    (0, false) => to.put(b",\"tags\":{\""),
                    (0, true) => to.put(b",\""),
                    _ => to.put(b"\",\""),
                }
                match json.strip_prefix(b"\",\"") {
                    Some(json) => to.put_slice(json),
                    None => {
                        to.put_text(tag.name);
                        to.put(b"\":\"");
                    }
                }
            }
        }
        to.put_value(tag);
        written += 1;
    }
    if written > 0 {
        to.put(b"\"");
    }
    written
}

/// How many quotes [`write_tags`] writes besides those within texts.
const fn quotes(any_before: bool, tags: usize) -> usize {
    let around_name = if any_before || tags == 0 { 0 } else { 2 };
    around_name + 4 * tags
}

#[inline]
fn write_tail(to: &mut impl Sink, any_tags: bool, shared: bool) {
    if any_tags {
        to.put(b"}");
    }
    if shared {
        to.put(b",\"shared\":true");
    }
    to.put(b"}");
}

#[inline]
fn put_number(to: &mut impl Sink, number: u64) {
    to.put_slice(itoa::Buffer::new().format(number).as_bytes());
}
