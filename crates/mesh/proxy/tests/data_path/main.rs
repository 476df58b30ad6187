//! The data path over real sockets: one file per behaviour.

mod balancing;
mod differential_hyper;
mod filter_chains;
mod grpc;
mod health;
mod keep_alive_and_pools;
mod listeners_live;
mod retries;
mod rfc9110_semantics;
mod rfc9112_framing;
mod rfc9112_hostile_input;
mod rfc9113_bridges;
mod rfc9113_conformance;
mod rfc9113_connections;
mod rfc9113_failures;
mod routing;
mod support;
mod tcp_proxy;
mod trace_headers;
mod trace_spans;
mod upstream_failures;
