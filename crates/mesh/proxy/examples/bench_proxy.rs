//! A sidecar with a fixed configuration, to be measured: one outbound listener, one cluster, 100 %
//! tracing.
//!
//! `bench_proxy LISTEN UPSTREAM [zipkin=COLLECTOR | otlp=COLLECTOR] [http2]`, all of them `ip:port`;
//! `http2` is what the upstream speaks.

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use periplus_proxy::snapshot::{
    Balancing, Cluster, ClusterLimits, ConnectionManager, Decorator, Direction, Endpoint, Forward,
    Http2Options, LeastRequest, Listener, Node, PathMatch, Route, RouteAction, RouteTable, Service,
    Snapshot, Tracing, TracingProvider, UpstreamProtocol, VirtualHost,
};
use periplus_proxy::{Options, Proxy, Published};

const SERVICE: &str = "outbound|9080||reviews.default.svc.cluster.local";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().ok_or("no address to listen on")?.parse()?;
    let upstream = arguments.next().ok_or("no upstream")?.parse()?;
    let (mut http2, mut traced) = (false, None);
    for argument in arguments {
        match argument.as_str() {
            "http2" => http2 = true,
            text => traced = Some(provider(text)?),
        }
    }
    let provider = traced;
    let mut clusters = vec![cluster(SERVICE, upstream)];
    if http2 {
        clusters[0].protocol = UpstreamProtocol::Http2(Http2Options::default());
    }
    if let Some((_, collector)) = &provider {
        clusters.push(cluster("collector", *collector));
    }
    let snapshot = Snapshot {
        generation: 1,
        listeners: vec![Arc::new(listener(listen, provider.map(|(p, _)| p)))],
        clusters: clusters
            .into_iter()
            .map(|cluster| (cluster.name.clone(), Arc::new(cluster)))
            .collect(),
    };
    let node = Node {
        id: "sidecar~127.0.0.1~productpage-v1.default~default.svc.cluster.local".to_owned(),
        cluster: "productpage.default".to_owned(),
        zone: "z1".to_owned(),
        workload: None,
    };
    let proxy = Proxy::start(Published::new(snapshot), node, Options::default())?;
    while proxy.applied_generation() < 1 {
        std::thread::yield_now();
    }
    for (name, address, error) in proxy.bind_errors() {
        eprintln!("{name} cannot listen on {address}: {error}");
    }
    eprintln!("ready");
    loop {
        std::thread::park();
    }
}

fn provider(text: &str) -> Result<(TracingProvider, SocketAddr), Box<dyn Error>> {
    let (kind, collector) = text.split_once('=').ok_or("zipkin=… or otlp=…")?;
    let provider = match kind {
        "zipkin" => TracingProvider::Zipkin {
            cluster: "collector".to_owned(),
            path: "/api/v2/spans".to_owned(),
            host: "zipkin".to_owned(),
            trace_id_128bit: true,
            shared_span_context: false,
            with_w3c: false,
            is_proto: false,
            fields: Vec::new(),
        },
        "otlp" => TracingProvider::OpenTelemetry {
            cluster: "collector".to_owned(),
            path: "/v1/traces".to_owned(),
            host: "otlp".to_owned(),
            is_grpc: false,
            service_name: "productpage.default".to_owned(),
            timeout: Duration::from_secs(1),
            sampler: None,
            fields: Vec::new(),
            resource: Vec::new(),
        },
        other => return Err(format!("{other} is no provider").into()),
    };
    Ok((provider, collector.parse()?))
}

fn cluster(name: &str, address: SocketAddr) -> Cluster {
    Cluster {
        name: name.to_owned(),
        observability_name: name.to_owned(),
        endpoints: vec![Endpoint::new(address)],
        connect_timeout: Duration::from_secs(10),
        balancing: Balancing::LeastRequest(LeastRequest::default()),
        limits: ClusterLimits::UNLIMITED,
        ..Cluster::default()
    }
}

fn listener(address: SocketAddr, provider: Option<TracingProvider>) -> Listener {
    let route = Route {
        name: "default".to_owned(),
        decorator: Some(Decorator {
            operation: "reviews.default.svc.cluster.local:9080/*".to_owned(),
            propagate: true,
        }),
        ..Route::new(
            PathMatch::Prefix("/".to_owned()),
            RouteAction::Forward(Forward::to(SERVICE)),
        )
    };
    let host = VirtualHost {
        include_request_attempt_count: true,
        ..VirtualHost::new("reviews", vec![Arc::new(route)])
    };
    let routes = RouteTable {
        name: "http_proxy".to_owned(),
        ignore_port: true,
        exact: HashMap::from([
            ("reviews".to_owned(), 0),
            ("reviews.default.svc.cluster.local".to_owned(), 0),
        ]),
        any: Some(0),
        virtual_hosts: vec![host],
        ..RouteTable::default()
    };
    let manager = ConnectionManager {
        tracing: provider.map(|provider| Tracing {
            provider,
            client_sampling: 10_000,
            random_sampling: 10_000,
            overall_sampling: 10_000,
            spawn_upstream_span: false,
            max_path_tag_length: 256,
            custom_tags: Vec::new(),
        }),
        ..ConnectionManager::new("outbound", Some(Arc::new(routes)))
    };
    Listener::simple(
        "outbound".to_owned(),
        address,
        Direction::Outbound,
        Service::Http(Arc::new(manager)),
    )
}
