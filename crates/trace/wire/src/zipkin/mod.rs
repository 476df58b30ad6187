//! Zipkin v2 JSON.
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
//! [`encode_json`] is the inverse. For spans that were born elsewhere it follows the OpenTelemetry
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
mod json_value;
mod raw;
mod tags;

pub use decode::decode_json;
pub use encode::{append_span, encode_json};
pub use error::{DecodeError, SpanProblem};

/// Attribute of a span that Zipkin marked as `shared`: its id is the caller's.
pub const SHARED: &str = "zipkin.shared";

/// Attribute of a span that Zipkin marked as `debug`.
pub const DEBUG: &str = "zipkin.debug";

/// Attribute of a span that came without a timestamp.
pub const ABSENT_START: &str = "otel.zipkin.absentField.startTime";
