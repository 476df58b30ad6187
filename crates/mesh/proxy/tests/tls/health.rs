//! The health of endpoints that speak TLS: checks and outlier detection between two sidecars of one proxy.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use envoy_types::pb::envoy::config::core::v3::health_check::{
    HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use envoy_types::pb::envoy::config::core::v3::{HealthCheck, TransportSocket};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::r#type::v3::CodecClientType;
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};

use crate::authority::Authority;
use crate::world::{
    TRUE, Told, World, alpn, inline_context, labelled_endpoint, labels, mesh_context, originating,
    plaintext, terminating,
};
use crate::xds_support::http::{Origin, get};
use crate::xds_support::{PATIENCE, free_address};

const SERVER: &str = "spiffe://cluster.local/ns/default/sa/reviews";
const OTHER: &str = "spiffe://cluster.local/ns/default/sa/ratings";

const TLS: (&str, &str) = ("tlsMode", "istio");
const PLAIN: (&str, &str) = ("tlsMode", "disabled");

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// The endpoints of the cluster `reviews`: where they are, what they say of their transport, their priority.
fn reviews(endpoints: &[(SocketAddr, (&str, &str), u32)]) -> ClusterLoadAssignment {
    let endpoints = endpoints.iter().copied();
    ClusterLoadAssignment {
        cluster_name: "reviews".to_owned(),
        endpoints: endpoints
            .map(|(at, label, priority)| labelled_endpoint(at, label, priority))
            .collect(),
        ..Default::default()
    }
}

/// Mutual TLS with those that say so, as Istio tells it.
fn by_label(cluster: &mut cluster::Cluster) {
    let one = |name: &str, labels, socket: Option<TransportSocket>| TransportSocketMatch {
        name: name.to_owned(),
        r#match: Some(labels),
        transport_socket: socket,
    };
    let mutual = originating(mesh_context(&[SERVER]), |_| ());
    cluster.transport_socket_matches = vec![
        one("tlsMode-istio", labels(TLS.0, TLS.1), mutual),
        one("tlsMode-disabled", Default::default(), Some(plaintext())),
    ];
}

/// The sidecar of a server that is what its clients expect.
fn right(name: &str, at: SocketAddr, told: Told) -> Told {
    told.http(name, at, "app", |listener, _| {
        let context = alpn(
            mesh_context(&["spiffe://cluster.local/"]),
            &["h2", "http/1.1"],
        );
        listener.filter_chains[0].transport_socket =
            terminating(context, |tls| tls.require_client_certificate = TRUE);
    })
}

/// The sidecar of another one.
fn wrong(name: &str, at: SocketAddr, authority: &Authority, told: Told) -> Told {
    told.http(name, at, "app", |listener, _| {
        let context = inline_context(&authority.workload(OTHER));
        let context = alpn(context, &["h2", "http/1.1"]);
        listener.filter_chains[0].transport_socket = terminating(context, |_| ());
    })
}

