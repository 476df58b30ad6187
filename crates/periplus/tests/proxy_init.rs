//! `periplus proxy-init` with the real iptables, in network namespaces of the test's own: what reaches
//! the proxy, with which destination, and what does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/client_hello.rs"]
mod client_hello;
mod dns_captured;
#[path = "support/intercepted.rs"]
mod intercepted;
mod named_by_clients;
#[path = "support/namespaces.rs"]
mod namespaces;
#[path = "support/sidecars.rs"]
mod sidecars;
#[path = "support/tls_gateway.rs"]
mod tls_gateway;
#[path = "support/two_sidecars.rs"]
mod two_sidecars;
mod vanished;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use namespaces::{INSIDE, INSIDE_V6, OTHER, OTHER_V6, OUTSIDE, OUTSIDE_V6, World};
use periplus_proxy::snapshot::{
    ChainMatch, Cluster, ClusterLimits, ConnectionManager, Direction, Endpoint, FilterChain,
    Forward, Listener, Node, OriginalDestination, PathMatch, Route, RouteAction, RouteTable,
    Service, Snapshot, SocketKind, TcpProxy, VirtualHost,
};
use periplus_proxy::{Options, Proxy, Published};
use rustix::process::Gid;
use rustix::thread::set_thread_gid;

/// Ports of servers outside: for anybody, excluded by the rules, and behind a virtual listener.
const PLAIN: u16 = 7000;
const EXCLUDED: u16 = 7001;
const BEHIND: u16 = 7002;
/// The port of the virtual listener.
const VIRTUAL: u16 = 8080;
/// The proxy's group where it must be root.
const PROXY: u32 = 1337;
/// Ports of the application.
const APP: u16 = 9080;
const APP_EXCLUDED: u16 = 9090;
const APP_HTTP: [u16; 2] = [9081, 9082];

fn cluster(name: &str, endpoints: &[SocketAddr]) -> Arc<Cluster> {
    Arc::new(Cluster {
        name: name.to_owned(),
        observability_name: name.to_owned(),
        endpoints: endpoints.iter().copied().map(Endpoint::new).collect(),
        limits: ClusterLimits::UNLIMITED,
        idle_timeout: None,
        ..Cluster::default()
    })
}

/// To where the client wanted to go.
fn passthrough(name: &str, sources: &[&str]) -> Arc<Cluster> {
    let sources = sources.iter().map(|ip| ip.parse().unwrap()).collect();
    Arc::new(Cluster {
        original_destination: Some(OriginalDestination {
            is_by_name: false,
            port: None,
            cleanup_interval: Duration::from_secs(5),
        }),
        sources,
        ..(*cluster(name, &[])).clone()
    })
}

fn tcp(stat_prefix: &str, cluster: &str) -> Service {
    Service::Tcp(Arc::new(TcpProxy {
        idle_timeout: None,
        ..TcpProxy::new(stat_prefix, cluster)
    }))
}

/// Requests, to where each client wanted to go.
fn http(stat_prefix: &str, cluster: &str) -> Service {
    let route = Route::new(
        PathMatch::Prefix("/".to_owned()),
        RouteAction::Forward(Forward::to(cluster)),
    );
    let routes = RouteTable {
        any: Some(0),
        virtual_hosts: vec![VirtualHost::new("any", vec![Arc::new(route)])],
        ..RouteTable::default()
    };
    Service::Http(Arc::new(ConnectionManager::new(
        stat_prefix,
        Some(Arc::new(routes)),
    )))
}

/// A listener that intercepts, with the guard against connections to itself.
fn intercepting(name: &str, port: u16, default: Service) -> Listener {
    Listener {
        original_destination: true,
        chains: vec![FilterChain {
            conditions: ChainMatch {
                destination_port: Some(port),
                ..ChainMatch::default()
            },
            ..tcp("guard", "BlackHoleCluster").into()
        }],
        default_chain: Some(default.clone().into()),
        ..Listener::simple(
            name.to_owned(),
            (Ipv6Addr::UNSPECIFIED, port).into(),
            Direction::Outbound,
            default,
        )
    }
}

