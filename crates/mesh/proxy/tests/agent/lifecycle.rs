//! How a proxy ends, and how it does less when there is too much to do.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use periplus_proxy::{Agent, DrainStrategy, Options, bootstrap};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::xds_support::http::{Message, Origin, exchange, get};
use crate::xds_support::resources::{
    a_route, eds_cluster, endpoints, listener, manager, path_prefix, route_configuration,
    to_cluster,
};
use crate::xds_support::{ControlPlane, PATIENCE, free_address};
use crate::{NODE, page};

/// A keep-alive connection.
struct Client(TcpStream);

impl Client {
    async fn connect(at: SocketAddr) -> Self {
        Self(TcpStream::connect(at).await.expect("connects"))
    }

    async fn send(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
        let sent = self.0.write_all(request.as_bytes()).await;
        sent.expect("a request goes out");
    }

    /// The next response, whose body is short; none if the connection is closed instead.
    async fn answer(&mut self) -> Option<Message> {
        let mut text = Vec::new();
        let mut part = [0; 4096];
        loop {
            let read = timeout(PATIENCE, self.0.read(&mut part)).await;
            let count = read.expect("in time").unwrap_or(0);
            text.extend_from_slice(&part[..count]);
            let message = Message::parse(&String::from_utf8_lossy(&text));
            let length = message.header("content-length").map(str::parse);
            if let Some(Ok(length)) = length
                && message.body.len() >= length
            {
                return Some(message);
            }
            if count == 0 {
                return None;
            }
        }
    }

    async fn get(&mut self, path: &str) -> Message {
        self.send(path).await;
        self.answer().await.expect("an answer")
    }

    async fn is_closed(&mut self) -> bool {
        let read = timeout(PATIENCE, self.0.read(&mut [0; 1])).await;
        matches!(read.expect("in time"), Ok(0) | Err(_))
    }
}

struct World {
    agent: Agent,
    admin: SocketAddr,
    inbound: SocketAddr,
    outbound: SocketAddr,
    _plane: ControlPlane,
    _origin: Option<Origin>,
}

impl World {
    /// One listener for each direction, before an origin; `overload` goes into the bootstrap file.
    async fn start(options: Options, overload: Value) -> Self {
        let origin = Origin::start("one").await;
        let mut world = Self::before(origin.address, options, overload, |_| ()).await;
        world._origin = Some(origin);
        world
    }

    /// The same before an endpoint whose cluster `edit` changes.
    async fn before(
        endpoint: SocketAddr,
        options: Options,
        overload: Value,
        edit: impl FnOnce(&mut Cluster),
    ) -> Self {
        let plane = ControlPlane::start().await;
        let (inbound, outbound) = (free_address().await, free_address().await);
        let listeners = [
            ("in", inbound, TrafficDirection::Inbound),
            ("out", outbound, TrafficDirection::Outbound),
        ]
        .map(|(name, at, direction)| {
            Resource::new(name, &listener(name, at, direction, manager("r")))
        });
        let only = |resource: Resource| ResourceSet::from_iter([resource]);
        let to = a_route(path_prefix("/"), to_cluster("c"));
        let world = Snapshot::default()
            .with(CLUSTER, only(eds_cluster("c", edit)))
            .with(ENDPOINT, only(endpoints("c", &[endpoint])))
            .with(LISTENER, ResourceSet::from_iter(listeners))
            .with(ROUTE, only(route_configuration("r", vec![to])));
        plane.worlds.set(NODE, world);
        let text = bootstrap::render(&bootstrap::Spec {
            agent: None,
            node_id: NODE,
            node_cluster: "test.default",
            metadata: &json!({}),
            control_plane: plane.address,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
        });
        let mut file: Value = serde_json::from_str(&text).expect("JSON");
        file["overload_manager"] = overload;
        let bootstrap = bootstrap::parse("test", &file.to_string()).expect("valid");
        let agent = Agent::start(bootstrap, options).await.expect("start");
        agent.ready().await;
        Self {
            admin: agent.admin_address().expect("an admin address"),
            agent,
            inbound,
            outbound,
            _plane: plane,
            _origin: None,
        }
    }

