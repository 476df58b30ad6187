//! What passes through unread: upgrades, CONNECT, connections to where their clients wanted to go, and what an endpoint
//! is told of them (the PROXY protocol).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3::proxy_protocol_config::Version;
use envoy_types::pb::envoy::config::core::v3::{
    ProxyProtocolConfig, TrafficDirection, TransportSocket, transport_socket,
};
use envoy_types::pb::envoy::config::listener::v3::{ListenerFilter, listener_filter};
use envoy_types::pb::envoy::config::route::v3::RouteMatch;
use envoy_types::pb::envoy::config::route::v3::route_action::UpgradeConfig as RouteUpgrade;
use envoy_types::pb::envoy::config::route::v3::route_action::upgrade_config::ConnectConfig;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::UpgradeConfig;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::util::pack_any;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::envoy;
use crate::pair::{Pair, becomes, normal, stat};
use crate::xds_support::resources::{
    a_route, eds_cluster, endpoints, listener, listener_of, manager, path_prefix,
    route_configuration, to_cluster,
};
use crate::xds_support::{PATIENCE, eventually, free_address};

const LISTENERS: [&str; 4] = ["http", "v1", "v2", "intercepted"];
const PAYLOAD: &str = "<payload>";
/// Name, listener, and what a client says first.
const CASES: [(&str, &str, &str); 10] = [
    (
        "websocket",
        "http",
        "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: a\r\n\r\n",
    ),
    (
        "in capitals",
        "http",
        "GET /ws HTTP/1.1\r\nhost: h\r\nconnection: keep-alive, upgrade\r\nupgrade: WebSocket\r\n\r\n",
    ),
    (
        "refused",
        "http",
        "GET /refuse HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ),
    (
        "early end",
        "http",
        "GET /early HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ),
    (
        "to nobody",
        "http",
        "GET /nobody HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ),
    (
        "connect",
        "http",
        "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n",
    ),
    (
        "told before HTTP",
        "http",
        "GET /told HTTP/1.1\r\nhost: h\r\n\r\n",
    ),
    ("told in text", "v1", ""),
    ("told in binary", "v2", ""),
    (
        "where it wanted to go",
        "intercepted",
        "PROXY TCP4 127.0.0.1 127.0.0.1 1000 ORIGIN\r\n",
    ),
];
/// Sums that must be the same.
const COUNTS: [&str; 6] = [
    "http.links.downstream_cx_upgrades_total",
    "http.links.downstream_rq_completed",
    "http.links.downstream_rq_ws_on_non_ws_route",
    "cluster.origin.upstream_cx_total",
    "cluster.told-v1.upstream_cx_total",
    "cluster.original.upstream_cx_total",
];

/// What an endpoint saw of each connection.
type Seen = Arc<Mutex<Vec<String>>>;

async fn origin() -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let seen = Seen::default();
    let record = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let record = record.clone();
            tokio::spawn(async move {
                let line = timeout(PATIENCE, obey(stream)).await.expect("in time");
                let mut seen = record.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(line);
            });
        }
    });
    (address, seen)
}

/// What has come once it ends as it must; all of it where the other side ends first.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    // Nothing of what follows may be taken.
    let mut block = [0; 1];
    while !bytes.ends_with(end.as_bytes()) {
        match stream.read(&mut block).await {
            Ok(0) | Err(_) => break,
            Ok(n) => bytes.extend_from_slice(&block[..n]),
        }
    }
    // Every byte is a character of its own.
    bytes.into_iter().map(char::from).collect()
}

