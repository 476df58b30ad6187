//! Message framing in both directions (RFC 9112 §6, §7, §9).

use std::time::Duration;

use crate::support::origin::{Origin, ok, read_request};
use crate::support::{Client, Config, pause, wait_for};

#[test]
fn bodies_of_known_length_pass_both_ways() {
    let origin = Origin::new(|request| Some(ok(&format!("got {}", request.body.len()))));
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    for size in [1, 100, 5000, 16 * 1024, 100_000, 3_000_000] {
        let mut request =
            format!("POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: {size}\r\n\r\n").into_bytes();
        request.extend(std::iter::repeat_n(b'x', size));
        let response = client.exchange(request);
        assert_eq!(response.text(), format!("got {size}"));
        assert_eq!(origin.last().body.len(), size);
        assert_eq!(origin.last().header("transfer-encoding"), None);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn chunked_bodies_pass_both_ways_whatever_the_writes() {
    let origin = Origin::new(|request| {
        let mut response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in request.body.chunks(7) {
            response.extend(format!("{:x};ext=\"a b\"\r\n", chunk.len()).into_bytes());
            response.extend_from_slice(chunk);
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(b"0\r\n\r\n");
        Some(response)
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    let request = "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n00B;x=y\r\n, wonderful\r\n6\r\n world\r\n0\r\n\r\n";
    for step in [1, 2, 3, 7, 1000] {
        for part in request.as_bytes().chunks(step) {
            client.send(part);
        }
        let response = client.response(false).expect("a response");
        assert_eq!(
            response.text(),
            "hello, wonderful world",
            "in writes of {step}"
        );
        assert_eq!(
            response.header("transfer-encoding").as_deref(),
            Some("chunked")
        );
        assert_eq!(response.header("content-length"), None);
    }
    assert_eq!(origin.connections(), 1, "kept alive");
}

#[test]
fn trailers_go_on_without_those_that_would_lie() {
    let origin = Origin::new(|_| {
        Some(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
              2\r\nok\r\n0\r\nchecksum: 1\r\ncontent-length: 7\r\ngrpc-status: 0\r\n\r\n"
                .to_vec(),
        )
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    let response = client.exchange(
        "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
         2\r\nab\r\n0\r\nx-sum: 2\r\nhost: evil\r\n\r\n",
    );
    assert_eq!(response.trailers, "checksum: 1\ngrpc-status: 0\n");
    assert_eq!(origin.last().trailers, "x-sum: 2\n");
}

#[test]
fn a_response_until_close_becomes_chunked() {
    let origin = Origin::raw(|mut client, _| {
        if read_request(&mut client).is_some() {
            client.send("HTTP/1.1 200 OK\r\n\r\nuntil ");
            client.send("close");
        }
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!(response.text(), "until close");
        assert_eq!(
            response.header("transfer-encoding").as_deref(),
            Some("chunked")
        );
    }
    assert_eq!(origin.connections(), 2);
}

#[test]
fn http_1_0_clients_get_what_they_understand() {
    let origin = Origin::new(|request| match request.path() {
        "/chunked" => Some(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec(),
        ),
        _ => Some(ok("abc")),
    });
    let mesh = Config::to(&origin).start();

    let mut client = mesh.client();
    let response = client.exchange("GET /chunked HTTP/1.0\r\n\r\n");
    assert_eq!(response.text(), "abc");
    assert_eq!(response.header("transfer-encoding"), None);
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    assert!(client.is_closed());
    assert_eq!(origin.last().line(), "GET /chunked HTTP/1.1");
    assert_eq!(origin.last().header("host").as_deref(), Some(""));

    let mut client = mesh.client();
    for _ in 0..2 {
        let response =
            client.exchange("GET /length HTTP/1.0\r\nhost: h\r\nconnection: keep-alive\r\n\r\n");
        assert_eq!(response.text(), "abc");
        assert_eq!(response.header("connection").as_deref(), Some("keep-alive"));
    }
    client.send("GET /length HTTP/1.0\r\nhost: h\r\nconnection: keep-alive, close\r\n\r\n");
    assert!(client.response(false).is_some());
    assert!(client.is_closed());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::new(|request| Some(ok(request.path())));
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    let mut requests = String::new();
    for i in 0..200 {
        requests.push_str(&format!("POST /{i} HTTP/1.1\r\nhost: h\r\n"));
        requests.push_str(match i % 3 {
            0 => "content-length: 3\r\n\r\nabc",
            1 => "transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            _ => "\r\n",
        });
    }
    client.send(requests);
    for i in 0..200 {
        let response = client.response(false).expect("a response");
        assert_eq!(response.text(), format!("/{i}"));
    }
    assert_eq!(origin.received().len(), 200);
}

#[test]
fn a_client_may_close_its_writing_side_after_its_request() {
    let origin = Origin::new(|_| {
        pause(Duration::from_millis(100));
        Some(ok("still here"))
    });
    let mesh = Config::to(&origin).start();
    for close in ["", "connection: close\r\n"] {
        let mut client = mesh.client();
        let request = format!("GET / HTTP/1.1\r\nhost: h\r\n{close}\r\n");
        client.send(&request);
        if close.is_empty() {
            client.send(&request);
        }
        client.shutdown();
        let response = client.response(false).expect("a response");
        assert_eq!(response.text(), "still here");
        if close.is_empty() {
            let second = client.response(false).expect("the pipelined request too");
            assert_eq!(second.text(), "still here");
        }
        assert!(client.is_closed());
    }
}

#[test]
fn a_client_that_has_closed_its_writing_side_waits_as_long_as_it_said() {
    let origin = Origin::new(|_| {
        pause(Duration::from_secs(3));
        Some(ok("at last"))
    });
    let mesh = Config::to(&origin).start();
    // One that says that this is its last request is believed to be waiting for the answer.
    let mut patient = mesh.client();
    patient.send("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    patient.shutdown();
    // One that meant to go on has most likely gone.
    let mut gone = mesh.client();
    gone.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    gone.shutdown();
    assert!(gone.response(false).is_none(), "no answer, within a second");
    assert!(gone.is_closed());
    let response = patient.response(false).expect("an answer");
    assert_eq!(response.text(), "at last");
    assert!(patient.is_closed());
}

#[test]
fn connection_close_is_honoured_on_both_sides() {
    let origin = Origin::new(|_| {
        Some(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".to_vec())
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!(response.text(), "ok");
        assert_eq!(
            response.header("connection"),
            None,
            "the client's stays open"
        );
    }
    assert_eq!(origin.connections(), 3);
    let response = client.exchange("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    assert_eq!(response.header("connection").as_deref(), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn an_absolute_target_replaces_the_host() {
    let origin = Origin::saying("ok");
    let mut config = Config::to(&origin);
    config.routes[0].path = periplus_proxy::snapshot::PathMatch::Prefix(String::new());
    let mesh = config.start();
    let mut client = mesh.client();
    let cases = [
        (
            "GET http://reviews:9080/reviews/0?a=b",
            "GET /reviews/0?a=b",
        ),
        ("GET http://reviews:9080", "GET /"),
        ("GET http://reviews:9080?a=b", "GET /?a=b"),
        ("GET HTTP://reviews:9080/", "GET /"),
        ("OPTIONS http://reviews:9080", "OPTIONS *"),
        ("OPTIONS http://reviews:9080/x", "OPTIONS /x"),
    ];
    for (target, line) in cases {
        let response = client.exchange(format!("{target} HTTP/1.1\r\nhost: other\r\n\r\n"));
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(origin.last().line(), format!("{line} HTTP/1.1"));
        assert_eq!(
            origin.last().header("host").as_deref(),
            Some("reviews:9080"),
            "{target}"
        );
    }
    client.get("/plain");
    assert_eq!(origin.last().header("host").as_deref(), Some("h.example"));
}

#[test]
fn a_slow_reader_holds_back_the_origin() {
    const SIZE: usize = 64 * 1024 * 1024;
    let origin = Origin::raw(|mut client, origin| {
        if read_request(&mut client).is_none() {
            return;
        }
        client.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"));
        let block = [b'x'; 64 * 1024];
        for _ in 0..SIZE / block.len() {
            client.send(block);
            origin.note(Default::default());
        }
        client.more();
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    client.head().expect("a head");
    // The origin stops once all buffers on the way are full: far below the size of the body.
    let stuck = wait_for("the origin to stop", || {
        let before = origin.received().len();
        pause(Duration::from_millis(200));
        (origin.received().len() == before && before > 0).then_some(before)
    });
    assert!(
        stuck * 64 * 1024 < SIZE / 2,
        "{stuck} blocks went into buffers"
    );
    assert_eq!(client.exactly(SIZE).expect("the body").len(), SIZE);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let origin = Origin::raw(|mut client, _| {
        client.head();
        client.send(
            "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig",
        );
        client.shutdown();
        client.more();
    });
    let mesh = Config::to(&origin).start();
    let mut client: Client = mesh.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100000000\r\n\r\n");
    client.send([b'x'; 100_000]);
    let response = client.response(false).expect("a response");
    assert_eq!((response.status, response.text().as_str()), (413, "big"));
    assert!(client.is_closed(), "the rest of the body is not a request");
}
