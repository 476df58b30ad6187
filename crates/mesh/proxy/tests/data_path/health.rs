//! Which endpoints are healthy: active checks, and outlier detection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use periplus_proxy::snapshot::{
    Cluster, GrpcCheck, HealthCheck, HealthCheckKind, HttpCheck, Intervals, OutlierDetection,
    TcpCheck,
};

use crate::support::config::{Mesh, cluster, dead_address};
use crate::support::h2::{H2Origin, read};
use crate::support::{Config, Origin, wait_for};

const SOON: Duration = Duration::from_millis(20);

/// An origin whose answers to checks can be changed.
struct Patient {
    origin: Origin,
    health: Arc<AtomicU16>,
}

impl Patient {
    fn new() -> Self {
        let health = Arc::new(AtomicU16::new(200));
        let told = health.clone();
        let origin = Origin::new(move |request| {
            let status = match request.path() {
                "/healthz" => told.load(Ordering::SeqCst),
                "/fail" => 503,
                _ => 200,
            };
            Some(format!("HTTP/1.1 {status} X\r\ncontent-length: 5\r\n\r\nready").into_bytes())
        });
        Self { origin, health }
    }

    fn answer(&self, status: u16) {
        self.health.store(status, Ordering::SeqCst);
    }

    /// How many requests came that were no checks.
    fn served(&self) -> usize {
        let received = self.origin.received();
        received
            .iter()
            .filter(|request| request.path() != "/healthz")
            .count()
    }
}

fn check(kind: HealthCheckKind) -> Option<Arc<HealthCheck>> {
    Some(Arc::new(HealthCheck {
        timeout: Duration::from_secs(1),
        intervals: Intervals {
            usual: SOON,
            no_traffic: SOON,
            no_traffic_healthy: SOON,
            unhealthy: SOON,
            unhealthy_edge: SOON,
            healthy_edge: SOON,
            ..Intervals::default()
        },
        unhealthy_threshold: 2,
        healthy_threshold: 2,
        port: None,
        reuses_connection: true,
        kind,
    }))
}

fn http() -> HttpCheck {
    HttpCheck {
        host: "checked.local".into(),
        path: "/healthz".into(),
        method: "GET",
        headers: vec![("x-check".into(), "yes".into())],
        expected: vec![200..=204],
        retriable: vec![503..=503],
        receive: vec![b"ready".to_vec()],
        response_buffer_size: 1024,
        is_http2: false,
    }
}

fn start(patients: &[&Patient], edit: impl FnOnce(&mut Cluster)) -> Mesh {
    let addresses: Vec<_> = patients.iter().map(|one| one.origin.address).collect();
    let mut app = cluster("app", &addresses);
    app.spread.panic_threshold = 0;
    edit(&mut app);
    let mut config = Config::to(&patients[0].origin);
    config.clusters = vec![app];
    config.start()
}

#[test]
fn endpoints_that_fail_their_checks_are_left_out() {
    let (one, two) = (Patient::new(), Patient::new());
    two.answer(500);
    let mesh = start(&[&one, &two], |app| {
        app.health_check = check(HealthCheckKind::Http(http()));
    });
    mesh.wait_stat("cluster.app.membership_healthy", 1);
    wait_for("both to be checked", || {
        (mesh.stat("cluster.app.health_check.attempt") >= 4).then_some(())
    });
    let asked = one.origin.received()[0].clone();
    assert_eq!(asked.line(), "GET /healthz HTTP/1.1");
    assert_eq!(asked.header("host").as_deref(), Some("checked.local"));
    assert_eq!(asked.header("x-check").as_deref(), Some("yes"));
    assert_eq!(asked.header("user-agent").as_deref(), Some("Envoy/HC"));
    assert_eq!(one.origin.connections(), 1, "the connection is used again");
    let mut client = mesh.client();
    for _ in 0..6 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!((one.served(), two.served()), (6, 0));

    two.answer(200);
    mesh.wait_stat("cluster.app.membership_healthy", 2);
    for _ in 0..6 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!((one.served(), two.served()), (9, 3));
    // What may pass counts up to the threshold, what is said clearly counts at once.
    one.answer(503);
    two.answer(404);
    mesh.wait_stat("cluster.app.membership_healthy", 0);
    assert_eq!(client.get("/").text(), "no healthy upstream");
    assert!(mesh.stat("cluster.app.health_check.failure") >= 4);
    assert_eq!(mesh.stat("cluster.app.health_check.network_failure"), 0);
}

