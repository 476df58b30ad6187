//! A cluster as a worker sees it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use periplus_wire::export::FixedTags;
use tokio::time::error::Elapsed;

use crate::balance::{
    self, Ask, Chance, Condition, Counts, Elsewhere, HostFlag, Latency, Load, Members, Picker,
    Verdict,
};
use crate::clock::Micros;
use crate::net::Source;
use crate::reply::Failure;
use crate::snapshot::{Balancing, Cluster, Endpoint, Wanted};
use crate::stats::{ClusterStats, ExchangeStats, TlsStats};
use crate::telemetry::istio::Named;
use crate::telemetry::log::needs_no_escape;
use crate::tls;
use crate::trace::{cluster_tags, endpoint_tags};
use crate::upstream::link::{Link, NotReady};
use crate::upstream::{EndpointState, Usage};

/// The endpoints of a cluster by address: what survives a change of configuration.
type Endpoints = HashMap<SocketAddr, Rc<EndpointState>>;

/// An endpoint's address, and where it is reached from.
type AskedFor = (SocketAddr, Option<Source>);

/// Its counts: those of TLS, and of ends that say who they are, only if there are such.
pub(crate) type Counted = (
    Arc<ClusterStats>,
    Option<Arc<TlsStats>>,
    Option<Arc<ExchangeStats>>,
);

/// A cluster, its endpoints and their pools.
#[derive(Debug)]
pub(crate) struct ClusterState {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) stats: Arc<ClusterStats>,
    tls_stats: Option<Arc<TlsStats>>,
    /// How it goes where both ends of a connection say who they are.
    pub(crate) exchange_stats: Option<Arc<ExchangeStats>>,
    /// Its tags on spans.
    pub(crate) tags: FixedTags,
    /// Nothing in its names has to be escaped in JSON.
    pub(crate) has_plain_names: bool,
    /// What Istio's metrics say of its service.
    pub(crate) named: Option<Named>,
    endpoints: Vec<Rc<EndpointState>>,
    /// Those that clients of a cluster without a list have asked for, and those that are reached from addresses of
    /// clients.
    asked_for: RefCell<HashMap<AskedFor, Rc<EndpointState>>>,
    members: Arc<Members>,
    /// Over the plan of the generation that was seen last.
    picker: RefCell<Picker>,
    seen: Cell<u64>,
    seed: usize,
    /// It counts how its endpoints do.
    watches: bool,
    /// Its endpoints are checked.
    is_checked: bool,
    pub(super) usage: Arc<Usage>,
}

