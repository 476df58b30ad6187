//! Upgrades (RFC 9110 §7.8), tunnels of CONNECT (RFC 9110 §9.3.6) and those of HTTP/2 (RFC 8441).

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use http::Response;
use periplus_proxy::snapshot::{
    Forward, Http2Options, PathMatch, Route, RouteAction, Upgrade, UpstreamProtocol,
};

use crate::support::config::{Mesh, cluster};
use crate::support::h2::{H2Client, H2Origin, read, run, write};
use crate::support::origin::{ok, read_request};
use crate::support::{Client, Collector, Config, Origin, route, wait_for};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: h\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\r\n";
const CONNECT: &str = "CONNECT db.example:5432 HTTP/1.1\r\nhost: h\r\n\r\n";

fn allowed(protocol: &str) -> Upgrade {
    Upgrade {
        protocol: protocol.into(),
        is_enabled: true,
        is_terminated: false,
    }
}

fn connect_route(upgrades: Vec<Upgrade>) -> Route {
    Route {
        path: PathMatch::Connect,
        ..route(
            "",
            RouteAction::Forward(Forward {
                upgrades,
                ..Forward::to("app")
            }),
        )
    }
}

/// All that the client sends comes back, and after its end a word of farewell.
fn echo(client: &mut Client) {
    let bytes = std::mem::take(&mut client.unread);
    client.send(bytes);
    while client.more().is_some() {
        let bytes = std::mem::take(&mut client.unread);
        client.send(bytes);
    }
    client.send("bye");
}

/// Accepts what it is asked for, says `hi` and goes on with an echo.
fn switching(head: &'static str) -> Origin {
    Origin::raw(move |mut client, origin| {
        let Some(request) = read_request(&mut client) else {
            return;
        };
        origin.note(request);
        client.send(format!("{head}\r\n\r\nhi"));
        echo(&mut client);
    })
}

fn chat() -> Origin {
    switching("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket")
}

/// To this origin, with `websocket` and `CONNECT` allowed.
fn open(origin: &Origin) -> Config {
    let mut config = Config::to(origin).with_manager(|manager| {
        manager.upgrades = vec![allowed("websocket"), allowed("CONNECT")];
        manager.http2.allow_connect = true;
    });
    config.routes.insert(0, connect_route(vec![]));
    config
}

/// The same to an origin of HTTP/2.
fn open_h2(origin: &H2Origin) -> Mesh {
    let mut config = open(&Origin::saying(""));
    config.clusters = vec![periplus_proxy::snapshot::Cluster {
        protocol: UpstreamProtocol::Http2(Http2Options::default()),
        ..cluster("app", &[origin.address])
    }];
    config.start()
}

/// An origin of HTTP/2 that accepts whatever tunnel it is asked for, and echoes.
fn h2_tunnels() -> H2Origin {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    H2Origin::with(builder, |mut incoming| async move {
        let mut send = incoming.answer(Response::new(()), false);
        let _ = write(&mut send, b"hi", false).await;
        while let Some(Ok(data)) = incoming.body.data().await {
            let _ = incoming.body.flow_control().release_capacity(data.len());
            let _ = write(&mut send, &data, false).await;
        }
        let _ = write(&mut send, b"bye", true).await;
    })
}

/// Talks through a tunnel until both directions have ended.
fn talk(client: &mut Client) {
    assert_eq!(client.exactly(2).expect("bytes"), b"hi");
    for text in ["one", "two"] {
        client.send(text);
        assert_eq!(client.exactly(3).expect("bytes"), text.as_bytes());
    }
    // Its own end does not end the other direction.
    client.shutdown();
    assert_eq!(client.exactly(3).expect("bytes"), b"bye");
    assert!(client.is_closed());
}

#[test]
fn an_upgrade_makes_a_tunnel_of_the_connection() {
    let origin = chat();
    let mesh = open(&origin).start();
    let mut client = mesh.client();
    let response = client.exchange(UPGRADE);
    assert_eq!(response.status, 101);
    let header = |name| response.header(name);
    assert_eq!(header("upgrade").as_deref(), Some("websocket"));
    assert_eq!(header("connection").as_deref(), Some("upgrade"));
    assert_eq!(header("content-length"), None);
    let received = origin.last();
    assert_eq!(received.header("upgrade").as_deref(), Some("WebSocket"));
    assert_eq!(received.header("connection").as_deref(), Some("upgrade"));
    mesh.wait_stat("http.test.downstream_cx_upgrades_active", 1);
    talk(&mut client);
    mesh.wait_stat("http.test.downstream_cx_upgrades_active", 0);
    assert_eq!(mesh.stat("http.test.downstream_cx_upgrades_total"), 1);
    mesh.wait_stat("http.test.downstream_rq_1xx", 1);
    mesh.wait_stat("cluster.app.upstream_cx_active", 0);
}

