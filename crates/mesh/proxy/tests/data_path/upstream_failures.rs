//! Upstreams that fail: Envoy's statuses, texts and flags, on the response and on the spans.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use periplus_proxy::snapshot::{Forward, RouteAction};

use crate::support::collector::TestSpan;
use crate::support::config::{Mesh, cluster, dead_address, forward_within};
use crate::support::h2::{H2Client, run};
use crate::support::origin::{Origin, ok};
use crate::support::{Collector, Config, forward, pause, route};

const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

/// A gateway whose spans tell each attempt, with an origin that misbehaves by path.
fn gateway(collector: &Collector) -> (Mesh, Origin) {
    let origin = Origin::new(|request| match request.path() {
        "/close" => None,
        "/garbage" => Some(b"nonsense\r\n\r\n".to_vec()),
        "/clte" => Some(
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        ),
        "/twocl" => {
            Some(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd".to_vec())
        }
        "/barelf" => Some(b"HTTP/1.1 200 OK\ncontent-length: 0\n\n".to_vec()),
        "/gzip" => Some(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n".to_vec()),
        "/huge" => {
            Some(format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(100_000)).into_bytes())
        }
        "/500" => Some(b"HTTP/1.1 500 Oops\r\ncontent-length: 1\r\n\r\nx".to_vec()),
        "/404" => Some(b"HTTP/1.1 404 No\r\ncontent-length: 1\r\n\r\nx".to_vec()),
        "/slow" => {
            pause(Duration::from_millis(600));
            Some(ok("late"))
        }
        _ => Some(ok("fine")),
    });
    let short = Some(Duration::from_millis(100));
    let mesh = Config::to(&origin)
        .zipkin(collector)
        .gateway()
        .cluster(cluster("refused", &[dead_address()]))
        .cluster(cluster("empty", &[]))
        .routes(vec![
            route("/refused", forward("refused")),
            route("/uh", forward("empty")),
            route("/nc", forward("missing")),
            route("/slow", forward_within("app", short)),
            route(
                "/direct",
                RouteAction::Respond {
                    status: 418,
                    body: "short and stout".into(),
                },
            ),
            route("/no", forward("app")),
            route("/", forward("app")),
        ])
        .start();
    (mesh, origin)
}

struct Expected {
    path: &'static str,
    status: u16,
    body: String,
    flags: &'static str,
    /// Flags, status and reason of the attempt's span; none if there was no attempt.
    attempt: Option<(&'static str, &'static str, &'static str)>,
}

fn reset(path: &'static str, status: u16, reason: &'static str, flags: &'static str) -> Expected {
    Expected {
        path,
        status,
        body: format!("{RESET}{reason}"),
        flags,
        attempt: Some((flags, "0", reason)),
    }
}

#[test]
fn each_failure_has_its_status_text_and_flag() {
    let collector = Collector::zipkin();
    let (mesh, _origin) = gateway(&collector);
    let without_attempt = |path, status, body: &str, flags| Expected {
        path,
        status,
        body: body.to_owned(),
        flags,
        attempt: None,
    };
    let cases = [
        reset("/refused", 503, "remote connection failure", "UF"),
        reset("/close", 503, "connection termination", "UC"),
        reset("/garbage", 502, "protocol error", "UPE"),
        reset("/clte", 502, "protocol error", "UPE"),
        reset("/twocl", 502, "protocol error", "UPE"),
        reset("/barelf", 502, "protocol error", "UPE"),
        reset("/gzip", 502, "protocol error", "UPE"),
        reset("/huge", 502, "protocol error", "UPE"),
        Expected {
            path: "/slow",
            status: 504,
            body: "upstream request timeout".to_owned(),
            flags: "UT",
            attempt: Some(("-", "0", "")),
        },
        Expected {
            path: "/500",
            status: 500,
            body: "x".to_owned(),
            flags: "-",
            attempt: Some(("-", "500", "")),
        },
        Expected {
            path: "/404",
            status: 404,
            body: "x".to_owned(),
            flags: "-",
            attempt: Some(("-", "404", "")),
        },
        without_attempt("/uh", 503, "no healthy upstream", "UH"),
        without_attempt("/nc", 503, "", "NC"),
        without_attempt("/direct", 418, "short and stout", "-"),
    ];
    let mut seen = 0;
    let mut client = mesh.client();
    for case in cases {
        let response = client.get(case.path);
        assert_eq!(response.status, case.status, "{}", case.path);
        assert_eq!(response.text(), case.body, "{}", case.path);
        assert_eq!(response.header("server").as_deref(), Some("envoy"));
        assert!(response.header("date").is_some(), "{}", case.path);

        let count = if case.attempt.is_some() { 2 } else { 1 };
        let spans = collector.wait(seen + count);
        let new: Vec<&TestSpan> = spans[seen..].iter().collect();
        seen += count;
        let server = new
            .iter()
            .find(|span| span.kind == "SERVER")
            .expect("a span");
        assert_eq!(server.tag("response_flags"), case.flags, "{}", case.path);
        assert_eq!(server.tag("http.status_code"), case.status.to_string());
        let size = case.body.len().to_string();
        assert_eq!(server.tag("response_size"), size, "{}", case.path);
        let error = if case.status >= 500 { "true" } else { "" };
        assert_eq!(server.tag("error"), error, "{}", case.path);
        let named = case.flags != "NC" && case.path != "/direct";
        assert_eq!(
            server.tags.contains_key("upstream_cluster"),
            named,
            "{}",
            case.path
        );

        let Some((flags, status, reason)) = case.attempt else {
            continue;
        };
        let attempt = new
            .iter()
            .find(|span| span.kind == "CLIENT")
            .expect("a span");
        assert_eq!(attempt.parent.as_ref(), Some(&server.id), "{}", case.path);
        assert_eq!(attempt.tag("response_flags"), flags, "{}", case.path);
        assert_eq!(attempt.tag("http.status_code"), status, "{}", case.path);
        assert_eq!(attempt.tag("error.reason"), reason, "{}", case.path);
        let canceled = if case.flags == "UT" { "true" } else { "" };
        assert_eq!(attempt.tag("canceled"), canceled, "{}", case.path);
        let protocol = if flags == "UF" { "-" } else { "HTTP/1.1" };
        assert_eq!(attempt.tag("http.protocol"), protocol, "{}", case.path);
        let failed = if status == "404" { "" } else { "true" };
        assert_eq!(attempt.tag("error"), failed, "{}", case.path);
    }
    mesh.wait_stat("cluster.app.upstream_rq_active", 0);
    mesh.wait_stat("cluster.app.upstream_rq_timeout", 1);
    mesh.wait_stat("cluster.refused.upstream_cx_connect_fail", 1);
    mesh.wait_stat("cluster.refused.upstream_cx_active", 0);
}

#[test]
fn bad_responses_are_as_bad_to_a_client_of_http2() {
    let collector = Collector::zipkin();
    let (mesh, _origin) = gateway(&collector);
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        for (path, status, reason) in [
            ("/close", 503, "connection termination"),
            ("/garbage", 502, "protocol error"),
            ("/clte", 502, "protocol error"),
            ("/twocl", 502, "protocol error"),
            ("/barelf", 502, "protocol error"),
            ("/gzip", 502, "protocol error"),
            ("/huge", 502, "protocol error"),
        ] {
            let answer = client.get(path).await;
            let expected = (status, format!("{RESET}{reason}"));
            assert_eq!((answer.status, answer.text()), expected, "{path}");
            // The connection goes on.
            assert_eq!(client.get("/").await.text(), "fine", "after {path}");
        }
    });
}

