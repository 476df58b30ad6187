//! Reference workloads of spans, as OTLP/protobuf requests. The same arguments give the same bytes,
//! so that every engine is measured with the same ones.
//!
//! * [`demo()`] is like the OpenTelemetry demo: 20 services with three pods each, 19 resource
//!   attributes, 8 to 16 attributes on a span, 12 spans in a trace on average, 1.2 % errors with a
//!   stack trace, collector batches of 8,192 spans in the order in which they end; 513 bytes a span.
//! * [`tracegen()`] is Jaeger's load generator with the arguments of its ClickHouse benchmark: a
//!   root and nine children, eleven attributes from 97 keys and 1,000 values.

mod demo;
mod demo_attributes;
mod otlp;
mod rng;
mod tracegen;

pub use demo::{BATCH, START_UNIX_NANO, demo};
pub use tracegen::tracegen;
