//! Listeners: where connections come in, and what serves them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{
    AccessLog, ChainMatch, ChainTls, ConnectionManager, ConnectionRules, Direction, Filter,
    Inspection, MetricRules, NameCache, TcpKeepalive, WeightedCluster, choose,
};
use crate::policy::jwt::RemoteKeys;

/// An address and what serves its connections.
#[derive(Debug)]
pub struct Listener {
    /// The xDS name.
    pub name: String,
    /// Where it accepts.
    pub address: SocketAddr,
    /// `traffic_direction`: decides the span kind.
    pub direction: Direction,
    /// Its socket; without one (`bind_to_port: false`) it gets connections to its address that another
    /// listener has accepted.
    pub socket: Option<SocketKind>,
    /// The listener filter `original_dst`: asks the kernel where a redirected client wanted to go.
    pub original_destination: bool,
    /// The listener filter `original_src`: endpoints see the client's own address, in packets of this mark (zero:
    /// none).
    pub original_source: Option<u32>,
    /// `use_original_dst`: connections go to the listener at that address, if there is one.
    pub hands_over: bool,
    /// What is found out about its connections first.
    pub inspection: Inspection,
    /// `filter_chains`.
    pub chains: Vec<FilterChain>,
    /// `default_filter_chain`: for connections that no other takes; without one they are closed.
    pub default_chain: Option<FilterChain>,
    /// `access_log`: of its connections.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// What does not apply to it.
    pub exempt: Exempt,
}

/// What does not apply to a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    /// `ignore_global_conn_limit`: the limit of connections.
    pub from_limit: bool,
    /// `bypass_overload_manager`: what is done when there is too much to do.
    pub from_overload: bool,
}

/// How a listening socket is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketKind {
    /// `transparent`: accepts connections to any address (TPROXY).
    pub transparent: bool,
    /// `freebind`: the address need not be this host's.
    pub freebind: bool,
    /// `tcp_keepalive`, which connections have from it.
    pub keepalive: Option<TcpKeepalive>,
}

/// `FilterChain`.
#[derive(Clone, Debug)]
pub struct FilterChain {
    /// Its name; may be empty.
    pub name: String,
    /// `filter_chain_match`: which connections it serves.
    pub conditions: ChainMatch,
    /// The TLS that it terminates, if it does.
    pub tls: Option<ChainTls>,
    /// `transport_socket_connect_timeout`: how long a handshake may take.
    pub handshake_timeout: Option<Duration>,
    /// The one filter that ends it.
    pub service: Service,
}

/// A chain for all connections, in plaintext.
impl From<Service> for FilterChain {
    fn from(service: Service) -> Self {
        Self {
            name: String::new(),
            conditions: ChainMatch::default(),
            tls: None,
            handshake_timeout: None,
            service,
        }
    }
}

impl Listener {
    /// A listener with one service for all connections to its address.
    pub fn simple(
        name: String,
        address: SocketAddr,
        direction: Direction,
        service: Service,
    ) -> Self {
        Self {
            name,
            address,
            direction,
            socket: Some(SocketKind::default()),
            original_destination: false,
            original_source: None,
            hands_over: false,
            inspection: Inspection::default(),
            chains: vec![service.into()],
            default_chain: None,
            exempt: Exempt::default(),
            access_logs: Vec::new(),
        }
    }

    /// Its filter chains, the default chain last.
    pub(crate) fn all_chains(&self) -> impl Iterator<Item = &FilterChain> {
        self.chains.iter().chain(&self.default_chain)
    }

    /// The connection managers among them.
    pub(crate) fn managers(&self) -> impl Iterator<Item = &ConnectionManager> {
        self.all_chains().filter_map(|chain| match &chain.service {
            Service::Http(manager) => Some(&**manager),
            Service::Tcp(_) => None,
        })
    }

    /// Takes over the keys of tokens that have been fetched from the same places: a change of the listener does not
    /// depend on who publishes them.
    pub(crate) fn adopt_keys(&self, before: &Self) {
        let known: HashMap<_, _> = before.remote_keys().map(|one| (one.place(), one)).collect();
        for keys in self.remote_keys() {
            if let Some(before) = known.get(&keys.place()) {
                keys.adopt(before);
            }
        }
    }

    fn remote_keys(&self) -> impl Iterator<Item = &RemoteKeys> {
        let filters = self.managers().flat_map(|manager| &manager.filters);
        let tokens = filters.filter_map(|filter| match &filter.filter {
            Filter::Jwt(jwt, _) => Some(jwt),
            _ => None,
        });
        tokens.flat_map(|jwt| jwt.remote_keys())
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
    /// `hash_policy` with `source_ip`: what clusters with consistent hashing choose by.
    pub hashes_source: bool,
    /// The RBAC filters before it: whether a connection is passed on at all.
    pub rules: Vec<ConnectionRules>,
    /// `check_drain_close`: the connection ends as soon as nothing of it is under way once the
    /// listener drains.
    pub check_drain_close: bool,
    /// `access_log`.
    pub access_logs: Vec<Arc<AccessLog>>,
    /// What is wanted of Istio's metrics (`stats.PluginConfig` before it).
    pub metrics: Option<Arc<MetricRules>>,
    /// `istio.metadata_exchange` before it: connections begin with who is at both ends, where both agree on that.
    pub exchanges_peers: bool,
    /// `sni_dynamic_forward_proxy` before it: the host that the client's handshake names is looked up, for clusters of such
    /// hosts, and connected to at this port.
    pub looks_up: Option<(Arc<NameCache>, u16)>,
}

impl TcpProxy {
    /// One with Envoy's defaults, to this cluster.
    pub fn new(stat_prefix: impl Into<String>, cluster: &str) -> Self {
        Self {
            stat_prefix: stat_prefix.into(),
            clusters: vec![WeightedCluster::new(cluster, 1)],
            total_weight: 1,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connect_attempts: 1,
            backoff: None,
            max_duration: None,
            max_duration_jitter: 0.0,
            hashes_source: false,
            rules: Vec::new(),
            check_drain_close: false,
            access_logs: Vec::new(),
            metrics: None,
            exchanges_peers: false,
            looks_up: None,
        }
    }

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
