//! The data path over real sockets: one file per behaviour.

mod balancing;
mod collectors;
mod differential_hyper;
mod faults;
mod filter_chains;
mod grpc;
mod health;
mod istio_metrics;
mod keep_alive_and_pools;
mod listeners_live;
#[path = "../otlp_logs/mod.rs"]
mod otlp_logs;
mod retries;
mod rfc9110_semantics;
mod rfc9112_framing;
mod rfc9112_hostile_input;
mod rfc9113_bridges;
mod rfc9113_conformance;
mod rfc9113_connections;
mod rfc9113_failures;
mod rfc9113_h2spec;
mod rfc9113_h2spec_list;
mod rfc9113_h2spec_requests;
mod routing;
mod span_details;
mod support;
mod tcp_proxy;
mod trace_headers;
mod trace_spans;
mod upgrades;
mod upstream_failures;
