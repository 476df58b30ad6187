//! The server's side of both forms of the protocol, seen from the wire.

#[path = "support/opaque.rs"]
mod opaque;
mod support;

use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::rpc;
use opaque::{contents, node, snapshot};
use periplus_xds::Snapshot;
use periplus_xds::server::Limits;
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use support::{Fixed, PATIENCE, Running, eventually};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// A client that says exactly what the test tells it to.
struct Wire {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Wire {
    async fn open(server: &Running, first: DiscoveryRequest) -> Result<Self, Status> {
        let endpoint = format!("http://{}", server.address);
        let mut client = AggregatedDiscoveryServiceClient::connect(endpoint)
            .await
            .expect("connect");
        let (requests, outgoing) = mpsc::channel(16);
        requests.send(first).await.expect("room");
        let responses = client
            .stream_aggregated_resources(ReceiverStream::new(outgoing))
            .await?;
        Ok(Self {
            requests,
            responses: responses.into_inner(),
        })
    }

    async fn send(&self, request: DiscoveryRequest) {
        self.requests
            .send(request)
            .await
            .expect("the stream is open");
    }

    async fn receive(&mut self) -> DiscoveryResponse {
        self.try_receive()
            .await
            .expect("no error")
            .expect("a response")
    }

    async fn try_receive(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        timeout(PATIENCE, self.responses.message())
            .await
            .expect("in time")
    }

    async fn ack(&self, response: &DiscoveryResponse, names: &[&str]) {
        self.send(DiscoveryRequest {
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            ..ask(&response.type_url, names)
        })
        .await;
    }

    async fn nack(&self, response: &DiscoveryResponse, names: &[&str], message: &str) {
        self.send(DiscoveryRequest {
            response_nonce: response.nonce.clone(),
            error_detail: Some(rpc::Status {
                code: 3,
                message: message.to_owned(),
                details: Vec::new(),
            }),
            ..ask(&response.type_url, names)
        })
        .await;
    }
}

fn ask(type_url: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DiscoveryRequest::default()
    }
}

fn hello(id: &str, type_url: &str, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(node(id)),
        ..ask(type_url, names)
    }
}

fn world(cluster: &str, endpoint: &str, listener: &str, route: &str) -> Snapshot {
    snapshot(&[
        (CLUSTER, &[("c", cluster)]),
        (ENDPOINT, &[("c", endpoint)]),
        (LISTENER, &[("l", listener)]),
        (ROUTE, &[("r", route)]),
    ])
}

/// Subscribes to all four types and acknowledges the first response of each.
async fn subscribed(server: &Running, id: &str) -> Wire {
    let mut wire = Wire::open(server, hello(id, CLUSTER, &[]))
        .await
        .expect("open");
    for (type_url, names) in [
        (CLUSTER, [].as_slice()),
        (ENDPOINT, &["c"]),
        (LISTENER, &[]),
        (ROUTE, &["r"]),
    ] {
        if type_url != CLUSTER {
            wire.send(ask(type_url, names)).await;
        }
        let response = wire.receive().await;
        assert_eq!(response.type_url, type_url);
        wire.ack(&response, names).await;
    }
    settle(server, id).await;
    wire
}