impl ClusterState {
    /// Takes over the endpoints of the cluster's previous version that are still there, and
    /// retires the others.
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        previous: Option<&Self>,
        (stats, tls_stats, exchange_stats): Counted,
        usage: Arc<Usage>,
        seed: usize,
    ) -> Rc<Self> {
        let mut old: Endpoints = previous
            .into_iter()
            .flat_map(|previous| {
                for endpoint in previous.asked_for.take().values() {
                    endpoint.retire();
                }
                previous.endpoints.iter().cloned()
            })
            .map(|endpoint| (endpoint.address, endpoint))
            .collect();
        let members = cluster.members().clone();
        let mut kept = Endpoints::new();
        let endpoints = cluster
            .endpoints
            .iter()
            .enumerate()
            .map(|(index, endpoint)| {
                let source = Source::of_cluster(&cluster, endpoint.address);
                let state = kept.entry(endpoint.address).or_insert_with(|| {
                    let known = old.remove(&endpoint.address);
                    known
                        .filter(|known| known.source == source && known.fits(&endpoint.transport))
                        .unwrap_or_else(|| EndpointState::new(endpoint.address, source))
                });
                state.set_link(Link {
                    transport: endpoint.transport.clone(),
                    stats: tls_stats.clone(),
                    keepalive: cluster.keepalive,
                });
                state.restore();
                state.told.take();
                state.workload.suppose(endpoint.workload.as_ref());
                state.limit(&cluster);
                *state.host.borrow_mut() = Some(members.host(index).clone());
                state.clone()
            })
            .collect();
        for endpoint in old.values() {
            endpoint.retire();
        }
        // Before the plan: a newer one is at worst taken once more.
        let seen = members.generation();
        Rc::new(Self {
            has_plain_names: needs_no_escape(&cluster.name)
                && needs_no_escape(&cluster.observability_name),
            named: Named::of(&cluster),
            picker: RefCell::new(picker(&cluster, &members, &stats, seed)),
            tags: cluster_tags(&cluster),
            watches: cluster.outlier_detection.is_some()
                || matches!(cluster.balancing, Balancing::PeakEwma(_)),
            is_checked: cluster.health_check.is_some(),
            cluster,
            stats,
            tls_stats,
            exchange_stats,
            endpoints,
            asked_for: RefCell::default(),
            members,
            seen: Cell::new(seen),
            seed,
            usage,
        })
    }

    /// The endpoint for the next request; none if there is none for it.
    #[inline]
    pub(crate) fn pick(&self, ask: Ask<'_>, chance: &impl Chance) -> Option<Rc<EndpointState>> {
        self.pick_from(None, ask, chance)
    }

    /// The same for another attempt, which may avoid priorities.
    #[inline]
    pub(super) fn pick_from(
        &self,
        elsewhere: Option<&Elsewhere<'_>>,
        ask: Ask<'_>,
        chance: &impl Chance,
    ) -> Option<Rc<EndpointState>> {
        if let Some(options) = self.cluster.original_destination {
            let wanted = match options.is_by_name {
                true => ask.looked_up,
                false => ask.original,
            };
            return wanted.map(|wanted| self.ask_for(wanted, options.port, ask.source));
        }
        if self.members.generation() != self.seen.get() {
            self.renew();
        }
        if self.is_checked {
            // Clusters that are never used are checked less often.
            self.members.note_use();
        }
        let picked = match (ask.wanted, elsewhere) {
            (None, None) => self.picker.borrow().pick(ask, &self.endpoints, chance)?,
            (Some(wanted), _) => self.pick_wanted(*wanted, ask, chance)?,
            (None, Some(elsewhere)) => {
                let picker = self.picker.borrow();
                picker.pick_elsewhere(elsewhere, ask, &self.endpoints, chance)?
            }
        };
        let endpoint = &self.endpoints[picked];
        Some(match ask.source {
            None => endpoint.clone(),
            Some(source) => self.reach_from(source, endpoint),
        })
    }

    /// The endpoint of a session, unless it is not healthy; then another one, if there may be one.
    #[cold]
    fn pick_wanted(&self, wanted: Wanted, ask: Ask<'_>, chance: &impl Chance) -> Option<usize> {
        let endpoints = &self.cluster.endpoints;
        let is_it = |one: &Endpoint| Some(one.address) == wanted.address;
        let usable = endpoints.iter().position(is_it).filter(|&index| {
            let condition = self.members.host(index).condition(&endpoints[index]);
            matches!(condition, Condition::Healthy | Condition::Degraded)
        });
        if usable.is_some() || wanted.is_strict {
            return usable;
        }
        self.picker.borrow().pick(ask, &self.endpoints, chance)
    }

    /// Takes the newest plan.
    #[cold]
    fn renew(&self) {
        self.seen.set(self.members.generation());
        *self.picker.borrow_mut() = picker(&self.cluster, &self.members, &self.stats, self.seed);
        if self.cluster.closes_on_failure {
            let failed = |endpoint: &&Rc<EndpointState>| {
                let host = endpoint.host.borrow();
                let host = host.as_ref();
                host.is_some_and(|host| host.has(HostFlag::FailedCheck))
            };
            for endpoint in self.endpoints.iter().filter(failed) {
                endpoint.close_all();
            }
        }
    }

    /// The endpoint as it is reached from a client's own address, with connections of its own.
    #[cold]
    fn reach_from(&self, source: Source, endpoint: &Rc<EndpointState>) -> Rc<EndpointState> {
        if source.ip.is_ipv4() != endpoint.address.is_ipv4() {
            return endpoint.clone();
        }
        let mut asked_for = self.asked_for.borrow_mut();
        let state = asked_for
            .entry((endpoint.address, Some(source)))
            .or_insert_with(|| endpoint.reached_from(source));
        state.clone()
    }

    fn ask_for(
        &self,
        mut address: SocketAddr,
        port: Option<u16>,
        source: Option<Source>,
    ) -> Rc<EndpointState> {
        address.set_port(port.unwrap_or(address.port()));
        let source = source
            .filter(|source| source.ip.is_ipv4() == address.is_ipv4())
            .or_else(|| Source::of_cluster(&self.cluster, address));
        let mut asked_for = self.asked_for.borrow_mut();
        let endpoint = asked_for.entry((address, source)).or_insert_with(|| {
            let state = EndpointState::new(address, source);
            state.set_link(Link {
                transport: self.cluster.transport.clone(),
                stats: self.tls_stats.clone(),
                keepalive: self.cluster.keepalive,
            });
            state
        });
        endpoint.clone()
    }

    /// How many endpoints it has, and how they are.
    pub(crate) fn counts(&self) -> Counts {
        self.members.counts()
    }

    /// What spans tell of an endpoint.
    pub(crate) fn endpoint_tags(&self, endpoint: &EndpointState) -> Rc<FixedTags> {
        let mut told = endpoint.told.borrow_mut();
        let tags = told.get_or_insert_with(|| {
            let mut all = self.cluster.endpoints.iter();
            let index = all.position(|known| known.address == endpoint.address);
            Rc::new(endpoint_tags(&self.cluster, &endpoint.text, index))
        });
        tags.clone()
    }

    /// Whether it counts how its endpoints do.
    #[inline]
    pub(crate) fn watches(&self) -> bool {
        self.watches
    }

    /// An attempt has ended.
    #[cold]
    pub(crate) fn report(&self, endpoint: &EndpointState, verdict: Verdict) {
        let Some(rules) = &self.cluster.outlier_detection else {
            return;
        };
        let host = endpoint.host.borrow();
        if let Some(host) = &*host
            && host.monitor.put(verdict, rules)
        {
            self.members.trouble.notify_one();
        }
    }

    /// An endpoint has answered after so long.
    #[cold]
    pub(crate) fn observe(&self, endpoint: &EndpointState, took: Micros) {
        if let Balancing::PeakEwma(options) = &self.cluster.balancing {
            let took_ms = took as f64 / 1000.0;
            endpoint.latency.observe(took_ms, balance::now(), options);
        }
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
        if self.members.generation() != self.seen.get() {
            self.renew();
        }
        for endpoint in &self.endpoints {
            endpoint.sweep(now, self.cluster.idle_timeout, &self.stats);
        }
        let original = self.cluster.original_destination;
        let most = original.map(|options| options.cleanup_interval);
        let idle = [most, self.cluster.idle_timeout]
            .into_iter()
            .flatten()
            .min();
        self.asked_for.borrow_mut().retain(|_, endpoint| {
            endpoint.sweep(now, idle, &self.stats);
            endpoint.is_used()
        });
    }

    /// The cluster has gone.
    pub(crate) fn retire(&self) {
        let asked_for = self.asked_for.take();
        for endpoint in self.endpoints.iter().chain(asked_for.values()) {
            endpoint.retire();
        }
    }
}

fn picker(cluster: &Cluster, members: &Members, stats: &Arc<ClusterStats>, seed: usize) -> Picker {
    let slow_start = cluster.spread.slow_start;
    let policy = cluster.balancing;
    Picker::new(members.plan(), policy, slow_start, stats.clone(), seed)
}

impl Load for Vec<Rc<EndpointState>> {
    fn active(&self, index: usize) -> u32 {
        self[index].active.get()
    }

    fn latency(&self, index: usize) -> &Latency {
        &self[index].latency
    }
}