#[test]
fn what_is_not_allowed_is_forbidden() {
    let off = Upgrade {
        is_enabled: false,
        ..allowed("WEBSOCKET")
    };
    let foo = UPGRADE.replace("WebSocket", "foo");
    let both = UPGRADE.replace("WebSocket", "foo, websocket");
    let missing = UPGRADE.replace("/chat", "/missing");
    let cases = [
        ("nothing said", None, None, UPGRADE, 403),
        (
            "by the manager",
            Some(allowed("websocket")),
            None,
            UPGRADE,
            101,
        ),
        (
            "by the route",
            None,
            Some(allowed("websocket")),
            UPGRADE,
            101,
        ),
        (
            "not by the route",
            Some(allowed("websocket")),
            Some(off),
            UPGRADE,
            403,
        ),
        (
            "another one",
            Some(allowed("websocket")),
            None,
            foo.as_str(),
            403,
        ),
        (
            "one of two",
            Some(allowed("websocket")),
            None,
            both.as_str(),
            403,
        ),
        ("no route", None, None, missing.as_str(), 404),
        (
            "no route, allowed",
            Some(allowed("websocket")),
            None,
            missing.as_str(),
            404,
        ),
        ("CONNECT", Some(allowed("websocket")), None, CONNECT, 403),
        (
            "CONNECT to no port",
            Some(allowed("connect")),
            None,
            "CONNECT h HTTP/1.1\r\nhost: h\r\n\r\n",
            400,
        ),
        (
            "CONNECT with a body",
            Some(allowed("connect")),
            None,
            "CONNECT h:1 HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n",
            400,
        ),
    ];
    let origin = chat();
    for (name, by_manager, by_route, request, status) in cases {
        let mut config = Config::to(&origin)
            .with_manager(move |manager| manager.upgrades = by_manager.iter().cloned().collect());
        config.routes = vec![
            route(
                "/chat",
                RouteAction::Forward(Forward {
                    upgrades: by_route.into_iter().collect(),
                    ..Forward::to("app")
                }),
            ),
            connect_route(vec![]),
        ];
        let mesh = config.start();
        let before = origin.received().len();
        let mut client = mesh.client();
        // What follows is no request, whatever the answer is.
        client.send(format!("{request}GET /chat HTTP/1.1\r\nhost: h\r\n\r\n"));
        let response = client.response(false).expect("a response");
        assert_eq!(response.status, status, "{name}");
        if status != 101 {
            assert_eq!(
                response.header("connection").as_deref(),
                Some("close"),
                "{name}"
            );
            client.shutdown();
            assert!(client.is_closed(), "{name}");
            assert_eq!(origin.received().len(), before, "{name}");
        }
        let refused = u64::from(status == 403);
        assert_eq!(
            mesh.stat("http.test.downstream_rq_ws_on_non_ws_route"),
            refused,
            "{name}"
        );
    }
}

