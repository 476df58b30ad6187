//! A cluster as a worker sees it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use periplus_wire::export::FixedTags;
use tokio::time::error::Elapsed;

use crate::clock::Micros;
use crate::reply::Failure;
use crate::snapshot::Cluster;
use crate::stats::{ClusterStats, TlsStats};
use crate::tls;
use crate::trace::cluster_tags;
use crate::upstream::balance::Balancer;
use crate::upstream::connection::Slot;
use crate::upstream::link::{Link, NotReady};
use crate::upstream::{EndpointState, Permit, Pooled, Usage};

/// The endpoints of a cluster by address: what survives a change of configuration.
type Endpoints = HashMap<SocketAddr, Rc<EndpointState>>;

/// A cluster, its endpoints and their pools.
#[derive(Debug)]
pub(crate) struct ClusterState {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) stats: Arc<ClusterStats>,
    tls_stats: Option<Arc<TlsStats>>,
    /// Its tags on spans.
    pub(crate) tags: FixedTags,
    endpoints: Vec<Rc<EndpointState>>,
    /// Those that clients of an ORIGINAL_DST cluster have asked for.
    asked_for: RefCell<Endpoints>,
    balancer: Balancer,
    usage: Arc<Usage>,
}

impl ClusterState {
    /// Takes over the endpoints of the cluster's previous version that are still there, and
    /// retires the others.
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        previous: Option<&Self>,
        (stats, tls_stats): (Arc<ClusterStats>, Option<Arc<TlsStats>>),
        usage: Arc<Usage>,
        seed: usize,
    ) -> Rc<Self> {
        let mut old: Endpoints = previous
            .into_iter()
            .flat_map(|previous| {
                let asked_for = previous.asked_for.take().into_values();
                previous.endpoints.iter().cloned().chain(asked_for)
            })
            .map(|endpoint| (endpoint.address, endpoint))
            .collect();
        let mut kept = Endpoints::new();
        let endpoints = cluster
            .endpoints
            .iter()
            .map(|endpoint| {
                let source = source_for(&cluster, endpoint.address);
                let state = kept.entry(endpoint.address).or_insert_with(|| {
                    let known = old.remove(&endpoint.address);
                    known
                        .filter(|known| known.source == source && known.fits(&endpoint.transport))
                        .unwrap_or_else(|| EndpointState::new(endpoint.address, source))
                });
                state.set_link(Link {
                    transport: endpoint.transport.clone(),
                    stats: tls_stats.clone(),
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
            tls_stats,
            endpoints,
            asked_for: RefCell::default(),
            usage,
        })
    }

    /// The endpoint for the next request; none if the cluster has none. `original` is where the client
    /// wanted to go.
    #[inline]
    pub(crate) fn pick(
        &self,
        original: Option<SocketAddr>,
        random: impl FnMut() -> u64,
    ) -> Option<Rc<EndpointState>> {
        match self.cluster.original_destination {
            None => self.balancer.pick(&self.endpoints, random).cloned(),
            Some(options) => original.map(|original| self.ask_for(original, options.port)),
        }
    }

    fn ask_for(&self, mut address: SocketAddr, port: Option<u16>) -> Rc<EndpointState> {
        address.set_port(port.unwrap_or(address.port()));
        let mut asked_for = self.asked_for.borrow_mut();
        let endpoint = asked_for.entry(address).or_insert_with(|| {
            let state = EndpointState::new(address, source_for(&self.cluster, address));
            state.set_link(Link {
                transport: self.cluster.transport.clone(),
                stats: self.tls_stats.clone(),
            });
            state
        });
        endpoint.clone()
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
                let inner = error.get_ref();
                if inner.is_some_and(|inner| inner.is::<NotReady>()) {
                    self.stats.secrets_not_ready.increment();
                    return Err(Failure::Transport(error.to_string().into()));
                }
                Err(match tls::reason(&error) {
                    Some(reason) => Failure::Transport(format!("TLS error: {reason}").into()),
                    None => Failure::Connect,
                })
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
        if let Some(options) = self.cluster.original_destination {
            let most = options.cleanup_interval;
            let idle = self
                .cluster
                .idle_timeout
                .map_or(most, |idle| idle.min(most));
            self.asked_for.borrow_mut().retain(|_, endpoint| {
                endpoint.sweep(now, Some(idle), &self.stats);
                endpoint.is_used()
            });
        }
    }

    /// The cluster has gone.
    pub(crate) fn retire(&self) {
        let asked_for = self.asked_for.take();
        for endpoint in self.endpoints.iter().chain(asked_for.values()) {
            endpoint.retire();
        }
    }
}

/// The address that connections of a cluster to another one are made from, if that is said.
fn source_for(cluster: &Cluster, address: SocketAddr) -> Option<IpAddr> {
    let mut sources = cluster.sources.iter().copied();
    sources.find(|source| source.is_ipv4() == address.is_ipv4())
}
