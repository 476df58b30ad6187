//! Endpoints of HTTP/2 that fail, refuse, go away or lie, and what must not pass from one protocol to
//! the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use periplus_proxy::snapshot::{Cluster, Http2Options, Keepalive, UpstreamProtocol};

use crate::support::config::{Mesh, cluster, dead_address};
use crate::support::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, SETTINGS, block, frame, next_of,
};
use crate::support::h2::{H2Client, H2Origin, read, run};
use crate::support::origin::ok;
use crate::support::{Client, Collector, Config, Origin, pause};

fn http2_cluster(address: std::net::SocketAddr) -> Cluster {
    Cluster {
        protocol: UpstreamProtocol::Http2(Http2Options::default()),
        ..cluster("app", &[address])
    }
}

fn mesh_to(address: std::net::SocketAddr) -> Mesh {
    let mut config = Config::to(&Origin::saying(""));
    config.clusters = vec![http2_cluster(address)];
    config.start()
}

/// An origin of hand-made frames: each connection has shaken hands when `serve` gets it, with its
/// number.
fn by_hand(serve: impl Fn(Client, usize) + Send + Sync + 'static) -> Origin {
    let connections = AtomicUsize::new(0);
    Origin::raw(move |mut client, _| {
        let number = connections.fetch_add(1, Ordering::SeqCst);
        if client.exactly(PREFACE.len()).is_none() {
            return;
        }
        client.send(frame(SETTINGS, 0, 0, ""));
        client.send(frame(SETTINGS, ACK, 0, ""));
        serve(client, number);
    })
}

fn answer(client: &mut Client, stream: u32, body: &str) {
    let head = block(&[(":status", "200")]);
    client.send(frame(HEADERS, END_HEADERS, stream, head));
    client.send(frame(DATA, END_STREAM, stream, body));
}

