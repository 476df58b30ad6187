//! A real Envoy, driven by this server: what it takes, how it follows, what it refuses.
//!
//! `PERIPLUS_ENVOY` names the binary. Without it the tests fail on CI, and elsewhere say so and pass.

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf;
use envoy_types::util::pack_any;
use periplus_xds::server::Limits;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use support::{Fixed, PATIENCE, Running, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const NODE: &str = "sidecar~127.0.0.1~test.default~default.svc.cluster.local";

/// The binary, if there is one.
fn envoy_binary() -> Option<PathBuf> {
    match std::env::var_os("PERIPLUS_ENVOY") {
        Some(path) => Some(path.into()),
        None if std::env::var_os("CI").is_some() => {
            panic!("PERIPLUS_ENVOY must name an Envoy binary on CI");
        }
        None => {
            eprintln!("not run: PERIPLUS_ENVOY does not name an Envoy binary");
            None
        }
    }
}

/// A running Envoy; killed when dropped.
struct Envoy {
    child: Child,
    directory: tempfile::TempDir,
}

impl Envoy {
    fn start(binary: &Path, control_plane: SocketAddr, form: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("bootstrap.json");
        let address = |address: &str, port: u16| serde_json::json!({"socket_address": {"address": address, "port_value": port}});
        let ads = serde_json::json!({"ads": {}, "resource_api_version": "V3"});
        let endpoint = address("127.0.0.1", control_plane.port());
        let bootstrap = serde_json::json!({
            "node": {"id": NODE, "cluster": "test.default"},
            "admin": {"address": address("127.0.0.1", 0)},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": form,
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
                },
                "lds_config": ads,
                "cds_config": ads,
            },
            "static_resources": {"clusters": [{
                "name": "xds-grpc",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    },
                },
                "load_assignment": {
                    "cluster_name": "xds-grpc",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": endpoint}}]}],
                },
            }]},
        });
        std::fs::write(&config, bootstrap.to_string()).expect("write");
        let log = std::fs::File::create(directory.path().join("log")).expect("a log file");
        let child = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .args([
                "--use-dynamic-base-id",
                "--disable-hot-restart",
                "--concurrency",
                "1",
            ])
            .args(["--log-level", "warning", "--admin-address-path"])
            .arg(directory.path().join("admin"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start Envoy");
        Self { child, directory }
    }

    async fn admin(&self) -> SocketAddr {
        let file = self.directory.path().join("admin");
        eventually("Envoy's admin address", || {
            std::fs::read_to_string(&file).ok()?.parse().ok()
        })
        .await
    }

    /// Where its listener `l` accepts: it is configured with port 0.
    async fn listener(&self) -> SocketAddr {
        let admin = self.admin().await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (_, text) = get(admin, "/listeners").await.unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("l::"));
            if let Some(address) = line.and_then(|address| address.parse().ok()) {
                return address;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "no listener, Envoy says:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP server that answers everything with its name.
async fn origin(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    seen.extend_from_slice(&buffer[..count]);
                    while let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                        seen.drain(..end + 4);
                        let head =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", name.len());
                        let answer = head + name;
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

/// Status and body of one request on a connection of its own.
async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

async fn answers(address: SocketAddr, body: &str) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let last = get(address, "/").await;
        if last
            .as_ref()
            .is_ok_and(|(status, text)| *status == 200 && text == body)
        {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "still waiting for {body:?}: {last:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn socket(address: SocketAddr) -> Option<core::Address> {
    Some(core::Address {
        address: Some(AddressKind::SocketAddress(core::SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..Default::default()
        })),
    })
}

fn ads() -> Option<core::ConfigSource> {
    Some(core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(Default::default())),
        ..Default::default()
    })
}

fn a_cluster(name: &str, timeout: i64) -> Resource {
    let cluster = Cluster {
        name: name.to_owned(),
        connect_timeout: Some(protobuf::Duration {
            seconds: timeout,
            nanos: 0,
        }),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            service_name: String::new(),
        }),
        ..Default::default()
    };
    Resource::new(name, &cluster)
}