#[test]
fn an_upgrade_that_is_not_accepted_is_a_request_like_others() {
    let origin = Origin::new(|_| Some(ok("no")));
    let mesh = open(&origin).start();
    let mut client = mesh.client();
    client.send(format!(
        "{UPGRADE}GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n"
    ));
    let response = client.response(false).expect("a response");
    assert_eq!((response.status, response.text().as_str()), (200, "no"));
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    client.shutdown();
    assert!(client.is_closed());
    assert_eq!(origin.received().len(), 1);
    // The endpoint's connection is as good as before.
    assert_eq!(mesh.client().get("/").status, 200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn bytes_behind_the_request_wait_for_the_answer() {
    let origin = chat();
    let mesh = open(&origin).start();
    let mut client = mesh.client();
    client.send(format!("{UPGRADE}GET /x HTTP/1.1\r\n\r\n"));
    assert_eq!(client.response(false).expect("a response").status, 101);
    assert_eq!(client.exactly(2).expect("bytes"), b"hi");
    assert_eq!(
        client.exactly(19).expect("bytes"),
        b"GET /x HTTP/1.1\r\n\r\n"
    );
    assert_eq!(origin.received().len(), 1);
    mesh.wait_stat("http.test.downstream_rq_total", 1);
}

#[test]
fn a_request_with_a_body_may_ask_for_an_upgrade() {
    let origin = chat();
    let mesh = open(&origin).start();
    let mut client = mesh.client();
    let request = UPGRADE
        .replace("GET", "POST")
        .replace("host: h", "host: h\r\ncontent-length: 3");
    let response = client.exchange(format!("{request}abc"));
    assert_eq!(response.status, 101);
    assert_eq!(origin.last().body, b"abc");
    talk(&mut client);
}

#[test]
fn connect_goes_on_to_an_endpoint_that_understands_it() {
    let origin = switching("HTTP/1.1 200 OK\r\ncontent-length: 7");
    let mesh = open(&origin).start();
    let mut client = mesh.client();
    client.send(CONNECT);
    let head = client.head().expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for gone in ["content-length", "transfer-encoding", "connection:"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    let received = origin.last();
    assert_eq!(received.line(), "CONNECT db.example:5432 HTTP/1.1");
    // The target says where to, whatever the host is (RFC 9112 §3.2.3).
    assert_eq!(received.header("host").as_deref(), Some("db.example:5432"));
    talk(&mut client);
}

#[test]
fn connect_may_end_at_the_proxy() {
    let origin = Origin::raw(|mut client, _| {
        client.send("hi");
        echo(&mut client);
    });
    let collector = Collector::zipkin();
    let mut config = open(&origin).zipkin(&collector);
    config.routes[0] = connect_route(vec![Upgrade {
        is_terminated: true,
        ..allowed("connect")
    }]);
    let mesh = config.start();
    let mut client = mesh.client();
    client.send(CONNECT);
    assert!(
        client
            .head()
            .expect("a head")
            .starts_with("HTTP/1.1 200 OK")
    );
    talk(&mut client);
    let span = collector.one();
    let tag = |name: &str| span.tag(name).to_owned();
    assert_eq!(tag("http.status_code"), "200");
    assert_eq!(
        (tag("request_size"), tag("response_size")),
        ("6".into(), "11".into())
    );
    assert_eq!(tag("response_flags"), "-");
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let mut request = client.request("CONNECT", "/");
        *request.uri_mut() = "db.example:5432".parse().expect("an authority");
        let (response, send) = client.send.send_request(request, false).expect("sent");
        h2_talk(response, send).await;
    });
}

/// The same as [`talk`] through a stream.
async fn h2_talk(response: h2::client::ResponseFuture, mut send: h2::SendStream<Bytes>) {
    let (head, mut body) = response.await.expect("a response").into_parts();
    assert_eq!(head.status, 200);
    for gone in ["content-length", "connection", "upgrade"] {
        assert!(!head.headers.contains_key(gone), "{gone}");
    }
    assert_eq!(body.data().await.expect("bytes").expect("bytes"), "hi");
    write(&mut send, b"one", false).await.expect("written");
    assert_eq!(body.data().await.expect("bytes").expect("bytes"), "one");
    send.send_data(Bytes::new(), true).expect("sent");
    let (rest, _) = read(&mut body).await.expect("the rest");
    assert_eq!(rest, b"bye");
}

fn websocket(client: &H2Client) -> http::Request<()> {
    let mut request = client.request("CONNECT", "/chat?a=b");
    request
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    request
}

#[test]
fn a_stream_asks_an_endpoint_of_http1_for_an_upgrade() {
    let origin = chat();
    let mesh = open(&origin).start();
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let (response, send) = client
            .send
            .send_request(websocket(&client), false)
            .expect("sent");
        h2_talk(response, send).await;
        // The connection carries other streams all the while, and afterwards.
        let request = client.request("GET", "/");
        let (_response, _send) = client.send.send_request(request, true).expect("sent");
    });
    let received = origin.nth(1);
    assert_eq!(received.line(), "GET /chat?a=b HTTP/1.1");
    assert_eq!(received.header("upgrade").as_deref(), Some("websocket"));
    assert_eq!(received.header("connection").as_deref(), Some("upgrade"));
    assert_eq!(received.header("transfer-encoding"), None);
}

