//! OTLP: `opentelemetry.proto.collector.trace.v1.TraceService` over gRPC and over HTTP.

pub mod grpc;
pub mod http;

mod decode;
pub(crate) mod reply;
