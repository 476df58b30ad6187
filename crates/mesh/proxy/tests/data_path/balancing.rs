//! Load balancing on the wire: hash policies, subsets, dropped requests, panic.

use std::time::Duration;

use periplus_proxy::snapshot::{
    Balancing, Cluster, Cookie, Endpoint, Fallback, Forward, HashPolicy, HashSource, HostStatus,
    PeakEwma, RouteAction, Selector, Subsets, WeightedCluster,
};

use crate::support::config::{Mesh, cluster};
use crate::support::origin::ok;
use crate::support::{Client, Config, Origin, pause, route};

const MAGLEV: Balancing = Balancing::Maglev { table_size: 1009 };

fn origins(n: usize) -> Vec<Origin> {
    (0..n).map(|_| Origin::saying("fine")).collect()
}

fn to_all(origins: &[Origin], balancing: Balancing) -> Cluster {
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    Cluster {
        balancing,
        ..cluster("app", &addresses)
    }
}

fn mesh(app: Cluster, origin: &Origin, forward: Forward) -> Mesh {
    let mut config = Config::to(origin);
    config.clusters = vec![app];
    config.routes = vec![route("/", RouteAction::Forward(forward))];
    config.start()
}

fn by(sources: Vec<(HashSource, bool)>) -> Forward {
    let policy = |(source, is_terminal)| HashPolicy {
        source,
        is_terminal,
    };
    Forward {
        hash_policies: sources.into_iter().map(policy).collect(),
        ..Forward::to("app")
    }
}

/// How many requests each origin has got since the last time.
fn taken(origins: &[Origin], before: &mut Vec<usize>) -> Vec<usize> {
    let now: Vec<_> = origins
        .iter()
        .map(|origin| origin.received().len())
        .collect();
    before.resize(now.len(), 0);
    let new = now
        .iter()
        .zip(before.iter())
        .map(|(now, before)| now - before)
        .collect();
    *before = now;
    new
}

/// Sends the same request several times and tells who got it; it must always be the same.
fn owner(client: &mut Client, origins: &[Origin], head: &str) -> usize {
    let mut before = Vec::new();
    taken(origins, &mut before);
    for _ in 0..4 {
        assert_eq!(client.exchange(head).status, 200);
    }
    let new = taken(origins, &mut before);
    let owner = new.iter().position(|count| *count == 4);
    owner.unwrap_or_else(|| panic!("the requests were spread: {new:?}"))
}

#[test]
fn requests_of_one_key_stay_together() {
    for balancing in [MAGLEV, Balancing::RingHash(Default::default())] {
        let origins = origins(4);
        let sources = vec![
            (HashSource::Header("x-user".into()), true),
            (HashSource::QueryParameter("user".into()), false),
        ];
        let mesh = mesh(to_all(&origins, balancing), &origins[0], by(sources));
        let mut client = mesh.client();
        let mut owners = Vec::new();
        for user in 0..12 {
            let of_header = format!("GET /?user=9 HTTP/1.1\r\nhost: h\r\nx-user: {user}\r\n\r\n");
            let by_header = owner(&mut client, &origins, &of_header);
            let of_query = format!("GET /?a=b&user={user} HTTP/1.1\r\nhost: h\r\n\r\n");
            assert_eq!(
                owner(&mut client, &origins, &of_query),
                by_header,
                "the same hash"
            );
            owners.push(by_header);
        }
        owners.sort_unstable();
        owners.dedup();
        assert!(owners.len() > 1, "all keys at one endpoint");
    }
}

#[test]
fn a_client_without_a_cookie_gets_one_and_stays() {
    let origins = origins(4);
    let cookie = HashSource::Cookie(Cookie {
        name: "place".into(),
        ttl: Some(Duration::from_secs(60)),
        path: "/x".into(),
        attributes: vec![("SameSite".into(), "Lax".into())],
    });
    let mesh = mesh(
        to_all(&origins, MAGLEV),
        &origins[0],
        by(vec![(cookie, false)]),
    );
    let mut before = Vec::new();
    for _ in 0..4 {
        let mut client = mesh.client();
        taken(&origins, &mut before);
        let first = client.get("/");
        let set = first.header("set-cookie").expect("a cookie");
        let value = set
            .strip_prefix("place=\"")
            .and_then(|rest| rest.split_once('"'));
        let (value, rest) = value.expect("a quoted value");
        assert_eq!(rest, "; Max-Age=60; Path=/x; SameSite=Lax; HttpOnly");
        let was = taken(&origins, &mut before);
        let mut other = mesh.client();
        let head = format!("GET / HTTP/1.1\r\nhost: h\r\ncookie: a=b; place=\"{value}\"\r\n\r\n");
        let owner = owner(&mut other, &origins, &head);
        assert_eq!(was[owner], 1, "the endpoint of the first request");
        assert_eq!(other.exchange(&head).header("set-cookie"), None);
    }
}