#[test]
fn an_upgrade_goes_on_as_a_stream() {
    let origin = h2_tunnels();
    let mesh = open_h2(&origin);
    let mut client = mesh.client();
    let response = client.exchange(UPGRADE);
    assert_eq!(response.status, 101);
    assert_eq!(response.header("upgrade").as_deref(), Some("WebSocket"));
    talk(&mut client);
    let mut client = mesh.client();
    client.send(CONNECT);
    assert!(client.head().expect("a head").starts_with("HTTP/1.1 200 "));
    talk(&mut client);
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let request = websocket(&client);
        let (response, send) = client.send.send_request(request, false).expect("sent");
        h2_talk(response, send).await;
    });
    let heads = origin.heads();
    let protocol = |at: usize| {
        heads[at]
            .extensions()
            .get::<Protocol>()
            .map(Protocol::as_str)
    };
    assert_eq!(protocol(0), Some("WebSocket"));
    assert_eq!(heads[0].uri().path(), "/chat");
    assert_eq!(protocol(1), None);
    assert_eq!(heads[1].method(), "CONNECT");
    assert_eq!(heads[1].uri().to_string(), "db.example:5432");
    assert_eq!(protocol(2), Some("websocket"));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn streams_ask_for_tunnels_only_where_they_may() {
    let mesh = Config::to(&chat()).start();
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        // The settings come with the first answer.
        client.get("/").await;
        assert!(!client.send.is_extended_connect_protocol_enabled());
        let request = websocket(&client);
        let (response, _send) = client.send.send_request(request, false).expect("sent");
        let error = response.await.expect_err("nobody has allowed it");
        assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR));
    });
}

#[test]
fn a_tunnel_that_rests_for_too_long_ends() {
    let origin = chat();
    let collector = Collector::zipkin();
    let mut config = open(&origin).zipkin(&collector).with_manager(|manager| {
        manager.upgrades = vec![allowed("websocket")];
        manager.stream_idle_timeout = Some(Duration::from_millis(300));
    });
    // The route's time is for the answer.
    config.routes[1] = route(
        "/",
        crate::support::config::forward_within("app", Some(Duration::from_millis(200))),
    );
    let mesh = config.start();
    let mut client = mesh.client();
    assert_eq!(client.exchange(UPGRADE).status, 101);
    assert_eq!(client.exactly(2).expect("bytes"), b"hi");
    for _ in 0..5 {
        crate::support::pause(Duration::from_millis(100));
        client.send("x");
        assert_eq!(client.exactly(1).expect("a byte"), b"x");
    }
    assert!(client.is_closed());
    mesh.wait_stat("http.test.downstream_rq_idle_timeout", 1);
    let span = collector.one();
    let tag = |name: &str| span.tag(name).to_owned();
    assert_eq!(tag("http.status_code"), "101");
    assert_eq!(tag("response_flags"), "SI");
    assert_eq!(
        (tag("request_size"), tag("response_size")),
        ("5".into(), "7".into())
    );
    let micros = span.end_us - span.start_us;
    assert!(micros >= 800_000, "the span ends with its tunnel: {micros}");
}

#[test]
fn a_side_that_does_not_read_holds_up_the_other() {
    let origin = Origin::raw(|mut client, origin| {
        let Some(request) = read_request(&mut client) else {
            return;
        };
        origin.note(request);
        client.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        );
        // Reads nothing until it is told to.
        wait_for("the word", || (origin.received().len() > 1).then_some(()));
        echo(&mut client);
    });
    let mesh = open(&origin).start();
    let mut client = mesh.client();
    assert_eq!(client.exchange(UPGRADE).status, 101);
    client
        .stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    let mut sent = 0;
    while let Ok(n) = client.stream.write(&[7; 65536]) {
        sent += n;
    }
    assert!(sent < 64 * 1024 * 1024, "{sent}");
    origin.note(Default::default());
    client.shutdown();
    let mut left = sent + 3;
    while left > 0 {
        client.more().expect("bytes");
        left -= client.unread.len();
        client.unread.clear();
    }
    assert!(client.is_closed());
}

#[test]
fn a_tunnel_that_breaks_off_does_not_end_well() {
    let origin = Origin::raw(|mut client, origin| {
        if let Some(request) = read_request(&mut client) {
            origin.note(request);
            client.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi");
            // What was not read makes its kernel reset the connection.
            client.stream.peek(&mut [0]).expect("a byte");
        }
    });
    let mesh = open(&origin).start();
    let mut client = mesh.client();
    assert_eq!(client.exchange(UPGRADE).status, 101);
    assert_eq!(client.exactly(2).expect("bytes"), b"hi");
    client.send("unread");
    let error = client.stream.read(&mut [0]).expect_err("no end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    mesh.wait_stat("http.test.downstream_cx_upgrades_active", 0);
}
