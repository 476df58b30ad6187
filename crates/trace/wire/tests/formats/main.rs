//! The codecs against their standards: golden files, tables of malformed input, round trips.

mod envoy;
mod export;
mod jaeger;
mod otlp_json;
mod otlp_protobuf;
mod support;
mod zipkin;
mod zipkin_proto;
mod zipkin_v1;