#[test]
fn subsets_serve_their_routes() {
    let origins = origins(3);
    let label = |value: &str| vec![("version".to_owned(), format!("{value:?}"))];
    let mut app = to_all(&origins, Balancing::RoundRobin);
    for (endpoint, version) in app.endpoints.iter_mut().zip(["v1", "v1", "v2"]) {
        endpoint.labels = label(version);
    }
    app.spread.subsets = Some(Subsets {
        selectors: vec![Selector {
            keys: vec!["version".into()],
            fallback: None,
        }],
        fallback: Fallback::None,
        ..Subsets::default()
    });
    let to = |version: &str| {
        RouteAction::Forward(Forward {
            clusters: vec![WeightedCluster {
                labels: label(version),
                ..WeightedCluster::new("app", 1)
            }],
            ..Forward::to("app")
        })
    };
    let mut config = Config::to(&origins[0]);
    config.clusters = vec![app];
    config.routes = vec![
        route("/v1", to("v1")),
        route("/v2", to("v2")),
        route("/v3", to("v3")),
    ];
    let mesh = config.start();
    let mut client = mesh.client();
    for _ in 0..4 {
        assert_eq!(client.get("/v1").status, 200);
        assert_eq!(client.get("/v2").status, 200);
    }
    let none = client.get("/v3");
    assert_eq!(
        (none.status, none.text()),
        (503, "no healthy upstream".into())
    );
    let counts: Vec<_> = origins
        .iter()
        .map(|origin| origin.received().len())
        .collect();
    assert_eq!(counts, [2, 2, 4]);
    assert_eq!(mesh.stat("cluster.app.lb_subsets_selected"), 8);
}

#[test]
fn the_control_plane_may_want_requests_dropped() {
    let origins = origins(1);
    let mut app = to_all(&origins, Balancing::RoundRobin);
    app.spread.drops_per_million = 500_000;
    let mut mesh = mesh(app, &origins[0], Forward::to("app"));
    let mut client = mesh.client();
    let dropped = (0..200).filter(|_| client.get("/").status == 503).count();
    assert!((60..140).contains(&dropped), "{dropped} of 200");
    assert_eq!(
        mesh.stat("cluster.app.upstream_rq_drop_overload"),
        dropped as u64
    );
    mesh.config.clusters[0].spread.drops_per_million = 1_000_000;
    mesh.publish();
    assert_eq!(client.get("/").text(), "unconditional drop overload");
}

#[test]
fn unhealthy_endpoints_serve_in_panic_only() {
    let origins = origins(4);
    let mut app = to_all(&origins, Balancing::RoundRobin);
    for endpoint in &mut app.endpoints[2..] {
        endpoint.status = HostStatus::Unhealthy;
    }
    let mut mesh = mesh(app, &origins[0], Forward::to("app"));
    let mut client = mesh.client();
    let mut before = Vec::new();
    let mut spread = |client: &mut Client| {
        for _ in 0..8 {
            assert_eq!(client.get("/").status, 200);
        }
        taken(&origins, &mut before)
    };
    assert_eq!(spread(&mut client), [4, 4, 0, 0]);
    assert_eq!(mesh.stat("cluster.app.membership_healthy"), 2);
    assert_eq!(mesh.stat("cluster.app.lb_healthy_panic"), 0);
    mesh.config.clusters[0].endpoints[1].status = HostStatus::Unhealthy;
    mesh.publish();
    assert_eq!(spread(&mut client), [2; 4]);
    assert_eq!(mesh.stat("cluster.app.lb_healthy_panic"), 8);
    // Another priority helps out before there is panic.
    let other = Origin::saying("other");
    mesh.config.clusters[0].endpoints.push(Endpoint {
        priority: 1,
        ..Endpoint::new(other.address)
    });
    mesh.publish();
    for _ in 0..100 {
        assert_eq!(client.get("/").status, 200);
    }
    let others = other.received().len();
    assert!((45..85).contains(&others), "65 are expected: {others}");
}

#[test]
fn tcp_connections_of_one_address_stay_together() {
    let origins = origins(4);
    let mut config = Config::to(&origins[0]).tcp(|proxy| proxy.hashes_source = true);
    config.clusters = vec![to_all(&origins, MAGLEV)];
    let mesh = config.start();
    for _ in 0..6 {
        let mut client = mesh.client();
        assert_eq!(client.get("/").status, 200);
    }
    let mut counts: Vec<_> = origins
        .iter()
        .map(|origin| origin.received().len())
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 0, 6]);
}

#[test]
fn the_faster_endpoint_gets_most_of_the_requests() {
    let fast = Origin::saying("fast");
    let slow = Origin::new(|_| {
        pause(Duration::from_millis(30));
        Some(ok("slow"))
    });
    let origins = [fast, slow];
    let app = to_all(&origins, Balancing::PeakEwma(PeakEwma::default()));
    let mesh = mesh(app, &origins[0], Forward::to("app"));
    let mut client = mesh.client();
    for _ in 0..60 {
        assert_eq!(client.get("/").status, 200);
    }
    let of_slow = origins[1].received().len();
    assert!(of_slow <= 3, "{of_slow} of 60");
}