    async fn post(&self, path: &str) -> (u16, String) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let answer = exchange(self.admin, &request).await.expect("an answer");
        (answer.status(), answer.body)
    }

    async fn stat(&self, name: &str) -> Option<u64> {
        let stats = page(self.admin, "/stats").await.body;
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(|value| value.parse().expect("a number"))
    }

    async fn wait_stat(&self, name: &str, value: u64) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let now = self.stat(name).await;
            if now == Some(value) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{name} is {now:?}, not {value}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Waits until nobody listens there.
async fn refuses(at: SocketAddr) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while TcpStream::connect(at).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "{at} still listens");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn drain_time(time: Duration) -> Options {
    Options {
        drain_time: time,
        ..Options::default()
    }
}

fn closes(message: &Message) -> bool {
    message.header("connection") == Some("close")
}

#[tokio::test]
async fn a_graceful_drain_asks_clients_to_go_and_then_closes_the_listeners() {
    let world = World::start(drain_time(Duration::from_millis(500)), json!({})).await;
    let mut inbound = Client::connect(world.inbound).await;
    let mut outbound = Client::connect(world.outbound).await;
    assert!(!closes(&inbound.get("/").await) && !closes(&outbound.get("/").await));
    let refused = world.post("/drain_listeners?skip_exit").await;
    assert_eq!(refused, (400, "skip_exit requires graceful\n".to_owned()));
    let drained = world.post("/drain_listeners?inboundonly&graceful").await;
    assert_eq!(drained, (200, "OK\n".to_owned()));
    // Clients that come now are served, and told to go.
    let mut late = Client::connect(world.inbound).await;
    assert!(closes(&late.get("/").await));
    refuses(world.inbound).await;
    assert!(inbound.is_closed().await);
    assert!(!closes(&outbound.get("/").await));
    let mut other = Client::connect(world.outbound).await;
    assert_eq!(other.get("/").await.status(), 200);
    world.agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_gradual_drain_asks_one_after_the_other() {
    const ALL: usize = 100;
    let options = Options {
        drain_strategy: DrainStrategy::Gradual,
        ..drain_time(Duration::from_secs(10))
    };
    let world = World::start(options, json!({})).await;
    let mut clients = Vec::new();
    for _ in 0..ALL {
        let mut client = Client::connect(world.inbound).await;
        assert!(!closes(&client.get("/").await));
        clients.push(client);
    }
    let drained = world
        .post("/drain_listeners?inboundonly&graceful&skip_exit")
        .await;
    assert_eq!(drained.0, 200);
    let active = "listener.in.downstream_cx_active";
    let left = |left: Option<u64>| left.is_some_and(|left| left < ALL as u64);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !left(world.stat(active).await) {
        assert!(tokio::time::Instant::now() < deadline, "nobody goes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The first have gone, and most are still there, which a drain at once would not leave.
    assert!(world.stat(active).await > Some(ALL as u64 / 4));
    // Whoever comes now is asked some time, too.
    let mut late = Client::connect(world.inbound).await;
    assert!(!closes(&late.get("/").await));
    // The end asks all, gradually within its own time.
    assert_eq!(world.agent.shutdown(Duration::from_secs(3)).await, 0);
    assert!(late.is_closed().await);
}

#[tokio::test]
async fn requests_over_the_limit_are_refused_and_counted() {
    let options = Options {
        workers: 2,
        max_streams: NonZeroUsize::new(2),
        ..Options::default()
    };
    let world = World::start(options, json!({})).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(world.outbound).await;
        client.send("/slow").await;
        slow.push(client);
    }
    world.wait_stat("http.test.downstream_rq_active", 2).await;
    let refused = get(world.inbound, "/").await.expect("an answer");
    assert_eq!(
        (refused.status(), refused.body.as_str()),
        (503, "envoy overloaded")
    );
    let stat = "http.test.downstream_rq_overload_close";
    assert_eq!(world.stat(stat).await, Some(1));
    // Whoever gives up makes room, and whoever was refused has taken none.
    slow.pop();
    world.wait_stat("http.test.downstream_rq_active", 1).await;
    for _ in 0..3 {
        let answer = get(world.outbound, "/").await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(world.stat(stat).await, Some(1));
    world.agent.shutdown(Duration::from_millis(100)).await;
}

/// An endpoint of HTTP/2 that answers with as many bytes as the path says, and never ends.
async fn endless() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let bytes = request.uri().path()[1..].parse().expect("a number");
                    let response = http::Response::new(());
                    let mut send = respond.send_response(response, false).expect("sent");
                    send.send_data(vec![b'x'; bytes].into(), false)
                        .expect("sent");
                    tokio::spawn(async move {
                        // Until the other side has had enough of it.
                        let _ = std::future::poll_fn(|cx| send.poll_reset(cx)).await;
                    });
                }
            });
        }
    });
    address
}