#[test]
fn an_endpoint_that_cannot_be_reached_fails_tcp_checks() {
    let one = Patient::new();
    let gone = dead_address();
    let mut mesh = start(&[&one], |app| {
        app.endpoints.extend(cluster("", &[gone]).endpoints);
        app.health_check = check(HealthCheckKind::Tcp(TcpCheck::default()));
    });
    mesh.wait_stat("cluster.app.membership_healthy", 1);
    wait_for("failures of the network", || {
        (mesh.stat("cluster.app.health_check.network_failure") >= 2).then_some(())
    });
    // With something to send and to receive: the origin speaks HTTP.
    let request = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n".to_vec();
    for (receive, healthy) in [(&b"ready"[..], 1), (b"sleeping", 0)] {
        mesh.config.clusters[0].health_check = check(HealthCheckKind::Tcp(TcpCheck {
            send: request.clone(),
            receive: vec![b"HTTP/1.1".to_vec(), receive.to_vec()],
        }));
        mesh.config.clusters[0].endpoints.truncate(1);
        let mut rules = (**mesh.config.clusters[0].health_check.as_ref().unwrap()).clone();
        rules.timeout = Duration::from_millis(200);
        mesh.config.clusters[0].health_check = Some(Arc::new(rules));
        mesh.publish();
        wait_for("some checks", || {
            (mesh.stat("cluster.app.health_check.attempt") >= 2).then_some(())
        });
        mesh.wait_stat("cluster.app.membership_healthy", healthy);
    }
}

