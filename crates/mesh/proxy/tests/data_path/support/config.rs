//! Snapshots made by hand.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use periplus_proxy::snapshot::{
    Cluster, ClusterLimits, ConnectionManager, Decorator, Direction, Endpoint, Forward, Listener,
    Node, PathMatch, Route, RouteAction, RouteTable, Service, Snapshot, TcpProxy, Tracing,
    TracingProvider, VirtualHost,
};
use periplus_proxy::{Left, Options, Proxy, Published};
use socket2::{Domain, Socket, Type};

use super::{Client, Collector, Origin, wait_for};

/// A running proxy and the parts of its configuration.
pub(crate) struct Mesh {
    pub(crate) proxy: Option<Proxy>,
    pub(crate) published: Arc<Published>,
    pub(crate) address: SocketAddr,
    pub(crate) config: Config,
}

/// The parts of a configuration with one listener.
pub(crate) struct Config {
    pub(crate) direction: Direction,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) routes: Vec<Route>,
    pub(crate) domains: Vec<(String, Vec<Route>)>,
    pub(crate) tracing: Option<Tracing>,
    pub(crate) edge: bool,
    pub(crate) manager: Box<dyn Fn(&mut ConnectionManager) + Send + Sync>,
    /// In place of the connection manager.
    pub(crate) tcp: Option<TcpProxy>,
    pub(crate) options: Options,
    pub(crate) node: Node,
}

impl Config {
    /// All paths to cluster `app`, on this origin; outbound.
    pub(crate) fn to(origin: &Origin) -> Self {
        Self {
            direction: Direction::Outbound,
            clusters: vec![cluster("app", &[origin.address])],
            routes: vec![route("/", forward("app"))],
            domains: Vec::new(),
            tracing: None,
            edge: false,
            manager: Box::new(|_| ()),
            tcp: None,
            options: Options::default(),
            node: Node {
                id: "sidecar~10.0.0.2~productpage-v1-xyz.default~default.svc.cluster.local".into(),
                cluster: "productpage.default".into(),
                zone: "z1".into(),
                workload: None,
            },
        }
    }

    pub(crate) fn inbound(mut self) -> Self {
        self.direction = Direction::Inbound;
        self
    }

    /// A gateway: `use_remote_address` and a span for each attempt.
    pub(crate) fn gateway(mut self) -> Self {
        self.edge = true;
        if let Some(tracing) = &mut self.tracing {
            tracing.spawn_upstream_span = true;
        }
        self
    }

    pub(crate) fn zipkin(mut self, collector: &Collector) -> Self {
        self.clusters
            .push(cluster("zipkin", &[collector.origin.address]));
        self.tracing = Some(tracing(TracingProvider::Zipkin {
            cluster: "zipkin".into(),
            path: "/api/v2/spans".into(),
            host: "zipkin".into(),
            trace_id_128bit: true,
            shared_span_context: false,
            with_w3c: false,
            is_proto: false,
            fields: Vec::new(),
        }));
        self
    }

    pub(crate) fn otlp(mut self, collector: &Collector) -> Self {
        self.clusters
            .push(cluster("otlp", &[collector.origin.address]));
        self.tracing = Some(tracing(TracingProvider::OpenTelemetry {
            cluster: "otlp".into(),
            path: "/v1/traces".into(),
            host: "otlp".into(),
            is_grpc: false,
            service_name: "productpage.default".into(),
            timeout: Duration::from_secs(1),
            sampler: None,
            fields: b"authorization: Bearer secret\r\n".to_vec(),
            resource: vec![("team".to_owned(), "shop".to_owned())],
        }));
        self
    }

    pub(crate) fn routes(mut self, routes: Vec<Route>) -> Self {
        self.routes = routes;
        self
    }

    pub(crate) fn cluster(mut self, cluster: Cluster) -> Self {
        self.clusters.push(cluster);
        self
    }

    pub(crate) fn with_manager(
        mut self,
        edit: impl Fn(&mut ConnectionManager) + Send + Sync + 'static,
    ) -> Self {
        self.manager = Box::new(edit);
        self
    }

    pub(crate) fn with_tracing(mut self, edit: impl FnOnce(&mut Tracing)) -> Self {
        edit(self.tracing.as_mut().expect("tracing is configured"));
        self
    }

    /// Passes bytes on, to cluster `app` unless `edit` says otherwise.
    pub(crate) fn tcp(mut self, edit: impl FnOnce(&mut TcpProxy)) -> Self {
        let mut proxy = TcpProxy::new("test", "app");
        edit(&mut proxy);
        self.tcp = Some(proxy);
        self
    }

    pub(crate) fn start(self) -> Mesh {
        Mesh::start(self)
    }

