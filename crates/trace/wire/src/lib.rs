//! Codecs between wire formats (OTLP, Jaeger, Zipkin) and the span model.
//!
//! * [`export`] encodes spans on a proxy's hot path, without allocation and without the model.
//! * [`jaeger`] reads Thrift and `jaeger.api_v2`, writes the latter, and projects the model to Jaeger's.
//! * [`otlp`] reads and writes OTLP, protobuf and JSON.
//! * [`zipkin`] reads Zipkin v1 and v2 in all their encodings, and writes v2.
//! * [`sampling`] writes what clients are told about sampling (Jaeger's remote sampling).
//!
//! No I/O: bytes in, values out. Decoders never panic and never recurse without a bound.

mod base64;
mod json_text;
mod protobuf;
mod thrift;

pub mod export;
pub mod jaeger;
pub mod otlp;
pub mod sampling;
pub mod zipkin;
