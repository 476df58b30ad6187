//! A snapshot as one worker sees it: with its own pools, counts and exporters attached.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::export::{Exporter, Reported};
use crate::filter;
use crate::names::Names;
use crate::policy::{ConnectionRules, ConnectionRulesView};
use crate::route::Router;
use crate::snapshot::{
    ChainMatch, ChainTls, Cluster, ConnectionManager, Direction, Ends, FilterChain, Listener,
    Service, Snapshot, TcpProxy, Tracing, select,
};
use crate::stats::{
    ExchangeStats, HttpStats, ListenerHttpStats, ListenerStats, Registry, TcpStats, TlsStats,
};
use crate::telemetry::istio::{Metrics, RulesView};
use crate::telemetry::{AccessLog, LogView, Outlet, Sink, Telemetry, Way};
use crate::trace::Tracer;
use crate::upstream::{ClusterState, Counted};
use crate::worker::Worker;

/// What the requests of one worker run on, until the next snapshot.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) listeners: HashMap<String, Rc<ListenerView>>,
    by_address: HashMap<SocketAddr, Rc<ListenerView>>,
    pub(crate) clusters: HashMap<String, Rc<ClusterState>>,
}

/// A listener with the services of this worker.
#[derive(Debug)]
pub(crate) struct ListenerView {
    pub(crate) listener: Arc<Listener>,
    pub(crate) name: Rc<str>,
    pub(crate) stats: Arc<ListenerStats>,
    /// None if no chain terminates TLS.
    pub(crate) tls_stats: Option<Arc<TlsStats>>,
    /// What is told of its connections.
    pub(crate) logs: Option<Rc<LogView>>,
    /// One for each filter chain, the default chain last.
    chains: Vec<Rc<ChainView>>,
    /// One chain serves all connections, and nothing is asked about them.
    is_simple: bool,
    /// What the client sends first is looked at.
    waits_for_client: bool,
}

/// A filter chain.
#[derive(Debug)]
pub(crate) struct ChainView {
    /// The TLS that it terminates.
    pub(crate) tls: Option<ChainTls>,
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) service: ServiceView,
}

impl ChainView {
    /// Its name, if it has one.
    pub(crate) fn name(&self) -> &str {
        match &self.service {
            ServiceView::Http(view) => &view.chain,
            ServiceView::Tcp(view) => &view.chain,
        }
    }
}

/// What is done with a connection.
#[derive(Debug)]
pub(crate) enum ServiceView {
    Http(Rc<HttpView>),
    Tcp(Rc<TcpView>),
}

/// A connection manager and everything that its requests need.
#[derive(Debug)]
pub(crate) struct HttpView {
    /// Those of its filter chain; none of the default chain.
    conditions: Option<ChainMatch>,
    /// Its name, if it has one.
    pub(crate) chain: Box<str>,
    pub(crate) manager: Arc<ConnectionManager>,
    pub(crate) http: Arc<HttpStats>,
    /// What is counted for its listener.
    pub(crate) listener_http: Arc<ListenerHttpStats>,
    pub(crate) router: Option<Router>,
    pub(crate) filters: filter::Shared,
    pub(crate) tracer: Option<Tracer>,
    /// It serves requests even if there is too much to do.
    pub(crate) bypasses_overload: bool,
    /// None if nothing else is told of requests.
    pub(crate) telemetry: Option<Box<Telemetry>>,
}

