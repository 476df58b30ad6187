//! All four ways between HTTP/1.1 and HTTP/2 (RFC 9113 §8).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use periplus_proxy::snapshot::{Cluster, Http2Options, UpstreamProtocol};

use crate::support::config::{Mesh, cluster};
use crate::support::h2::{H2Client, H2Origin, finish, read, run, until, write};
use crate::support::{Client, Config, Origin};

/// A cluster of this origin, which speaks HTTP/2.
fn http2_cluster(origin: &H2Origin) -> Cluster {
    Cluster {
        protocol: UpstreamProtocol::Http2(Http2Options::default()),
        ..cluster("app", &[origin.address])
    }
}

fn mesh_to(origin: &H2Origin) -> Mesh {
    let mut config = Config::to(&Origin::saying(""));
    config.clusters = vec![http2_cluster(origin)];
    config.start()
}

#[test]
fn http2_to_http2_carries_bodies_and_trailers_both_ways() {
    let origin = H2Origin::echo();
    let mesh = mesh_to(&origin);
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let request = client.request("POST", "/echo?x=1");
        let (response, mut send) = client.send.send_request(request, false).expect("sent");
        write(&mut send, b"hello", false).await.expect("written");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", "yes".parse().expect("a value"));
        send.send_trailers(trailers).expect("sent");
        let answer = finish(response).await.expect("a response");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        assert_eq!(answer.trailer("x-end"), Some("yes"));
        assert_eq!(answer.header("server"), Some("envoy"));
        assert!(answer.header("x-envoy-upstream-service-time").is_some());
        assert_eq!(answer.header("transfer-encoding"), None);
    });
    let head = &origin.heads()[0];
    assert_eq!(head.uri().path_and_query().expect("a path"), "/echo?x=1");
    assert_eq!(head.uri().authority().expect("an authority"), "h.example");
    assert_eq!(head.headers()["x-forwarded-proto"], "http");
    assert!(head.headers().contains_key("x-request-id"));
    assert!(!head.headers().contains_key("host"));
    assert!(!head.headers().contains_key("transfer-encoding"));
    mesh.wait_stat("http.test.downstream_rq_http2_total", 1);
    mesh.wait_stat("cluster.app.upstream_cx_http2_total", 1);
}

#[test]
fn http2_to_http1_carries_bodies_and_trailers_both_ways() {
    let origin = Origin::new(|_| {
        Some(
            b"HTTP/1.1 201 Made\r\ntransfer-encoding: chunked\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n\
              3\r\nabc\r\n0\r\nx-end: yes\r\ncontent-length: 3\r\n\r\n"
                .to_vec(),
        )
    });
    let mesh = Config::to(&origin).start();
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let mut request = client.request("POST", "/a");
        request
            .headers_mut()
            .append("cookie", "a=1".parse().expect("a value"));
        request
            .headers_mut()
            .append("cookie", "b=2".parse().expect("a value"));
        let (response, mut send) = client.send.send_request(request, false).expect("sent");
        write(&mut send, b"hello", false).await.expect("written");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().expect("a value"));
        trailers.insert("content-length", "99".parse().expect("a value"));
        send.send_trailers(trailers).expect("sent");
        let answer = finish(response).await.expect("a response");
        assert_eq!((answer.status, answer.text().as_str()), (201, "abc"));
        assert_eq!(answer.trailer("x-end"), Some("yes"));
        assert_eq!(answer.trailer("content-length"), None);
        assert_eq!(answer.header("x-hop"), None);
        assert_eq!(answer.header("connection"), None);
    });
    let received = origin.last();
    assert_eq!(received.line(), "POST /a HTTP/1.1");
    assert_eq!(received.header("host").as_deref(), Some("h.example"));
    assert_eq!(received.header("cookie").as_deref(), Some("a=1; b=2"));
    assert_eq!(
        received.header("transfer-encoding").as_deref(),
        Some("chunked")
    );
    assert_eq!(received.body, b"hello");
    assert_eq!(received.trailers, "x-sum: 7\n");
}

