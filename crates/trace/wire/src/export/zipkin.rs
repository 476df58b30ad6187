//! Zipkin v2 JSON, as Envoy's Zipkin tracer reports it.
//!
//! A list is begun, appended to and ended in one buffer:
//!
//! ```
//! use periplus_model::{SpanId, SpanKind, StatusCode, TraceId};
//! use periplus_wire::export::{SpanRef, zipkin};
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
//!     tags: &[("http.status_code", "200"), ("zone", "")],
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

use crate::export::SpanRef;
use crate::json_text::{push_escaped, push_number, push_string};

/// The `localEndpoint` of a proxy's spans, encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalEndpoint {
    json: Vec<u8>,
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
        Self { json }
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
    out.extend_from_slice(match out.last() {
        None | Some(b'[') => b"{\"traceId\":\"".as_slice(),
        Some(_) => b",{\"traceId\":\"",
    });
    let trace_id = span.trace_id.to_hex();
    out.extend_from_slice(if span.trace_id.is_64_bit() {
        &trace_id[16..]
    } else {
        &trace_id
    });
    if let Some(parent) = span.parent_span_id {
        out.extend_from_slice(b"\",\"parentId\":\"");
        out.extend_from_slice(&parent.to_hex());
    }
    out.extend_from_slice(b"\",\"id\":\"");
    out.extend_from_slice(&span.span_id.to_hex());
    out.extend_from_slice(match span.kind {
        SpanKind::Client => b"\",\"kind\":\"CLIENT\",\"name\":\"".as_slice(),
        SpanKind::Server => b"\",\"kind\":\"SERVER\",\"name\":\"",
        SpanKind::Producer => b"\",\"kind\":\"PRODUCER\",\"name\":\"",
        SpanKind::Consumer => b"\",\"kind\":\"CONSUMER\",\"name\":\"",
        SpanKind::Internal | SpanKind::Unspecified => b"\",\"name\":\"",
    });
    push_escaped(out, span.name);
    out.extend_from_slice(b"\",\"timestamp\":");
    push_number(out, span.start_unix_micros);
    out.extend_from_slice(b",\"duration\":");
    push_number(out, span.duration_micros);
    out.extend_from_slice(&endpoint.json);
    append_finish(out, span);
    append_tags(out, span.tags);
    out.extend_from_slice(if span.shared {
        b",\"shared\":true}".as_slice()
    } else {
        b"}"
    });
}

fn append_finish(out: &mut Vec<u8>, span: &SpanRef<'_>) {
    let end: &[u8] = match span.kind {
        SpanKind::Client => b",\"value\":\"cr\"}]",
        SpanKind::Server => b",\"value\":\"ss\"}]",
        _ => return,
    };
    out.extend_from_slice(b",\"annotations\":[{\"timestamp\":");
    push_number(
        out,
        span.start_unix_micros.saturating_add(span.duration_micros),
    );
    out.extend_from_slice(end);
}

fn append_tags(out: &mut Vec<u8>, tags: &[(&str, &str)]) {
    let mut before: &[u8] = b",\"tags\":{\"";
    for (key, value) in tags {
        if value.is_empty() {
            continue;
        }
        out.extend_from_slice(before);
        push_escaped(out, key);
        out.extend_from_slice(b"\":\"");
        push_escaped(out, value);
        before = b"\",\"";
    }
    if before == b"\",\"" {
        out.extend_from_slice(b"\"}");
    }
}
