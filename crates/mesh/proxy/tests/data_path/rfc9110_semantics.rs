//! What methods, statuses and connection fields mean for a proxy (RFC 9110).

use crate::support::Config;
use crate::support::origin::{Origin, ok};

#[test]
fn a_head_response_has_no_body_whatever_it_says() {
    let origin = Origin::new(|request| match request.path() {
        "/chunked" => Some(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
        _ => Some(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_vec()),
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    let response = client.exchange("HEAD /length HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(response.header("content-length").as_deref(), Some("1000"));
    let response = client.exchange("HEAD /chunked HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(response.status, 200);
    let response = client.exchange("HEAD /again HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(response.status, 200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn statuses_without_a_body_end_with_the_head() {
    let origin = Origin::new(|request| {
        Some(match request.path() {
            "/204" => b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n".to_vec(),
            _ => b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\netag: \"a\"\r\n\r\n".to_vec(),
        })
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    let response = client.get("/204");
    assert_eq!(response.status, 204);
    assert_eq!(response.header("content-length"), None, "RFC 9110 §8.6");
    let response = client.get("/304");
    assert_eq!(response.header("content-length").as_deref(), Some("99"));
    assert_eq!(response.header("etag").as_deref(), Some("\"a\""));
    assert_eq!(client.get("/204").status, 204);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn interim_responses_are_relayed_to_who_knows_them() {
    let origin = Origin::new(|_| {
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n".to_vec();
        bytes.extend_from_slice(b"HTTP/1.1 102 Processing\r\n\r\n");
        bytes.extend(ok("done"));
        Some(bytes)
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    let hints = client.head().expect("interim");
    assert_eq!(hints, "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
    assert_eq!(
        client.head().expect("interim"),
        "HTTP/1.1 102 Processing\r\n\r\n"
    );
    assert_eq!(client.response(false).expect("final").text(), "done");

    let mut old = mesh.client();
    old.send("GET / HTTP/1.0\r\nhost: h\r\n\r\n");
    let head = old.head().expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
}

#[test]
fn a_client_that_expects_100_continue_gets_it_from_the_origin() {
    let origin = Origin::new(|request| Some(ok(&String::from_utf8_lossy(&request.body))));
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    for _ in 0..2 {
        client.send(
            "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
        );
        assert_eq!(
            client.head().expect("interim"),
            "HTTP/1.1 100 Continue\r\n\r\n"
        );
        client.send("hello");
        assert_eq!(client.response(false).expect("final").text(), "hello");
    }
    assert_eq!(
        origin.last().header("expect").as_deref(),
        Some("100-continue")
    );
}

#[test]
fn an_origin_may_refuse_instead_of_saying_continue() {
    let origin = Origin::raw(|mut client, _| {
        while client.head().is_some() {
            client.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.response(false).expect("final").status, 417);
    assert!(client.is_closed(), "whether the body comes nobody knows");
}

#[test]
fn hop_by_hop_fields_stay_on_their_hop() {
    let origin = Origin::new(|_| {
        Some(
            b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-secret\r\nkeep-alive: timeout=5\r\n\
              x-secret: 1\r\nproxy-connection: x\r\nupgrade: h2c\r\nx-kept: 1\r\n\
              content-length: 2\r\n\r\nok"
                .to_vec(),
        )
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    let response = client.exchange(
        "GET / HTTP/1.1\r\nhost: h\r\nConnection: x-foo, TE, Keep-Alive\r\nX-Foo: 1\r\nX-Foo: 2\r\n\
         te: gzip, trailers;q=0.5, trailers\r\nkeep-alive: 3\r\nproxy-connection: keep-alive\r\n\
         trailer: x\r\nx-kept: 1\r\n\r\n",
    );
    let request = origin.last();
    for name in ["connection", "x-foo", "keep-alive", "proxy-connection"] {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert_eq!(request.header("te").as_deref(), Some("trailers"));
    assert_eq!(request.header("trailer").as_deref(), Some("x"));
    assert_eq!(request.header("x-kept").as_deref(), Some("1"));
    for name in [
        "connection",
        "x-secret",
        "keep-alive",
        "proxy-connection",
        "upgrade",
    ] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(response.header("x-kept").as_deref(), Some("1"));
    assert_eq!(response.text(), "ok");
}

#[test]
fn options_asterisk_passes() {
    let origin = Origin::saying("");
    let mut config = Config::to(&origin);
    config.routes[0].path = periplus_proxy::snapshot::PathMatch::Prefix(String::new());
    let mesh = config.start();
    let response = mesh
        .client()
        .exchange("OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(response.status, 200);
    assert_eq!(origin.last().line(), "OPTIONS * HTTP/1.1");
}

#[test]
fn an_upgrade_to_h2c_is_ignored() {
    let origin = Origin::saying("plain");
    let mesh = Config::to(&origin).start();
    let response = mesh.client().exchange(
        "GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
         http2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
    );
    assert_eq!(response.text(), "plain");
    let request = origin.last();
    for name in ["connection", "upgrade", "http2-settings"] {
        assert_eq!(request.header(name), None, "{name}");
    }
}

#[test]
fn a_switch_that_nobody_asked_for_is_a_bad_gateway() {
    let origin =
        Origin::new(|_| Some(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_vec()));
    let mesh = Config::to(&origin).start();
    assert_eq!(mesh.client().get("/").status, 502);
}
