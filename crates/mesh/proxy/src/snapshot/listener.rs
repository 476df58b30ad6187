//! Listeners: where connections come in, and what serves them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{ConnectionManager, Direction, WeightedCluster, choose};

/// An address and what serves its connections.
#[derive(Debug)]
pub struct Listener {
    /// The xDS name.
    pub name: String,
    /// Where it accepts.
    pub address: SocketAddr,
    /// `traffic_direction`: decides the span kind.
    pub direction: Direction,
    /// `filter_chains`: the one filter of each that ends it.
    pub service: Service,
}

impl Listener {
    /// The connection managers of its filter chains.
    pub(crate) fn managers(&self) -> impl Iterator<Item = &ConnectionManager> {
        std::iter::once(&self.service).filter_map(|service| match service {
            Service::Http(manager) => Some(&**manager),
            Service::Tcp(_) => None,
        })
    }
}

/// What is done with a connection.
#[derive(Clone, Debug)]
pub enum Service {
    /// Its requests are served.
    Http(Arc<ConnectionManager>),
    /// Its bytes are passed on.
    Tcp(Arc<TcpProxy>),
}

/// Envoy's `TcpProxy`, as far as it is supported.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpProxy {
    /// `stat_prefix`.
    pub stat_prefix: String,
    /// Clusters and their weights; one cluster is a list of one.
    pub clusters: Vec<WeightedCluster>,
    /// Sum of all weights; never zero.
    pub total_weight: u32,
    /// `idle_timeout`: how long no byte may move in either direction.
    pub idle_timeout: Option<Duration>,
    /// `max_connect_attempts`; at least 1.
    pub max_connect_attempts: u32,
    /// `backoff_options`: the pause between two attempts.
    pub backoff: Option<Backoff>,
    /// `max_downstream_connection_duration`.
    pub max_duration: Option<Duration>,
    /// `max_downstream_connection_duration_jitter_percentage`: up to this much is added at random.
    pub max_duration_jitter: f64,
    /// `check_drain_close`: the connection ends as soon as nothing of it is under way once the
    /// listener drains.
    pub check_drain_close: bool,
}

impl TcpProxy {
    /// The choice of a connection: an index into `clusters`.
    pub(crate) fn choose(&self, random: impl FnOnce() -> u64) -> usize {
        match self.clusters.len() {
            1 => 0,
            _ => choose(&self.clusters, self.total_weight, random()),
        }
    }
}

/// `BackoffStrategy`: a random time, whose limit doubles with each attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// `base_interval`: the limit of the first pause.
    pub base: Duration,
    /// `max_interval`: the limit of all.
    pub max: Duration,
}
