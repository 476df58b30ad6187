//! Receivers: OTLP, Zipkin and Jaeger on their ports, into the store.
//!
//! Each receiver is an axum router ([`otlp::http`], [`otlp::grpc`], [`zipkin`], [`jaeger::http`],
//! [`jaeger::grpc`]) over one shared [`Collector`]; [`serve`] puts a router on a listener, and
//! [`jaeger::udp::serve`] reads datagrams. What a sender does wrong costs the sender:
//! bodies are bounded before and after decompression, all bodies together are bounded too, and
//! every refusal is counted by receiver and reason ([`Stats`]).

mod body;
mod collector;
mod cors;
mod grpc;
mod limits;
mod refusal;
mod server;
mod stats;
mod tls;

pub mod access;
pub mod forward;
pub mod jaeger;
pub mod otlp;
pub mod sampling;
pub mod zipkin;

pub use collector::Collector;
pub use cors::AllowedOrigins;
pub use limits::Limits;
pub use server::{serve, serve_tls};
pub use stats::{Reason, Receiver, Stats};
pub use tls::{Tls, TlsError, TlsFiles, client_config};

pub(crate) use refusal::Refusal;