fn endpoints(name: &str, at: SocketAddr) -> Resource {
    let assignment = endpoint::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: vec![endpoint::LbEndpoint {
                host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
                    endpoint::Endpoint {
                        address: socket(at),
                        ..Default::default()
                    },
                )),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    Resource::new(name, &assignment)
}

fn routes_to(cluster: &str) -> Resource {
    let to = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(
            cluster.to_owned(),
        )),
        ..Default::default()
    };
    let config = route::RouteConfiguration {
        name: "r".to_owned(),
        virtual_hosts: vec![route::VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route::Route {
                r#match: Some(route::RouteMatch {
                    path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
                    ..Default::default()
                }),
                action: Some(route::route::Action::Route(to)),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    Resource::new("r", &config)
}

fn a_listener(stat_prefix: &str) -> Resource {
    let manager = hcm::HttpConnectionManager {
        stat_prefix: stat_prefix.to_owned(),
        http_filters: vec![hcm::HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(
                Router::default(),
            ))),
            ..Default::default()
        }],
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(
            hcm::Rds {
                config_source: ads(),
                route_config_name: "r".to_owned(),
            },
        )),
        ..Default::default()
    };
    let listener = listener::Listener {
        name: "l".to_owned(),
        address: socket(SocketAddr::from(([127, 0, 0, 1], 0))),
        filter_chains: vec![listener::FilterChain {
            filters: vec![listener::Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(manager))),
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    Resource::new("l", &listener)
}

/// The whole configuration: one listener, one route to one cluster at one address.
fn world(cluster: &str, at: SocketAddr, stat_prefix: &str) -> Snapshot {
    let only = |resource: Resource| ResourceSet::from_iter([resource]);
    Snapshot::default()
        .with(CLUSTER, only(a_cluster(cluster, 1)))
        .with(ENDPOINT, only(endpoints(cluster, at)))
        .with(LISTENER, only(a_listener(stat_prefix)))
        .with(ROUTE, only(routes_to(cluster)))
}

/// Waits until no cluster waits for its endpoints.
async fn eventually_warm(admin: SocketAddr) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let stats = get(admin, "/stats?filter=cluster_manager.warming_clusters").await;
        if matches!(&stats, Ok((200, text)) if text.contains("warming_clusters: 0\n")) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "a cluster stays cold: {stats:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn in_sync(server: &Running) {
    eventually("Envoy to be in sync", || {
        let proxy = server
            .ads
            .proxies()
            .into_iter()
            .find(|proxy| proxy.node.id == NODE)?;
        let synced =
            proxy.types.len() == 4 && proxy.types.values().all(|t| t.acked_nonce == t.sent_nonce);
        synced.then_some(())
    })
    .await;
}

