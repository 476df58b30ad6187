//! TCP proxying: how connections end, and what is counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, filter};
use envoy_types::pb::envoy::config::rbac::v3::{
    Permission, Policy, Principal, Rbac, permission, principal, rbac,
};
use envoy_types::pb::envoy::extensions::filters::network::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3 as network_rbac;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::envoy::r#type::v3::TokenBucket;
use envoy_types::pb::google::protobuf::{self, UInt32Value};
use envoy_types::util::pack_any;
use periplus_proxy::{Agent, Options, bootstrap};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::access_logs;
use crate::envoy::{self, Envoy};
use crate::envoy_is_ready;
use crate::xds_support::http::get;
use crate::xds_support::resources::{eds_cluster, endpoints, listener_of};
use crate::xds_support::{ControlPlane, PATIENCE, dead_address, free_address};

const CLUSTERS: [&str; 6] = ["origin", "nobody", "empty", "missing", "limited", "denied"];
/// What a client says first tells the origin what to do.
pub(crate) const CASES: [(&str, &str); 10] = [
    ("origin", "echo"),
    ("origin", "count"),
    ("origin", "end first"),
    ("origin", "reset"),
    ("nobody", "echo"),
    ("empty", "echo"),
    ("missing", "echo"),
    ("limited", "echo"),
    ("limited", ""),
    ("limited", ""),
];
/// Sums that must be the same.
const COUNTS: [&str; 13] = [
    "tcp.origin.downstream_cx_total",
    "tcp.origin.downstream_cx_rx_bytes_total",
    "tcp.origin.downstream_cx_tx_bytes_total",
    "tcp.missing.downstream_cx_no_route",
    "cluster.origin.upstream_cx_total",
    "cluster.origin.upstream_cx_rx_bytes_total",
    "cluster.origin.upstream_cx_tx_bytes_total",
    "cluster.origin.upstream_cx_active",
    "cluster.nobody.upstream_cx_connect_fail",
    "cluster.nobody.upstream_cx_connect_attempts_exceeded",
    "cluster.empty.upstream_cx_none_healthy",
    "tcp.empty.downstream_cx_total",
    "local_rate_limit.limited.rate_limited",
];

/// What an origin saw of its connections.
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
                record
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            });
        }
    });
    (address, seen)
}

async fn obey(mut stream: TcpStream) -> String {
    let mut block = [0; 1024];
    let n = stream.read(&mut block).await.unwrap_or(0);
    let command = String::from_utf8_lossy(&block[..n]).into_owned();
    match command.as_str() {
        "reset" => {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            command
        }
        "end first" => {
            let _ = stream.write_all(b"bye").await;
            let _ = stream.shutdown().await;
            format!("{command}: {}", rest(&mut stream).await)
        }
        "count" => {
            let rest = rest(&mut stream).await;
            let _ = stream.write_all(rest.as_bytes()).await;
            format!("{command}: {rest}")
        }
        _ => {
            let _ = stream.write_all(command.as_bytes()).await;
            format!("{command}: {}", rest(&mut stream).await)
        }
    }
}

/// What comes until the end, and which end.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let end = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    let text = String::from_utf8_lossy(&bytes);
    match end.expect("an end") {
        Ok(_) => format!("{text}, end"),
        Err(error) => format!("{text}, {:?}", error.kind()),
    }
}

async fn run(address: SocketAddr, command: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it accepts");
    let _ = stream.write_all(command.as_bytes()).await;
    match command {
        "end first" => {
            let first = rest(&mut stream).await;
            let written = stream.write_all(b"more").await;
            format!("{first}, {:?}", written.map_err(|error| error.kind()))
        }
        "echo" => {
            let mut block = [0; 4];
            let read = stream.read_exact(&mut block).await;
            let _ = stream.shutdown().await;
            format!("{:?}, {}", read.is_ok(), rest(&mut stream).await)
        }
        "count" => {
            // Apart from the command, or the origin could not tell.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = stream.write_all(b"and more").await;
            let _ = stream.shutdown().await;
            rest(&mut stream).await
        }
        _ => rest(&mut stream).await,
    }
}

fn snapshot(
    at: &BTreeMap<&str, SocketAddr>,
    (origin, nobody): (SocketAddr, SocketAddr),
    logs: &Path,
) -> Snapshot {
    let listeners = CLUSTERS.map(|name| {
        let is_origins = ["limited", "denied"].contains(&name);
        let cluster = if is_origins { "origin" } else { name };
        let text = access_logs::text("%CONNECTION_TERMINATION_DETAILS%\n");
        let log = (name == "denied").then(|| access_logs::in_file(logs, "log", text));
        let proxy = TcpProxy {
            stat_prefix: name.to_owned(),
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
            max_connect_attempts: Some(UInt32Value { value: 2 }),
            access_log: log.into_iter().collect(),
            ..Default::default()
        };
        let filter = "envoy.filters.network.tcp_proxy";
        let mut listener = listener_of(name, at[name], TrafficDirection::Outbound, filter, proxy);
        let before = match name {
            "limited" => Some(one_connection()),
            "denied" => Some(no_body()),
            _ => None,
        };
        listener.filter_chains[0].filters.splice(0..0, before);
        Resource::new(name, &listener)
    });
    let known = ["origin", "nobody", "empty"];
    let endpoint = |name| match name {
        "origin" => vec![origin],
        "nobody" => vec![nobody],
        _ => Vec::new(),
    };
    Snapshot::default()
        .with(
            CLUSTER,
            ResourceSet::from_iter(known.map(|name| eds_cluster(name, |_| ()))),
        )
        .with(
            ENDPOINT,
            ResourceSet::from_iter(known.map(|name| endpoints(name, &endpoint(name)))),
        )
        .with(LISTENER, ResourceSet::from_iter(listeners))
}