#[test]
fn no_route_is_404() {
    let collector = Collector::zipkin();
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin)
        .zipkin(&collector)
        .routes(vec![route("/only", forward("app"))])
        .start();
    let mut client = mesh.client();
    let response = client.get("/else");
    assert_eq!((response.status, response.text().as_str()), (404, ""));
    let span = collector.one();
    assert_eq!(span.tag("response_flags"), "NR");
    assert_eq!(span.tag("error"), "");
    assert_eq!(client.get("/only").status, 200, "the connection goes on");
    mesh.wait_stat("http.test.no_route", 1);
}

#[test]
fn a_listener_without_routes_answers_404() {
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin)
        .with_manager(|manager| manager.routes = None)
        .start();
    assert_eq!(mesh.client().get("/").status, 404);
}

#[test]
fn a_response_that_breaks_off_never_looks_complete() {
    let collector = Collector::zipkin();
    let origin = Origin::new(|_| None);
    let cut = |head: &'static str| {
        Origin::raw(move |mut client, _| {
            client.head();
            client.send(head);
        })
    };
    let length = cut("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    let chunked = cut("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    let bad = cut("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalfX\r\n");
    let mesh = Config::to(&origin)
        .zipkin(&collector)
        .gateway()
        .cluster(cluster("length", &[length.address]))
        .cluster(cluster("chunked", &[chunked.address]))
        .routes(vec![
            route("/length", forward("length")),
            route("/chunked", forward("chunked")),
        ])
        .start();
    for (seen, path) in ["/length", "/chunked"].into_iter().enumerate() {
        for version in ["1.1", "1.0"] {
            let mut client = mesh.client();
            client.send(format!("GET {path} HTTP/{version}\r\nhost: h\r\n\r\n"));
            let head = client.head().expect("a head");
            assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
            let mut block = [0; 1024];
            // To HTTP/1.0 only the reset can say that a body without length is incomplete.
            let mut body = std::mem::take(&mut client.unread);
            let clean = loop {
                match std::io::Read::read(&mut client.stream, &mut block) {
                    Ok(0) => break true,
                    Ok(n) => body.extend_from_slice(&block[..n]),
                    Err(_) => break false,
                }
            };
            let body = String::from_utf8_lossy(&body).into_owned();
            assert!(!body.contains("0\r\n\r\n"), "{path}: {body:?}");
            assert!(!clean, "{path} HTTP/{version} ended cleanly");
        }
        let spans = collector.wait(4 * (seen + 1));
        for span in &spans[4 * seen..] {
            assert_eq!(span.tag("response_flags"), "UPE", "{span:#?}");
            assert_eq!(span.tag("http.status_code"), "200");
            let reason = if span.kind == "CLIENT" {
                "protocol error"
            } else {
                ""
            };
            assert_eq!(span.tag("error.reason"), reason);
        }
    }
    drop(bad);
}

