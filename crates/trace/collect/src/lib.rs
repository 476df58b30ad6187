//! Receivers: OTLP and Zipkin on their ports, into the store.
