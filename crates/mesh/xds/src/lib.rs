//! The xDS transport protocol over one aggregated stream (ADS): server and client.
//!
//! Nothing here knows what a mesh is. The [`server`] hands out encoded resources that a
//! [`server::Source`] makes for a node, and keeps the books that the protocol asks for: nonces, what was
//! acknowledged, what was refused and why. The [`client`] subscribes, follows names from listeners to
//! routes and from clusters to endpoints, and acknowledges what its handler accepted.
//!
//! Both speak the state-of-the-world form of the [xDS protocol] and the incremental one.
//!
//! [xDS protocol]: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol

pub mod client;
pub mod istio_peers;
pub mod istio_stats;
pub mod name_table;
mod resource;
pub mod server;
pub mod type_url;

pub use resource::{Resource, ResourceSet, Snapshot};
