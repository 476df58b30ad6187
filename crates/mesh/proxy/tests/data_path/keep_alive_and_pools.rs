//! Upstream connections are kept, shared, replaced when stale, and spread over endpoints.

use std::time::Duration;

use periplus_proxy::snapshot::{Balancing, Endpoint, LeastRequest, SocketKind, TcpKeepalive};

use crate::support::config::cluster;
use crate::support::origin::{Origin, ok, read_request};
use crate::support::{Config, pause, wait_for};

#[test]
fn clients_share_upstream_connections() {
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin).start();
    for _ in 0..5 {
        let mut client = mesh.client();
        for _ in 0..5 {
            assert_eq!(client.get("/").status, 200);
        }
    }
    assert_eq!(origin.connections(), 1);
    mesh.wait_stat("cluster.app.upstream_cx_total", 1);
    mesh.wait_stat("cluster.app.upstream_rq_total", 25);
    mesh.wait_stat("cluster.app.upstream_rq_2xx", 25);
    mesh.wait_stat("http.test.downstream_cx_total", 5);
    mesh.wait_stat("http.test.downstream_rq_total", 25);
    mesh.wait_stat("http.test.downstream_rq_2xx", 25);
}

#[test]
fn a_connection_that_the_endpoint_closed_is_not_used() {
    let origin = Origin::raw(|mut client, origin| {
        if let Some(request) = read_request(&mut client) {
            origin.note(request);
            client.send(ok("one each"));
        }
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    for i in 1..=5 {
        // Whether the close has come in before the next request or not, none must fail.
        let response = client.exchange("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab");
        assert_eq!(response.status, 200, "request {i}");
        mesh.wait_stat("cluster.app.upstream_cx_active", 0);
    }
    assert_eq!(origin.connections(), 5);
}

/// An origin that closes a connection when the second request on it comes.
fn closes_on_reuse() -> Origin {
    Origin::raw(|mut client, origin| {
        let Some(request) = read_request(&mut client) else {
            return;
        };
        origin.note(request);
        client.send(ok("first"));
        client.more();
    })
}

#[test]
fn a_request_lost_on_an_old_connection_is_sent_again_if_that_is_safe() {
    let origin = closes_on_reuse();
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    assert_eq!(client.get("/1").status, 200);
    assert_eq!(client.get("/2").status, 200);
    let response = client.exchange("PUT /3 HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab");
    assert_eq!(response.status, 200);
    assert_eq!(origin.last().body, b"ab");
    mesh.wait_stat("cluster.app.upstream_rq_stale_retry", 2);
    assert_eq!(origin.connections(), 3);

    // It may have had its effect: a POST is never sent twice.
    let response = client.exchange("POST /4 HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab");
    assert_eq!(response.status, 503);
    assert!(response.text().ends_with("connection termination"));
    mesh.wait_stat("cluster.app.upstream_rq_stale_retry", 2);
}

#[test]
fn idle_upstream_connections_are_closed_in_time() {
    let origin = Origin::saying("fine");
    let mut config = Config::to(&origin);
    config.clusters[0].idle_timeout = Some(Duration::from_millis(1));
    let mesh = config.start();
    assert_eq!(mesh.client().get("/").status, 200);
    mesh.wait_stat("cluster.app.upstream_cx_active", 0);
    mesh.wait_stat("cluster.app.upstream_cx_idle_timeout", 1);
    assert_eq!(mesh.client().get("/").status, 200);
}

#[test]
fn bytes_after_a_response_make_the_connection_useless() {
    let origin = Origin::new(|_| {
        let mut bytes = ok("fine");
        bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
        Some(bytes)
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "fine");
    }
    assert_eq!(origin.connections(), 3);
}

fn spread(balancing: Balancing, weights: &[u32], requests: usize) -> Vec<usize> {
    let origins: Vec<_> = weights.iter().map(|_| Origin::saying("fine")).collect();
    let mut app = cluster("app", &[]);
    app.balancing = balancing;
    app.endpoints = origins
        .iter()
        .zip(weights)
        .map(|(origin, weight)| Endpoint {
            weight: *weight,
            ..Endpoint::new(origin.address)
        })
        .collect();
    let mut config = Config::to(&origins[0]);
    config.clusters = vec![app];
    let mesh = config.start();
    let mut client = mesh.client();
    for _ in 0..requests {
        assert_eq!(client.get("/").status, 200);
    }
    origins
        .iter()
        .map(|origin| origin.received().len())
        .collect()
}

#[test]
fn round_robin_takes_turns_and_weights_count() {
    assert_eq!(spread(Balancing::RoundRobin, &[1, 1, 1], 30), [10, 10, 10]);
    assert_eq!(spread(Balancing::RoundRobin, &[1, 2], 30), [10, 20]);
}

#[test]
fn random_policies_reach_everybody() {
    for balancing in [
        Balancing::Random,
        Balancing::LeastRequest(LeastRequest::default()),
    ] {
        let counts = spread(balancing, &[1, 1], 200);
        assert!(
            counts.iter().all(|count| *count > 50),
            "{balancing:?}: {counts:?}"
        );
    }
}

#[test]
fn least_request_avoids_the_busy_endpoint() {
    let busy = Origin::new(|_| {
        pause(Duration::from_secs(60));
        None
    });
    let idle = Origin::saying("fast");
    let mut app = cluster("app", &[busy.address, idle.address]);
    app.balancing = Balancing::LeastRequest(LeastRequest::default());
    let mut config = Config::to(&idle);
    config.clusters = vec![app];
    let mesh = config.start();
    let mut clients: Vec<_> = (0..80).map(|_| mesh.client()).collect();
    for (sent, client) in clients.iter_mut().enumerate() {
        client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
        wait_for("the request at an endpoint", || {
            let arrived = busy.received().len() + idle.received().len();
            (arrived > sent).then_some(())
        });
    }
    // Only when both choices fall on the busy one it gets another request: a quarter of the time.
    let waiting = busy.received().len();
    assert!((5..38).contains(&waiting), "{waiting} of 80");
}

#[test]
fn several_workers_serve_the_same_port() {
    let origin = Origin::saying("fine");
    let mut config = Config::to(&origin);
    config.options.workers = 3;
    let mesh = config.start();
    let mut clients: Vec<_> = (0..24).map(|_| mesh.client()).collect();
    for client in &mut clients {
        for _ in 0..3 {
            assert_eq!(client.get("/").status, 200);
        }
    }
    mesh.wait_stat("http.test.downstream_rq_total", 72);
    mesh.wait_stat("http.test.downstream_cx_active", 24);
    // Each worker that got a connection has a pool of its own.
    assert!(
        (2..=3).contains(&origin.connections()),
        "{}",
        origin.connections()
    );
}

#[test]
fn connections_are_used_for_so_many_requests_and_so_long() {
    let origin = Origin::saying("fine");
    let mut app = cluster("app", &[origin.address]);
    app.max_requests_per_connection = Some(3);
    let mut config = Config::to(&origin);
    config.clusters = vec![app];
    let mut mesh = config.start();
    let mut client = mesh.client();
    for _ in 0..7 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(origin.connections(), 3);
    assert_eq!(mesh.stat("cluster.app.upstream_cx_max_requests"), 2);
    mesh.config.clusters[0].max_requests_per_connection = None;
    mesh.config.clusters[0].max_connection_duration = Some(Duration::from_millis(50));
    mesh.publish();
    assert_eq!(client.get("/").status, 200);
    // Idle ones are closed too when their time is over.
    mesh.wait_stat("cluster.app.upstream_cx_active", 0);
    assert!(mesh.stat("cluster.app.upstream_cx_max_duration_reached") >= 1);
}

/// In how many seconds the kernel probes the other side of the one connection between ports, if it does.
fn probe_in(local: Option<u16>, remote: Option<u16>) -> Option<u64> {
    const ESTABLISHED: &str = "01";
    const PROBES: &str = "02";
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's connections");
    let is = |address: &str, port: Option<u16>| {
        port.is_none_or(|port| address.ends_with(&format!(":{port:04X}")))
    };
    table.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [_, from, to, ESTABLISHED, _, timer, ..] = columns.as_slice() else {
            return None;
        };
        let (kind, left) = timer.split_once(':')?;
        let left = u64::from_str_radix(left, 16).ok()?;
        // In hundredths of a second, whatever the kernel's own clock.
        (is(from, local) && is(to, remote) && kind == PROBES).then_some(left / 100)
    })
}