#[test]
fn a_client_that_leaves_is_noticed_while_the_upstream_works() {
    let collector = Collector::zipkin();
    let origin = Origin::new(|request| {
        if request.path() == "/hang" {
            pause(Duration::from_secs(60));
        }
        Some(ok("fine"))
    });
    let mesh = Config::to(&origin).zipkin(&collector).gateway().start();
    let begin = Instant::now();
    let mut client = mesh.client();
    client.send("GET /hang HTTP/1.1\r\nhost: h\r\n\r\n");
    origin.nth(1);
    drop(client);
    let spans = collector.wait(2);
    assert!(begin.elapsed() < Duration::from_secs(10));
    for span in &spans {
        assert_eq!(span.tag("http.status_code"), "0", "{span:#?}");
        assert_eq!(span.tag("error"), "true");
        let (flags, canceled) = if span.kind == "SERVER" {
            ("DC", "")
        } else {
            ("-", "true")
        };
        assert_eq!(span.tag("response_flags"), flags, "{span:#?}");
        assert_eq!(span.tag("canceled"), canceled);
    }
    mesh.wait_stat("http.test.downstream_rq_active", 0);
    mesh.wait_stat("http.test.downstream_rq_rx_reset", 1);
    mesh.wait_stat("cluster.app.upstream_cx_active", 0);
}

#[test]
fn a_client_that_leaves_in_its_body_takes_the_upstream_request_along() {
    let collector = Collector::zipkin();
    let origin = Origin::raw(|mut client, origin| {
        client.head();
        origin.note(Default::default());
        client.rest();
        origin.note(Default::default());
    });
    let mesh = Config::to(&origin).zipkin(&collector).start();
    let mut client = mesh.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nhalf");
    origin.nth(1);
    drop(client);
    origin.nth(2);
    let span = collector.one();
    assert_eq!(span.tag("response_flags"), "DC");
    assert_eq!(span.tag("request_size"), "4");
}

#[test]
fn an_endpoint_that_does_not_answer_the_handshake_times_out() {
    let collector = Collector::zipkin();
    let origin = Origin::saying("fine");
    // A full backlog: the kernel answers no more connection attempts.
    let full = TcpListener::bind("127.0.0.1:0").expect("a port");
    let socket = socket2::SockRef::from(&full);
    socket.listen(0).expect("a small backlog");
    let address = full.local_addr().expect("an address");
    let _waiting: Vec<_> = (0..4)
        .filter_map(|_| {
            std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()
        })
        .collect();
    let mut slow = cluster("slow", &[address]);
    slow.connect_timeout = Duration::from_millis(100);
    let mesh = Config::to(&origin)
        .zipkin(&collector)
        .cluster(slow)
        .routes(vec![route("/", forward("slow"))])
        .start();
    let response = mesh.client().get("/");
    assert_eq!(response.status, 503);
    assert_eq!(response.text(), format!("{RESET}connection timeout"));
    assert_eq!(collector.one().tag("response_flags"), "UF");
    mesh.wait_stat("cluster.slow.upstream_cx_connect_timeout", 1);
}