#[tokio::test]
async fn an_endpoint_whose_handshakes_fail_is_ejected_and_the_next_priority_serves() {
    let authority = Authority::new("root");
    let origin = Origin::start("app").await;
    let (out, first, second) = (
        free_address().await,
        free_address().await,
        free_address().await,
    );
    let told = Told::default()
        .cluster("app", origin.address, |_| ())
        .assigned(&reviews(&[(first, TLS, 0), (second, TLS, 1)]), |cluster| {
            by_label(cluster);
            cluster.outlier_detection = Some(cluster::OutlierDetection {
                consecutive_5xx: number(3),
                enforcing_consecutive_5xx: number(100),
                max_ejection_percent: number(100),
                ..Default::default()
            });
        })
        .http("out", out, "reviews", |_, _| ());
    let told = wrong("first", first, &authority, told);
    let told = right("second", second, told);
    let told = told.identity(&authority, &authority.workload(SERVER));
    let world = World::start(&told).await;

    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut failed = 0;
    loop {
        let answer = get(out, "/").await.expect("an answer");
        if answer.status() == 200 {
            break;
        }
        assert_eq!(answer.status(), 503, "{answer:?}");
        failed += 1;
        assert!(tokio::time::Instant::now() < deadline, "it is not ejected");
    }
    assert!(failed >= 3, "ejected after {failed} failures");
    for _ in 0..10 {
        let answer = get(out, "/").await.expect("an answer");
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    assert_eq!(origin.take().len(), 11);
    for (name, value) in [
        ("outlier_detection.ejections_active", 1),
        ("outlier_detection.ejections_enforced_consecutive_5xx", 1),
        ("ssl.fail_verify_san", failed),
        ("upstream_cx_connect_fail", failed),
        // The connections to the other one are used again.
        ("ssl.handshake", 1),
    ] {
        let name = format!("cluster.reviews.{name}");
        assert_eq!(world.stat(&name).await, value, "{name}");
    }
}

fn http(path: &str, codec: CodecClientType) -> HealthChecker {
    HealthChecker::HttpHealthCheck(HttpHealthCheck {
        path: path.to_owned(),
        codec_client_type: codec as i32,
        ..Default::default()
    })
}

#[tokio::test]
async fn checks_speak_the_tls_of_each_endpoint() {
    let authority = Authority::new("root");
    for (kind, asks) in [
        (http("/healthz", CodecClientType::Http1), true),
        (http("/healthz", CodecClientType::Http2), true),
        (
            HealthChecker::TcpHealthCheck(TcpHealthCheck::default()),
            false,
        ),
    ] {
        let origin = Origin::start("app").await;
        let (out, mutual) = (free_address().await, free_address().await);
        let (other, plain) = (free_address().await, free_address().await);
        let soon = Some(Duration {
            seconds: 0,
            nanos: 20_000_000,
        });
        let check = HealthCheck {
            timeout: Some(Duration {
                seconds: 5,
                nanos: 0,
            }),
            interval: soon,
            no_traffic_interval: soon,
            unhealthy_threshold: number(1),
            healthy_threshold: number(1),
            health_checker: Some(kind.clone()),
            ..Default::default()
        };
        let endpoints = reviews(&[(mutual, TLS, 0), (other, TLS, 0), (plain, PLAIN, 0)]);
        let told = Told::default()
            .cluster("app", origin.address, |_| ())
            .assigned(&endpoints, |cluster| {
                by_label(cluster);
                cluster.health_checks = vec![check];
            })
            .http("out", out, "reviews", |_, _| ())
            .http("plain", plain, "app", |_, _| ());
        let told = wrong("other", other, &authority, told);
        let told = right("mutual", mutual, told);
        let told = told.identity(&authority, &authority.workload(SERVER));
        // Listeners open when the clusters are ready, so that the first checks find nobody.
        let world = World::start(&told).await;
        world
            .wait_stat("cluster.reviews.health_check.healthy", 2)
            .await;
        origin.take();
        for _ in 0..10 {
            let answer = get(out, "/").await.expect("an answer");
            assert_eq!(answer.status(), 200, "{kind:?}: {answer:?}");
        }
        let page = world.page("/clusters").await;
        let failed =
            |line: &&str| line.contains("health_flags") && line.contains("failed_active_hc");
        let failed: Vec<_> = page.lines().filter(failed).collect();
        assert_eq!(failed.len(), 1, "{page}");
        assert!(failed[0].contains(&other.to_string()), "{page}");
        for sidecar in ["mutual", "plain"] {
            let name = format!("listener.{sidecar}.downstream_cx_total");
            assert!(world.stat(&name).await > 0, "{name}");
        }
        if asks {
            let wanted = "GET /healthz HTTP/1.1";
            crate::xds_support::eventually("a check", || {
                let mut received = origin.take().into_iter();
                received.find(|request| request.line == wanted)
            })
            .await;
        }
    }
}