/// Waits until the proxy acknowledged all that it was sent.
async fn settle(server: &Running, id: &str) {
    eventually("the proxy to be in sync", || {
        let proxies = server.ads.proxies();
        let proxy = proxies.iter().find(|proxy| proxy.node.id == id)?;
        proxy
            .types
            .values()
            .all(|t| t.acked_nonce == t.sent_nonce)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn changed_types_are_pushed_in_order_and_the_others_not_at_all() {
    let source = Fixed::new(world("c1", "e1", "l1", "r1"));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let mut wire = subscribed(&server, "a").await;

    source.set(world("c2", "e2", "l2", "r2"));
    for (expected, names) in [
        ("c2", [].as_slice()),
        ("e2", &["c"]),
        ("l2", &[]),
        ("r2", &["r"]),
    ] {
        let response = wire.receive().await;
        assert_eq!(contents(&response.resources), [expected]);
        assert!(!response.nonce.is_empty());
        if expected == "e2" {
            // A request for more endpoints that crossed this response would count as stale.
            wire.ack(&response, names).await;
            // The changed cluster asks for its endpoints again.
            let again = wire.receive().await;
            assert_eq!(contents(&again.resources), [expected]);
            wire.ack(&again, names).await;
        } else {
            wire.ack(&response, names).await;
        }
    }

    source.set(world("c2", "e2", "l2", "r3"));
    let response = wire.receive().await;
    assert_eq!(contents(&response.resources), ["r3"]);
    server.stop().await;
}

#[tokio::test]
async fn a_slow_client_gets_the_newest_state_and_not_the_states_between() {
    let source = Fixed::new(world("c", "e", "l", "r0"));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let mut wire = subscribed(&server, "slow").await;

    // Routes of 1 MB each fill the transport's window, so that nothing more goes out unread.
    for round in 1..=50 {
        let route = format!("r{round}{}", "x".repeat(1 << 20));
        source.set(world("c", "e", "l", &route));
        tokio::task::yield_now().await;
    }
    let mut received = 0;
    loop {
        let response = wire.receive().await;
        received += 1;
        wire.ack(&response, &["r"]).await;
        if contents(&response.resources)[0].starts_with("r50") {
            break;
        }
    }
    assert!(received < 50, "all {received} states were sent");
    server.stop().await;
}

#[tokio::test]
async fn routes_wait_until_new_clusters_have_their_endpoints() {
    let source = Fixed::new(world("c1", "e1", "l1", "to c"));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let mut wire = subscribed(&server, "a").await;

    source.set(snapshot(&[
        (CLUSTER, &[("c", "c1"), ("d", "d1")]),
        (ENDPOINT, &[("c", "e1"), ("d", "e2")]),
        (LISTENER, &[("l", "l1")]),
        (ROUTE, &[("r", "to d")]),
    ]));
    let clusters = wire.receive().await;
    assert_eq!(contents(&clusters.resources), ["c1", "d1"]);
    let nonce = server.ads.proxies()[0].types[ENDPOINT].sent_nonce.clone();
    wire.send(DiscoveryRequest {
        response_nonce: nonce,
        ..ask(ENDPOINT, &["c", "d"])
    })
    .await;
    let endpoints = wire.receive().await;
    assert_eq!(contents(&endpoints.resources), ["e1", "e2"]);
    wire.ack(&clusters, &[]).await;
    let early = timeout(Duration::from_millis(100), wire.responses.message()).await;
    assert!(
        early.is_err(),
        "the endpoints are not acknowledged: {early:?}"
    );
    wire.ack(&endpoints, &["c", "d"]).await;
    assert_eq!(contents(&wire.receive().await.resources), ["to d"]);
    server.stop().await;
}

#[tokio::test]
async fn routes_do_not_wait_for_ever() {
    let source = Fixed::new(world("c1", "e1", "l1", "r1"));
    let limits = Limits {
        warm_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = Running::start(source.clone(), limits, None).await;
    let mut wire = subscribed(&server, "a").await;
    source.set(world("c2", "e1", "l1", "r2"));
    assert_eq!(contents(&wire.receive().await.resources), ["c2"]);
    assert_eq!(contents(&wire.receive().await.resources), ["r2"]);
    server.stop().await;
}

#[tokio::test]
async fn clusters_that_go_stay_until_the_routes_that_named_them_are_replaced() {
    let source = Fixed::new(world("c1", "e1", "l1", "to c"));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let mut wire = subscribed(&server, "a").await;

    source.set(snapshot(&[
        (CLUSTER, &[("d", "d1")]),
        (ENDPOINT, &[("d", "e1")]),
        (LISTENER, &[("l", "l1")]),
        (ROUTE, &[("r", "to d")]),
    ]));
    let both = wire.receive().await;
    assert_eq!(contents(&both.resources), ["c1", "d1"]);
    wire.ack(&both, &[]).await;
    let routes = wire.receive().await;
    assert_eq!(contents(&routes.resources), ["to d"]);
    wire.ack(&routes, &["r"]).await;
    let one = wire.receive().await;
    assert_eq!(contents(&one.resources), ["d1"]);
    server.stop().await;
}

/// A client that does not accept the newest routes runs on others, whose clusters it keeps for as long as that is so;
/// of what comes and goes meanwhile it keeps the newest.
#[tokio::test]
async fn clusters_of_routes_that_are_kept_stay_and_those_between_are_bounded() {
    for refuses in [true, false] {
        let source = Fixed::new(world("c1", "e1", "l1", "to c"));
        let limits = Limits {
            max_retired: 2,
            ..Limits::default()
        };
        let server = Running::start(source.clone(), limits, None).await;
        let mut wire = subscribed(&server, "a").await;

        let mut has = Vec::new();
        let mut route = None;
        for n in 1..=5 {
            let (cluster, route_to) = (format!("d{n}"), format!("to d{n}"));
            source.set(snapshot(&[
                (CLUSTER, &[(&*cluster, &*cluster)]),
                (LISTENER, &[("l", "l1")]),
                (ROUTE, &[("r", &*route_to)]),
            ]));
            let clusters = wire.receive().await;
            assert_eq!(clusters.type_url, CLUSTER);
            has = contents(&clusters.resources);
            wire.ack(&clusters, &[]).await;
            let routes = wire.receive().await;
            assert_eq!(contents(&routes.resources), [route_to]);
            if refuses {
                wire.nack(&routes, &["r"], "no").await;
            }
            route = Some(routes);
        }
        // c, which the first routes name; the newest two of those between; what there is.
        assert_eq!(has, ["c1", "d3", "d4", "d5"], "refuses: {refuses}");
        assert_eq!(server.ads.counters().clusters_let_go, 2);

        // Nothing goes until it accepts something.
        let early = timeout(Duration::from_millis(100), wire.responses.message()).await;
        assert!(early.is_err(), "{early:?}");
        if !refuses {
            wire.ack(&route.expect("routes"), &["r"]).await;
            assert_eq!(contents(&wire.receive().await.resources), ["d5"]);
        }
        server.stop().await;
    }
}

/// A client that answers pings and reads nothing: its window fills, and its stream is not kept for ever.
#[tokio::test]
async fn a_stream_of_which_nobody_reads_is_given_up() {
    let large = "x".repeat(1 << 20);
    let content = |n: u32| format!("{n}{large}");
    let source = Fixed::new(world(&content(0), "e", "l", "r"));
    let limits = Limits {
        write_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let server = Running::start(source.clone(), limits, None).await;
    let wire = Wire::open(&server, hello("deaf", CLUSTER, &[]))
        .await
        .expect("open");
    let given_up = || server.ads.counters().write_timeouts;
    let mut n = 0;
    eventually("the stream to be given up", || {
        n += 1;
        source.set(world(&content(n), "e", "l", "r"));
        (given_up() == 1).then_some(())
    })
    .await;
    eventually("it to be gone", || {
        server.ads.proxies().is_empty().then_some(())
    })
    .await;
    drop(wire);
    server.stop().await;
}

#[tokio::test]
async fn the_books_show_who_has_what_and_who_refused_what() {
    let source = Fixed::new(world("c1", "e1", "l1", "r1"));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let mut wire = subscribed(&server, "sidecar~a").await;

    source.set(world("c1", "e1", "l1", "r2"));
    let response = wire.receive().await;
    wire.nack(&response, &["r"], "route \"r\": bad").await;
    let refused = eventually("the refusal", || {
        let proxy = server.ads.proxies().pop()?;
        proxy.types[ROUTE].last_error.is_some().then_some(proxy)
    })
    .await;
    assert_eq!(refused.node.id, "sidecar~a");
    assert!(refused.peer.is_some());
    let routes = &refused.types[ROUTE];
    assert_eq!(routes.names, Some(1));
    assert_eq!(routes.sent_nonce, response.nonce);
    assert_eq!(routes.sent_version, response.version_info);
    assert_ne!(routes.acked_nonce, response.nonce);
    let nack = routes.last_error.as_ref().expect("refused");
    assert_eq!(
        (nack.nonce.as_str(), nack.message.as_str()),
        (&*response.nonce, "route \"r\": bad")
    );
    assert_eq!(refused.types[LISTENER].names, None);

    source.set(world("c1", "e1", "l1", "r3"));
    let response = wire.receive().await;
    wire.ack(&response, &["r"]).await;
    eventually("the refusal to be forgotten", || {
        let proxy = server.ads.proxies().pop()?;
        proxy.types[ROUTE].last_error.is_none().then_some(())
    })
    .await;
    assert_eq!(server.ads.counters().nacks, 1);
    assert_eq!(server.ads.counters().streams, 1);

    drop(wire);
    eventually("the proxy to be gone", || {
        server.ads.proxies().is_empty().then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn bad_streams_are_ended_with_a_reason() {
    let source = Fixed::new(world("c", "e", "l", "r"));
    let limits = Limits {
        max_names: 2,
        max_types: 2,
        max_name_bytes: 200,
        max_node_bytes: 300,
        ..Limits::default()
    };
    let server = Running::start(source, limits, None).await;
    let long = "x".repeat(201);

    let no_id = hello("", CLUSTER, &[]);
    let no_node = ask(CLUSTER, &[]);
    let refused = hello("refused", CLUSTER, &[]);
    let many = hello("many", ENDPOINT, &["a", "b", "c"]);
    let long_name = hello("long", ENDPOINT, &[&long]);
    let large_node = hello(&"x".repeat(301), CLUSTER, &[]);
    for (request, code, text) in [
        (no_id, Code::InvalidArgument, "node with an id"),
        (no_node, Code::InvalidArgument, "node with an id"),
        (refused, Code::FailedPrecondition, "its name is on the list"),
        (many, Code::ResourceExhausted, "the limit is 2"),
        (
            long_name,
            Code::ResourceExhausted,
            "201 bytes, the limit is 200",
        ),
        (large_node, Code::ResourceExhausted, "the limit is 300"),
    ] {
        let mut wire = Wire::open(&server, request).await.expect("open");
        let status = wire.try_receive().await.expect_err("an error");
        assert_eq!(status.code(), code);
        assert!(status.message().contains(text), "{}", status.message());
    }

    let mut wire = Wire::open(&server, hello("types", CLUSTER, &[]))
        .await
        .expect("open");
    wire.send(ask(LISTENER, &[])).await;
    wire.send(ask(ROUTE, &["r"])).await;
    let status = loop {
        if let Err(status) = wire.try_receive().await {
            break status;
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    server.stop().await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_room_comes_back() {
    let source = Fixed::new(world("c", "e", "l", "r"));
    let limits = Limits {
        max_streams: 1,
        ..Limits::default()
    };
    let server = Running::start(source, limits, None).await;
    let mut first = Wire::open(&server, hello("first", CLUSTER, &[]))
        .await
        .expect("open");
    first.receive().await;

    let Err(status) = Wire::open(&server, hello("second", CLUSTER, &[])).await else {
        panic!("two streams although one is the limit");
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(server.ads.counters().streams_refused, 1);

    drop(first);
    eventually("the first to be gone", || {
        server.ads.proxies().is_empty().then_some(())
    })
    .await;
    let mut third = loop {
        // The permit goes back a moment after the entry.
        if let Ok(wire) = Wire::open(&server, hello("third", CLUSTER, &[])).await {
            break wire;
        }
    };
    third.receive().await;
    server.stop().await;
}

#[tokio::test]
async fn new_streams_have_a_rate() {
    let limits = Limits {
        max_new_streams: (1, 2),
        ..Limits::default()
    };
    let server = Running::start(Fixed::new(world("c", "e", "l", "r")), limits, None).await;
    let mut refused = 0;
    for _ in 0..5 {
        if let Err(status) = Wire::open(&server, hello("one", CLUSTER, &[])).await {
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert!(status.message().contains("each second"), "{status}");
            refused += 1;
        }
    }
    assert!((2..=3).contains(&refused), "{refused}");
    assert_eq!(server.ads.counters().streams_refused, refused);
    server.stop().await;
}

/// A client of the incremental form.
struct DeltaWire {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl DeltaWire {
    async fn open(server: &Running) -> Self {
        let endpoint = format!("http://{}", server.address);
        let mut client = AggregatedDiscoveryServiceClient::connect(endpoint)
            .await
            .expect("connect");
        let (requests, outgoing) = mpsc::channel(16);
        let outgoing = ReceiverStream::new(outgoing);
        let responses = client.delta_aggregated_resources(outgoing).await;
        Self {
            requests,
            responses: responses.expect("a stream").into_inner(),
        }
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests
            .send(request)
            .await
            .expect("the stream is open");
    }

    /// Names of what came and, behind a `-`, of what has gone; acknowledges it.
    async fn take(&mut self) -> (Vec<String>, DeltaDiscoveryResponse) {
        let response = timeout(PATIENCE, self.responses.message()).await;
        let response = response.expect("in time").expect("no error");
        let response = response.expect("a response");
        let came = response.resources.iter().map(|it| it.name.clone());
        let gone = response.removed_resources.iter().map(|it| format!("-{it}"));
        let names = came.chain(gone).collect();
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        })
        .await;
        (names, response)
    }
}

fn want(type_url: &str, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(node("delta")),
        type_url: type_url.to_owned(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

#[tokio::test]
async fn the_incremental_form_sends_what_has_changed_and_to_who_comes_back_too() {
    let clusters = |d: &[(&str, &str)]| {
        let clusters: Vec<_> = [("c", "c1")].into_iter().chain(d.iter().copied()).collect();
        snapshot(&[
            (CLUSTER, &clusters),
            (ENDPOINT, &[("c", "e1"), ("d", "e1")]),
            (LISTENER, &[("l", "l1")]),
            (ROUTE, &[("r", if d.is_empty() { "to c" } else { "to d" })]),
        ])
    };
    let source = Fixed::new(clusters(&[("d", "d1")]));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let mut wire = DeltaWire::open(&server).await;
    let mut held = Vec::new();
    for (type_url, names, expected) in [
        (CLUSTER, [].as_slice(), ["c", "d"].as_slice()),
        (ENDPOINT, &["c", "d"], &["c", "d"]),
        (LISTENER, &[], &["l"]),
        (ROUTE, &["r"], &["r"]),
    ] {
        wire.send(want(type_url, names)).await;
        let (came, response) = wire.take().await;
        assert_eq!(came, expected);
        held.push((type_url, names, response.resources));
    }
    settle(&server, "delta").await;

    // One cluster goes: not before the route that names it is replaced.
    source.set(clusters(&[]));
    assert_eq!(wire.take().await.0, ["r"]);
    assert_eq!(wire.take().await.0, ["-d"]);
    settle(&server, "delta").await;
    // It comes back changed, and gets its endpoints once more; nothing else is sent.
    source.set(clusters(&[("d", "d2")]));
    assert_eq!(wire.take().await.0, ["d"]);
    let (came, endpoints) = wire.take().await;
    assert_eq!(
        (came, &*endpoints.type_url),
        (vec!["d".to_owned()], ENDPOINT)
    );
    assert_eq!(wire.take().await.0, ["r"]);

    // Another stream of the same proxy, which says what it holds: one cluster is another one by now, and waits for
    // its endpoints though they are the same.
    drop(wire);
    let mut wire = DeltaWire::open(&server).await;
    for ((type_url, names, resources), expected) in
        held.into_iter().zip([["d"].as_slice(), &["d"], &[], &[]])
    {
        let versions = resources.into_iter().map(|it| (it.name, it.version));
        wire.send(DeltaDiscoveryRequest {
            initial_resource_versions: versions.collect(),
            ..want(type_url, names)
        })
        .await;
        let (came, response) = wire.take().await;
        assert_eq!(came, expected, "{}", response.type_url);
    }
    let counters = server.ads.counters();
    assert_eq!((counters.nacks, counters.stale_nonces), (0, 0));
    server.stop().await;
}

/// A state in which this cluster is all there is.
fn only(cluster: &str) -> Snapshot {
    snapshot(&[
        (CLUSTER, &[(cluster, "1")]),
        (ENDPOINT, &[("c", "e1"), ("d", "e1")]),
        (LISTENER, &[("l", "l1")]),
        (ROUTE, &[("r", cluster)]),
    ])
}

/// The routes of a client that comes back name clusters that have gone meanwhile.
#[tokio::test]
async fn who_comes_back_keeps_clusters_until_it_has_other_routes() {
    let source = Fixed::new(only("d"));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let mut held: Vec<Vec<(String, String)>> = vec![Vec::new(); 4];
    for expected in [["d", "d", "l", "r"], ["c", "", "", "r"]] {
        let mut wire = DeltaWire::open(&server).await;
        let types = [
            (CLUSTER, [].as_slice()),
            (ENDPOINT, &["d"]),
            (LISTENER, &[]),
            (ROUTE, &["r"]),
        ];
        for (((type_url, names), held), expected) in types.into_iter().zip(&mut held).zip(expected)
        {
            wire.send(DeltaDiscoveryRequest {
                initial_resource_versions: held.iter().cloned().collect(),
                ..want(type_url, names)
            })
            .await;
            let (came, response) = wire.take().await;
            assert_eq!(came.join(" "), expected, "{type_url}");
            held.extend(
                response
                    .resources
                    .into_iter()
                    .map(|it| (it.name, it.version)),
            );
        }
        if expected[0] == "c" {
            assert_eq!(wire.take().await.0, ["-d"]);
        }
        drop(wire);
        source.set(only("c"));
    }
    server.stop().await;
}

/// The other form does not say what a client holds: what it was sent before counts, unless it has just begun.
#[tokio::test]
async fn who_comes_back_in_the_other_form_keeps_clusters_too() {
    for (goes_on, is_known) in [(true, true), (false, true), (true, false)] {
        let source = Fixed::new(only("d"));
        let mut limits = Limits::default();
        if !is_known {
            limits.left_timeout = Duration::ZERO;
        }
        let server = Running::start(source.clone(), limits, None).await;
        let types = [
            (CLUSTER, [].as_slice(), "1"),
            (ENDPOINT, &["d"], "e1"),
            (LISTENER, &[], "l1"),
            (ROUTE, &["r"], "d"),
        ];
        let first = Wire::open(&server, hello("back", CLUSTER, &[]));
        let mut wire = first.await.expect("open");
        let mut versions = Vec::new();
        for (type_url, names, expected) in types {
            if type_url != CLUSTER {
                wire.send(ask(type_url, names)).await;
            }
            let response = wire.receive().await;
            assert_eq!(contents(&response.resources), [expected], "{type_url}");
            wire.ack(&response, names).await;
            versions.push(response.version_info);
        }
        settle(&server, "back").await;
        drop(wire);
        eventually("the stream to end", || {
            server.ads.proxies().is_empty().then_some(())
        })
        .await;
        source.set(only("c"));

        let mut last = versions.into_iter();
        let mut next = || last.next().filter(|_| goes_on).unwrap_or_default();
        let first = DiscoveryRequest {
            version_info: next(),
            ..hello("back", CLUSTER, &[])
        };
        let mut wire = Wire::open(&server, first).await.expect("open");
        let response = wire.receive().await;
        let keeps = goes_on && is_known;
        assert_eq!(
            response.resources.len(),
            if keeps { 2 } else { 1 },
            "{goes_on} {is_known}"
        );
        wire.ack(&response, &[]).await;
        for (type_url, names, _) in &types[1..] {
            wire.send(DiscoveryRequest {
                version_info: next(),
                ..ask(type_url, names)
            })
            .await;
            let response = wire.receive().await;
            assert_eq!(response.type_url, *type_url);
            wire.ack(&response, names).await;
        }
        if keeps {
            let response = wire.receive().await;
            assert_eq!(
                (&*response.type_url, response.resources.len()),
                (CLUSTER, 1)
            );
        }
        server.stop().await;
    }
}

/// The same where they go before it has asked about its routes; who asks about none loses them all the same.
#[tokio::test]
async fn clusters_that_go_while_a_client_comes_back_stay_for_a_time() {
    for has_routes in [true, false] {
        let source = Fixed::new(only("d"));
        let mut limits = Limits::default();
        if !has_routes {
            limits.warm_timeout = Duration::from_millis(50);
        }
        let server = Running::start(source.clone(), limits, None).await;
        let mut wire = DeltaWire::open(&server).await;
        wire.send(want(CLUSTER, &[])).await;
        let (_, held) = wire.take().await;
        drop(wire);
        let mut wire = DeltaWire::open(&server).await;
        let versions = held.resources.into_iter().map(|it| (it.name, it.version));
        wire.send(DeltaDiscoveryRequest {
            initial_resource_versions: versions.collect(),
            ..want(CLUSTER, &[])
        })
        .await;
        assert_eq!(wire.take().await.0, [""; 0]);
        source.set(only("c"));
        if has_routes {
            assert_eq!(wire.take().await.0, ["c"]);
            wire.send(want(LISTENER, &[])).await;
            assert_eq!(wire.take().await.0, ["l"]);
            wire.send(want(ROUTE, &["r"])).await;
            assert_eq!(wire.take().await.0, ["r"]);
            assert_eq!(wire.take().await.0, ["-d"]);
        } else {
            let mut all = wire.take().await.0;
            if all == ["c"] {
                all.extend(wire.take().await.0);
            }
            assert_eq!(all, ["c", "-d"]);
        }
        server.stop().await;
    }
}

/// A change of something else says nothing about what was refused.
#[tokio::test]
async fn a_refusal_is_seen_until_what_it_was_about_is_taken() {
    let state = |c: &str, d: &str| snapshot(&[(CLUSTER, &[("c", c), ("d", d)])]);
    let source = Fixed::new(state("c1", "d1"));
    let server = Running::start(source.clone(), Limits::default(), None).await;
    let mut wire = DeltaWire::open(&server).await;
    wire.send(want(CLUSTER, &[])).await;
    assert_eq!(wire.take().await.0, ["c", "d"]);
    source.set(state("bad", "d1"));
    let response = wire.responses.message().await.expect("no error");
    wire.send(DeltaDiscoveryRequest {
        type_url: CLUSTER.to_owned(),
        response_nonce: response.expect("a response").nonce,
        error_detail: Some(rpc::Status {
            code: 3,
            message: "no".to_owned(),
            details: Vec::new(),
        }),
        ..DeltaDiscoveryRequest::default()
    })
    .await;
    source.set(state("bad", "d2"));
    assert_eq!(wire.take().await.0, ["d"]);
    settle(&server, "delta").await;
    let refusal = || {
        let proxies = server.ads.proxies();
        let error = proxies[0].types[CLUSTER].last_error.as_ref();
        error.map(|error| error.message.clone())
    };
    assert_eq!(refusal().as_deref(), Some("no"));
    source.set(state("good", "d2"));
    assert_eq!(wire.take().await.0, ["c"]);
    settle(&server, "delta").await;
    assert_eq!(refusal(), None);
    server.stop().await;
}