async fn obey(mut stream: TcpStream) -> String {
    let mut first = [0; 4];
    let peeked = stream.peek(&mut first).await.unwrap_or(0);
    let is_http = peeked > 0 && first.starts_with(b"GET");
    if !is_http && !first.starts_with(b"PROX") {
        // A tunnel, with or without a binary header.
        let said = until(&mut stream, PAYLOAD).await;
        let _ = stream.write_all(PAYLOAD.as_bytes()).await;
        return format!(
            "tunnel: {said:?}, then {:?}",
            until(&mut stream, "\0").await
        );
    }
    let mut line = String::new();
    if !is_http {
        line = until(&mut stream, "\r\n").await;
        stream.peek(&mut first).await.unwrap_or(0);
        if !first.starts_with(b"GET") {
            let said = until(&mut stream, PAYLOAD).await;
            let _ = stream.write_all(PAYLOAD.as_bytes()).await;
            return format!(
                "{line:?} {said:?}, then {:?}",
                until(&mut stream, "\0").await
            );
        }
    }
    let head = until(&mut stream, "\r\n\r\n").await;
    let switched = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                    sec-websocket-accept: b\r\n\r\n";
    let path = head.split(' ').nth(1).unwrap_or_default();
    let answer = match path {
        "/ws" => switched.to_owned(),
        "/early" => format!("{switched}bye"),
        "/refuse" => "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_owned(),
        _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let heard = match path {
        "/ws" => {
            let heard = until(&mut stream, PAYLOAD).await;
            let _ = stream.write_all(heard.as_bytes()).await;
            heard + &until(&mut stream, "\0").await
        }
        "/early" => {
            let _ = stream.shutdown().await;
            until(&mut stream, "\0").await
        }
        _ => String::new(),
    };
    format!("{line:?} {:?}, then {heard:?}", normal(&head))
}

fn header(version: Version) -> Option<TransportSocket> {
    let plain = TransportSocket {
        name: "envoy.transport_sockets.raw_buffer".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack_any(
            RawBuffer::default(),
        ))),
    };
    let wrapper = ProxyProtocolUpstreamTransport {
        config: Some(ProxyProtocolConfig {
            version: version as i32,
            ..Default::default()
        }),
        transport_socket: Some(plain),
        ..Default::default()
    };
    Some(TransportSocket {
        name: "envoy.transport_sockets.upstream_proxy_protocol".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pack_any(wrapper))),
    })
}

/// A filter that believes what the PROXY protocol says.
pub(crate) fn proxy_protocol() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.proxy_protocol".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(pack_any(
            ProxyProtocol::default(),
        ))),
        ..Default::default()
    }
}

fn snapshot(at: &BTreeMap<&str, SocketAddr>, origin: SocketAddr) -> Snapshot {
    let mut http = manager("routes");
    http.stat_prefix = "links".to_owned();
    http.upgrade_configs = ["websocket", "CONNECT"]
        .map(|kind| UpgradeConfig {
            upgrade_type: kind.to_owned(),
            ..Default::default()
        })
        .into();
    let tcp = |name: &str, cluster: &str| TcpProxy {
        stat_prefix: name.to_owned(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    let outbound = TrafficDirection::Outbound;
    let filter = "envoy.filters.network.tcp_proxy";
    let of = |name: &str, cluster: &str| {
        listener_of(name, at[name], outbound, filter, tcp(name, cluster))
    };
    let mut intercepted = of("intercepted", "original");
    intercepted.listener_filters = vec![proxy_protocol()];
    let listeners = [
        listener("http", at["http"], outbound, http),
        of("v1", "told-v1"),
        of("v2", "told-v2"),
        intercepted,
    ];
    let mut tunnel = to_cluster("origin");
    tunnel.upgrade_configs = vec![RouteUpgrade {
        upgrade_type: "CONNECT".to_owned(),
        connect_config: Some(ConnectConfig::default()),
        ..Default::default()
    }];
    let connect = RouteMatch {
        path_specifier: Some(PathSpecifier::ConnectMatcher(Default::default())),
        ..Default::default()
    };
    let routes = vec![
        a_route(connect, tunnel),
        a_route(path_prefix("/told"), to_cluster("told-v1")),
        a_route(path_prefix("/nobody"), to_cluster("nobody")),
        a_route(path_prefix("/"), to_cluster("origin")),
    ];
    let known = ["origin", "told-v1", "told-v2", "nobody"];
    let cluster = |name: &str| {
        eds_cluster(name, |cluster| match name {
            "told-v1" => cluster.transport_socket = header(Version::V1),
            "told-v2" => cluster.transport_socket = header(Version::V2),
            "original" => {
                let kind = DiscoveryType::OriginalDst as i32;
                cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind));
                cluster.eds_cluster_config = None;
                cluster.lb_policy = LbPolicy::ClusterProvided as i32;
            }
            _ => {}
        })
    };
    let assigned = |name: &str| match name {
        "nobody" => endpoints(name, &[]),
        _ => endpoints(name, &[origin]),
    };
    let listeners = listeners.iter().map(|one| Resource::new(&one.name, one));
    Snapshot::default()
        .with(
            CLUSTER,
            known.into_iter().chain(["original"]).map(cluster).collect(),
        )
        .with(ENDPOINT, known.into_iter().map(assigned).collect())
        .with(LISTENER, listeners.collect())
        .with(
            ROUTE,
            ResourceSet::from_iter([route_configuration("routes", routes)]),
        )
}

