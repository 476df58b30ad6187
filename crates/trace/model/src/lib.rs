//! Trace and span ids, the OTLP-shaped span model, and context propagation.
//!
//! The model is OpenTelemetry's (resource, scope, typed attributes, events, links, status): every
//! other shape, Jaeger's and Zipkin's included, is a projection made on read. No I/O, no clock.

mod attribute;
mod id;
mod span;

pub mod heap;
pub mod propagation;

pub use attribute::{Attribute, Value};
pub use id::{ParseIdError, SpanId, TraceId};
pub use span::{
    Batch, Event, Link, Resource, Scope, Span, SpanGroup, SpanKind, Status, StatusCode,
};