#[test]
fn http1_to_http2_carries_bodies_and_trailers_both_ways() {
    let origin = H2Origin::echo();
    let mesh = mesh_to(&origin);
    let mut client = mesh.client();
    let answer = client.exchange(
        "POST /e HTTP/1.1\r\nhost: h.example\r\nconnection: x-hop, keep-alive\r\nx-hop: 1\r\n\
         te: trailers\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-end: yes\r\n\r\n",
    );
    assert_eq!((answer.status, answer.text().as_str()), (200, "abcde"));
    assert_eq!(
        answer.header("transfer-encoding").as_deref(),
        Some("chunked")
    );
    assert_eq!(answer.trailers, "x-end: yes\n");
    let head = &origin.heads()[0];
    for gone in ["x-hop", "connection", "transfer-encoding", "keep-alive"] {
        assert!(!head.headers().contains_key(gone), "{gone}");
    }
    assert_eq!(head.headers()["te"], "trailers");
    assert_eq!(head.uri().scheme_str(), Some("http"));

    // The connection is still good, and a length stays one.
    let answer =
        client.exchange("POST /l HTTP/1.1\r\nhost: h.example\r\ncontent-length: 2\r\n\r\nhi");
    assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
    assert_eq!(origin.heads()[1].headers()["content-length"], "2");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn responses_without_a_body() {
    let origin = H2Origin::new(|mut incoming| async move {
        let status: u16 = incoming.head.uri().path()[1..].parse().expect("a status");
        let response = Response::builder().status(status).body(()).expect("valid");
        incoming.answer(response, true);
    });
    let mesh = mesh_to(&origin);
    let mut client = mesh.client();
    assert_eq!(client.get("/204").header("content-length"), None);
    assert_eq!(client.get("/304").header("content-length"), None);
    // Not in chunks: there is nothing.
    let empty = client.get("/200");
    assert_eq!(empty.header("content-length").as_deref(), Some("0"));
    let head = client.exchange("HEAD /200 HTTP/1.1\r\nhost: h.example\r\n\r\n");
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    assert_eq!(client.get("/404").status, 404);
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        for status in [200, 204, 304] {
            let answer = client.get(&format!("/{status}")).await;
            assert_eq!(
                (answer.status, answer.header("content-length")),
                (status, None)
            );
        }
        let request = client.request("HEAD", "/200");
        assert_eq!(
            client
                .exchange(request, b"")
                .await
                .expect("a response")
                .status,
            200
        );
    });
}

#[test]
fn interim_responses_go_on() {
    let origin = H2Origin::new(|mut incoming| async move {
        let interim = Response::builder().status(100).body(()).expect("valid");
        incoming.respond.send_informational(interim).expect("sent");
        let (body, _) = read(&mut incoming.body).await.expect("a body");
        incoming.say(&body).await;
    });
    let mesh = mesh_to(&origin);
    let mut client = mesh.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    let interim = client.head().expect("an interim response");
    assert!(
        interim.starts_with("HTTP/1.1 100 Continue\r\n"),
        "{interim}"
    );
    client.send("ok");
    assert_eq!(client.response(false).expect("a response").text(), "ok");

    let origin = Origin::new(|_| {
        Some(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())
    });
    let mesh = Config::to(&origin).start();
    run(async {
        let client = H2Client::connect(mesh.address).await;
        let request = client.request("GET", "/");
        let (mut response, _) = client
            .send
            .clone()
            .send_request(request, true)
            .expect("sent");
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        let interim = interim.expect("one").expect("an interim response");
        assert_eq!(
            (interim.status().as_u16(), &interim.headers()["link"]),
            (103, &"</a>".parse().expect("a value"))
        );
        assert_eq!(finish(response).await.expect("a response").status, 200);
    });
}

