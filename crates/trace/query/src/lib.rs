//! The query APIs: Jaeger's and our own, as one axum router for port 16686.
//!
//! * Jaeger's HTTP API as of v1.76: what its UI, Grafana and Kiali call.
//! * Our own, described in `docs/periplus-api.md`: what our UI calls.
//!
//! Both read the same store through the same query AST, and neither trusts what it is given:
//! query strings, limits and answers are bounded. The `Host` header is never looked at.

mod api;
mod go;
mod guard;
mod jaeger;
mod own;
mod params;
mod reply;
mod search;

pub use api::{Options, router};