#[test]
fn the_kernel_probes_silent_peers_if_that_is_wanted() {
    let keepalive = |seconds| TcpKeepalive {
        probes: Some(3),
        time: Some(Duration::from_secs(seconds)),
        interval: Some(Duration::from_secs(5)),
    };
    for (of_cluster, of_listener) in [(None, None), (Some(700), Some(90))] {
        let origin = Origin::saying("fine");
        let mut config = Config::to(&origin);
        config.clusters[0].keepalive = of_cluster.map(keepalive);
        let mesh = config.start();
        let mut listener = mesh.config.listener("test", mesh.address);
        listener.socket = Some(SocketKind {
            keepalive: of_listener.map(keepalive),
            ..SocketKind::default()
        });
        let changed = mesh.config.snapshot(2, vec![listener]);
        mesh.published.publish(changed);
        mesh.applied(2);
        let mut client = mesh.client();
        assert_eq!(client.get("/").status, 200);
        let probes = || {
            let upstream = probe_in(None, Some(origin.address.port()));
            let downstream = probe_in(Some(mesh.address.port()), None);
            (upstream, downstream)
        };
        if of_cluster.is_none() {
            assert_eq!(probes(), (None, None));
            continue;
        }
        wait_for("the kernel's timers", || match probes() {
            (Some(651..=700), Some(41..=90)) => Some(()),
            _ => None,
        });
    }
}

