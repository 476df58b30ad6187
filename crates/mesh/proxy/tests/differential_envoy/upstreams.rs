//! Which endpoints are used: active health checks as endpoints see them, outlier detection, circuit breakers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::cluster::CommonLbConfig;
use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, OutlierDetection, circuit_breakers,
};
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, Payload, TcpHealthCheck, payload,
};
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, HealthCheck, TrafficDirection,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::envoy;
use crate::pair::{Pair, becomes, normal, stat};
use crate::world::http2_options;
use crate::xds_support::free_address;
use crate::xds_support::http::{Message, get};
use crate::xds_support::resources::{
    a_route, eds_cluster, endpoints, listener, manager, path_prefix, route_configuration,
    to_cluster,
};

/// Clusters whose endpoint is asked whether it is well, and by what.
const CHECKED: [&str; 3] = ["http", "tcp", "grpc"];
const OTHERS: [&str; 2] = ["ejected", "broken"];
/// Sums that must be the same. `upstream_rq_total` is not among them: ours counts a request that a circuit breaker
/// refuses, too.
const COUNTS: [&str; 6] = [
    "cluster.ejected.outlier_detection.ejections_enforced_total",
    "cluster.ejected.outlier_detection.ejections_enforced_consecutive_5xx",
    "cluster.ejected.outlier_detection.ejections_active",
    "cluster.broken.upstream_rq_pending_overflow",
    "cluster.broken.upstream_cx_overflow",
    "cluster.broken.circuit_breakers.default.rq_pending_open",
];

/// An endpoint that is well or not, and what it was asked.
#[derive(Clone, Default)]
struct Endpoint {
    is_well: Arc<AtomicBool>,
    /// Each kind of question once.
    asked: Arc<Mutex<BTreeSet<String>>>,
    /// Slow answers wait for it.
    go_on: Arc<Notify>,
    /// Somebody waits for it.
    waits: Arc<Notify>,
}

impl Endpoint {
    fn is_well(&self) -> bool {
        self.is_well.load(Ordering::SeqCst)
    }

    fn note(&self, asked: String) {
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(asked);
    }

    async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = this.clone();
                tokio::spawn(async move {
                    let mut first = [0; 4];
                    while matches!(stream.peek(&mut first).await, Ok(1..4)) {}
                    match &first {
                        b"PRI " => this.serve_grpc(stream).await,
                        _ => this.serve(stream).await,
                    }
                });
            }
        });
        address
    }

    /// Requests of HTTP/1.1, and what a check by TCP says.
    async fn serve(&self, mut stream: TcpStream) {
        let mut text = String::new();
        let mut block = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut block).await {
            text.push_str(&String::from_utf8_lossy(&block[..n]));
            if text == "ping" {
                self.note(text.split_off(0));
                let said = if self.is_well() { "a pong" } else { "nothing" };
                let _ = stream.write_all(said.as_bytes()).await;
                continue;
            }
            let Some((head, rest)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let (head, rest) = (head.to_owned(), rest.to_owned());
            text = rest;
            let status = match head.split(' ').nth(1).unwrap_or_default() {
                "/health" => {
                    self.note(format!("{:?}", normal(&head)));
                    if self.is_well() { 200 } else { 503 }
                }
                "/fail" => 500,
                "/slow" => {
                    self.waits.notify_one();
                    self.go_on.notified().await;
                    200
                }
                _ => 200,
            };
            // Envoy writes the phrases of its own.
            let phrase = match status {
                200 => "OK",
                503 => "Service Unavailable",
                _ => "Internal Server Error",
            };
            let answer = format!("HTTP/1.1 {status} {phrase}\r\ncontent-length: 2\r\n\r\nok");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }

    /// gRPC's service of health, and any request besides.
    async fn serve_grpc(&self, stream: TcpStream) {
        let Ok(mut connection) = h2::server::handshake(stream).await else {
            return;
        };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let this = self.clone();
            tokio::spawn(async move {
                let (head, mut body) = request.into_parts();
                let mut said = Vec::new();
                while let Some(Ok(data)) = body.data().await {
                    let _ = body.flow_control().release_capacity(data.len());
                    said.extend_from_slice(&data);
                }
                if head.method == "GET" {
                    let response = http::Response::new(());
                    if let Ok(mut body) = respond.send_response(response, false) {
                        let _ = body.send_data(Bytes::from_static(b"ok"), true);
                    }
                    return;
                }
                let mut fields: Vec<_> = head
                    .headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {value:?}"))
                    // Envoy says how long it waits, besides.
                    .filter(|field| !field.starts_with("grpc-timeout"))
                    .collect();
                fields.sort();
                this.note(format!("{} {fields:?} {said:?}", head.uri));
                let response = http::Response::builder()
                    .header("content-type", "application/grpc")
                    .body(());
                let response = response.expect("a response");
                let Ok(mut body) = respond.send_response(response, false) else {
                    return;
                };
                // SERVING or NOT_SERVING.
                let state = if this.is_well() { 1 } else { 2 };
                let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, state]);
                let _ = body.send_data(message, false);
                let status = ("grpc-status".parse(), "0".parse());
                let trailers = [(status.0.expect("a name"), status.1.expect("a value"))];
                let _ = body.send_trailers(trailers.into_iter().collect());
            });
        }
    }
}

