//! Which filter chain serves a connection, without any redirection; `proxy_init.rs` of the program has
//! the rest.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use periplus_proxy::snapshot::{
    ChainMatch, FilterChain, Listener, OriginalDestination, Service, SourceType, TcpProxy,
};

use crate::support::config::{Mesh, cluster};
use crate::support::{Config, Origin, forward, route, wait_for};

fn naming(name: &'static str) -> Origin {
    Origin::raw(move |mut client, _| client.send(name))
}

fn to(config: &Config, cluster: &str) -> Service {
    let proxy = config.tcp.as_ref().expect("a TCP proxy");
    let mut clusters = proxy.clusters.clone();
    clusters[0].name = cluster.into();
    Service::Tcp(Arc::new(TcpProxy {
        rules: Vec::new(),
        clusters,
        ..proxy.clone()
    }))
}

fn chain(conditions: ChainMatch, service: Service) -> FilterChain {
    FilterChain {
        conditions,
        ..service.into()
    }
}

#[test]
fn the_chain_that_fits_serves_else_the_default_one_else_none() {
    let (one, two) = (naming("chain"), naming("default"));
    let mut config = Config::to(&one).tcp(|_| ());
    config.clusters.push(cluster("two", &[two.address]));
    let mesh = config.start();
    let port = |port| ChainMatch {
        destination_port: Some(port),
        ..ChainMatch::default()
    };
    let external = ChainMatch {
        source_type: SourceType::External,
        ..ChainMatch::default()
    };
    let mut generation = 1;
    let mut answer = |conditions: ChainMatch, default: bool| {
        generation += 1;
        let listener = Listener {
            chains: vec![chain(conditions, to(&mesh.config, "app"))],
            default_chain: default.then(|| to(&mesh.config, "two").into()),
            access_logs: Vec::new(),
            ..mesh.config.listener("test", mesh.address)
        };
        let snapshot = mesh.config.snapshot(generation, vec![listener]);
        mesh.published.publish(snapshot);
        mesh.applied(generation);
        mesh.client().rest()
    };
    assert_eq!(answer(port(mesh.address.port()), true), b"chain");
    assert_eq!(answer(port(1), true), b"default");
    assert_eq!(answer(external.clone(), true), b"default");
    assert_eq!(answer(external, false), b"");
    mesh.wait_stat("listener.test.no_filter_chain_match", 1);
}

/// Publishes the mesh's listener as one chain, behind another one from the third generation on.
fn publish(mesh: &Mesh, generation: u64) {
    let port = |port| ChainMatch {
        destination_port: Some(port),
        ..ChainMatch::default()
    };
    let mut listener = mesh.config.listener("test", mesh.address);
    let service = listener.chains[0].service.clone();
    listener.chains = vec![chain(port(mesh.address.port()), service.clone())];
    if generation > 2 {
        listener.chains.insert(0, chain(port(1), service));
    }
    let snapshot = mesh.config.snapshot(generation, vec![listener]);
    mesh.published.publish(snapshot);
    mesh.applied(generation);
}

#[test]
fn a_connection_of_http_stays_on_its_chain_when_the_configuration_changes() {
    let (one, two) = (Origin::saying("one"), Origin::saying("two"));
    let mut mesh = Config::to(&one)
        .cluster(cluster("two", &[two.address]))
        .start();
    publish(&mesh, 2);
    let mut client = mesh.client();
    assert_eq!(client.get("/").text(), "one");
    mesh.config.routes = vec![route("/", forward("two"))];
    publish(&mesh, 3);
    assert_eq!(client.get("/").text(), "two");
}

#[test]
fn nobody_goes_where_nobody_was_redirected() {
    let mut config = Config::to(&naming("never"));
    config.clusters[0].endpoints.clear();
    config.clusters[0].original_destination = Some(OriginalDestination {
        is_by_name: false,
        port: None,
        cleanup_interval: Duration::from_secs(5),
    });
    let mut mesh = config.start();
    let response = mesh.client().get("/");
    assert_eq!(
        (response.status, &*response.text()),
        (503, "no healthy upstream")
    );
    mesh.config = mesh.config.tcp(|_| ());
    let listener = Listener {
        original_destination: true,
        hands_over: true,
        ..mesh.config.listener("test", mesh.address)
    };
    mesh.published
        .publish(mesh.config.snapshot(2, vec![listener]));
    mesh.applied(2);
    assert!(mesh.client().is_closed());
    wait_for("the count", || {
        (mesh.stat("cluster.app.upstream_cx_none_healthy") == 2).then_some(())
    });
}

#[test]
fn a_listener_without_a_socket_accepts_nothing() {
    let mesh = Config::to(&Origin::saying("fine")).start();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, mesh.address.port()));
    let listener = Listener {
        socket: None,
        ..mesh.config.listener("test", address)
    };
    mesh.published
        .publish(mesh.config.snapshot(2, vec![listener]));
    mesh.applied(2);
    assert!(std::net::TcpStream::connect(address).is_err());
    mesh.publish();
    assert_eq!(mesh.client().get("/").status, 200, "it is bound again");
}

#[test]
fn connections_come_from_the_address_that_is_said() {
    let origin = Origin::raw(|mut client, _| {
        let peer = client.stream.peer_addr().expect("a peer");
        client.send(peer.ip().to_string());
    });
    let mut config = Config::to(&origin).tcp(|_| ());
    config.clusters[0].sources = vec!["::6".parse().expect("ip"), "127.0.0.6".parse().expect("ip")];
    assert_eq!(config.start().client().rest(), b"127.0.0.6");
}
