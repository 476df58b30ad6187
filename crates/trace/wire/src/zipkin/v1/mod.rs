//! Version 1: one span holds both sides of a call, as timed notes of who did what.

mod convert;
mod json;
mod thrift;

use periplus_model::{SpanId, TraceId};

pub use json::decode_json_v1;
pub use thrift::decode_thrift;

use super::endpoint::Host;

/// A span of version 1.
#[derive(Clone, Debug, Default)]
struct Span {
    trace_id: TraceId,
    id: SpanId,
    parent_id: Option<SpanId>,
    name: String,
    /// Microseconds; zero is absent.
    timestamp: i64,
    /// Microseconds; zero is absent.
    duration: i64,
    debug: bool,
    annotations: Vec<Annotation>,
    binary_annotations: Vec<BinaryAnnotation>,
    dropped_tags: u32,
}

/// What happened when, and where.
#[derive(Clone, Debug)]
struct Annotation {
    timestamp: i64,
    value: String,
    host: Option<Host>,
}

/// A tag, or, under a key such as `sa`, an address.
#[derive(Clone, Debug)]
struct BinaryAnnotation {
    key: String,
    value: String,
    host: Option<Host>,
}
