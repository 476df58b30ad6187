//! xDS resources, checked and compiled into what the workers run on.
//!
//! Each resource is taken apart field by field. What is supported goes into the snapshot; what can be
//! ignored without changing what happens to a request is listed in `docs/xds-support.md`; everything else is refused
//! with the name of the resource and the path of the field, and the last good form of that resource stays.

#![expect(
    deprecated,
    reason = "control planes still send the older forms of some fields"
)]

mod access_log;
mod apply;
mod balancing;
mod bind;
mod breakers;
mod build;
mod check;
mod cluster;
mod collector;
mod data;
mod edits;
mod endpoint;
mod filter_chain;
mod filters;
mod format;
mod fraction;
mod hash_policy;
mod health_check;
mod http2;
mod inspection;
mod istio;
mod keepalive;
mod limits;
mod listener;
mod manager;
mod matcher;
mod metrics;
mod mirror;
mod names;
mod original_destination;
mod otel_log;
mod outlier;
mod policies;
mod policy;
mod retry;
mod rewrite;
mod route;
mod secret;
mod secrets;
mod services;
mod slot;
mod store;
mod subset;
mod tables;
mod tcp_proxy;
mod tls;
mod tls_params;
mod tracers;
mod tracing;
mod transport;
mod upgrade;

pub(crate) use self::apply::Extent;
pub(crate) use self::build::Lookup;
pub(crate) use self::cluster::{DnsRate, Family};
pub(crate) use self::secret::SecretSpec;
pub(crate) use self::secrets::{SecretId, SecretServer, look_at};
pub(crate) use self::store::Store;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_upstream;
