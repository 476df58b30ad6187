//! Span encoders for the proxy's hot path: borrowed spans in, wire bytes out.
//!
//! Nothing is allocated besides what the output `Vec` needs to grow: a caller that reuses its buffer
//! allocates nothing at all. Spans come out exactly as a real Envoy writes them, as Zipkin v2 JSON
//! ([`zipkin`]) or as OTLP protobuf ([`otlp`]).

pub mod otlp;
pub mod zipkin;

use periplus_model::{SpanId, SpanKind, StatusCode, TraceId};

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