#[expect(deprecated, reason = "the short form does")]
#[tokio::test]
async fn streams_that_hold_much_memory_are_reset_when_it_runs_short() {
    let mut overload = from_two_of_four("reset_high_memory_stream");
    overload["buffer_factory_config"] = json!({"minimum_account_to_track_power_of_two": 16});
    let world = World::before(endless().await, Options::default(), overload, |cluster| {
        cluster.http2_protocol_options = Some(Default::default());
    })
    .await;
    let stream = TcpStream::connect(world.outbound).await.expect("connects");
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(1024)
        .handshake::<_, Bytes>(stream)
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let ask = async |bytes: usize| {
        let mut client = client.clone().ready().await.expect("ready");
        let request = http::Request::get(format!("http://test/{bytes}"));
        let request = request.body(()).expect("valid");
        let (response, _) = client.send_request(request, true).expect("sent");
        let mut body = response.await.expect("a head").into_body();
        let first = body.data().await.expect("some").expect("of the body");
        assert!(!first.is_empty());
        body
    };
    // Neither of them takes more than the first of it.
    let (mut much, mut little) = (ask(500_000).await, ask(5000).await);
    let count = "overload.envoy.overload_actions.reset_high_memory_stream.count";
    assert_eq!(world.stat(count).await, Some(0));
    let another = Client::connect(world.outbound).await;
    world.wait_stat(count, 1).await;
    let end = async |body: &mut h2::RecvStream| loop {
        match timeout(Duration::from_millis(200), body.data()).await {
            Ok(Some(Ok(data))) => body
                .flow_control()
                .release_capacity(data.len())
                .expect("of what came"),
            Ok(Some(Err(error))) => break error.reason(),
            Ok(None) => panic!("a clean end"),
            Err(_) => break None,
        }
    };
    let reset = Some(h2::Reason::ENHANCE_YOUR_CALM);
    assert_eq!(end(&mut much).await, reset);
    assert_eq!(end(&mut little).await, None, "it holds little");
    drop((another, client, much, little));
    world.agent.shutdown(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_drain_that_is_not_graceful_closes_the_listeners_alone() {
    let world = World::start(Options::default(), json!({})).await;
    let mut client = Client::connect(world.outbound).await;
    assert_eq!(client.get("/").await.status(), 200);
    world.post("/drain_listeners").await;
    refuses(world.outbound).await;
    refuses(world.inbound).await;
    assert!(!closes(&client.get("/").await));
    world.agent.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_proxy_that_ends_takes_new_connections_until_the_last_one_has_ended() {
    let world = World::start(Options::default(), json!({})).await;
    let mut slow = Client::connect(world.outbound).await;
    slow.send("/slow").await;
    world.wait_stat("http.test.downstream_rq_active", 1).await;
    let outbound = world.outbound;
    let ends = tokio::spawn(world.agent.shutdown(Duration::from_secs(2)));
    let mut served = 0;
    while served < 6 {
        let mut client = Client::connect(outbound).await;
        // The first ones may have come before the end was asked for.
        served += usize::from(closes(&client.get("/").await));
    }
    let left = ends.await.expect("it ends");
    assert_eq!(left, 1, "the slow one");
    assert!(slow.answer().await.is_none());
    refuses(outbound).await;
}

#[tokio::test]
async fn a_proxy_without_connections_ends_after_the_least_time() {
    for least in [Duration::ZERO, Duration::from_millis(300)] {
        let options = Options {
            min_drain_time: least,
            ..Options::default()
        };
        let world = World::start(options, json!({})).await;
        let begin = std::time::Instant::now();
        assert_eq!(world.agent.shutdown(Duration::from_secs(20)).await, 0);
        assert!(begin.elapsed() >= least && begin.elapsed() < Duration::from_secs(15));
    }
}

/// An action that is due from two connections of four on.
fn from_two_of_four(action: &str) -> Value {
    const CONNECTIONS: &str = "envoy.resource_monitors.global_downstream_max_connections";
    let config = "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig";
    json!({
        "refresh_interval": "0.01s",
        "resource_monitors": [{
            "name": CONNECTIONS,
            "typed_config": {"@type": config, "max_active_downstream_connections": 4},
        }],
        "actions": [{
            "name": format!("envoy.overload_actions.{action}"),
            "triggers": [{"name": CONNECTIONS, "threshold": {"value": 0.5}}],
        }],
    })
}

#[tokio::test]
async fn with_too_much_to_do_less_is_done_and_counted() {
    for action in [
        "stop_accepting_requests",
        "disable_http_keepalive",
        "reject_incoming_connections",
        "stop_accepting_connections",
    ] {
        let world = World::start(Options::default(), from_two_of_four(action)).await;
        let active = format!("overload.envoy.overload_actions.{action}.active");
        world.wait_stat(&active, 0).await;
        let mut first = Client::connect(world.outbound).await;
        assert!(!closes(&first.get("/").await));
        let second = Client::connect(world.outbound).await;
        world.wait_stat(&active, 1).await;
        world
            .wait_stat(
                "overload.envoy.resource_monitors.global_downstream_max_connections.pressure",
                50,
            )
            .await;
        match action {
            "stop_accepting_requests" => {
                let answer = first.get("/").await;
                assert_eq!(
                    (answer.status(), answer.body.as_str()),
                    (503, "envoy overloaded")
                );
                assert!(!closes(&answer));
                assert!(world.stat("http.test.downstream_rq_overload_close").await >= Some(1));
            }
            "disable_http_keepalive" => {
                assert!(closes(&first.get("/").await));
                let stat = "http.test.downstream_cx_overload_disable_keepalive";
                assert!(world.stat(stat).await >= Some(1));
            }
            "reject_incoming_connections" => {
                assert!(Client::connect(world.outbound).await.is_closed().await);
                assert!(
                    world
                        .stat("listener.out.downstream_cx_overload_reject")
                        .await
                        >= Some(1)
                );
            }
            _ => {
                let mut waits = Client::connect(world.outbound).await;
                waits.send("/").await;
                let early = timeout(Duration::from_millis(100), waits.answer()).await;
                assert!(early.is_err(), "{early:?}");
                drop(first);
                assert_eq!(waits.answer().await.expect("an answer").status(), 200);
                world.agent.shutdown(Duration::from_secs(1)).await;
                continue;
            }
        }
        drop((first, second));
        world.wait_stat(&active, 0).await;
        assert_eq!(
            get(world.outbound, "/").await.expect("an answer").status(),
            200
        );
        world.agent.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn the_limit_of_connections_is_that_of_all_workers() {
    let options = Options {
        workers: 2,
        ..Options::default()
    };
    let mut overload = from_two_of_four("stop_accepting_requests");
    overload["actions"] = json!([]);
    let world = World::start(options, overload).await;
    let mut all = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(world.outbound).await;
        assert_eq!(client.get("/").await.status(), 200);
        all.push(client);
    }
    for listener in [world.outbound, world.inbound] {
        assert!(Client::connect(listener).await.is_closed().await);
    }
    for listener in ["out", "in"] {
        let stat = format!("listener.{listener}.downstream_global_cx_overflow");
        assert_eq!(world.stat(&stat).await, Some(1));
    }
    all.pop();
    world
        .wait_stat("listener.out.downstream_cx_active", 3)
        .await;
    assert_eq!(
        get(world.outbound, "/").await.expect("an answer").status(),
        200
    );
    world.agent.shutdown(Duration::from_secs(2)).await;
}