/// A filter that denies everybody, by a policy whose name has a blank.
fn no_body() -> Filter {
    let policy = Policy {
        permissions: vec![Permission {
            rule: Some(permission::Rule::Any(true)),
        }],
        principals: vec![Principal {
            identifier: Some(principal::Identifier::Any(true)),
        }],
        ..Default::default()
    };
    let rbac = network_rbac::Rbac {
        stat_prefix: "denied.".to_owned(),
        rules: Some(Rbac {
            action: rbac::Action::Deny.into(),
            policies: [("ns[x]-policy[no body]-rule[0]".to_owned(), policy)].into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    Filter {
        name: "envoy.filters.network.rbac".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack_any(rbac))),
    }
}

/// What the log tells of a connection that is denied.
async fn denial(listeners: &BTreeMap<&str, SocketAddr>, logs: &Path) -> String {
    // Envoy decides about the first byte, and the proxy before.
    run(listeners["denied"], "echo").await;
    let log = logs.join("log");
    crate::xds_support::eventually("the denial in the log", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.ends_with('\n').then_some(text)
    })
    .await
}

/// A filter that lets one connection pass.
fn one_connection() -> Filter {
    let limit = LocalRateLimit {
        stat_prefix: "limited".to_owned(),
        token_bucket: Some(TokenBucket {
            max_tokens: 1,
            fill_interval: Some(protobuf::Duration {
                seconds: 3600,
                nanos: 0,
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    Filter {
        name: "envoy.filters.network.local_ratelimit".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack_any(limit))),
    }
}

/// What came of all cases, and the counts.
async fn outcome(
    listeners: &BTreeMap<&str, SocketAddr>,
    seen: &Seen,
    admin: SocketAddr,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (listener, command) in CASES {
        let client = run(listeners[listener], command).await;
        lines.push(format!("{listener} {command}: client {client}"));
    }
    crate::xds_support::eventually("the origin to have seen all", || {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.len() == 5).then_some(())
    })
    .await;
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // In which order the origin notices the ends of different connections is chance.
    seen.sort();
    lines.extend(seen.into_iter().map(|line| format!("origin {line}")));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let stats = loop {
        let stats = get(admin, "/stats").await.expect("stats").body;
        let over = stats.contains("cluster.origin.upstream_cx_active: 0\n");
        if over || tokio::time::Instant::now() > deadline {
            break stats;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for name in COUNTS {
        let count = stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        lines.push(format!("{name}: {}", count.unwrap_or("none")));
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_and_count_as_with_envoy() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let plane = ControlPlane::start().await;
    let nobody = dead_address();
    let mut sides = Vec::new();
    for node in ["ours", "envoys"] {
        let (origin, seen) = origin().await;
        let mut listeners = BTreeMap::new();
        for name in CLUSTERS {
            listeners.insert(name, free_address().await);
        }
        let logs = tempfile::tempdir().expect("a directory");
        let world = snapshot(&listeners, (origin, nobody), logs.path());
        plane.worlds.set(node, world);
        let bootstrap = bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: node,
            node_cluster: "test.default",
            metadata: &json!({}),
            control_plane: plane.address,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        });
        sides.push((bootstrap, listeners, seen, logs));
    }
    let parsed = bootstrap::parse("ours", &sides[0].0).expect("valid");
    let agent = Agent::start(parsed, Options::default())
        .await
        .expect("start");
    let envoy = Envoy::start(&binary, &sides[1].0);
    tokio::time::timeout(PATIENCE, agent.ready())
        .await
        .expect("the agent does not get ready");
    envoy_is_ready(&envoy).await;
    let admins = [agent.admin_address(), envoy.admin()];
    let mut outcomes = Vec::new();
    let mut denials = Vec::new();
    for ((_, listeners, seen, logs), admin) in sides.iter().zip(admins) {
        outcomes.push(outcome(listeners, seen, admin.expect("an admin port")).await);
        denials.push(denial(listeners, logs.path()).await);
    }
    assert_eq!(denials[0], denials[1], "ours, and Envoy's");
    let told = "rbac_access_denied_matched_policy[ns[x]-policy[no_body]-rule[0]]\n";
    assert_eq!(denials[0], told);
    assert_eq!(outcomes[0], outcomes[1], "ours, and Envoy's");
    let unknown = outcomes[0].iter().find(|line| line.ends_with(": none"));
    assert_eq!(unknown, None, "a count that nobody has");
    assert!(
        outcomes[0].contains(&"origin count: and more, end".to_owned()),
        "{:#?}",
        outcomes[0]
    );
    agent.shutdown(Duration::from_secs(1)).await;
}