/// A TCP proxy and its clusters.
#[derive(Debug)]
pub(crate) struct TcpView {
    /// The name of its filter chain, if that has one.
    pub(crate) chain: Box<str>,
    pub(crate) proxy: Arc<TcpProxy>,
    pub(crate) stats: Arc<TcpStats>,
    /// Those that decide whether a connection is passed on at all.
    pub(crate) rules: Vec<ConnectionRulesView>,
    /// Those from the first on that asks a service.
    pub(crate) rules_behind: Vec<ConnectionRulesView>,
    /// By choice: the cluster, unless there is none of that name.
    pub(crate) clusters: Vec<Option<Rc<ClusterState>>>,
    pub(crate) logs: Option<LogView>,
    /// Istio's metrics of its connections.
    pub(crate) metrics: Option<(Rc<Metrics>, Direction)>,
    /// What is wanted of them.
    pub(crate) metric_rules: Option<RulesView>,
    /// Counted if both ends of a connection are to say who they are.
    pub(crate) exchange: Option<Arc<ExchangeStats>>,
    /// The host that a client's handshake names is looked up here, and connected to at this port.
    pub(crate) looks_up: Option<(Arc<Names>, u16)>,
}

impl View {
    /// The view before anything was published.
    pub(crate) fn empty(snapshot: Arc<Snapshot>) -> Rc<Self> {
        Rc::new(Self {
            snapshot,
            listeners: HashMap::new(),
            by_address: HashMap::new(),
            clusters: HashMap::new(),
        })
    }

    /// The view of a snapshot; takes over from the previous one whatever has not changed.
    pub(crate) fn build(snapshot: Arc<Snapshot>, previous: &Self, worker: &Worker) -> Rc<Self> {
        let clusters: HashMap<_, _> = snapshot
            .clusters
            .iter()
            .map(|(name, cluster)| {
                let before = previous.clusters.get(name);
                let state = match before {
                    Some(before) if Arc::ptr_eq(&before.cluster, cluster) => before.clone(),
                    _ => ClusterState::new(
                        cluster.clone(),
                        before.map(Rc::as_ref),
                        cluster_stats(cluster, worker),
                        worker.usages.of(name),
                        worker.random() as usize,
                    ),
                };
                (name.clone(), state)
            })
            .collect();
        for (name, gone) in &previous.clusters {
            if !clusters.contains_key(name) {
                gone.retire();
            }
        }
        let listeners = snapshot
            .listeners
            .iter()
            .map(|listener| {
                let view = ListenerView::new(listener, &clusters, worker);
                (listener.name.clone(), Rc::new(view))
            })
            .collect::<HashMap<_, _>>();
        Rc::new(Self {
            snapshot,
            by_address: listeners
                .values()
                .map(|view: &Rc<ListenerView>| (view.listener.address, view.clone()))
                .collect(),
            listeners,
            clusters,
        })
    }

    /// The listener for connections to an address: the one at the address itself, or at its port and any
    /// address.
    pub(crate) fn listener_at(&self, address: SocketAddr) -> Option<&Rc<ListenerView>> {
        let any = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        // `::` takes IPv4 too.
        let any = if address.is_ipv4() {
            &any[..]
        } else {
            &any[1..]
        };
        let any = any.iter().map(|ip| SocketAddr::new(*ip, address.port()));
        std::iter::once(address)
            .chain(any)
            .find_map(|address| self.by_address.get(&address))
    }

    /// Whether any listener reports to this exporter.
    pub(crate) fn reports_to(&self, exporter: &Rc<Exporter>) -> bool {
        let managers = self
            .listeners
            .values()
            .flat_map(|listener| listener.managers());
        let mut tracers = managers.filter_map(|http| http.tracer.as_ref());
        tracers.any(|tracer| Rc::ptr_eq(tracer.exporter(), exporter))
            || self.logs().any(|logs| logs.reports_to(exporter))
    }

    /// Whether any access log writes to this sink.
    pub(crate) fn writes_to(&self, sink: &Rc<Sink>) -> bool {
        self.logs().any(|logs| logs.writes_to(sink))
    }

    fn logs(&self) -> impl Iterator<Item = &LogView> {
        self.listeners.values().flat_map(|listener| {
            let of_chains = listener
                .chains
                .iter()
                .filter_map(|chain| match &chain.service {
                    ServiceView::Http(http) => http.telemetry.as_ref().and_then(|it| it.logs()),
                    ServiceView::Tcp(tcp) => tcp.logs.as_ref(),
                });
            of_chains.chain(listener.logs.as_deref())
        })
    }
}

