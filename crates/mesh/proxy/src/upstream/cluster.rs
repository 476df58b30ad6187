//! A cluster as a worker sees it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use periplus_wire::export::FixedTags;
use tokio::time::error::Elapsed;

use crate::clock::Micros;
use crate::reply::Failure;
use crate::snapshot::Cluster;
use crate::stats::ClusterStats;
use crate::trace::cluster_tags;
use crate::upstream::balance::Balancer;
use crate::upstream::connection::Slot;
use crate::upstream::{EndpointState, Permit, Pooled, Usage};

/// The endpoints of a cluster by address: what survives a change of configuration.
type Endpoints = HashMap<SocketAddr, Rc<EndpointState>>;

/// A cluster, its endpoints and their pools.
#[derive(Debug)]
pub(crate) struct ClusterState {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) stats: Arc<ClusterStats>,
    /// Its tags on spans.
    pub(crate) tags: FixedTags,
    endpoints: Vec<Rc<EndpointState>>,
    balancer: Balancer,
    usage: Arc<Usage>,
}

impl ClusterState {
    /// Takes over the endpoints of the cluster's previous version that are still there, and
    /// retires the others.
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        previous: Option<&Self>,
        stats: Arc<ClusterStats>,
        usage: Arc<Usage>,
        seed: usize,
    ) -> Rc<Self> {
        let mut old: Endpoints = previous
            .into_iter()
            .flat_map(|previous| &previous.endpoints)
            .map(|endpoint| (endpoint.address, endpoint.clone()))
            .collect();
        let mut kept = Endpoints::new();
        let endpoints = cluster
            .endpoints
            .iter()
            .map(|endpoint| {
                let state = kept.entry(endpoint.address).or_insert_with(|| {
                    old.remove(&endpoint.address)
                        .unwrap_or_else(|| EndpointState::new(endpoint.address))
                });
                state.restore();
                state.clone()
            })
            .collect();
        for endpoint in old.values() {
            endpoint.retire();
        }
        let weights = cluster.endpoints.iter().map(|e| e.weight.max(1)).collect();
        Rc::new(Self {
            balancer: Balancer::new(cluster.balancing, weights, seed),
            tags: cluster_tags(&cluster),
            cluster,
            stats,
            endpoints,
            usage,
        })
    }

    /// The endpoint for the next request; none if the cluster has none.
    #[inline]
    pub(crate) fn pick(&self, random: impl FnMut() -> u64) -> Option<&Rc<EndpointState>> {
        self.balancer.pick(&self.endpoints, random)
    }

    /// Leave to have one more request under way, unless the circuit breaker is open.
    #[inline]
    pub(crate) fn request_permit(&self) -> Option<Permit> {
        let limit = self.cluster.limits.max_requests;
        Permit::take(&self.usage, |usage| &usage.requests, limit)
    }

    /// Leave to have one more request waiting for a connection.
    pub(crate) fn pending_permit(&self) -> Option<Permit> {
        let limit = self.cluster.limits.max_pending_requests;
        Permit::take(&self.usage, |usage| &usage.pending, limit)
    }

    /// A connection of the endpoint's pool, or leave to open one.
    pub(crate) fn checkout(&self, endpoint: &Rc<EndpointState>) -> Pooled {
        endpoint.checkout(&self.stats, |first| self.connection_permit(first))
    }

    /// Leave to open a connection to the endpoint.
    pub(super) fn slot(&self, endpoint: &Rc<EndpointState>) -> Option<Slot> {
        endpoint.slot(&self.stats, |first| self.connection_permit(first))
    }

    /// Leave to open a connection to the endpoint that no pool will have.
    pub(crate) fn own_slot(&self, endpoint: &Rc<EndpointState>) -> Option<Slot> {
        // Nobody waits for it, so that the limit holds for the first one too.
        endpoint.slot(&self.stats, |_| self.connection_permit(false))
    }

    /// Leave to have one more connection; the first one to an endpoint is always allowed.
    fn connection_permit(&self, first: bool) -> Option<Permit> {
        let limit = self.cluster.limits.max_connections;
        fn connections(usage: &Usage) -> &AtomicU32 {
            &usage.connections
        }

        let permit = Permit::take(&self.usage, connections, limit);
        if permit.is_none() {
            self.stats.cx_overflow.increment();
            if first {
                return Some(Permit::force(&self.usage, connections, limit));
            }
        }
        permit
    }

    /// Counts how an attempt to connect went.
    pub(crate) fn connected<T>(
        &self,
        endpoint: &EndpointState,
        opened: Result<io::Result<T>, Elapsed>,
    ) -> Result<T, Failure> {
        match opened {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(error)) => {
                self.stats.cx_connect_fail.increment();
                let (cluster, endpoint) = (&self.cluster.name, &endpoint.text);
                tracing::debug!(cluster, endpoint, %error, "cannot connect");
                Err(Failure::Connect)
            }
            Err(_) => {
                self.stats.cx_connect_timeout.increment();
                Err(Failure::ConnectTimeout)
            }
        }
    }

    /// Closes connections that were idle for too long or that the endpoint has closed.
    pub(crate) fn sweep(&self, now: Micros) {
        for endpoint in &self.endpoints {
            endpoint.sweep(now, self.cluster.idle_timeout, &self.stats);
        }
    }

    /// The cluster has gone.
    pub(crate) fn retire(&self) {
        for endpoint in &self.endpoints {
            endpoint.retire();
        }
    }
}
