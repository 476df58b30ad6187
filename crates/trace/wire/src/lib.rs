//! Codecs between wire formats (OTLP, Zipkin) and the span model.