    pub(crate) fn listener(&self, name: &str, address: SocketAddr) -> Listener {
        let mut table = RouteTable {
            name: "routes".into(),
            ignore_port: true,
            any: Some(0),
            ..RouteTable::default()
        };
        let host = |name: &str, routes: &[Route]| VirtualHost {
            include_request_attempt_count: true,
            ..VirtualHost::new(
                name,
                routes.iter().map(|route| Arc::new(route.clone())).collect(),
            )
        };
        table.virtual_hosts.push(host("any", &self.routes));
        for (domain, routes) in &self.domains {
            table
                .exact
                .insert(domain.clone(), table.virtual_hosts.len());
            table.virtual_hosts.push(host(domain, routes));
        }
        let mut manager = ConnectionManager {
            tracing: self.tracing.clone(),
            use_remote_address: self.edge,
            ..ConnectionManager::new("test", Some(Arc::new(table)))
        };
        (self.manager)(&mut manager);
        let service = match &self.tcp {
            Some(proxy) => Service::Tcp(Arc::new(proxy.clone())),
            None => Service::Http(Arc::new(manager)),
        };
        Listener::simple(name.into(), address, self.direction, service)
    }

    pub(crate) fn snapshot(&self, generation: u64, listeners: Vec<Listener>) -> Snapshot {
        Snapshot {
            generation,
            listeners: listeners.into_iter().map(Arc::new).collect(),
            clusters: self
                .clusters
                .iter()
                .map(|cluster| (cluster.name.clone(), Arc::new(cluster.clone())))
                .collect::<HashMap<_, _>>(),
        }
    }
}

impl Mesh {
    pub(crate) fn start(config: Config) -> Self {
        // Another test may take the port between the look and the bind.
        for _ in 0..10 {
            let address = free_address();
            let first = config.snapshot(1, vec![config.listener("test", address)]);
            let published = Published::new(first);
            let node = config.node.clone();
            let proxy = Proxy::start(published.clone(), node, config.options.clone())
                .expect("the proxy starts");
            wait_for("the first generation", || {
                (proxy.applied_generation() == 1).then_some(())
            });
            if proxy.bind_errors().is_empty() {
                return Self {
                    proxy: Some(proxy),
                    published,
                    address,
                    config,
                };
            }
        }
        panic!("no free port");
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the proxy runs")
    }

    /// Waits until the workers have a generation.
    pub(crate) fn applied(&self, generation: u64) {
        wait_for("the generation", || {
            (self.proxy().applied_generation() >= generation).then_some(())
        });
    }

    /// Publishes what `config` is now.
    pub(crate) fn publish(&self) {
        let generation = self.published.load().generation + 1;
        let listener = self.config.listener("test", self.address);
        self.published
            .publish(self.config.snapshot(generation, vec![listener]));
        self.applied(generation);
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A counter or gauge.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let stats = self.proxy().stats();
        let found = stats.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("no {name} in {stats:#?}")).1
    }

    /// Waits until a counter or gauge has a value.
    pub(crate) fn wait_stat(&self, name: &str, value: u64) {
        wait_for(&format!("{name} = {value}"), || {
            (self.stat(name) == value).then_some(())
        });
    }

    pub(crate) fn shutdown(mut self, deadline: Duration) -> Left {
        let proxy = self.proxy.take().expect("the proxy runs");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(proxy.shutdown(deadline))
    }
}

/// A port that nobody listens on.
/// A port that nobody will ever listen on: it is held, as others could be given it.
pub(crate) fn dead_address() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a port");
    let address = socket.local_addr().expect("an address");
    // As long as the test runs.
    std::mem::forget(socket);
    address.as_socket().expect("an address of IP")
}

pub(crate) fn free_address() -> SocketAddr {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a port");
    probe.local_addr().expect("an address")
}

pub(crate) fn cluster(name: &str, endpoints: &[SocketAddr]) -> Cluster {
    Cluster {
        name: name.into(),
        observability_name: name.into(),
        endpoints: endpoints.iter().copied().map(Endpoint::new).collect(),
        limits: ClusterLimits::UNLIMITED,
        ..Cluster::default()
    }
}

/// A route for a prefix.
pub(crate) fn route(prefix: &str, action: RouteAction) -> Route {
    Route::new(PathMatch::Prefix(prefix.into()), action)
}

/// The same route, which names its spans.
pub(crate) fn decorated(mut route: Route, operation: &str) -> Route {
    route.decorator = Some(Decorator {
        operation: operation.into(),
        propagate: true,
    });
    route
}

pub(crate) fn forward(cluster: &str) -> RouteAction {
    forward_within(cluster, Some(Duration::from_secs(15)))
}

pub(crate) fn forward_within(cluster: &str, timeout: Option<Duration>) -> RouteAction {
    RouteAction::Forward(Forward {
        timeout,
        ..Forward::to(cluster)
    })
}

pub(crate) fn tracing(provider: TracingProvider) -> Tracing {
    Tracing {
        provider,
        client_sampling: 10_000,
        random_sampling: 10_000,
        overall_sampling: 10_000,
        spawn_upstream_span: false,
        max_path_tag_length: 256,
        custom_tags: Vec::new(),
    }
}