/// The listeners and clusters that Istio gives to every sidecar, and a virtual listener.
fn snapshot(is_transparent: bool) -> Snapshot {
    let mut outbound = intercepting("virtualOutbound", 15001, tcp("outbound", "Passthrough"));
    outbound.hands_over = true;
    let mut inbound = intercepting(
        "virtualInbound",
        15006,
        tcp("inbound", "InboundPassthrough"),
    );
    inbound.socket = Some(SocketKind {
        keepalive: None,
        transparent: is_transparent,
        freebind: false,
    });
    inbound.original_source = is_transparent.then_some(1337);
    for port in APP_HTTP {
        inbound.chains.push(FilterChain {
            conditions: ChainMatch {
                destination_port: Some(port),
                ..ChainMatch::default()
            },
            ..http("inbound_http", "InboundPassthrough").into()
        });
    }
    let virtual_address = SocketAddr::new(OUTSIDE, VIRTUAL);
    let virtual_listener = Listener {
        socket: None,
        ..Listener::simple(
            "virtual".to_owned(),
            virtual_address,
            Direction::Outbound,
            tcp("virtual", "behind"),
        )
    };
    let clusters = [
        cluster("BlackHoleCluster", &[]),
        cluster("behind", &[SocketAddr::new(OUTSIDE, BEHIND)]),
        passthrough("Passthrough", &[]),
        passthrough("InboundPassthrough", &["127.0.0.6", "::6"]),
    ];
    Snapshot {
        generation: 1,
        listeners: [outbound, inbound, virtual_listener].map(Arc::new).into(),
        clusters: clusters
            .into_iter()
            .map(|cluster| (cluster.name.clone(), cluster))
            .collect::<HashMap<_, _>>(),
    }
}

struct Sidecar {
    world: World,
    proxy: Proxy,
    is_transparent: bool,
}

impl Sidecar {
    /// A proxy in the inner namespace, run by root, and servers on both sides.
    fn start(is_transparent: bool) -> Option<Self> {
        let world = World::new()?;
        for port in [PLAIN, EXCLUDED, BEHIND] {
            world.serve_outside(port);
        }
        for port in [APP, APP_EXCLUDED] {
            world.serve_inside(port);
        }
        for port in APP_HTTP {
            world.serve_http_inside(port);
        }
        let proxy = world.inside(move || {
            if is_transparent {
                // It is root, and the rules know it by its group.
                set_thread_gid(Gid::from_raw(PROXY)).unwrap();
            }
            let published = Published::new(snapshot(is_transparent));
            let proxy = Proxy::start(published, Node::default(), Options::default()).unwrap();
            namespaces::wait_for("the listeners", || {
                (proxy.applied_generation() == 1).then_some(())
            });
            assert_eq!(proxy.bind_errors(), []);
            proxy
        });
        Some(Self {
            world,
            proxy,
            is_transparent,
        })
    }

    /// The user and the group by whom the rules know the proxy.
    fn owner(&self) -> u32 {
        if self.is_transparent { PROXY } else { 0 }
    }

    fn init(&self, flags: &[&str]) {
        let excluded = format!("{OTHER}/32,{OTHER_V6}/128");
        let exclusions = ["-o", "7001", "-d", "9090", "-x", &excluded];
        self.init_with(&[&exclusions, flags].concat());
    }

