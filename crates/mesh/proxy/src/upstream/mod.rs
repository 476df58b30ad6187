//! The way to the endpoints: clusters as a worker sees them, balancing, pools, limits.

mod admit;
mod balance;
mod cluster;
mod connection;
mod http2;
mod link;
mod usage;

pub(crate) use cluster::ClusterState;
pub(crate) use connection::{EndpointState, Pooled, Slot, UpstreamConnection};
pub(crate) use http2::Lease;
pub(crate) use usage::{Permit, Usage, Usages};
