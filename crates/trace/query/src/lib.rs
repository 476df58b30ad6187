//! The query APIs, as axum routers: HTTP for port 16686, gRPC for port 16685.
//!
//! * Jaeger's HTTP API as of v1.76 and `/api/v3`: what its UI, Grafana and Kiali call.
//! * Jaeger's gRPC services, `jaeger.api_v2` and `jaeger.api_v3`.
//! * Zipkin's v2 read API, for a port of its own and below `/zipkin`.
//! * Our own, described in `docs/periplus-api.md`: what our UI calls.
//!
//! All read the same store through the same query AST, and none trusts what it is given:
//! query strings, limits and answers are bounded. The `Host` header is never looked at.

mod api;
mod archive;
mod go;
mod grpc;
mod guard;
mod jaeger;
mod live;
mod own;
mod params;
mod reply;
mod search;
mod time;
mod v3;
mod view;
mod zipkin;

pub use api::{Options, QueryService};
pub use zipkin::ZipkinOptions;
