//! Sampling: what clients are told to sample, and what is kept of what they send.
//!
//! Clients of Jaeger and OpenTelemetry's "Jaeger remote samplers" ask every minute or so what share of
//! their traces to sample. They are answered over [`http`] (port 5778 of an agent and of Jaeger v2,
//! `/api/sampling` of a collector) and over [`grpc`] (port 5779). [`AdaptiveSampling`] counts what
//! comes to tell them. [`TailSampling`] stands in front of the store and keeps or drops whole traces;
//! [`api`] tells why.

pub mod api;
pub mod grpc;
pub mod http;

mod adaptive;
mod clock;
mod dry_run;
mod file;
mod remote;
mod share;
mod tail;

pub use adaptive::AdaptiveSampling;
pub use dry_run::dry_run;
pub use file::{StrategiesError, StrategiesFile};
pub use remote::{RemoteSampling, RemoteStats};
pub use share::ShareSampling;
pub use tail::TailSampling;
