//! Listeners, routes and clusters change while the proxy runs.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::config::{cluster, free_address};
use crate::support::origin::{Origin, ok};
use crate::support::{Client, Collector, Config, forward, pause, route, wait_for};

#[test]
fn routes_change_under_load_without_a_lost_request() {
    let one = Origin::saying("one");
    let two = Origin::saying("two");
    let mut mesh = Config::to(&one)
        .cluster(cluster("one", &[one.address]))
        .cluster(cluster("two", &[two.address]))
        .start();
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served, address) = (stop.clone(), served.clone(), mesh.address);
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/").status, 200);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for i in 0..20 {
        let before = served.load(Ordering::Relaxed);
        wait_for("requests", || {
            (served.load(Ordering::Relaxed) > before + 20).then_some(())
        });
        let target = if i % 2 == 0 { "two" } else { "one" };
        mesh.config.routes = vec![route("/", forward(target))];
        mesh.publish();
        assert_eq!(mesh.client().get("/").text(), target, "the next request");
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no request failed");
    }
}

#[test]
fn a_request_keeps_the_configuration_that_it_began_with() {
    let origin = Origin::new(|request| {
        if request.path() == "/slow" {
            pause(Duration::from_millis(300));
        }
        Some(ok("fine"))
    });
    let mut mesh = Config::to(&origin).start();
    let mut slow = mesh.client();
    slow.send("GET /slow HTTP/1.1\r\nhost: h\r\n\r\n");
    origin.nth(1);
    mesh.config.routes.clear();
    mesh.config.clusters.clear();
    mesh.publish();
    assert_eq!(mesh.client().get("/").status, 404);
    assert_eq!(slow.response(false).expect("a response").text(), "fine");
    assert_eq!(slow.get("/").status, 404, "the next one has the new");
    wait_for("the old connection to go", || {
        let stats = mesh.proxy().stats();
        let active = |(name, _): &&(String, u64)| name == "cluster.app.upstream_cx_active";
        stats
            .iter()
            .find(active)
            .is_none_or(|(_, n)| *n == 0)
            .then_some(())
    });
}

#[test]
fn listeners_come_move_and_go() {
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin).start();
    let (second, moved) = (free_address(), free_address());
    let publish = |generation, addresses: &[(&str, std::net::SocketAddr)]| {
        let listeners = addresses
            .iter()
            .map(|(name, address)| mesh.config.listener(name, *address))
            .collect();
        mesh.published
            .publish(mesh.config.snapshot(generation, listeners));
        mesh.applied(generation);
    };
    let mut old = mesh.client();
    assert_eq!(old.get("/").status, 200);
    publish(2, &[("test", mesh.address), ("second", second)]);
    assert_eq!(Client::connect(second).get("/").status, 200);
    assert_eq!(old.get("/").status, 200, "untouched");

    publish(3, &[("test", moved), ("second", second)]);
    assert_eq!(Client::connect(moved).get("/").status, 200);
    assert!(std::net::TcpStream::connect(mesh.address).is_err());
    let response = old.get("/");
    assert_eq!(response.status, 200, "a request on its way is served");
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    assert!(old.is_closed());

    let mut idle = Client::connect(second);
    assert_eq!(idle.get("/").status, 200);
    publish(4, &[("test", second)]);
    assert!(
        idle.is_closed(),
        "an idle connection of a listener that has gone is closed"
    );
    assert_eq!(
        Client::connect(second).get("/").status,
        200,
        "the address under a new name"
    );
    publish(5, &[]);
    assert!(std::net::TcpStream::connect(second).is_err());
}

#[test]
fn a_port_in_use_is_reported_and_taken_when_it_is_free() {
    let origin = Origin::saying("fine");
    for workers in [1, 2] {
        let mut config = Config::to(&origin);
        config.options.workers = workers;
        let mesh = config.start();
        let other = TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = other.local_addr().expect("an address");
        let listeners = vec![
            mesh.config.listener("test", mesh.address),
            mesh.config.listener("taken", taken),
        ];
        mesh.published.publish(mesh.config.snapshot(2, listeners));
        mesh.applied(2);
        let errors = mesh.proxy().bind_errors();
        assert_eq!(errors.len(), 1, "{workers} workers: {errors:?}");
        assert_eq!((errors[0].0.as_str(), errors[0].1), ("taken", taken));
        assert!(errors[0].2.contains("in use"), "{}", errors[0].2);
        assert_eq!(mesh.client().get("/").status, 200, "the others work");
        drop(other);
        wait_for("the retry", || {
            mesh.proxy().bind_errors().is_empty().then_some(())
        });
        assert_eq!(Client::connect(taken).get("/").status, 200);
    }
}

#[test]
fn endpoints_that_stay_keep_their_connections() {
    let stays = Origin::saying("stays");
    let goes = Origin::saying("goes");
    let mut config = Config::to(&stays);
    config.clusters = vec![cluster("app", &[stays.address, goes.address])];
    let mut mesh = config.start();
    let mut client = mesh.client();
    for _ in 0..4 {
        client.get("/");
    }
    mesh.wait_stat("cluster.app.upstream_cx_active", 2);
    mesh.config.clusters = vec![cluster("app", &[stays.address])];
    mesh.publish();
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "stays");
    }
    assert_eq!((stays.connections(), goes.connections()), (1, 1));
    mesh.wait_stat("cluster.app.upstream_cx_active", 1);
}

#[test]
fn shutdown_finishes_requests_flushes_spans_and_keeps_its_deadline() {
    let collector = Collector::zipkin();
    let origin = Origin::new(|request| {
        let time = if request.path() == "/for-ever" {
            60_000
        } else {
            300
        };
        pause(Duration::from_millis(time));
        Some(ok("fine"))
    });
    let mesh = Config::to(&origin).zipkin(&collector).start();
    let mut client = mesh.client();
    client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    origin.nth(1);
    let begin = Instant::now();
    mesh.shutdown(Duration::from_secs(10));
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "waits for requests only"
    );
    let response = client.response(false).expect("a response");
    assert_eq!(response.text(), "fine");
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    assert_eq!(collector.spans().len(), 1, "the span was flushed");

    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    client.send("GET /for-ever HTTP/1.1\r\nhost: h\r\n\r\n");
    origin.nth(2);
    let begin = Instant::now();
    mesh.shutdown(Duration::from_millis(200));
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "the deadline holds"
    );
}