#[test]
fn streams_behind_a_goaway_are_sent_again() {
    // The first connection takes one stream, and turns the second away; the others serve.
    let origin = by_hand(|mut client, number| {
        let first = next_of(&mut client, HEADERS).expect("a request");
        if number == 0 {
            let second = next_of(&mut client, HEADERS).expect("a second request");
            assert!(second.stream > first.stream);
            let last = [first.stream.to_be_bytes(), 0_u32.to_be_bytes()].concat();
            client.send(frame(GOAWAY, 0, 0, last));
            pause(Duration::from_millis(100));
            answer(&mut client, first.stream, "first");
        } else {
            answer(&mut client, first.stream, "again");
        }
        while client.more().is_some() {}
    });
    let mesh = mesh_to(origin.address);
    run(async {
        let client = H2Client::connect(mesh.address).await;
        let mut waiting = Vec::new();
        for body in [&b""[..], b"a body that is at hand"] {
            let mut client = client.clone();
            let request = client.request(if body.is_empty() { "GET" } else { "POST" }, "/");
            waiting.push(tokio::spawn(async move {
                client
                    .exchange(request, body)
                    .await
                    .expect("a response")
                    .text()
            }));
            // The requests must come in this order.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut texts = Vec::new();
        for text in waiting {
            texts.push(text.await.expect("a task"));
        }
        assert_eq!(texts, ["first", "again"]);
    });
    assert_eq!(mesh.stat("cluster.app.upstream_rq_stale_retry"), 1);
    assert_eq!(origin.connections(), 2);
}

/// With one connection at most, many wait for room on it. It goes away, and the next one has room for all: they must
/// not wait for each other, as streams may have no end.
#[test]
fn all_who_waited_share_the_connection_that_comes_after_a_goaway() {
    const WAITING: usize = 4;
    let one_stream = [3_u16.to_be_bytes().as_slice(), &1_u32.to_be_bytes()].concat();
    let many_streams = [3_u16.to_be_bytes().as_slice(), &100_u32.to_be_bytes()].concat();
    let origin = by_hand(move |mut client, number| {
        if number == 0 {
            client.send(frame(SETTINGS, 0, 0, &one_stream));
            let first = next_of(&mut client, HEADERS).expect("a request");
            pause(Duration::from_millis(300));
            let last = [first.stream.to_be_bytes(), 0_u32.to_be_bytes()].concat();
            client.send(frame(GOAWAY, 0, 0, last));
            answer(&mut client, first.stream, "first");
            return;
        }
        client.send(frame(SETTINGS, 0, 0, &many_streams));
        let requests = || next_of(&mut client, HEADERS).expect("all who have waited");
        let streams: Vec<_> = std::iter::repeat_with(requests).take(WAITING).collect();
        for request in streams {
            answer(&mut client, request.stream, "next");
        }
        while client.more().is_some() {}
    });
    let mut config = Config::to(&Origin::saying(""));
    let mut limited = http2_cluster(origin.address);
    limited.limits.default.max_connections = 1;
    config.clusters = vec![limited];
    let mesh = config.start();
    run(async {
        let client = H2Client::connect(mesh.address).await;
        let mut answers = Vec::new();
        for _ in 0..=WAITING {
            let mut client = client.clone();
            answers.push(tokio::spawn(async move { client.get("/").await.text() }));
            // The first one alone has the first connection.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut texts = Vec::new();
        for answer in answers {
            texts.push(answer.await.expect("a task"));
        }
        assert_eq!(texts, ["first", "next", "next", "next", "next"]);
    });
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_refused_stream_is_sent_again_with_its_body_and_trailers_but_once() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let origin = H2Origin::new(move |mut incoming| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let (body, trailers) = read(&mut incoming.body).await.expect("a body");
            if incoming.head.uri().path() == "/never" || number == 0 {
                incoming.respond.send_reset(h2::Reason::REFUSED_STREAM);
                return;
            }
            let said = format!(
                "{} bytes, {} trailers",
                body.len(),
                trailers.map_or(0, |t| t.len())
            );
            incoming.say(said.as_bytes()).await;
        }
    });
    let mesh = mesh_to(origin.address);
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let request = client.request("POST", "/");
        let (response, mut send) = client.send.send_request(request, false).expect("sent");
        send.send_data(Bytes::from_static(b"hello"), false)
            .expect("sent");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("a", "b".parse().expect("a value"));
        send.send_trailers(trailers).expect("sent");
        let answer = crate::support::h2::finish(response)
            .await
            .expect("a response");
        assert_eq!(answer.text(), "5 bytes, 1 trailers");

        let answer = client.get("/never").await;
        assert_eq!(answer.status, 503);
        assert!(
            answer.text().ends_with("remote refused stream reset"),
            "{}",
            answer.text()
        );

        // What is too long to be kept is not sent again.
        tries.store(0, Ordering::SeqCst);
        let request = client.request("POST", "/long");
        let answer = client
            .exchange(request, &[0; 100_000])
            .await
            .expect("a response");
        assert_eq!(answer.status, 503);
    });
}