/// An endpoint that sends nothing else would fill the memory of those whose clients do not read.
#[test]
fn interim_responses_without_an_end_are_an_error() {
    const MOST: usize = 2000;
    let origin = Origin::new(|_| Some(b"HTTP/1.1 102 Processing\r\n\r\n".repeat(MOST)));
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    // It may be in the middle of one that the connection ends, so that there is no answer.
    let heads = std::iter::from_fn(|| client.head());
    let interims = heads
        .take_while(|head| head.starts_with("HTTP/1.1 102 "))
        .count();
    assert!(
        (1..MOST).contains(&interims),
        "{interims} interim responses"
    );
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        assert_eq!(client.get("/").await.status, 502);
    });
    mesh.wait_stat("cluster.app.upstream_rq_active", 0);
}

/// More than all windows and buffers on the way hold together.
const BOUND: usize = 4 * 1024 * 1024;
const MUCH: usize = 16 * 1024 * 1024;

/// Sends `MUCH`, and counts what the window has let go.
async fn pour(send: &mut h2::SendStream<Bytes>, sent: &AtomicUsize) -> Result<(), h2::Error> {
    let piece = vec![b'x'; 64 * 1024];
    for n in 1..=MUCH / piece.len() {
        write(send, &piece, n * piece.len() == MUCH).await?;
        sent.store(n * piece.len(), Ordering::SeqCst);
    }
    Ok(())
}

/// Waits until nothing has moved for a while: how much has.
async fn settled(sent: &AtomicUsize) -> usize {
    loop {
        let before = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = sent.load(Ordering::SeqCst);
        if now > 0 && now == before {
            return now;
        }
    }
}

#[test]
fn back_pressure_reaches_the_endpoint_and_releases_it() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let origin = H2Origin::new(move |mut incoming| {
        let sent = counted.clone();
        async move {
            let mut send = incoming.answer(Response::new(()), false);
            pour(&mut send, &sent).await.expect("all is taken");
        }
    });
    let mesh = mesh_to(&origin);
    run(async {
        let client = H2Client::connect(mesh.address).await;
        let request = client.request("GET", "/");
        let (response, _) = client
            .send
            .clone()
            .send_request(request, true)
            .expect("sent");
        let mut body = response.await.expect("a head").into_body();
        let held = settled(&sent).await;
        assert!(held < BOUND, "{held} bytes are under way");
        // Another stream of the same connections is not held up.
        let mut other = client.clone();
        let request = other.request("GET", "/");
        let (response, _) = other.send.send_request(request, true).expect("sent");
        assert_eq!(response.await.expect("a head").status(), 200);
        let (all, _) = read(&mut body).await.expect("the rest");
        assert_eq!(all.len(), MUCH);
    });
}

#[test]
fn back_pressure_reaches_the_client_and_releases_it() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let origin = H2Origin::new(move |mut incoming| {
        let mut wait = wait.clone();
        async move {
            wait.wait_for(|go| *go).await.expect("the test goes on");
            let (body, _) = read(&mut incoming.body).await.expect("a body");
            incoming.say(body.len().to_string().as_bytes()).await;
        }
    });
    let mesh = mesh_to(&origin);
    run(async {
        let client = H2Client::connect(mesh.address).await;
        let request = client.request("POST", "/");
        let (response, mut send) = client
            .send
            .clone()
            .send_request(request, false)
            .expect("sent");
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let pouring = tokio::spawn(async move { pour(&mut send, &counted).await });
        let held = settled(&sent).await;
        assert!(held < BOUND, "{held} bytes are under way");
        go.send(true).expect("the origin waits");
        let answer = finish(response).await.expect("a response");
        assert_eq!(answer.text(), MUCH.to_string());
        pouring.await.expect("a task").expect("all is taken");
    });
}