    fn init_with(&self, flags: &[&str]) {
        let owner = &self.owner().to_string();
        let output = self
            .world
            .command_inside(env!("CARGO_BIN_EXE_periplus"))
            .args(["proxy-init", "-u", owner, "-g", owner])
            .args(flags)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn count(&self, prefix: &str) -> u64 {
        let name = format!("tcp.{prefix}.downstream_cx_total");
        let stats = self.proxy.stats();
        stats.iter().find(|(known, _)| *known == name).unwrap().1
    }

    /// What a connection gets to hear, and by which of the proxy's ways it went, if by any.
    fn way(&self, connect: impl FnOnce() -> String) -> (String, Option<&'static str>) {
        let ways = ["outbound", "inbound", "virtual", "guard"];
        let before = ways.map(|way| self.count(way));
        let heard = connect();
        let mut taken = None;
        for (way, before) in ways.into_iter().zip(before) {
            let more = self.count(way) - before;
            assert!(more <= 1, "{way} {more} times");
            if more == 1 {
                assert_eq!(taken.replace(way), None);
            }
        }
        (heard, taken)
    }

    /// From an application, which is not root.
    fn app_connects(&self, to: IpAddr, port: u16) -> (String, Option<&'static str>) {
        self.way(|| self.world.connect_inside(65534, to, port))
    }

    fn outsider_connects(&self, to: IpAddr, port: u16) -> (String, Option<&'static str>) {
        self.way(|| self.world.connect_outside(to, port))
    }

    /// What of the proxy's rules goes for connections from outside in either mode.
    fn check_inbound(&self) {
        for (inside, outside, source) in [
            (INSIDE, OUTSIDE, "127.0.0.6"),
            (INSIDE_V6, OUTSIDE_V6, "::6"),
        ] {
            // Whom the application takes its clients for.
            let source = if self.is_transparent {
                outside.to_string()
            } else {
                source.to_owned()
            };
            assert_eq!(
                self.outsider_connects(inside, APP),
                (format!("{APP} for {source}"), Some("inbound"))
            );
            assert_eq!(
                self.outsider_connects(inside, APP_EXCLUDED),
                (format!("{APP_EXCLUDED} for {outside}"), None)
            );
            // Each request goes to the port that its client has asked for, over connections that are kept.
            for port in APP_HTTP.repeat(2) {
                let response = self.world.request_outside(inside, port);
                let body = format!("\r\n\r\n{port} for {source}");
                assert!(response.ends_with(&body), "{response}");
            }
        }
        let stats = self.proxy.stats();
        let count = |name: &str| stats.iter().find(|(known, _)| known == name).unwrap().1;
        assert_eq!(count("http.inbound_http.downstream_rq_2xx"), 8);
        assert_eq!(
            count("cluster.InboundPassthrough.upstream_cx_http1_total"),
            4
        );
    }

    fn check_outbound(&self) {
        for (inside, outside, other) in
            [(INSIDE, OUTSIDE, OTHER), (INSIDE_V6, OUTSIDE_V6, OTHER_V6)]
        {
            let from = |port: u16| format!("{port} for {inside}");
            assert_eq!(
                self.app_connects(outside, PLAIN),
                (from(PLAIN), Some("outbound")),
                "passes through to where it wanted to go"
            );
            assert_eq!(self.app_connects(outside, EXCLUDED), (from(EXCLUDED), None));
            assert_eq!(self.app_connects(other, PLAIN), (from(PLAIN), None));
            assert_eq!(
                self.way(|| self.world.connect_inside(self.owner(), outside, PLAIN)),
                (from(PLAIN), None),
                "the user of the proxy"
            );
            assert_eq!(
                self.app_connects(inside, APP),
                (from(APP), None),
                "an application and itself"
            );
        }
        assert_eq!(
            self.app_connects(OUTSIDE, VIRTUAL),
            (format!("{BEHIND} for {INSIDE}"), Some("virtual"))
        );
        let loopback = "127.0.0.1".parse().unwrap();
        assert_eq!(
            self.app_connects(loopback, 15001),
            (String::new(), Some("guard")),
            "the proxy's own port leads nowhere"
        );
    }
}

#[test]
fn redirected_connections_reach_the_proxy_and_others_do_not() {
    let Some(sidecar) = Sidecar::start(false) else {
        return;
    };
    let world = &sidecar.world;
    for program in ["iptables", "ip6tables"] {
        // Somebody else's rule, which must stay.
        world.run_inside(&format!(
            "{program} -t nat -A OUTPUT -p tcp --dport 1 -j ACCEPT"
        ));
    }
    let before = world.rules();
    assert_eq!(sidecar.app_connects(OUTSIDE, PLAIN).1, None);

    sidecar.init(&[]);
    sidecar.check_inbound();
    sidecar.check_outbound();
    let once = world.rules();
    assert_ne!(once, before);
    sidecar.init(&[]);
    assert_eq!(world.rules(), once, "a second run changes nothing");

    sidecar.init(&["--cleanup"]);
    assert_eq!(world.rules(), before);
    assert_eq!(sidecar.app_connects(OUTSIDE, PLAIN).1, None);
    assert_eq!(sidecar.outsider_connects(INSIDE, APP).1, None);
}

/// Only what is included goes to the proxy, by block, by port though its block is not, and inbound by port.
#[test]
fn what_is_included_reaches_the_proxy_and_nothing_else() {
    for native in [&[][..], &["--native-nftables"]] {
        let Some(sidecar) = Sidecar::start(false) else {
            return;
        };
        let before = sidecar.world.rules();
        let blocks = format!("{OUTSIDE}/32,{OUTSIDE_V6}/128");
        let included = ["-b", "9080", "-i", &blocks, "-q", "7002"];
        let flags = [&included[..], native].concat();
        sidecar.init_with(&flags);
        for (inside, outside, other) in
            [(INSIDE, OUTSIDE, OTHER), (INSIDE_V6, OUTSIDE_V6, OTHER_V6)]
        {
            for (to, port, expected) in [
                (outside, PLAIN, Some("outbound")),
                (other, PLAIN, None),
                (other, BEHIND, Some("outbound")),
            ] {
                let (heard, way) = sidecar.app_connects(to, port);
                assert_eq!(heard, format!("{port} for {inside}"));
                assert_eq!(way, expected, "{to} {port} {native:?}");
            }
            for (port, expected) in [(APP, Some("inbound")), (APP_EXCLUDED, None)] {
                let (_, way) = sidecar.outsider_connects(inside, port);
                assert_eq!(way, expected, "{inside} {port} {native:?}");
            }
        }
        sidecar.init_with(&[&flags[..], &["--cleanup"]].concat());
        assert_eq!(sidecar.world.rules(), before);

        // Of what comes in over another interface, such as a virtual machine's, all goes out through the proxy.
        let rerouted = ["-b", "", "-i", "*", "-k", "eth0"];
        let flags = [&rerouted[..], native].concat();
        sidecar.init_with(&flags);
        let before_it = sidecar.count("outbound");
        let heard = sidecar.world.connect_outside(INSIDE, APP);
        assert!(heard.starts_with(&format!("{APP} for ")), "{heard}");
        assert_eq!(sidecar.count("outbound"), before_it + 1, "{native:?}");
        sidecar.init_with(&[&flags[..], &["--cleanup"]].concat());
        assert_eq!(sidecar.world.rules(), before);
    }
}

#[test]
fn transparent_connections_keep_their_destination() {
    let Some(sidecar) = Sidecar::start(true) else {
        return;
    };
    let before = sidecar.world.rules();
    sidecar.init(&["-m", "TPROXY"]);
    sidecar.check_inbound();
    sidecar.check_outbound();
    sidecar.init(&["-m", "TPROXY", "--cleanup"]);
    assert_eq!(sidecar.world.rules(), before);
    assert_eq!(sidecar.outsider_connects(INSIDE, APP).1, None);
}

#[test]
fn nftables_do_the_same() {
    for (flags, is_transparent) in [
        (&["--native-nftables"][..], false),
        (&["--native-nftables", "-m", "TPROXY"], true),
    ] {
        let Some(sidecar) = Sidecar::start(is_transparent) else {
            return;
        };
        let world = &sidecar.world;
        // Somebody else's table, which must stay.
        world.run_inside("nft add table inet theirs");
        let before = world.rules();
        sidecar.init(flags);
        sidecar.check_inbound();
        sidecar.check_outbound();
        let once = world.rules();
        assert_ne!(once, before);
        sidecar.init(flags);
        assert_eq!(world.rules(), once, "a second run changes nothing");
        let cleanup = [flags, &["--cleanup"]].concat();
        sidecar.init(&cleanup);
        assert_eq!(world.rules(), before);
        assert_eq!(sidecar.app_connects(OUTSIDE, PLAIN).1, None);
        assert_eq!(sidecar.outsider_connects(INSIDE, APP).1, None);
        // There is nothing left to take away, which is no error.
        sidecar.init(&cleanup);
    }
}

#[test]
fn a_dry_run_prints_what_would_be_done_and_does_nothing() {
    let said = |flags: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_periplus"))
            .args(["proxy-init", "--dry-run", "-m", "TPROXY"])
            .args(flags)
            .env("PATH", "/nonexistent")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let one = said(&["--ipv6", "never"]);
    assert!(
        one.starts_with("# iptables-restore --noflush\n*mangle\n"),
        "{one}"
    );
    assert!(
        one.contains("\n# ip -4 rule add fwmark 1337 lookup 133\n"),
        "{one}"
    );
    assert!(!one.contains("ip6tables"), "{one}");
    let both = said(&["--ipv6", "always"]);
    assert!(both.starts_with(&one), "{both}");
    assert!(both.contains("\n# ip6tables-restore --noflush\n"), "{both}");
    assert!(
        both.contains("\n# ip -6 addr add ::6/128 dev lo\n"),
        "{both}"
    );
}

#[test]
fn what_is_missing_is_said() {
    let run = |path: &str, flags: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_periplus"))
            .arg("proxy-init")
            .args(flags)
            .env("PATH", path)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run("/nonexistent", &[]);
    assert!(said.contains("install the package iptables"), "{said}");
    let said = run("/nonexistent", &["--native-nftables"]);
    assert!(said.contains("install the package nftables"), "{said}");
    let said = run("/nonexistent", &["--capture-all-dns"]);
    assert!(said.contains("--redirect-dns"), "{said}");
    let said = run(
        "/nonexistent",
        &["--redirect-dns", "--resolv-conf", "/dev/null"],
    );
    assert!(said.contains("/dev/null names no server"), "{said}");
    assert!(said.contains("--capture-all-dns"), "{said}");
    let said = run("/nonexistent", &["-x", "10.0.0.0"]);
    assert!(said.contains("--istio-service-exclude-cidr"), "{said}");
    assert!(said.contains("ADDRESS/LENGTH"), "{said}");
    let Some(world) = World::new() else {
        return;
    };
    let output = world
        .command_as(65534, env!("CARGO_BIN_EXE_periplus"))
        .args(["proxy-init", "--ipv6", "never"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("NET_ADMIN"), "{said}");
}