#[test]
fn idle_streams_are_cut_with_the_status_of_who_was_idle() {
    let collector = Collector::zipkin();
    let origin = Origin::new(|_| {
        pause(Duration::from_secs(60));
        None
    });
    let mesh = Config::to(&origin)
        .zipkin(&collector)
        .with_manager(|manager| manager.stream_idle_timeout = Some(Duration::from_millis(100)))
        .start();
    let response = mesh.client().get("/");
    assert_eq!(
        (response.status, response.text().as_str()),
        (504, "stream timeout")
    );
    let response = mesh
        .client()
        .exchange("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nhalf");
    assert_eq!(
        (response.status, response.text().as_str()),
        (408, "stream timeout")
    );
    for span in collector.wait(2) {
        assert_eq!(span.tag("response_flags"), "SI");
    }
    mesh.wait_stat("http.test.downstream_rq_idle_timeout", 2);
}

#[test]
fn circuit_breakers_refuse_what_is_over_the_limit() {
    let collector = Collector::zipkin();
    let origin = Origin::new(|request| {
        if request.path() == "/hold" {
            pause(Duration::from_millis(500));
        }
        Some(ok("fine"))
    });
    let mut limited = cluster("limited", &[origin.address]);
    limited.limits.default.max_requests = 1;
    let mut single = cluster("single", &[origin.address]);
    single.limits.default.max_connections = 1;
    single.limits.default.max_pending_requests = 1;
    let mut routes = vec![
        route("/hold", forward("limited")),
        route("/limited", forward("limited")),
    ];
    routes.push(route("/", forward("single")));
    let mesh = Config::to(&origin)
        .zipkin(&collector)
        .cluster(limited)
        .cluster(single)
        .routes(routes)
        .start();
    let mut holder = mesh.client();
    holder.send("GET /hold HTTP/1.1\r\nhost: h\r\n\r\n");
    origin.nth(1);
    let response = mesh.client().get("/limited");
    assert_eq!(response.status, 503);
    assert_eq!(response.text(), format!("{RESET}overflow"));
    assert_eq!(
        response.header("x-envoy-overloaded").as_deref(),
        Some("true")
    );
    assert_eq!(holder.response(false).expect("a response").status, 200);
    assert_eq!(
        mesh.client().get("/limited").status,
        200,
        "the breaker has closed again"
    );
    let flags: Vec<_> = collector
        .wait(3)
        .iter()
        .map(|span| span.tag("response_flags").to_owned())
        .collect();
    assert_eq!(flags, ["UO", "-", "-"]);
}

#[test]
fn requests_over_the_connection_limit_wait_for_a_connection() {
    let origin = Origin::new(|_| {
        pause(Duration::from_millis(20));
        Some(ok("fine"))
    });
    let mut single = cluster("app", &[origin.address]);
    single.limits.default.max_connections = 1;
    let mut config = Config::to(&origin);
    config.clusters = vec![single];
    let mesh = config.start();
    let mut clients: Vec<_> = (0..8).map(|_| mesh.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response(false).expect("a response").status, 200);
    }
    assert_eq!(origin.connections(), 1);
    assert!(mesh.stat("cluster.app.upstream_cx_overflow") >= 7);
    mesh.wait_stat("cluster.app.upstream_rq_pending_active", 0);
}

#[test]
fn each_priority_has_its_own_breakers() {
    let origin = Origin::new(|request| {
        if request.path() == "/hold" {
            pause(Duration::from_millis(500));
        }
        Some(ok("fine"))
    });
    let mut limited = cluster("app", &[origin.address]);
    limited.limits.default.max_requests = 1;
    limited.limits.default.tracks_remaining = true;
    limited.limits.high.max_requests = 2;
    let high = RouteAction::Forward(Forward {
        is_high_priority: true,
        ..Forward::to("app")
    });
    let mut config = Config::to(&origin);
    config.clusters = vec![limited];
    config.routes = vec![route("/high", high), route("/", forward("app"))];
    let mesh = config.start();
    let breaker = |name: &str| mesh.stat(&format!("cluster.app.circuit_breakers.{name}"));
    assert_eq!(
        (breaker("default.rq_open"), breaker("default.remaining_rq")),
        (0, 1)
    );
    let mut holder = mesh.client();
    holder.send("GET /hold HTTP/1.1\r\nhost: h\r\n\r\n");
    origin.nth(1);
    assert_eq!(
        (breaker("default.rq_open"), breaker("default.remaining_rq")),
        (1, 0)
    );
    assert_eq!(breaker("high.rq_open"), 0);
    assert_eq!(mesh.client().get("/").status, 503);
    assert_eq!(mesh.client().get("/high").status, 200);
    assert_eq!(holder.response(false).expect("a response").status, 200);
    mesh.wait_stat("cluster.app.circuit_breakers.default.rq_open", 0);
}
