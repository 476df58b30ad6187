//! How a proxy does less when there is too much to do.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use periplus_proxy::Options;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::lifecycle::{Client, World, closes};
use crate::xds_support::PATIENCE;
use crate::xds_support::http::get;

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

#[tokio::test]
async fn bytes_of_heads_over_the_limit_are_refused_and_counted() {
    let options = Options {
        max_header_bytes: NonZeroUsize::new(40_000),
        ..Options::default()
    };
    let world = World::start(options, json!({})).await;
    let stat = "http.test.downstream_rq_overload_close";
    let path = |slow: bool, bytes: usize| {
        let path = if slow { "/slow" } else { "/" };
        format!("{path}?{}", "x".repeat(bytes))
    };
    let mut slow = Client::connect(world.outbound).await;
    slow.send(&path(true, 30_000)).await;
    world.wait_stat("http.test.downstream_rq_active", 1).await;
    let mut other = Client::connect(world.outbound).await;
    assert_eq!(other.get(&path(false, 5000)).await.status(), 200);
    assert_eq!(world.stat(stat).await, Some(0));
    let refused = other.get(&path(false, 15_000)).await;
    assert_eq!(
        (refused.status(), refused.body.as_str()),
        (503, "envoy overloaded")
    );
    assert_eq!(world.stat(stat).await, Some(1));
    // What would need too much is not waited for.
    let half = format!("GET {}", path(false, 20_000));
    other.0.write_all(half.as_bytes()).await.expect("sent");
    let refused = other.answer().await.expect("an answer");
    assert_eq!((refused.status(), closes(&refused)), (503, true));
    assert_eq!(world.stat(stat).await, Some(2));
    drop(slow);
    world.wait_stat("http.test.downstream_rq_active", 0).await;
    assert_eq!(
        get(world.outbound, &path(false, 30_000))
            .await
            .expect("an answer")
            .status(),
        200
    );
    world.agent.shutdown(Duration::from_millis(100)).await;
}

/// An endpoint of HTTP/2: resets `/ur`, else answers with as many bytes as the path says, or 500,000, and never ends.
pub(crate) async fn endless() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let path = &request.uri().path()[1..];
                    if path == "ur" {
                        respond.send_reset(h2::Reason::INTERNAL_ERROR);
                        continue;
                    }
                    let bytes = path.parse().unwrap_or(500_000);
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

/// Streams that hold much are reset when memory runs short; the endpoint speaks HTTP/2 and never ends.
#[expect(deprecated, reason = "the short form does")]
async fn with_accounts() -> World {
    let mut overload = from_two_of_four("reset_high_memory_stream");
    overload["buffer_factory_config"] = json!({"minimum_account_to_track_power_of_two": 16});
    World::before(endless().await, Options::default(), overload, |cluster| {
        cluster.http2_protocol_options = Some(Default::default());
    })
    .await
}

#[tokio::test]
async fn streams_that_hold_much_memory_are_reset_when_it_runs_short() {
    let world = with_accounts().await;
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

/// A client that reads nothing.
struct Deaf(TcpStream);

impl AsyncRead for Deaf {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Deaf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn what_waits_to_be_written_counts_as_memory_of_its_stream() {
    // More than sockets take. All of it may be sent, so that none of it waits for its client's windows.
    const STREAMS: usize = 60;
    let world = with_accounts().await;
    let stream = TcpStream::connect(world.outbound).await.expect("connects");
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 24)
        .initial_connection_window_size(1 << 24)
        .handshake::<_, Bytes>(Deaf(stream))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let mut waiting = Vec::new();
    for _ in 0..STREAMS {
        let mut client = client.clone().ready().await.expect("ready");
        let request = http::Request::get("http://test/200000").body(());
        waiting.push(client.send_request(request.expect("valid"), true));
    }
    world
        .wait_stat("http.test.downstream_rq_active", STREAMS as u64)
        .await;
    let another = Client::connect(world.outbound).await;
    let count = "overload.envoy.overload_actions.reset_high_memory_stream.count";
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while world.stat(count).await < Some(1) {
        assert!(tokio::time::Instant::now() < deadline, "none is reset");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop((another, client, waiting));
    world.agent.shutdown(Duration::from_millis(100)).await;
}

/// An action that is due from two connections of four on.
fn from_two_of_four(action: &str) -> Value {
    from_half_of(4, action)
}

/// An action that is due from the half of so many connections on.
pub(crate) fn from_half_of(most: u32, action: &str) -> Value {
    const CONNECTIONS: &str = "envoy.resource_monitors.global_downstream_max_connections";
    let config = "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig";
    json!({
        "refresh_interval": "0.01s",
        "resource_monitors": [{
            "name": CONNECTIONS,
            "typed_config": {"@type": config, "max_active_downstream_connections": most},
        }],
        "actions": [{
            "name": format!("envoy.overload_actions.{action}"),
            "triggers": [{"name": CONNECTIONS, "threshold": {"value": 0.5}}],
        }],
    })
}

#[tokio::test]
async fn a_proxy_without_memory_refuses_requests() {
    const HEAP: &str = "envoy.resource_monitors.fixed_heap";
    const CONFIG: &str =
        "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig";
    for (most_bytes, status) in [(1_u64, 503), (1 << 40, 200)] {
        let overload = json!({
            "refresh_interval": "0.01s",
            "resource_monitors": [{
                "name": HEAP,
                "typed_config": {"@type": CONFIG, "max_heap_size_bytes": most_bytes},
            }],
            "actions": [{
                "name": "envoy.overload_actions.stop_accepting_requests",
                "triggers": [{"name": HEAP, "threshold": {"value": 0.95}}],
            }],
        });
        let world = World::start(Options::default(), overload).await;
        let is_short = u64::from(status == 503);
        let active = "overload.envoy.overload_actions.stop_accepting_requests.active";
        world.wait_stat(active, is_short).await;
        let answer = get(world.outbound, "/").await.expect("an answer");
        assert_eq!(answer.status(), status, "{most_bytes}");
        let refused = world.stat("http.test.downstream_rq_overload_close").await;
        assert_eq!(refused, Some(is_short));
        world.agent.shutdown(Duration::from_millis(100)).await;
    }
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