#[test]
fn a_large_body_goes_up_and_comes_back_over_every_bridge() {
    const SIZE: usize = 3 * 1024 * 1024;
    let body: Vec<u8> = (0..SIZE).map(|i| (i * 7 % 251) as u8).collect();
    let http2 = H2Origin::echo();
    let http1 = Origin::new(|request| {
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            request.body.len()
        )
        .into_bytes();
        answer.extend_from_slice(&request.body);
        Some(answer)
    });
    for mesh in [mesh_to(&http2), Config::to(&http1).start()] {
        run(async {
            let mut client = H2Client::connect(mesh.address).await;
            let request = client.request("POST", "/");
            let answer = client.exchange(request, &body).await.expect("a response");
            assert!(answer.body == body, "{} bytes", answer.body.len());
        });
    }
    let mesh = mesh_to(&http2);
    let mut client = Client::connect(mesh.address);
    let mut request =
        format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {SIZE}\r\n\r\n").into_bytes();
    request.extend_from_slice(&body);
    assert!(client.exchange(&request).body == body);
}

#[test]
fn resets_cross_the_proxy_both_ways() {
    let (gone, seen) = tokio::sync::mpsc::unbounded_channel();
    let origin = H2Origin::new(move |mut incoming| {
        let gone = gone.clone();
        async move {
            match incoming.head.uri().path() {
                "/reset" => incoming.respond.send_reset(h2::Reason::ENHANCE_YOUR_CALM),
                "/half" => {
                    let mut send = incoming.answer(Response::new(()), false);
                    send.send_data(Bytes::from_static(b"half"), false)
                        .expect("sent");
                    // The head must have gone before.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    send.send_reset(h2::Reason::CANCEL);
                }
                _ => {
                    let reset = std::future::poll_fn(|cx| incoming.respond.poll_reset(cx)).await;
                    gone.send(reset.expect("a reset")).expect("the test waits");
                }
            }
        }
    });
    let mesh = mesh_to(&origin);
    let mut seen = seen;
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let answer = client.get("/reset").await;
        assert_eq!(answer.status, 503);
        assert!(
            answer.text().ends_with("reset reason: remote reset"),
            "{}",
            answer.text()
        );

        let request = client.request("GET", "/half");
        let error = client
            .exchange(request, b"")
            .await
            .expect_err("half a response");
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));

        let request = client.request("GET", "/slow");
        let (response, mut send) = client
            .send
            .clone()
            .send_request(request, true)
            .expect("sent");
        until("the stream at the origin", || origin.heads().len() == 3).await;
        send.send_reset(h2::Reason::CANCEL);
        drop(response);
        assert_eq!(seen.recv().await, Some(h2::Reason::CANCEL));
    });
    mesh.wait_stat("cluster.app.upstream_rq_tx_reset", 1);
    mesh.wait_stat("cluster.app.upstream_rq_active", 0);
}

#[test]
fn streams_share_a_connection_up_to_its_limit() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(2);
    let origin = H2Origin::with(builder, |mut incoming| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        incoming.say(b"late").await;
    });
    let mesh = mesh_to(&origin);
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        // The limit is known once the origin's settings are there.
        assert_eq!(client.get("/").await.status, 200);
        let mut waiting = Vec::new();
        for _ in 0..6 {
            let mut client = client.clone();
            waiting.push(tokio::spawn(async move { client.get("/").await.status }));
        }
        for answer in waiting {
            assert_eq!(answer.await.expect("a task"), 200);
        }
    });
    assert_eq!(origin.connections(), 3);
}

#[test]
fn a_circuit_breaker_keeps_streams_on_one_connection() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(1);
    let origin = H2Origin::with(builder, |mut incoming| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        incoming.say(b"late").await;
    });
    let mut config = Config::to(&Origin::saying(""));
    let mut limited = http2_cluster(&origin);
    limited.limits.default.max_connections = 1;
    config.clusters = vec![limited];
    let mesh = config.start();
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        assert_eq!(client.get("/").await.status, 200);
        let mut waiting = Vec::new();
        for _ in 0..5 {
            let mut client = client.clone();
            waiting.push(tokio::spawn(async move { client.get("/").await.status }));
        }
        for answer in waiting {
            assert_eq!(answer.await.expect("a task"), 200);
        }
    });
    assert_eq!(origin.connections(), 1);
}
