//! The way to the endpoints: clusters as a worker sees them, balancing, pools, limits.

mod admit;
mod age;
mod birth;
mod cluster;
mod connection;
mod gauges;
mod http2;
mod link;
mod usage;

pub(crate) use admit::Admitted;
#[cfg(test)]
pub(crate) use birth::Opened;
pub(crate) use birth::{Birth, Reaches, Ready};
pub(crate) use cluster::{ClusterState, Counted};
pub(crate) use connection::{EndpointState, Pooled, Slot, UpstreamConnection};
pub(crate) use gauges::add_gauges;
pub(crate) use http2::Lease;
pub(crate) use link::Link;
pub(crate) use usage::{Permit, Usage, Usages};
