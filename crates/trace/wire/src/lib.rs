//! Codecs between wire formats (OTLP, Zipkin) and the span model.
//!
//! * [`export`] encodes spans on a proxy's hot path, without allocation and without the model.
//!
//! No I/O: bytes in, values out.

mod json_text;
mod protobuf;

pub mod export;
