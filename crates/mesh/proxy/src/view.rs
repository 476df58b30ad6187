//! A snapshot as one worker sees it: with its own pools, counts and exporters attached.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::export::Exporter;
use crate::route::Router;
use crate::snapshot::{ConnectionManager, Direction, Service, Snapshot, TcpProxy};
use crate::stats::{HttpStats, ListenerStats, TcpStats};
use crate::trace::Tracer;
use crate::upstream::ClusterState;
use crate::worker::Worker;

/// What the requests of one worker run on, until the next snapshot.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) listeners: HashMap<String, Rc<ListenerView>>,
    pub(crate) clusters: HashMap<String, Rc<ClusterState>>,
}

/// A listener with the services of this worker.
#[derive(Debug)]
pub(crate) struct ListenerView {
    pub(crate) name: Rc<str>,
    pub(crate) stats: Arc<ListenerStats>,
    pub(crate) service: ServiceView,
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
    pub(crate) manager: Arc<ConnectionManager>,
    pub(crate) http: Arc<HttpStats>,
    pub(crate) router: Option<Router>,
    pub(crate) tracer: Option<Tracer>,
}

/// A TCP proxy and its clusters.
#[derive(Debug)]
pub(crate) struct TcpView {
    pub(crate) proxy: Arc<TcpProxy>,
    pub(crate) stats: Arc<TcpStats>,
    /// By choice: the cluster, unless there is none of that name.
    pub(crate) clusters: Vec<Option<Rc<ClusterState>>>,
}

impl View {
    /// The view before anything was published.
    pub(crate) fn empty(snapshot: Arc<Snapshot>) -> Rc<Self> {
        Rc::new(Self {
            snapshot,
            listeners: HashMap::new(),
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
                        worker.registry.cluster(name),
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
                let view = ListenerView {
                    name: listener.name.as_str().into(),
                    stats: worker.registry.listener(&listener.name),
                    service: ServiceView::new(
                        &listener.service,
                        listener.direction,
                        &clusters,
                        worker,
                    ),
                };
                (listener.name.clone(), Rc::new(view))
            })
            .collect();
        Rc::new(Self {
            snapshot,
            listeners,
            clusters,
        })
    }

    /// Whether any listener reports to this exporter.
    pub(crate) fn uses(&self, exporter: &Rc<Exporter>) -> bool {
        self.listeners.values().any(|listener| {
            listener
                .http()
                .and_then(|http| http.tracer.as_ref())
                .is_some_and(|tracer| Rc::ptr_eq(tracer.exporter(), exporter))
        })
    }
}

impl ListenerView {
    /// Its connection manager.
    pub(crate) fn http(&self) -> Option<&Rc<HttpView>> {
        match &self.service {
            ServiceView::Http(http) => Some(http),
            ServiceView::Tcp(_) => None,
        }
    }
}

impl ServiceView {
    fn new(
        service: &Service,
        direction: Direction,
        clusters: &HashMap<String, Rc<ClusterState>>,
        worker: &Worker,
    ) -> Self {
        let cluster = |name: &str| clusters.get(name).cloned();
        match service {
            Service::Http(manager) => {
                let tracer = manager.tracing.as_ref().map(|tracing| {
                    let exporter = worker.exporter(&tracing.provider);
                    Tracer::new(tracing, direction, &worker.node, exporter)
                });
                let tells_operations = tracer.as_ref().is_some_and(|tracer| tracer.egress);
                Self::Http(Rc::new(HttpView {
                    http: worker.registry.http(&manager.stat_prefix),
                    router: manager
                        .routes
                        .as_ref()
                        .map(|table| Router::new(table.clone(), tells_operations, cluster)),
                    tracer,
                    manager: manager.clone(),
                }))
            }
            Service::Tcp(proxy) => Self::Tcp(Rc::new(TcpView {
                stats: worker.registry.tcp(&proxy.stat_prefix),
                clusters: proxy
                    .clusters
                    .iter()
                    .map(|choice| cluster(&choice.name))
                    .collect(),
                proxy: proxy.clone(),
            })),
        }
    }
}
