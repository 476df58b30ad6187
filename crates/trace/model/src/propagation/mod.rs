//! Context propagation: B3, W3C Trace Context, `x-request-id`.
//!
//! Behaves as Envoy 1.40 does. Nothing here allocates, reads a clock or draws a random number: the
//! caller hands in header values as slices and random bits as values or as a closure, and gets
//! small `Copy` values back.
//!
//! A request passes through it in four steps:
//!
//! 1. [`request_id::on_arrival`] says whether the `x-request-id` is kept; [`request_id::decide`]
//!    makes this proxy's own sampling decision from it.
//! 2. [`B3Headers::extract`], [`B3Headers::extract_or_w3c`] (the Zipkin tracer) or
//!    [`w3c::extract`] (the OpenTelemetry tracer) reads the caller's context. After
//!    [`Extracted::Malformed`] no span is made and the headers are forwarded untouched.
//! 3. [`SpanContext::begin_zipkin`] or [`SpanContext::begin_w3c`] gives the span its ids,
//!    [`SpanContext::child`] those of an upstream attempt.
//! 4. The methods of [`SpanContext`] write the headers of the upstream request.

mod b3;
mod context;
mod hex;
mod text;

pub mod request_id;
pub mod w3c;

pub use b3::{B3Format, B3Headers};
pub use context::{SpanContext, ZipkinMode};
pub use text::ShortText;

use crate::{SpanId, TraceId};

/// `x-request-id`.
pub const X_REQUEST_ID: &str = "x-request-id";
/// `x-b3-traceid`.
pub const X_B3_TRACE_ID: &str = "x-b3-traceid";
/// `x-b3-spanid`.
pub const X_B3_SPAN_ID: &str = "x-b3-spanid";
/// `x-b3-parentspanid`.
pub const X_B3_PARENT_SPAN_ID: &str = "x-b3-parentspanid";
/// `x-b3-sampled`.
pub const X_B3_SAMPLED: &str = "x-b3-sampled";
/// `x-b3-flags`: passes through, and is neither read nor written.
pub const X_B3_FLAGS: &str = "x-b3-flags";
/// `x-ot-span-context`: passes through, and is neither read nor written.
pub const X_OT_SPAN_CONTEXT: &str = "x-ot-span-context";
/// `b3`, the single header.
pub const B3: &str = "b3";
/// `traceparent`.
pub const TRACEPARENT: &str = "traceparent";
/// `tracestate`.
pub const TRACESTATE: &str = "tracestate";

/// The seven headers that Istio's documentation asks applications to forward.
pub const FORWARDED_BY_APPLICATIONS: [&str; 7] = [
    X_REQUEST_ID,
    X_B3_TRACE_ID,
    X_B3_SPAN_ID,
    X_B3_PARENT_SPAN_ID,
    X_B3_SAMPLED,
    X_B3_FLAGS,
    X_OT_SPAN_CONTEXT,
];

/// What the trace headers of a request say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extracted {
    /// No context: the request begins a new trace.
    Absent {
        /// The caller's decision, if it sent one without ids.
        sampled: Option<bool>,
    },
    /// The caller's context.
    Context(Incoming),
    /// Headers that cannot be read: no span is made, and they are forwarded untouched.
    Malformed,
}

impl Extracted {
    /// The caller's context, if there is one.
    pub const fn context(&self) -> Option<&Incoming> {
        match self {
            Self::Context(incoming) => Some(incoming),
            Self::Absent { .. } | Self::Malformed => None,
        }
    }

    /// The caller's sampling decision, if it made one.
    pub const fn sampled(&self) -> Option<bool> {
        match self {
            Self::Absent { sampled } | Self::Context(Incoming { sampled, .. }) => *sampled,
            Self::Malformed => None,
        }
    }

    /// The Zipkin tracer's decision: the caller's beats this proxy's, both ways.
    pub const fn sampled_by_zipkin(&self, own_decision: bool) -> bool {
        match self.sampled() {
            Some(sampled) => sampled,
            None => own_decision,
        }
    }

    /// The OpenTelemetry tracer's decision: both the caller and this proxy must agree.
    pub const fn sampled_by_opentelemetry(&self, own_decision: bool) -> bool {
        match self.sampled() {
            Some(sampled) => sampled && own_decision,
            None => own_decision,
        }
    }
}

/// The caller's context, read from the headers of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span.
    pub span_id: SpanId,
    /// The caller's parent: B3 only, and not always sent.
    pub parent_span_id: Option<SpanId>,
    /// The caller's decision; B3 may leave it to us.
    pub sampled: Option<bool>,
}