#[test]
fn failures_in_a_row_eject_an_endpoint_for_all_workers() {
    let (one, two) = (Patient::new(), Patient::new());
    let mut config = Config::to(&one.origin);
    let mut app = cluster("app", &[one.origin.address, two.origin.address]);
    app.outlier_detection = Some(Arc::new(OutlierDetection {
        consecutive_5xx: 3,
        interval: Duration::from_millis(50),
        base_ejection_time: Duration::from_millis(400),
        max_ejection_percent: 50,
        ..OutlierDetection::default()
    }));
    app.spread.panic_threshold = 0;
    config.clusters = vec![app];
    config.options.workers = 2;
    let mesh = config.start();
    let mut client = mesh.client();
    let mut failed = 0;
    wait_for("an ejection", || {
        if client.get("/fail").status == 503 {
            failed += 1;
        }
        let enforced = "cluster.app.outlier_detection.ejections_enforced_consecutive_5xx";
        (mesh.stat(enforced) >= 1).then_some(())
    });
    assert!(failed >= 5, "both fail in turn: {failed}");
    mesh.wait_stat("cluster.app.membership_healthy", 1);
    assert_eq!(
        mesh.stat("cluster.app.outlier_detection.ejections_active"),
        1
    );
    // The other one fails as often, but not both may go.
    for _ in 0..6 {
        client.get("/fail");
    }
    wait_for("an overflow", || {
        let overflow = mesh.stat("cluster.app.outlier_detection.ejections_overflow");
        (overflow >= 1).then_some(())
    });
    let before = (one.served(), two.served());
    let mut clients: Vec<_> = (0..8).map(|_| mesh.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    let after = (one.served(), two.served());
    let gained = [after.0 - before.0, after.1 - before.1];
    if mesh.stat("cluster.app.outlier_detection.ejections_active") == 1 {
        assert!(gained.contains(&0) && gained.contains(&8), "{gained:?}");
    }
    mesh.wait_stat("cluster.app.membership_healthy", 2);
    assert_eq!(
        mesh.stat("cluster.app.outlier_detection.ejections_active"),
        0
    );
}

#[test]
fn endpoints_that_cannot_be_reached_are_ejected_by_their_own_count() {
    let one = Patient::new();
    let gone = dead_address();
    let mesh = start(&[&one], |app| {
        app.endpoints.extend(cluster("", &[gone]).endpoints);
        app.outlier_detection = Some(Arc::new(OutlierDetection {
            consecutive_5xx: 0,
            consecutive_local_origin_failure: 2,
            splits_origins: true,
            max_ejection_percent: 50,
            base_ejection_time: Duration::from_secs(60),
            ..OutlierDetection::default()
        }));
    });
    let mut client = mesh.client();
    let failed = (0..4).filter(|_| client.get("/").status == 503).count();
    assert_eq!(failed, 2);
    let enforced =
        "cluster.app.outlier_detection.ejections_enforced_consecutive_local_origin_failure";
    mesh.wait_stat(enforced, 1);
    mesh.wait_stat("cluster.app.membership_healthy", 1);
    for _ in 0..4 {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn connections_close_with_the_health_of_their_endpoint() {
    let one = Patient::new();
    let mesh = start(&[&one], |app| {
        app.health_check = check(HealthCheckKind::Http(http()));
        app.closes_on_failure = true;
    });
    mesh.wait_stat("cluster.app.membership_healthy", 1);
    let mut client = mesh.client();
    assert_eq!(client.get("/").status, 200);
    mesh.wait_stat("cluster.app.upstream_cx_active", 1);
    one.answer(500);
    mesh.wait_stat("cluster.app.upstream_cx_active", 0);
    assert_eq!(client.get("/").status, 503);
}

/// A server of `grpc.health.v1`, whose service `good` serves; other paths say that they are healthy.
fn grpc_health() -> H2Origin {
    H2Origin::new(|mut incoming| async move {
        let Ok((body, _)) = read(&mut incoming.body).await else {
            return;
        };
        if incoming.head.uri().path() != "/grpc.health.v1.Health/Check" {
            incoming.say(b"ready").await;
            return;
        }
        // The request's only field: the name of the service.
        let is_good = body.get(7..) == Some(b"good");
        let mut send = incoming.answer(http::Response::new(()), false);
        let message: &'static [u8] = if is_good {
            b"\0\0\0\0\x02\x08\x01"
        } else {
            b"\0\0\0\0\x02\x08\x02"
        };
        let _ = send.send_data(bytes::Bytes::from_static(message), false);
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        let _ = send.send_trailers(trailers);
    })
}

#[test]
fn checks_by_grpc_and_http2() {
    let origin = grpc_health();
    let grpc = |service: &str| {
        HealthCheckKind::Grpc(GrpcCheck {
            service: service.into(),
            authority: "health.local".into(),
            metadata: Vec::new(),
        })
    };
    let http2 = HealthCheckKind::Http(HttpCheck {
        is_http2: true,
        ..http()
    });
    let mut mesh = {
        let mut config = Config::to(&Origin::saying(""));
        let mut app = cluster("app", &[origin.address]);
        app.spread.panic_threshold = 0;
        app.health_check = check(grpc("good"));
        config.clusters = vec![app];
        config.start()
    };
    mesh.wait_stat("cluster.app.membership_healthy", 1);
    let asked = origin.heads()[0].clone();
    assert_eq!(
        asked.uri().authority().map(|at| at.as_str()),
        Some("health.local")
    );
    assert_eq!(origin.connections(), 1, "the connection is used again");
    for (kind, healthy) in [(grpc("bad"), 0), (http2, 1)] {
        mesh.config.clusters[0].health_check = check(kind);
        mesh.publish();
        wait_for("some checks", || {
            (mesh.stat("cluster.app.health_check.attempt") >= 2).then_some(())
        });
        mesh.wait_stat("cluster.app.membership_healthy", healthy);
    }
    let last = origin.heads().pop().expect("a request");
    assert_eq!(last.uri().path(), "/healthz");
}