#[test]
fn a_client_connection_ends_after_so_many_requests() {
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin)
        .with_manager(|manager| manager.max_requests_per_connection = Some(2))
        .start();
    for _ in 0..2 {
        let mut client = mesh.client();
        assert_eq!(client.get("/").header("connection"), None);
        let last = client.get("/");
        assert_eq!(last.status, 200);
        assert_eq!(last.header("connection").as_deref(), Some("close"));
        assert!(client.is_closed());
    }
    mesh.wait_stat("http.test.downstream_cx_max_requests_reached", 2);
    mesh.wait_stat("http.test.downstream_rq_2xx", 4);
}

#[test]
fn a_client_connection_ends_when_it_is_old_enough() {
    let origin = Origin::new(|request| {
        if request.path() == "/slow" {
            pause(Duration::from_millis(600));
        }
        Some(ok("fine"))
    });
    let mesh = Config::to(&origin)
        .with_manager(|manager| manager.max_connection_duration = Some(Duration::from_millis(400)))
        .start();
    // What is under way is answered as if nothing were, but for the word that nothing follows.
    let mut client = mesh.client();
    let last = client.get("/slow");
    assert_eq!((last.status, last.text().as_str()), (200, "fine"));
    assert_eq!(last.header("connection").as_deref(), Some("close"));
    assert!(client.is_closed());
    mesh.wait_stat("http.test.downstream_cx_max_duration_reached", 1);
    // One that is idle just ends.
    let mut client = mesh.client();
    assert_eq!(client.get("/").status, 200);
    assert!(client.is_closed());
    mesh.wait_stat("http.test.downstream_cx_max_duration_reached", 2);
    mesh.wait_stat("http.test.downstream_cx_idle_timeout", 0);
}

/// How many sockets listen on a port.
fn listening_on(port: u16) -> usize {
    const LISTENING: &str = "0A";
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's sockets");
    let port = format!(":{port:04X}");
    let is_one = |line: &&str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        matches!(columns.as_slice(), [_, local, _, LISTENING, ..] if local.ends_with(&port))
    };
    table.lines().filter(is_one).count()
}

#[test]
fn there_are_as_many_workers_as_cores_unless_a_number_is_given() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (wanted, expected) in [(0, cores), (3, 3)] {
        let origin = Origin::saying("fine");
        let mut config = Config::to(&origin);
        config.options.workers = wanted;
        let mesh = config.start();
        // Each has a socket of its own.
        assert_eq!(listening_on(mesh.address.port()), expected);
        assert_eq!(mesh.client().get("/").status, 200);
    }
}