fn time(milliseconds: i32) -> Option<Duration> {
    Some(Duration {
        seconds: 0,
        nanos: milliseconds * 1_000_000,
    })
}

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

fn check(checker: HealthChecker) -> HealthCheck {
    HealthCheck {
        timeout: time(900),
        interval: time(100),
        no_traffic_interval: time(100),
        unhealthy_threshold: number(2),
        healthy_threshold: number(2),
        health_checker: Some(checker),
        ..Default::default()
    }
}

fn text(hex: &str) -> Payload {
    Payload {
        payload: Some(payload::Payload::Text(hex.to_owned())),
    }
}

fn checker(of: &str) -> Option<HealthChecker> {
    Some(match of {
        "http" => HealthChecker::HttpHealthCheck(HttpHealthCheck {
            host: "checker".to_owned(),
            path: "/health".to_owned(),
            request_headers_to_add: vec![HeaderValueOption {
                header: Some(HeaderValue {
                    key: "x-check".to_owned(),
                    value: "1".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            }],
            ..Default::default()
        }),
        // "ping", and "pong" anywhere in the answer.
        "tcp" => HealthChecker::TcpHealthCheck(TcpHealthCheck {
            send: Some(text("70696e67")),
            receive: vec![text("706f6e67")],
            ..Default::default()
        }),
        "grpc" => HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
            service_name: "some.Service".to_owned(),
            authority: "checked".to_owned(),
            ..Default::default()
        }),
        _ => return None,
    })
}

fn snapshot(at: SocketAddr, endpoint: SocketAddr) -> Snapshot {
    let names = || CHECKED.into_iter().chain(OTHERS);
    let cluster = |name: &str| {
        eds_cluster(name, |cluster| {
            cluster.common_lb_config = Some(CommonLbConfig {
                healthy_panic_threshold: Some(Percent { value: 0.0 }),
                ..Default::default()
            });
            cluster.health_checks = checker(name).map(check).into_iter().collect();
            match name {
                "grpc" => cluster.typed_extension_protocol_options = http2_options(),
                "ejected" => {
                    cluster.outlier_detection = Some(OutlierDetection {
                        consecutive_5xx: number(2),
                        enforcing_consecutive_5xx: number(100),
                        base_ejection_time: Some(Duration {
                            seconds: 600,
                            nanos: 0,
                        }),
                        max_ejection_percent: number(100),
                        ..Default::default()
                    });
                }
                "broken" => {
                    let thresholds = circuit_breakers::Thresholds {
                        max_connections: number(1),
                        max_pending_requests: number(1),
                        max_requests: number(10),
                        ..Default::default()
                    };
                    cluster.circuit_breakers = Some(CircuitBreakers {
                        thresholds: vec![thresholds],
                        ..Default::default()
                    });
                }
                _ => {}
            }
        })
    };
    let routes = names().map(|name| a_route(path_prefix(&format!("/{name}/")), rewritten(name)));
    let routes = route_configuration("routes", routes.collect());
    let listener = listener("http", at, TrafficDirection::Outbound, manager("routes"));
    Snapshot::default()
        .with(CLUSTER, names().map(cluster).collect())
        .with(
            ENDPOINT,
            names().map(|name| endpoints(name, &[endpoint])).collect(),
        )
        .with(
            LISTENER,
            ResourceSet::from_iter([Resource::new("http", &listener)]),
        )
        .with(ROUTE, ResourceSet::from_iter([routes]))
}