/// What a client hears: of HTTP the head and what follows it.
async fn run(at: SocketAddr, said: &str, name: &str) -> (SocketAddr, String) {
    let mut stream = TcpStream::connect(at).await.expect("it accepts");
    let own = stream.local_addr().expect("an address");
    stream.write_all(said.as_bytes()).await.expect("sent");
    let mut heard = String::new();
    if said.contains("HTTP/1.1") {
        let head = until(&mut stream, "\r\n\r\n").await;
        heard = format!("{:?} ", normal(&head));
        if !matches!(name, "websocket" | "in capitals" | "connect") {
            // Either the answer's body or what the other side says before it ends.
            let end = match name {
                "refused" => "no",
                "told before HTTP" => "ok",
                "to nobody" => "upstream",
                _ => "bye",
            };
            heard += &until(&mut stream, end).await;
            let _ = stream.shutdown().await;
            heard += &until(&mut stream, "\0").await;
            return (own, heard);
        }
    }
    stream.write_all(PAYLOAD.as_bytes()).await.expect("sent");
    heard += &until(&mut stream, PAYLOAD).await;
    let _ = stream.shutdown().await;
    (own, heard + &until(&mut stream, "\0").await)
}

async fn outcome(
    at: &BTreeMap<&str, SocketAddr>,
    (origin, seen): (SocketAddr, &Seen),
    admin: SocketAddr,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, listener, said) in CASES {
        let said = said.replace("ORIGIN", &origin.port().to_string());
        let heard = timeout(PATIENCE, run(at[listener], &said, name)).await;
        let (client, heard) = heard.unwrap_or_else(|_| panic!("{name} does not end"));
        lines.push(format!("{name}: the client hears {heard}"));
        if name == "to nobody" {
            continue;
        }
        let saw = eventually(name, || {
            seen.lock().unwrap_or_else(PoisonError::into_inner).pop()
        });
        let saw = told(&saw.await, client.port(), at[listener].port());
        lines.push(format!("{name}: the endpoint sees {saw}"));
    }
    becomes(admin, "http.links.downstream_cx_active", 0).await;
    for name in COUNTS {
        lines.push(format!("{name}: {:?}", stat(admin, name).await));
    }
    lines
}

/// The same with names for the ports of the client and of the listener, as text and as bytes.
fn told(saw: &str, client: u16, listener: u16) -> String {
    let mut saw = saw.to_owned();
    for (port, name) in [(client, "<client>"), (listener, "<listener>")] {
        let bytes: String = port.to_be_bytes().map(char::from).iter().collect();
        let bytes = format!("{bytes:?}");
        saw = saw.replace(&port.to_string(), name);
        // Only behind the two addresses, or other bytes could be taken for it.
        if let Some((head, rest)) = saw.split_once("\\u{7f}\\0\\0\\u{1}\\u{7f}\\0\\0\\u{1}") {
            let rest = rest.replacen(bytes.trim_matches('"'), name, 1);
            saw = format!("{head}\\u{{7f}}\\0\\0\\u{{1}}\\u{{7f}}\\0\\0\\u{{1}}{rest}");
        }
    }
    saw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_through_unread_does_so_as_with_envoy() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let mut sides = Vec::new();
    for _ in 0..2 {
        let origin = origin().await;
        let mut at = BTreeMap::new();
        for name in LISTENERS {
            at.insert(name, free_address().await);
        }
        sides.push((at, origin));
    }
    let snapshots = [0, 1].map(|side: usize| snapshot(&sides[side].0, sides[side].1.0));
    let pair = Pair::start(&binary, snapshots).await;
    let mut outcomes = Vec::new();
    for ((at, (origin, seen)), admin) in sides.iter().zip(pair.admins()) {
        outcomes.push(outcome(at, (*origin, seen), admin).await);
    }
    assert_eq!(outcomes[0], outcomes[1], "ours, and Envoy's");
    for telling in [
        "101 Switching",
        "PROXY TCP4 127.0.0.1 127.0.0.1 <client> <listener>",
    ] {
        let is_there = outcomes[0].iter().any(|line| line.contains(telling));
        assert!(is_there, "{telling}: {:#?}", outcomes[0]);
    }
}
