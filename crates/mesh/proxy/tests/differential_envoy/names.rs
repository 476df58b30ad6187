//! Clusters whose endpoints are the hosts that requests name, with names from a server of the test's.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CustomClusterType, DnsLookupFamily, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3::{TrafficDirection, TypedExtensionConfig};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfigType;
use envoy_types::pb::envoy::config::listener::v3::listener_filter::ConfigType as ListenerFilterConfigType;
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener, ListenerFilter};
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::ClusterConfig;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::cluster_config::ClusterImplementationSpecifier;
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::filter_config::ImplementationSpecifier;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::FilterConfig as OfConnections;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::filter_config::PortSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use envoy_types::pb::google::protobuf::Duration;
use envoy_types::util::pack_any;
use periplus_xds::type_url::{CLUSTER, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::access_logs::{in_file, text};
use crate::envoy;
use crate::pair::{Pair, becomes, normal};
use crate::xds_support::http::{Message, Origin, exchange};
use crate::xds_support::resources::{
    a_route, listener, listener_of, manager, path_prefix, route_configuration, socket, to_cluster,
};
use crate::xds_support::{PATIENCE, free_address};

/// Of a name server's answers: no error, and that there is no such name (RFC 1035 §4.1.1).
const NO_ERROR: u8 = 0;
const NAME_ERROR: u8 = 3;
/// The server that fails.
const SERVER_FAILURE: u8 = 2;

/// Answers for `up.test` that it is this host, for `failing.test` that the server fails, for others that there is no such
/// name.
async fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let address = socket.local_addr().expect("address");
    tokio::spawn(async move {
        let mut block = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut block).await {
            let _ = socket.send_to(&answer(&block[..length]), from).await;
        }
    });
    address
}

fn answer(question: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    let labels = &question[HEADER..];
    let end = labels.iter().position(|byte| *byte == 0).expect("a name");
    let asked = &question[..HEADER + end + 5];
    // Names have no case (RFC 1035 §2.3.3).
    let code = match labels[1..end].to_ascii_lowercase().as_slice() {
        b"up\x04test" => NO_ERROR,
        b"failing\x04test" => SERVER_FAILURE,
        _ => NAME_ERROR,
    };
    let mut answer = asked.to_vec();
    answer[2..HEADER].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    if code == NO_ERROR {
        answer[7] = 1;
        // The name of the question, an address of the internet, which holds for a minute.
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend_from_slice(&Ipv4Addr::LOCALHOST.octets());
    }
    answer
}

fn cache(server: SocketAddr) -> DnsCacheConfig {
    let resolvers = CaresDnsResolverConfig {
        resolvers: socket(server).into_iter().collect(),
        ..Default::default()
    };
    DnsCacheConfig {
        name: "names".to_owned(),
        dns_lookup_family: DnsLookupFamily::V4Only as i32,
        dns_query_timeout: Some(Duration {
            seconds: 2,
            nanos: 0,
        }),
        typed_dns_resolver_config: Some(TypedExtensionConfig {
            name: "envoy.network.dns_resolver.cares".to_owned(),
            typed_config: Some(pack_any(resolvers)),
        }),
        ..Default::default()
    }
}

/// TLS that goes to the host that it names, at the port of an origin.
fn tls_listener(at: SocketAddr, origin: u16, server: SocketAddr, log: AccessLog) -> Listener {
    let looks_up = OfConnections {
        dns_cache_config: Some(cache(server)),
        port_specifier: Some(PortSpecifier::PortValue(origin.into())),
        ..Default::default()
    };
    let proxied = TcpProxy {
        stat_prefix: "tcp".to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster("named".to_owned())),
        access_log: vec![log],
        ..Default::default()
    };
    let outbound = TrafficDirection::Outbound;
    let name = "envoy.filters.network.tcp_proxy";
    let mut made = listener_of("tls", at, outbound, name, proxied);
    made.filter_chains[0].filters.insert(
        0,
        Filter {
            name: "envoy.filters.network.sni_dynamic_forward_proxy".to_owned(),
            config_type: Some(FilterConfigType::TypedConfig(pack_any(looks_up))),
        },
    );
    made.listener_filters = vec![ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(ListenerFilterConfigType::TypedConfig(pack_any(
            TlsInspector::default(),
        ))),
        ..Default::default()
    }];
    made
}

/// What a client that asks for this host says first.
fn client_hello(host: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let host = host.to_owned().try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), host).expect("valid");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("written");
    hello
}

/// Takes the beginning of a handshake, says that it has come, and ends.
async fn end_of_tls() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut first = [0; 3];
            if stream.read_exact(&mut first).await.is_ok() {
                let _ = stream.write_all(format!("{first:?}").as_bytes()).await;
            }
            // What is not read would make a reset of the end.
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    address
}

/// What comes back to a client that asks for this host.
async fn asked_for(at: SocketAddr, host: &str) -> String {
    let mut stream = TcpStream::connect(at).await.expect("connects");
    stream.write_all(&client_hello(host)).await.expect("sent");
    let mut answer = Vec::new();
    // However it ends, it ends.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn tls_outcome(at: SocketAddr, log: &Path) -> Vec<String> {
    let hosts = ["up.test", "UP.test", "nobody.test"];
    let mut lines = Vec::new();
    for host in hosts {
        lines.push(format!("{host}: {}", asked_for(at, host).await));
    }
    lines.extend(logged(log, hosts.len()).await);
    lines
}

