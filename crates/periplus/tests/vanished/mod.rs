//! A peer that is gone without a word: every packet to it and from it is lost, as when a machine loses power. Whatever
//! waits for it ends with a reason and a count, also where no time limit of the configuration does.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_proxy::snapshot::{
    Cluster, ConnectionManager, Direction, Forward, Http2Options, Listener, Node, PathMatch, Route,
    RouteAction, RouteTable, Service, Snapshot, SocketKind, TcpKeepalive, UpstreamProtocol,
    VirtualHost,
};
use periplus_proxy::{Options, Proxy, Published};

use crate::namespaces::{self, INSIDE, OUTSIDE, Side, World};
use crate::{cluster, tcp};

/// Ports outside: of somebody who takes connections and says nothing, and of HTTP.
const SILENT: u16 = 7000;
const WEB: u16 = 8081;
/// Ports of the proxy.
const HTTP: u16 = 15001;
const RAW: u16 = 15002;

/// A peer is gone after three seconds.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    probes: Some(2),
    time: Some(Duration::from_secs(1)),
    interval: Some(Duration::from_secs(1)),
};
/// Much longer than that, and much shorter than what the kernel does of itself.
const SOON: Duration = Duration::from_secs(20);

fn to(name: &str, port: u16, protocol: UpstreamProtocol) -> Arc<Cluster> {
    let endpoint = SocketAddr::new(OUTSIDE, port);
    Arc::new(Cluster {
        keepalive: Some(KEEPALIVE),
        protocol,
        ..(*cluster(name, &[endpoint])).clone()
    })
}

fn snapshot() -> Snapshot {
    let route = |name: &str| {
        let action = RouteAction::Forward(Forward {
            timeout: None,
            ..Forward::to(name)
        });
        Arc::new(Route::new(PathMatch::Prefix(format!("/{name}")), action))
    };
    let routes = ["http1", "http2", "web"].map(route);
    let routes = RouteTable {
        any: Some(0),
        virtual_hosts: vec![VirtualHost::new("any", routes.into())],
        ..RouteTable::default()
    };
    let manager = ConnectionManager {
        idle_timeout: None,
        stream_idle_timeout: None,
        ..ConnectionManager::new("http", Some(Arc::new(routes)))
    };
    let http = Service::Http(Arc::new(manager));
    let listener = |name: &str, port: u16, service: Service| {
        let address = SocketAddr::from(([0, 0, 0, 0], port));
        Arc::new(Listener {
            socket: Some(SocketKind {
                keepalive: Some(KEEPALIVE),
                ..SocketKind::default()
            }),
            ..Listener::simple(name.to_owned(), address, Direction::Outbound, service)
        })
    };
    let http2 = UpstreamProtocol::Http2(Http2Options::default());
    let clusters = [
        to("http1", SILENT, UpstreamProtocol::Http1),
        to("http2", SILENT, http2),
        to("raw", SILENT, UpstreamProtocol::Http1),
        to("web", WEB, UpstreamProtocol::Http1),
    ];
    Snapshot {
        generation: 1,
        listeners: vec![
            listener("http", HTTP, http),
            listener("raw", RAW, tcp("raw", "raw")),
        ],
        clusters: clusters
            .into_iter()
            .map(|cluster| (cluster.name.clone(), cluster))
            .collect::<HashMap<_, _>>(),
    }
}

fn connect(world: &World, to: IpAddr, port: u16) -> TcpStream {
    let stream = world.inside(|| TcpStream::connect((to, port)).unwrap());
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn ask(world: &World, path: &str) -> TcpStream {
    let mut stream = connect(world, Ipv4Addr::LOCALHOST.into(), HTTP);
    let request = format!("GET /{path} HTTP/1.1\r\nhost: h\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// What comes until the other side says no more, or a body is there.
fn hear(mut stream: TcpStream, until: &str) -> String {
    let mut heard = String::new();
    let mut part = [0; 4096];
    while !heard.contains(until) {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(n) => heard.push_str(&String::from_utf8_lossy(&part[..n])),
            // What has not come to its end must not look as if it had.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("it does not end: {error}"),
        }
    }
    heard
}

#[test]
fn whoever_waits_for_a_peer_that_has_vanished_is_told() {
    let Some(world) = World::new() else {
        return;
    };
    let silent = world.listen_outside(SILENT);
    let (arrived, arrivals) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = silent.accept() {
            // It has heard what it was sent: the proxy waits for an answer.
            let mut part = [0; 4096];
            if stream.read(&mut part).is_ok() && arrived.send(stream).is_err() {
                return;
            }
        }
    });
    world.serve_http_outside(WEB);
    let proxy = world.inside(|| {
        let published = Published::new(snapshot());
        let proxy = Proxy::start(published, Node::default(), Options::default()).unwrap();
        namespaces::wait_for("the listeners", || {
            (proxy.applied_generation() == 1).then_some(())
        });
        proxy
    });
    let count = |name: &str| {
        let stats = proxy.stats();
        stats
            .iter()
            .find(|(known, _)| known == name)
            .map_or(0, |(_, value)| *value)
    };

    // A connection to the endpoint that is kept, and one of a client outside.
    assert!(hear(ask(&world, "web"), &format!("{WEB} for")).starts_with("HTTP/1.1 200 "));
    let script = format!("exec 3<>/dev/tcp/{INSIDE}/{HTTP} && echo here && sleep 60");
    let mut client = world
        .command(Side::Outside, "bash")
        .args(["-c", &script])
        .spawn()
        .unwrap();
    let waiting = ["http1", "http2"].map(|path| ask(&world, path));
    let mut raw = connect(&world, Ipv4Addr::LOCALHOST.into(), RAW);
    raw.write_all(b"hello").unwrap();
    let held: Vec<_> = arrivals.iter().take(3).collect();
    namespaces::wait_for("the client outside", || {
        (count("listener.http.downstream_cx_active") >= 3).then_some(())
    });

    for chain in ["INPUT", "OUTPUT"] {
        let dropped = world
            .command(Side::Outside, "iptables")
            .args(["-A", chain, "-j", "DROP"])
            .status()
            .unwrap();
        assert!(dropped.success());
    }
    let begin = Instant::now();
    // Its request is never acknowledged, as that of a connection that was idle until now.
    let sent = ask(&world, "web");
    for (stream, cluster) in waiting
        .into_iter()
        .zip(["http1", "http2"])
        .chain([(sent, "web")])
    {
        // The last one is sent again, to where nobody answers either.
        let heard = hear(stream, "reset reason: connection t");
        assert!(heard.starts_with("HTTP/1.1 503 "), "{cluster}: {heard}");
        let of_cluster = |name: &str| count(&format!("cluster.{cluster}.{name}"));
        namespaces::wait_for("the counts", || {
            let is_over =
                of_cluster("upstream_cx_destroy") >= 1 && of_cluster("upstream_rq_active") == 0;
            is_over.then_some(())
        });
    }
    assert_eq!(hear(raw, "never"), "", "bytes end too");
    namespaces::wait_for("the end of all connections", || {
        let left = [
            "listener.http.downstream_cx_active",
            "listener.raw.downstream_cx_active",
            "cluster.raw.upstream_cx_active",
        ];
        (left.map(count).iter().sum::<u64>() == 0).then_some(())
    });
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    client.kill().unwrap();
    client.wait().unwrap();
    drop(held);
}