/// Istio's metrics, for listeners that say on which side of a service they stand.
fn metrics(worker: &Worker, direction: Direction) -> Option<Rc<Metrics>> {
    let has_side = direction != Direction::Unspecified;
    worker.metrics.clone().filter(|_| has_side)
}

/// Access logs with the places of this worker where their lines and records wait.
fn log_view(logs: &[Arc<AccessLog>], worker: &Worker) -> Option<LogView> {
    LogView::new(logs, |outlet| match outlet {
        Outlet::Lines(destination) => Way::Lines(worker.sink(destination)),
        Outlet::Records(collector) => {
            Way::Records(worker.exporter(&Reported::Records(collector.clone())))
        }
    })
}

/// The counts of a cluster.
fn cluster_stats(cluster: &Cluster, worker: &Worker) -> Counted {
    let own = [&cluster.transport];
    let endpoints = cluster.endpoints.iter().map(|endpoint| &endpoint.transport);
    let has_tls = endpoints
        .chain(own)
        .any(|transport| transport.tls.is_some());
    let registry = &worker.registry;
    let tls = has_tls.then(|| registry.cluster_tls(&cluster.name));
    let exchange = cluster.exchanges_peers;
    let exchange = exchange.then(|| registry.cluster_exchange(&cluster.name));
    (registry.cluster(&cluster.name), tls, exchange)
}

impl ListenerView {
    fn new(
        listener: &Arc<Listener>,
        clusters: &HashMap<String, Rc<ClusterState>>,
        worker: &Worker,
    ) -> Self {
        let conditions = listener.chains.iter().map(|chain| Some(&chain.conditions));
        let chain = |(chain, conditions): (&FilterChain, Option<&ChainMatch>)| {
            Rc::new(ChainView {
                tls: chain.tls.clone(),
                handshake_timeout: chain.handshake_timeout,
                service: ServiceView::new((chain, conditions), listener, clusters, worker),
            })
        };
        let chains: Vec<_> = listener
            .all_chains()
            .zip(conditions.chain([None]))
            .map(chain)
            .collect();
        let has_tls = chains.iter().any(|chain| chain.tls.is_some());
        Self {
            name: listener.name.as_str().into(),
            stats: worker.registry.listener(&listener.name),
            logs: log_view(&listener.access_logs, worker).map(Rc::new),
            tls_stats: has_tls.then(|| worker.registry.listener_tls(&listener.name)),
            waits_for_client: has_tls || !listener.inspection.filters.is_empty(),
            is_simple: !listener.original_destination
                && !has_tls
                && listener.inspection.filters.is_empty()
                && matches!(&*listener.chains, [one] if one.conditions == ChainMatch::default()),
            chains,
            listener: listener.clone(),
        }
    }

    /// Whether connections are served without a look at where they go.
    #[inline]
    pub(crate) fn is_simple(&self) -> bool {
        self.is_simple
    }

    /// Whether a connection is looked at before it is served, or does a handshake.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.waits_for_client
    }

    /// The filter chain of a simple listener's connections.
    pub(crate) fn only_chain(&self) -> Option<&ChainView> {
        self.chains.first().map(Rc::as_ref)
    }

    /// The filter chain of a connection; none if none takes it.
    pub(crate) fn chain(&self, ends: &Ends<'_>) -> Option<&Rc<ChainView>> {
        let chains = &self.listener.chains;
        let chosen = select(chains.iter().map(|chain| &chain.conditions), ends);
        // The default chain stands behind the others, if there is one.
        self.chains.get(chosen.unwrap_or(chains.len()))
    }

    /// The connection manager of the same filter chain as another one, which was in use before.
    pub(crate) fn successor(&self, of: &HttpView) -> Option<&Rc<HttpView>> {
        self.managers()
            .find(|http| http.conditions == of.conditions)
    }

    fn managers(&self) -> impl Iterator<Item = &Rc<HttpView>> {
        self.chains.iter().filter_map(|chain| match &chain.service {
            ServiceView::Http(http) => Some(http),
            ServiceView::Tcp(_) => None,
        })
    }
}