#[test]
fn each_failure_has_its_status_text_and_flag() {
    let dying = by_hand(|mut client, _| {
        next_of(&mut client, HEADERS);
    });
    let lying = by_hand(|mut client, _| {
        while let Some(request) = next_of(&mut client, HEADERS) {
            let head = block(&[("no", "status")]);
            client.send(frame(HEADERS, END_HEADERS, request.stream, head));
        }
    });
    let not_http2 = Origin::raw(|mut client, _| {
        client.more();
        client.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        while client.more().is_some() {}
    });
    let reset = |reason| {
        H2Origin::new(move |mut incoming| async move { incoming.respond.send_reset(reason) })
    };
    let before = "upstream connect error or disconnect/reset before headers. reset reason: ";
    for (name, address, status, reason, flag) in [
        (
            "refused",
            dead_address(),
            503,
            "remote connection failure",
            "UF",
        ),
        ("dying", dying.address, 503, "connection termination", "UC"),
        ("lying", lying.address, 502, "protocol error", "UPE"),
        (
            "not HTTP/2",
            not_http2.address,
            502,
            "protocol error",
            "UPE",
        ),
        (
            "reset",
            reset(h2::Reason::CANCEL).address,
            503,
            "remote reset",
            "UR",
        ),
    ] {
        let collector = Collector::zipkin();
        let mut config = Config::to(&Origin::saying("")).zipkin(&collector);
        config.clusters[0] = http2_cluster(address);
        let mesh = config.start();
        run(async {
            let mut client = H2Client::connect(mesh.address).await;
            // No retry of the idempotent is meant.
            let request = client.request("POST", "/");
            let answer = client.exchange(request, b"x").await.expect("a response");
            assert_eq!(
                (answer.status, answer.text()),
                (status, format!("{before}{reason}")),
                "{name}"
            );
        });
        let span = collector.one();
        assert_eq!(
            (span.tag("response_flags"), span.tag("error")),
            (flag, "true"),
            "{name}"
        );
        // Over HTTP/1.1 it is the same.
        let answer = mesh
            .client()
            .exchange("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\nx");
        assert_eq!(answer.status, status, "{name}");
        mesh.wait_stat("cluster.app.upstream_rq_active", 0);
    }
}

