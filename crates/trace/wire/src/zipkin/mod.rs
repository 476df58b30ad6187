//! Zipkin: version 2 in JSON and protobuf, read and written; version 1 in JSON and Thrift, read.
//!
//! Every encoding is read into version 2's span ([`Encoding`] names them; [`decode`] reads any), of
//! version 1 by the rules in `v1/convert.rs`.
//!
//! Zipkin has one flat span; the model has OpenTelemetry's. The mapping is that of the OpenTelemetry
//! collector's translator, mended where the collector loses something:
//!
//! | Zipkin | model | note |
//! |---|---|---|
//! | `traceId`, `id`, `parentId` | ids | short ids are padded; a parent of zero, or equal to `id`, is none |
//! | `kind` | kind | absent: unspecified, or internal if there is a tag `span.kind` = `internal` |
//! | `name` | name | keeps its case |
//! | `timestamp`, `duration` (µs) | start, end | absent or ≤ 0: start 0 and attribute [`ABSENT_START`], end = start |
//! | `localEndpoint.serviceName` | resource `service.name` | absent: no such attribute |
//! | `localEndpoint.ipv4`, `ipv6`, `port` | `network.local.address` (one for each), `net.host.port` | text |
//! | `remoteEndpoint` | `service.peer.name`, `network.peer.address` (one for each), `net.peer.port` | text |
//! | `annotations` | events | the value is the name; `name\|{json}\|dropped` is unpacked |
//! | `tags` | attributes of text, in the order of arrival | besides those below |
//! | tag `error`, any value | status error | and stays an attribute |
//! | tags `otel.status_code`, `otel.status_description` | status | |
//! | tags `otel.scope.name` / `.version`, `otel.library.name` / `.version` | scope | |
//! | tags of resource names (`telemetry.sdk.…`, `host.…`, `k8s.…`, …) | resource attributes | |
//! | tag `w3c.tracestate` | trace state | |
//! | tags `otlp.link.N` | links | `trace\|span\|state\|{json}\|dropped` |
//! | tags `otel.dropped_…_count` | dropped counts | |
//! | `shared`, `debug` | attributes [`SHARED`], [`DEBUG`] = true | as in Zipkin, a client's `shared` does not count |
//!
//! [`encode_json`] and [`encode_proto`] are the inverse. For spans that were born elsewhere it follows the OpenTelemetry
//! specification: attributes that are no text become their JSON, an error without an `error`
//! attribute gets one, the remote endpoint of a client or producer is the first that names a peer.
//!
//! # Limits
//!
//! A Zipkin span has the limits of [OTLP](crate::otlp): tags and annotations that are over
//! [`MAX_ATTRIBUTES`](crate::otlp::MAX_ATTRIBUTES) and [`MAX_EVENTS`](crate::otlp::MAX_EVENTS) are
//! dropped and counted in the span's dropped counts. An annotation's JSON that is over them stays text.

mod decode;
mod encode;
mod endpoint;
mod error;
mod ids;
mod json_value;
mod parts;
mod proto;
mod raw;
mod span;
mod tags;
mod v1;

use periplus_model::Batch;

pub use decode::decode_json;
pub use encode::{append_normalised_span, append_span, encode_json};
pub use endpoint::{Endpoint, PEER_NAMES, PEER_SERVICE, endpoints};
pub use error::{DecodeError, Encoding, SpanProblem};
pub use proto::{decode_proto, encode_proto};
pub use v1::{decode_json_v1, decode_thrift};

/// Decodes a list of spans in any encoding.
///
/// # Errors
///
/// The body is no list in this encoding, or one of the spans breaks a rule.
pub fn decode(encoding: Encoding, body: &[u8]) -> Result<Batch, DecodeError> {
    match encoding {
        // An empty list of JSON is one in every encoding, as in Zipkin.
        _ if body == b"[]" => Ok(Batch::default()),
        Encoding::JsonV1 => decode_json_v1(body),
        Encoding::JsonV2 => decode_json(body),
        Encoding::Thrift => decode_thrift(body),
        Encoding::Proto3 => decode_proto(body),
    }
}

/// Attribute of a span that Zipkin marked as `shared`: its id is the caller's.
pub const SHARED: &str = "zipkin.shared";

/// Attribute of a span that Zipkin marked as `debug`.
pub const DEBUG: &str = "zipkin.debug";

/// Attribute of a span that came without a timestamp.
pub const ABSENT_START: &str = "otel.zipkin.absentField.startTime";