impl ServiceView {
    fn new(
        (chain, conditions): (&FilterChain, Option<&ChainMatch>),
        listener: &Listener,
        clusters: &HashMap<String, Rc<ClusterState>>,
        worker: &Worker,
    ) -> Self {
        let cluster = |name: &str| clusters.get(name).cloned();
        let direction = listener.direction;
        match &chain.service {
            Service::Http(manager) => {
                let make = |tracing: &Tracing| Tracer::new(tracing, direction, worker);
                let mut tracer = manager.tracing.as_ref().map(make);
                let tags = manager.tracing.as_ref();
                let tags = tags.map(|tracing| &*tracing.custom_tags);
                let maker = filter::Maker::new(manager, &worker.registry, &worker.usages);
                let tells_operations = tracer.as_ref().is_some_and(|tracer| tracer.egress);
                let mut router = manager.routes.as_ref().map(|table| {
                    let options = (tells_operations, &maker);
                    Router::new(table.clone(), options, cluster)
                });
                if let (Some(tracing), Some(tracer), Some(router)) =
                    (&manager.tracing, &mut tracer, &mut router)
                {
                    tracer.varies = router.trace(|route| make(&tracing.of_route(route)));
                }
                Self::Http(Rc::new(HttpView {
                    conditions: conditions.cloned(),
                    chain: chain.name.as_str().into(),
                    http: worker.registry.http(&manager.stat_prefix),
                    listener_http: worker
                        .registry
                        .listener_http(&listener.name, &manager.stat_prefix),
                    router,
                    filters: filter::Shared::new(manager, &maker, worker),
                    tracer,
                    bypasses_overload: listener.exempt.from_overload,
                    telemetry: Telemetry::new(
                        log_view(&manager.access_logs, worker),
                        metrics(worker, direction),
                        manager.metrics.as_ref(),
                        direction,
                        tags.unwrap_or_default(),
                    ),
                    manager: manager.clone(),
                }))
            }
            Service::Tcp(proxy) => {
                let (rules, rules_behind) = rules(proxy, &worker.registry);
                Self::Tcp(Rc::new(TcpView {
                    chain: chain.name.as_str().into(),
                    stats: worker.registry.tcp(&proxy.stat_prefix),
                    clusters: proxy
                        .clusters
                        .iter()
                        .map(|choice| cluster(&choice.name))
                        .collect(),
                    logs: log_view(&proxy.access_logs, worker),
                    metrics: metrics(worker, direction).map(|metrics| (metrics, direction)),
                    metric_rules: proxy.metrics.as_ref().and_then(RulesView::new),
                    exchange: proxy.exchanges_peers.then(|| worker.registry.exchange()),
                    looks_up: proxy
                        .looks_up
                        .as_ref()
                        .map(|(cache, port)| (worker.usages.names(cache, &worker.registry), *port)),
                    rules,
                    rules_behind,
                    proxy: proxy.clone(),
                }))
            }
        }
    }
}

/// The filters before a TCP proxy: those before the first that asks a service, and the rest.
fn rules(
    proxy: &TcpProxy,
    registry: &Registry,
) -> (Vec<ConnectionRulesView>, Vec<ConnectionRulesView>) {
    let asks = |rules: &ConnectionRules| matches!(rules, ConnectionRules::Ask(_));
    let first = proxy.rules.iter().position(asks);
    let tells = first.is_some()
        || proxy
            .access_logs
            .iter()
            .any(|log| log.format.tells_decisions());
    let all = proxy.rules.iter();
    let mut all: Vec<_> = all
        .map(|rules| ConnectionRulesView::new(rules, tells, registry))
        .collect();
    let behind = all.split_off(first.unwrap_or(all.len()));
    (all, behind)
}