#[test]
fn an_endpoint_that_answers_no_ping_is_left() {
    let origin = by_hand(|mut client, _| while client.more().is_some() {});
    let mut config = Config::to(&Origin::saying(""));
    config.clusters = vec![Cluster {
        protocol: UpstreamProtocol::Http2(Http2Options {
            keepalive: Some(Keepalive {
                interval: Duration::from_millis(50),
                timeout: Duration::from_millis(100),
                jitter_percent: 0,
            }),
            ..Http2Options::default()
        }),
        ..cluster("app", &[origin.address])
    }];
    let mesh = config.start();
    let answer = mesh
        .client()
        .exchange("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(answer.status, 503);
    mesh.wait_stat("cluster.app.upstream_cx_active", 0);
}

#[test]
fn idle_connections_are_closed_and_a_dead_one_is_no_failure() {
    let origin = H2Origin::echo();
    let mut config = Config::to(&Origin::saying(""));
    config.clusters = vec![Cluster {
        idle_timeout: Some(Duration::from_millis(500)),
        ..http2_cluster(origin.address)
    }];
    let mesh = config.start();
    assert_eq!(mesh.client().get("/").status, 200);
    mesh.wait_stat("cluster.app.upstream_cx_idle_timeout", 1);
    mesh.wait_stat("cluster.app.upstream_cx_active", 0);
    assert_eq!(mesh.client().get("/").status, 200);
    assert_eq!(origin.connections(), 2);

    // One that closes after each answer.
    let origin = by_hand(|mut client, _| {
        let request = next_of(&mut client, HEADERS).expect("a request");
        answer(&mut client, request.stream, "ok");
    });
    let mesh = mesh_to(origin.address);
    let mut client = mesh.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
}

#[test]
fn nothing_is_smuggled_into_a_response() {
    // Heads of HTTP/2 that would be more than one head in HTTP/1.1, or another body.
    let cases: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        (
            "LF in a value",
            block(&[(":status", "200"), ("a", "b\nset-cookie: c")]),
            b"".to_vec(),
        ),
        (
            "CR in a value",
            block(&[(":status", "200"), ("a", "b\r\n\r\nHTTP/1.1 200 OK")]),
            b"".to_vec(),
        ),
        (
            "NUL in a value",
            block(&[(":status", "200"), ("a", "b\0")]),
            b"".to_vec(),
        ),
        (
            "a name with a colon",
            block(&[(":status", "200"), ("a:b", "c")]),
            b"".to_vec(),
        ),
        (
            "a name in capitals",
            block(&[(":status", "200"), ("A", "b")]),
            b"".to_vec(),
        ),
        (
            "transfer-encoding",
            block(&[(":status", "200"), ("transfer-encoding", "chunked")]),
            b"0\r\n\r\n".to_vec(),
        ),
        (
            "connection",
            block(&[(":status", "200"), ("connection", "close")]),
            b"".to_vec(),
        ),
        (
            "two lengths",
            block(&[
                (":status", "200"),
                ("content-length", "1"),
                ("content-length", "2"),
            ]),
            b"x".to_vec(),
        ),
        (
            "two lengths that agree",
            block(&[
                (":status", "200"),
                ("content-length", "1"),
                ("content-length", "1"),
            ]),
            b"x".to_vec(),
        ),
        (
            "a length that is no number",
            block(&[(":status", "200"), ("content-length", "+1")]),
            b"x".to_vec(),
        ),
        ("no status", block(&[("a", "b")]), b"".to_vec()),
        (
            "a status of two digits",
            block(&[(":status", "20")]),
            b"".to_vec(),
        ),
        ("an upgrade", block(&[(":status", "101")]), b"".to_vec()),
    ];
    for (name, head, body) in cases {
        let origin = by_hand(move |mut client, _| {
            while let Some(request) = next_of(&mut client, HEADERS) {
                client.send(frame(HEADERS, END_HEADERS, request.stream, &head));
                client.send(frame(DATA, END_STREAM, request.stream, &body));
            }
        });
        let mesh = mesh_to(origin.address);
        let mut client = mesh.client();
        let answer = client.exchange("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
        assert!(matches!(answer.status, 502 | 503), "{name}: {answer:?}");
        client.shutdown();
        assert!(client.is_closed(), "{name}: more than one answer");
    }
    // Bodies that are not what their head said break off, so that nobody takes them for whole.
    for (name, method, length, body) in [
        ("too short", "GET", "9", "four"),
        ("too long", "GET", "3", "four"),
        ("to a HEAD", "HEAD", "4", "four"),
    ] {
        let origin = by_hand(move |mut client, _| {
            while let Some(request) = next_of(&mut client, HEADERS) {
                let head = block(&[(":status", "200"), ("content-length", length)]);
                client.send(frame(HEADERS, END_HEADERS, request.stream, head));
                client.send(frame(DATA, END_STREAM, request.stream, body));
            }
        });
        let mesh = mesh_to(origin.address);
        let mut client = mesh.client();
        client.send(format!("{method} / HTTP/1.1\r\nhost: h\r\n\r\n"));
        let whole = client.response(method == "HEAD");
        let is_error = whole.as_ref().is_none_or(|answer| answer.status >= 500);
        let is_head = method == "HEAD" && client.is_closed();
        assert!(is_error || is_head, "{name}: {whole:?}");
    }
    for status in ["204", "304"] {
        let origin = by_hand(move |mut client, _| {
            while let Some(request) = next_of(&mut client, HEADERS) {
                let head = block(&[(":status", status)]);
                client.send(frame(HEADERS, END_HEADERS, request.stream, head));
                client.send(frame(
                    DATA,
                    END_STREAM,
                    request.stream,
                    "HTTP/1.1 200 OK\r\n\r\n",
                ));
            }
        });
        let mesh = mesh_to(origin.address);
        let mut client = mesh.client();
        client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
        let found = String::from_utf8(client.rest()).expect("text");
        assert_eq!(found.matches("HTTP/1.1").count(), 1, "{status}: {found}");
    }
}

#[test]
fn nothing_is_smuggled_into_a_request() {
    let origin = H2Origin::echo();
    let mesh = mesh_to(origin.address);
    let mut client = mesh.client();
    // Upgrades, and what only one connection is concerned with, stay behind.
    let answer = client.exchange(
        "GET /u HTTP/1.1\r\nhost: h\r\nconnection: upgrade, http2-settings, x\r\nupgrade: h2c\r\n\
         http2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nproxy-connection: close\r\nx: y\r\nte: gzip\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
    let head = origin.heads().pop().expect("a request");
    for name in [
        "connection",
        "upgrade",
        "http2-settings",
        "proxy-connection",
        "x",
        "te",
        "host",
    ] {
        assert!(!head.headers().contains_key(name), "{name}");
    }
    // An absolute target wins over the host.
    client.exchange("GET http://other.example/a HTTP/1.1\r\nhost: h\r\n\r\n");
    let head = origin.heads().pop().expect("a request");
    assert_eq!(head.uri().to_string(), "http://other.example/a");
    // HTTP/2 has no such path.
    let answer = client.exchange("GET /a<b HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (400, "the path"));
    // HTTP/1.0 may leave the host out; HTTP/2 may not.
    let answer = mesh.client().exchange("GET /old HTTP/1.0\r\n\r\n");
    assert_eq!(answer.status, 200);
    let head = origin.heads().pop().expect("a request");
    let authority = head.uri().authority().expect("an authority");
    assert_eq!(authority.as_str(), origin.address.to_string());
    let answer = mesh
        .client()
        .exchange("OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(answer.status, 404, "no route begins with a star");
    // A chunk that lies ends the request at the endpoint too.
    let mut client = mesh.client();
    client.send("POST /bad HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    assert_eq!(client.response(false).expect("a refusal").status, 400);
    mesh.wait_stat("cluster.app.upstream_rq_active", 0);
}

#[test]
fn a_client_of_http1_that_leaves_takes_its_stream_with_it() {
    let (gone, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let origin = H2Origin::new(move |mut incoming| {
        let gone = gone.clone();
        async move {
            let mut send = incoming.answer(Response::new(()), false);
            send.send_data(Bytes::from_static(b"begin"), false)
                .expect("sent");
            let reset = std::future::poll_fn(|cx| send.poll_reset(cx)).await;
            gone.send(reset.expect("a reset")).expect("the test waits");
        }
    });
    let mesh = mesh_to(origin.address);
    let mut client = mesh.client();
    client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert!(client.head().is_some());
    drop(client);
    run(async {
        assert_eq!(seen.recv().await, Some(h2::Reason::CANCEL));
    });
    mesh.wait_stat("cluster.app.upstream_rq_active", 0);
}

#[test]
fn an_early_answer_ends_the_exchange() {
    let origin = H2Origin::new(|mut incoming| async move {
        let response = Response::builder().status(413).body(()).expect("valid");
        incoming.answer(response, true);
        // The head must have gone before.
        tokio::time::sleep(Duration::from_millis(50)).await;
        // RFC 9113 §8.1: no error, but no more of it is wanted.
        incoming.respond.send_reset(h2::Reason::NO_ERROR);
    });
    let mesh = mesh_to(origin.address);
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let request = client.request("POST", "/");
        let (response, mut send) = client.send.send_request(request, false).expect("sent");
        send.send_data(Bytes::from_static(b"the first of much"), false)
            .expect("sent");
        let answer = crate::support::h2::finish(response)
            .await
            .expect("a response");
        assert_eq!(answer.status, 413);
        let reset = std::future::poll_fn(|cx| send.poll_reset(cx))
            .await
            .expect("a reset");
        assert_eq!(reset, h2::Reason::NO_ERROR);
    });
    let mut client = mesh.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\nthe first");
    assert_eq!(client.response(false).expect("a response").status, 413);
    client.shutdown();
    assert!(client.is_closed());
    mesh.wait_stat("cluster.app.upstream_rq_active", 0);
}

#[test]
fn a_cluster_may_speak_what_the_client_speaks() {
    // Both protocols on one port: of a proxy.
    let origin = Origin::new(|_| Some(ok("end")));
    let behind = Config::to(&origin).start();
    let mut config = Config::to(&Origin::saying(""));
    config.clusters = vec![Cluster {
        protocol: UpstreamProtocol::Downstream(Http2Options::default()),
        ..cluster("app", &[behind.address])
    }];
    let mesh = config.start();
    assert_eq!(mesh.client().get("/").text(), "end");
    assert_eq!(behind.stat("http.test.downstream_rq_http2_total"), 0);
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        assert_eq!(client.get("/").await.text(), "end");
    });
    assert_eq!(behind.stat("http.test.downstream_rq_http2_total"), 1);
}