/// To a cluster, with what follows its name for a path.
fn rewritten(name: &str) -> envoy_types::pb::envoy::config::route::v3::RouteAction {
    let mut action = to_cluster(name);
    action.prefix_rewrite = "/".to_owned();
    action
}

/// What of an answer is the same each time.
fn said(answer: &Message) -> String {
    let head: Vec<String> = answer
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let head = [vec![answer.line.clone()], head].concat().join("\r\n");
    format!("{:?} {:?}", normal(&head), answer.body)
}

async fn ask(at: SocketAddr, path: &str) -> String {
    said(&get(at, path).await.expect("an answer"))
}

async fn outcome(at: SocketAddr, endpoint: &Endpoint, admin: SocketAddr) -> Vec<String> {
    let mut lines = Vec::new();
    // The state of an endpoint, and how long it takes to be believed.
    for is_well in [true, false, true] {
        endpoint.is_well.store(is_well, Ordering::SeqCst);
        for name in CHECKED {
            let healthy = format!("cluster.{name}.membership_healthy");
            becomes(admin, &healthy, is_well.into()).await;
            let answer = ask(at, &format!("/{name}/")).await;
            lines.push(format!("{name}, well {is_well}: {answer}"));
        }
    }
    for name in CHECKED {
        for counter in ["attempt", "success", "failure"] {
            let count = stat(admin, &format!("cluster.{name}.health_check.{counter}")).await;
            let is_some = count.map(|count| count > 0);
            lines.push(format!("{name} {counter}: {is_some:?}"));
        }
    }
    let asked = endpoint
        .asked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    lines.extend(asked.into_iter().map(|asked| format!("asked {asked}")));

    for path in ["/", "/fail", "/", "/fail", "/fail"] {
        let answer = ask(at, &format!("/ejected{path}")).await;
        lines.push(format!("ejected {path}: {answer}"));
    }
    // Envoy's main thread ejects what a worker reported, some time after the answer.
    let ejected = "cluster.ejected.outlier_detection.ejections_active";
    becomes(admin, ejected, 1).await;
    lines.push(format!("ejected then: {}", ask(at, "/ejected/").await));

    // One connection, and one request that waits for it; the next one is refused.
    let first = tokio::spawn(async move { ask(at, "/broken/slow").await });
    endpoint.waits.notified().await;
    let second = tokio::spawn(async move { ask(at, "/broken/").await });
    becomes(admin, "cluster.broken.upstream_rq_pending_active", 1).await;
    lines.push(format!("broken third: {}", ask(at, "/broken/").await));
    endpoint.go_on.notify_one();
    for (name, waiting) in [("first", first), ("second", second)] {
        lines.push(format!(
            "broken {name}: {}",
            waiting.await.expect("an answer")
        ));
    }
    lines.push(format!("broken fourth: {}", ask(at, "/broken/").await));
    becomes(admin, "cluster.broken.upstream_rq_active", 0).await;
    for name in COUNTS {
        lines.push(format!("{name}: {:?}", stat(admin, name).await));
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_checked_ejected_and_spared_as_by_envoy() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let mut sides = Vec::new();
    for _ in 0..2 {
        let endpoint = Endpoint::default();
        endpoint.is_well.store(true, Ordering::SeqCst);
        let address = endpoint.start().await;
        sides.push((free_address().await, endpoint, address));
    }
    let snapshots = [0, 1].map(|side: usize| snapshot(sides[side].0, sides[side].2));
    let pair = Pair::start(&binary, snapshots).await;
    let [ours, envoys] = pair.admins();
    let both = tokio::join!(
        outcome(sides[0].0, &sides[0].1, ours),
        outcome(sides[1].0, &sides[1].1, envoys),
    );
    let differences: BTreeMap<_, _> = both.0.iter().zip(&both.1).filter(|(a, b)| a != b).collect();
    assert!(
        differences.is_empty(),
        "ours, and Envoy's: {differences:#?}"
    );
    assert_eq!(both.0, both.1);
    let unknown = both.0.iter().find(|line| line.ends_with(": None"));
    assert_eq!(unknown, None, "a count that nobody has");
}