/// As `ads_config.api_type` names the forms of the protocol.
const FORMS: [&str; 2] = ["GRPC", "DELTA_GRPC"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_takes_follows_and_refuses() {
    let Some(binary) = envoy_binary() else {
        return;
    };
    for form in FORMS {
        takes_follows_and_refuses(&binary, form).await;
    }
}

async fn takes_follows_and_refuses(binary: &Path, form: &str) {
    let (one, two) = (origin("one").await, origin("two").await);
    let source = Fixed::new(world("first", one, "test"));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let envoy = Envoy::start(binary, server.address, form);
    let proxy = envoy.listener().await;
    answers(proxy, "one").await;
    in_sync(&server).await;

    // Endpoints move.
    source.set(world("first", two, "test"));
    answers(proxy, "two").await;
    in_sync(&server).await;

    // A cluster that changes needs its endpoints once more.
    let changed = ResourceSet::from_iter([a_cluster("first", 2)]);
    source.set(world("first", two, "test").with(CLUSTER, changed));
    in_sync(&server).await;
    eventually_warm(envoy.admin().await).await;
    answers(proxy, "two").await;
    source.set(world("first", two, "test"));
    in_sync(&server).await;

    // A listener that Envoy refuses: it says why, and goes on with the former one.
    source.set(world("first", two, ""));
    let nack = eventually("the refusal", || {
        server
            .ads
            .proxies()
            .pop()?
            .types
            .get(LISTENER)?
            .last_error
            .clone()
    })
    .await;
    assert!(nack.message.contains("StatPrefix"), "{}", nack.message);
    answers(proxy, "two").await;
    source.set(world("first", one, "test"));
    answers(proxy, "one").await;
    in_sync(&server).await;
    assert_eq!(server.ads.counters().nacks, 1);
    drop(envoy);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_clusters_come_and_go() {
    let Some(binary) = envoy_binary() else {
        return;
    };
    for form in FORMS {
        clusters_come_and_go(&binary, form).await;
    }
}

async fn clusters_come_and_go(binary: &Path, form: &str) {
    let (one, two) = (origin("one").await, origin("two").await);
    let source = Fixed::new(world("first", one, "test"));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let envoy = Envoy::start(binary, server.address, form);
    let proxy = envoy.listener().await;
    answers(proxy, "one").await;

    let traffic = Traffic::start(proxy);
    for round in 0..10 {
        let (name, body, at) = match round % 2 {
            0 => ("second", "two", two),
            _ => ("first", "one", one),
        };
        source.set(world(name, at, "test"));
        answers(proxy, body).await;
        in_sync(&server).await;
    }
    traffic.end().await;
    drop(envoy);
    server.stop().await;
}

/// Requests one after the other, none of which may fail.
struct Traffic {
    is_over: Arc<AtomicBool>,
    sending: tokio::task::JoinHandle<usize>,
}

impl Traffic {
    fn start(proxy: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                let (status, body) = get(proxy, "/").await.expect("an answer");
                assert_eq!(status, 200, "after {sent} requests: {body}");
                sent += 1;
            }
            sent
        });
        Self { is_over, sending }
    }

    async fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let sent = self.sending.await.expect("no request was lost");
        assert!(sent > 10, "{sent} requests");
    }
}

/// The way to the control plane, which can be cut.
struct Line {
    address: SocketAddr,
    is_whole: watch::Sender<bool>,
}

impl Line {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let (is_whole, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = state.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else {
                        return;
                    };
                    tokio::select! {
                        _ = state.wait_for(|is_whole| !is_whole) => {}
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { address, is_whole }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_envoy_comes_back_to_another_state() {
    let Some(binary) = envoy_binary() else {
        return;
    };
    for form in FORMS {
        let (one, two) = (origin("one").await, origin("two").await);
        let source = Fixed::new(world("first", one, "test"));
        let server = Running::start(source.clone(), Limits::default(), None).await;
        let line = Line::to(server.address).await;
        let envoy = Envoy::start(&binary, line.address, form);
        let proxy = envoy.listener().await;
        answers(proxy, "one").await;
        in_sync(&server).await;
        let traffic = Traffic::start(proxy);
        for (name, body, at) in [("second", "two", two), ("first", "one", one)] {
            line.is_whole.send_replace(false);
            eventually("the stream to end", || {
                server.ads.proxies().is_empty().then_some(())
            })
            .await;
            source.set(world(name, at, "test"));
            line.is_whole.send_replace(true);
            answers(proxy, body).await;
            in_sync(&server).await;
            let other = if name == "first" { "second" } else { "first" };
            let deadline = tokio::time::Instant::now() + PATIENCE;
            while let (_, clusters) = get(envoy.admin().await, "/clusters")
                .await
                .expect("clusters")
                && clusters.contains(&format!("{other}::"))
            {
                assert!(tokio::time::Instant::now() < deadline, "{form}: {clusters}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        traffic.end().await;
        drop(envoy);
        server.stop().await;
    }
}