/// The lines of a log, once there are so many.
async fn logged(log: &Path, count: usize) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let logged = std::fs::read_to_string(log).unwrap_or_default();
        if logged.lines().count() == count {
            return logged.lines().map(without_words).collect();
        }
        assert!(tokio::time::Instant::now() < deadline, "{logged}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn named(server: SocketAddr) -> Resource {
    let cluster = Cluster {
        name: "named".to_owned(),
        lb_policy: LbPolicy::ClusterProvided as i32,
        connect_timeout: Some(Duration {
            seconds: 1,
            nanos: 0,
        }),
        cluster_discovery_type: Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
            name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
            typed_config: Some(pack_any(ClusterConfig {
                cluster_implementation_specifier: Some(
                    ClusterImplementationSpecifier::DnsCacheConfig(cache(server)),
                ),
                ..Default::default()
            })),
        })),
        ..Default::default()
    };
    Resource::new("named", &cluster)
}

fn snapshot(at: SocketAddr, server: SocketAddr, logs: &Path, log: &str) -> Snapshot {
    let mut manager = manager("routes");
    let looks_up = FilterConfig {
        implementation_specifier: Some(ImplementationSpecifier::DnsCacheConfig(cache(server))),
        ..Default::default()
    };
    manager.http_filters.insert(
        0,
        hcm::HttpFilter {
            name: "envoy.filters.http.dynamic_forward_proxy".to_owned(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(
                looks_up,
            ))),
            ..Default::default()
        },
    );
    let format = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER%\n";
    manager.access_log = vec![in_file(logs, log, text(format))];
    let routes = vec![a_route(path_prefix("/"), to_cluster("named"))];
    let listener = listener("http", at, TrafficDirection::Outbound, manager);
    let only = |resource: Resource| ResourceSet::from_iter([resource]);
    Snapshot::default()
        .with(CLUSTER, only(named(server)))
        .with(LISTENER, only(Resource::new("http", &listener)))
        .with(ROUTE, only(route_configuration("routes", routes)))
}

fn said(answer: &Message) -> String {
    let lines = answer.headers.iter();
    let head: Vec<String> = lines
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let head = [vec![answer.line.clone()], head].concat().join("\r\n");
    format!("{:?} {:?}", normal(&head), answer.body)
}

/// Why a name has no address, everybody says in words of their own.
fn without_words(line: &str) -> String {
    match (line.find('{'), line.rfind('}')) {
        (Some(begin), Some(end)) => format!("{}{}", &line[..=begin], &line[end..]),
        _ => line.to_owned(),
    }
}

async fn outcome(at: SocketAddr, origin: SocketAddr, log: &Path, admin: SocketAddr) -> Vec<String> {
    let port = origin.port();
    let hosts = [
        format!("up.test:{port}"),
        format!("UP.test:{port}"),
        format!("up.test:{port}"),
        "up.test:1".to_owned(),
        format!("127.0.0.1:{port}"),
        "nobody.test".to_owned(),
        "nobody.test".to_owned(),
        "failing.test".to_owned(),
    ];
    let mut lines = Vec::new();
    for (number, host) in hosts.iter().enumerate() {
        let request =
            format!("GET /{number} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = exchange(at, &request).await.expect("an answer");
        lines.push(format!(
            "{number}: {}",
            said(&answer).replace(&port.to_string(), "PORT")
        ));
    }
    lines.extend(logged(log, hosts.len()).await);
    becomes(admin, "cluster.named.upstream_rq_active", 0).await;
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_requests_are_looked_up_as_by_envoy() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let (origin, server) = (Origin::start("one").await, name_server().await);
    let logs = tempfile::tempdir().expect("a directory");
    let at = [free_address().await, free_address().await];
    let names = ["ours", "envoys"];
    let snapshots = [0, 1].map(|side: usize| snapshot(at[side], server, logs.path(), names[side]));
    let pair = Pair::start(&binary, snapshots).await;
    let admins = pair.admins();
    let [ours, envoys] = [0, 1].map(|side: usize| {
        let log = logs.path().join(names[side]);
        async move { outcome(at[side], origin.address, &log, admins[side]).await }
    });
    let (ours, envoys) = tokio::join!(ours, envoys);
    assert_eq!(ours, envoys);
    for (flag, count) in [(" DF ", 3), (" - via_upstream", 4), (" UF", 1)] {
        let with = ours.iter().filter(|line| line.contains(flag)).count();
        assert_eq!(with, count, "{flag}: {ours:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_handshakes_are_looked_up_as_by_envoy() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let (origin, server) = (end_of_tls().await, name_server().await);
    let logs = tempfile::tempdir().expect("a directory");
    let at = [free_address().await, free_address().await];
    let names = ["ours", "envoys"];
    let snapshots = [0, 1].map(|side: usize| {
        let format = "%REQUESTED_SERVER_NAME% %RESPONSE_FLAGS% %UPSTREAM_CLUSTER%\n";
        let log = in_file(logs.path(), names[side], text(format));
        let listener = tls_listener(at[side], origin.port(), server, log);
        let only = |resource: Resource| ResourceSet::from_iter([resource]);
        Snapshot::default()
            .with(CLUSTER, only(named(server)))
            .with(LISTENER, only(Resource::new("tls", &listener)))
    });
    let _pair = Pair::start(&binary, snapshots).await;
    let [ours, envoys] = [0, 1].map(|side: usize| {
        let log = logs.path().join(names[side]);
        async move { tls_outcome(at[side], &log).await }
    });
    let (ours, envoys) = tokio::join!(ours, envoys);
    assert_eq!(ours, envoys);
    assert_eq!(
        ours,
        [
            "up.test: [22, 3, 1]",
            "UP.test: [22, 3, 1]",
            "nobody.test: ",
            "up.test - named",
            "up.test - named",
            "nobody.test UH named",
        ]
    );
}
