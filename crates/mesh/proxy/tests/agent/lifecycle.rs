//! How a proxy ends.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use periplus_proxy::{Agent, DrainStrategy, Left, Options, bootstrap};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::xds_support::http::{Message, Origin, exchange};
use crate::xds_support::resources::{
    a_route, eds_cluster, endpoints, listener, manager, path_prefix, route_configuration,
    to_cluster,
};
use crate::xds_support::{ControlPlane, PATIENCE, free_address};
use crate::{NODE, page};

/// A keep-alive connection.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn connect(at: SocketAddr) -> Self {
        Self(TcpStream::connect(at).await.expect("connects"))
    }

    pub(crate) async fn send(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
        let sent = self.0.write_all(request.as_bytes()).await;
        sent.expect("a request goes out");
    }

    /// The next response, whose body is short; none if the connection is closed instead.
    pub(crate) async fn answer(&mut self) -> Option<Message> {
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

    pub(crate) async fn get(&mut self, path: &str) -> Message {
        self.send(path).await;
        self.answer().await.expect("an answer")
    }

    pub(crate) async fn is_closed(&mut self) -> bool {
        let read = timeout(PATIENCE, self.0.read(&mut [0; 1])).await;
        matches!(read.expect("in time"), Ok(0) | Err(_))
    }
}

pub(crate) struct World {
    pub(crate) agent: Agent,
    admin: SocketAddr,
    pub(crate) inbound: SocketAddr,
    pub(crate) outbound: SocketAddr,
    _plane: ControlPlane,
    _origin: Option<Origin>,
}

impl World {
    /// One listener for each direction, before an origin; `overload` goes into the bootstrap file.
    pub(crate) async fn start(options: Options, overload: Value) -> Self {
        let origin = Origin::start("one").await;
        let mut world = Self::before(origin.address, options, overload, |_| ()).await;
        world._origin = Some(origin);
        world
    }

    /// The same before an endpoint whose cluster `edit` changes.
    pub(crate) async fn before(
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

    pub(crate) async fn post(&self, path: &str) -> (u16, String) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let answer = exchange(self.admin, &request).await.expect("an answer");
        (answer.status(), answer.body)
    }

    pub(crate) async fn stat(&self, name: &str) -> Option<u64> {
        let stats = page(self.admin, "/stats").await.body;
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map(|value| value.parse().expect("a number"))
    }

    pub(crate) async fn wait_stat(&self, name: &str, value: u64) {
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

pub(crate) fn closes(message: &Message) -> bool {
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
    assert_eq!(
        world.agent.shutdown(Duration::from_secs(3)).await,
        Left::default()
    );
    assert!(late.is_closed().await);
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
    assert_eq!(left.connections, 1, "the slow one");
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
        assert_eq!(
            world.agent.shutdown(Duration::from_secs(20)).await,
            Left::default()
        );
        assert!(begin.elapsed() >= least && begin.elapsed() < Duration::from_secs(15));
    }
}
