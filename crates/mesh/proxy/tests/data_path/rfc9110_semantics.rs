//! What methods, statuses and connection fields mean for a proxy (RFC 9110).

use periplus_proxy::snapshot::Cluster;

use crate::support::Config;
use crate::support::config::cluster;
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

/// Nobody has asked the proxy to look into bodies: what is compressed stays as it is, with all that is said of it.
#[test]
fn compressed_bodies_pass_as_they_are() {
    const CODINGS: [&str; 4] = ["gzip", "br", "zstd", "deflate"];
    // No coding would begin like this, so that whoever unpacks it fails.
    let body = |coding: &str| [coding.as_bytes(), &[0x1f, 0x8b, 0, 0xff, b'\r', b'\n', 0]].concat();
    let origin = Origin::new(move |request| {
        let coding = request.header("x-coding").expect("a coding");
        let body = body(&coding);
        let said = format!(
            "content-type: text/html\r\ncontent-encoding: {coding}\r\nvary: accept-encoding\r\netag: W/\"{coding}\"\r\n"
        );
        let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
        answer.extend_from_slice(said.as_bytes());
        if request.path() == "/chunked" {
            answer.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            answer.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            answer.extend_from_slice(&body);
            answer.extend_from_slice(b"\r\n0\r\n\r\n");
        } else {
            answer.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            answer.extend_from_slice(&body);
        }
        Some(answer)
    });
    let mesh = Config::to(&origin).start();
    let mut client = mesh.client();
    for coding in CODINGS {
        for path in ["/chunked", "/length"] {
            let sent = body(coding);
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: h\r\naccept-encoding: gzip, br\r\nx-coding: {coding}\r\n\
                 content-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
                sent.len()
            );
            let response = client.exchange([head.as_bytes(), &sent].concat());
            let case = format!("{coding} {path}");
            assert_eq!(response.body, body(coding), "{case}");
            let header = |name: &str| response.header(name);
            assert_eq!(
                header("content-encoding").as_deref(),
                Some(coding),
                "{case}"
            );
            assert_eq!(header("vary").as_deref(), Some("accept-encoding"), "{case}");
            assert_eq!(header("etag"), Some(format!("W/\"{coding}\"")), "{case}");
            let length = (path == "/length").then(|| body(coding).len().to_string());
            assert_eq!(header("content-length"), length, "{case}");
            let received = origin.last();
            assert_eq!(received.body, sent, "{case}");
            let header = |name: &str| received.header(name);
            assert_eq!(
                header("content-encoding").as_deref(),
                Some(coding),
                "{case}"
            );
            assert_eq!(
                header("accept-encoding").as_deref(),
                Some("gzip, br"),
                "{case}"
            );
        }
    }
}

#[test]
fn heads_of_responses_have_the_limits_of_their_cluster() {
    let origin = Origin::new(|request| {
        let (lines, bytes) = match request.path() {
            "/many" => (20, 1),
            "/long" => (1, 70_000),
            _ => (8, 1),
        };
        let line = format!("x-line: {}\r\n", "y".repeat(bytes));
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n",
            line.repeat(lines)
        );
        Some(head.into_bytes())
    });
    for (kilobytes, count, statuses) in [
        (60, 256, [200, 200, 502]),
        (60, 12, [200, 502, 502]),
        (80, 12, [200, 502, 200]),
    ] {
        let mut config = Config::to(&origin);
        config.clusters = vec![Cluster {
            max_response_head_bytes: kilobytes * 1024,
            max_response_headers: count,
            ..cluster("app", &[origin.address])
        }];
        let mesh = config.start();
        for (path, status) in ["/few", "/many", "/long"].into_iter().zip(statuses) {
            let response = mesh.client().get(path);
            assert_eq!(
                response.status, status,
                "{path} of {kilobytes} KiB, {count}"
            );
        }
    }
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
