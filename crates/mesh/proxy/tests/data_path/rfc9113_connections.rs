//! Connections of HTTP/2: how they begin, what they bear, and how they end (RFC 9113 §3, §5, §6.8).

use std::time::{Duration, Instant};

use periplus_proxy::snapshot::{Codec, Keepalive, RouteAction};

use crate::support::config::Mesh;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, connect, frame, next, next_of,
};
use crate::support::h2::{H2Client, run, until};
use crate::support::{Client, Collector, Config, DEADLINE, Origin, pause, route, wait_for};

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "h"),
    (":path", "/"),
];
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// An origin that never answers.
fn silent() -> Origin {
    Origin::raw(|mut client, _| while client.more().is_some() {})
}

#[test]
fn both_protocols_share_a_port() {
    let mesh = Config::to(&Origin::saying("ok")).start();
    assert_eq!(mesh.client().get("/").text(), "ok");
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        for _ in 0..3 {
            assert_eq!(client.get("/").await.text(), "ok");
        }
    });
    assert_eq!(mesh.stat("http.test.downstream_cx_http1_total"), 1);
    assert_eq!(mesh.stat("http.test.downstream_cx_http2_total"), 1);
    assert_eq!(mesh.stat("http.test.downstream_rq_http2_total"), 3);
    assert_eq!(mesh.stat("http.test.downstream_rq_2xx"), 4);
}

#[test]
fn the_preface_may_come_in_pieces_and_what_only_begins_like_it_is_http1() {
    let mesh = Config::to(&Origin::saying("ok")).start();
    let mut client = Client::connect(mesh.address);
    for byte in PREFACE {
        client.send([*byte]);
        pause(Duration::from_millis(1));
    }
    client.send(frame(SETTINGS, 0, 0, ""));
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(&GET)));
    let data = next_of(&mut client, DATA).expect("a body");
    assert_eq!(data.payload, b"ok");

    let mut client = Client::connect(mesh.address);
    client.send("PR");
    pause(Duration::from_millis(20));
    assert_eq!(
        client
            .exchange("OPFIND / HTTP/1.1\r\nhost: h\r\n\r\n")
            .status,
        200
    );
    let answer = mesh.client().exchange("PRI * HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(answer.status, 400);
}

#[test]
fn a_listener_may_speak_one_protocol_only() {
    let origin = Origin::saying("ok");
    let mesh = Config::to(&origin)
        .with_manager(|manager| manager.codec = Codec::Http1)
        .start();
    let mut client = Client::connect(mesh.address);
    client.send(PREFACE);
    let answer = client.response(false).expect("a refusal");
    assert_eq!(answer.status, 505);

    let mesh = Config::to(&origin)
        .with_manager(|manager| manager.codec = Codec::Http2)
        .start();
    let mut client = Client::connect(mesh.address);
    client.send("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert!(!client.rest().starts_with(b"HTTP/1"));
    mesh.wait_stat("http.test.downstream_cx_protocol_error", 1);
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        assert_eq!(client.get("/").await.text(), "ok");
    });
}

#[test]
fn streams_over_the_limit_are_refused() {
    let mesh = Config::to(&silent())
        .with_manager(|manager| manager.http2.max_concurrent_streams = 2)
        .start();
    let mut client = connect(mesh.address);
    let settings = next_of(&mut client, SETTINGS).expect("settings");
    assert!(
        settings
            .payload
            .chunks(6)
            .any(|setting| setting == [0, 3, 0, 0, 0, 2])
    );
    client.send(frame(SETTINGS, 1, 0, ""));
    for stream in [1, 3, 5] {
        client.send(frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            block(&GET),
        ));
    }
    let reset = next_of(&mut client, RST_STREAM).expect("a refusal");
    assert_eq!((reset.stream, reset.number(0)), (5, REFUSED_STREAM));
}

#[test]
fn heads_over_the_limit_are_refused() {
    let mesh = Config::to(&Origin::saying("ok"))
        .with_manager(|manager| {
            manager.max_request_head_bytes = 4096;
            manager.max_headers = 10;
        })
        .start();
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let mut request = client.request("GET", "/");
        let long = "x".repeat(5000).parse().expect("a value");
        request.headers_mut().insert("x-long", long);
        let answer = client.exchange(request, b"").await.expect("a refusal");
        assert_eq!(answer.status, 431);

        let mut request = client.request("GET", "/");
        for i in 0..20 {
            let name = http::HeaderName::try_from(format!("x-{i}")).expect("a name");
            request
                .headers_mut()
                .insert(name, "y".parse().expect("a value"));
        }
        let answer = client.exchange(request, b"").await.expect("a refusal");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (431, "too many request fields")
        );
        assert_eq!(client.get("/").await.status, 200);

        // What the parser of HTTP/1.1 would not let pass is refused in its words.
        let mut request = client.request("GET", "/");
        *request.uri_mut() = "http://u@h/".parse().expect("a URI");
        let answer = client.exchange(request, b"").await.expect("a refusal");
        assert_eq!(answer.status, 400);
        assert_eq!(answer.text(), "the host field is not host and port");
    });
}

#[test]
fn the_proxys_own_answers() {
    let config = Config::to(&silent()).routes(vec![
        route(
            "/direct",
            RouteAction::Respond {
                status: 418,
                body: "short and stout".into(),
            },
        ),
        route("/missing", crate::support::forward("nobody")),
    ]);
    let mesh = config.start();
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        let answer = client.get("/direct").await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (418, "short and stout")
        );
        assert_eq!(answer.header("content-length"), Some("15"));
        assert_eq!(answer.header("server"), Some("envoy"));
        assert!(answer.header("date").is_some());
        assert_eq!(client.get("/none").await.status, 404);
        assert_eq!(client.get("/missing").await.status, 503);
        let request = client.request("HEAD", "/direct");
        let answer = client.exchange(request, b"").await.expect("a response");
        assert_eq!((answer.status, answer.text().as_str()), (418, ""));
    });
}

#[test]
fn an_idle_connection_is_closed_with_a_goaway() {
    let mesh = Config::to(&Origin::saying("ok"))
        .with_manager(|manager| manager.idle_timeout = Some(Duration::from_millis(300)))
        .start();
    let mut client = connect(mesh.address);
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(&GET)));
    next_of(&mut client, DATA).expect("a body");
    let begin = Instant::now();
    let goaway = next_of(&mut client, GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.number(4), NO_ERROR);
    assert!(
        begin.elapsed() >= Duration::from_millis(250),
        "{:?}",
        begin.elapsed()
    );
    // The PING that asks whether the client has seen it is answered.
    let ping = next_of(&mut client, PING).expect("a PING");
    client.send(frame(PING, 1, 0, &ping.payload));
    while next(&mut client).is_some() {}
    mesh.wait_stat("http.test.downstream_cx_idle_timeout", 1);
    mesh.wait_stat("http.test.downstream_cx_active", 0);
}

#[test]
fn a_connection_has_its_requests_and_its_time_and_then_a_goaway() {
    let ends = |mesh: &Mesh, client: &mut Client, counted: &str| {
        let goaway = next_of(client, GOAWAY).expect("a GOAWAY");
        assert_eq!(goaway.number(4), NO_ERROR);
        while next(client).is_some() {}
        mesh.wait_stat(&format!("http.test.{counted}"), 1);
        mesh.wait_stat("http.test.downstream_cx_idle_timeout", 0);
    };
    let mesh = Config::to(&Origin::saying("ok"))
        .with_manager(|manager| manager.max_requests_per_connection = Some(2))
        .start();
    let mut client = connect(mesh.address);
    for stream in [1, 3] {
        client.send(frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            block(&GET),
        ));
    }
    ends(&mesh, &mut client, "downstream_cx_max_requests_reached");
    // Both were answered.
    mesh.wait_stat("http.test.downstream_rq_2xx", 2);

    // A stream that is open does not keep it from being told.
    let mesh = Config::to(&silent())
        .with_manager(|manager| manager.max_connection_duration = Some(Duration::from_millis(300)))
        .start();
    let mut client = connect(mesh.address);
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(&GET)));
    let goaway = next_of(&mut client, GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.number(4), NO_ERROR);
    client.send(frame(RST_STREAM, 0, 1, CANCEL.to_be_bytes()));
    while next(&mut client).is_some() {}
    mesh.wait_stat("http.test.downstream_cx_max_duration_reached", 1);
}

#[test]
fn a_drain_lets_streams_finish_and_takes_no_new_ones() {
    let (answer, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::new(move |_| {
        wait.lock().expect("lock").recv().expect("the test goes on");
        Some(crate::support::origin::ok("late"))
    });
    let mesh = Config::to(&origin).start();
    let mut client = connect(mesh.address);
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(&GET)));
    wait_for("the request at the origin", || {
        (origin.received().len() == 1).then_some(())
    });
    let drain = std::thread::spawn(move || mesh.shutdown(Duration::from_secs(10)));
    let goaway = next_of(&mut client, GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.number(4), NO_ERROR);
    let ping = next_of(&mut client, PING).expect("a PING");
    client.send(frame(PING, 1, 0, &ping.payload));
    let last = next_of(&mut client, GOAWAY).expect("the last GOAWAY");
    assert_eq!(last.number(0), 1, "the stream that is open");
    answer.send(()).expect("the origin waits");
    let data = next_of(&mut client, DATA).expect("a body");
    assert_eq!(data.payload, b"late");
    while next(&mut client).is_some() {}
    drain.join().expect("the drain ends");
}

#[test]
fn a_listener_that_goes_takes_its_connections_along() {
    let mesh = Config::to(&Origin::saying("ok")).start();
    let mut client = connect(mesh.address);
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(&GET)));
    next_of(&mut client, DATA).expect("a body");
    mesh.published.publish(mesh.config.snapshot(2, Vec::new()));
    mesh.applied(2);
    let goaway = next_of(&mut client, GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.number(4), NO_ERROR);
    // Whether or not the client says that it has seen it.
    while next(&mut client).is_some() {}
    mesh.wait_stat("http.test.downstream_cx_active", 0);
}

#[test]
fn a_client_that_resets_what_it_opens_is_cut_off() {
    let mesh = Config::to(&silent()).start();
    let mut client = connect(mesh.address);
    client.send(frame(SETTINGS, 1, 0, ""));
    let mut stream = 1;
    // One after the other, so that each has reached the origin.
    for count in 1..=250 {
        client.send(frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            block(&GET),
        ));
        mesh.wait_stat("http.test.downstream_rq_total", count);
        client.send(frame(RST_STREAM, 0, stream, CANCEL.to_be_bytes()));
        stream += 2;
    }
    let goaway = next_of(&mut client, GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.number(4), ENHANCE_YOUR_CALM);
    mesh.wait_stat("http.test.downstream_rq_too_many_premature_resets", 1);
    mesh.wait_stat("http.test.downstream_rq_active", 0);
    mesh.wait_stat("cluster.app.upstream_rq_active", 0);

    // All at once, the codec itself has had enough.
    let mut client = connect(mesh.address);
    let mut flood = Vec::new();
    for stream in (1..1000).step_by(2) {
        flood.extend(frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            block(&GET),
        ));
        flood.extend(frame(RST_STREAM, 0, stream, CANCEL.to_be_bytes()));
    }
    client.send(flood);
    let goaway = next_of(&mut client, GOAWAY).expect("a GOAWAY");
    assert_eq!(goaway.number(4), ENHANCE_YOUR_CALM);
}

#[test]
fn a_client_that_answers_no_ping_is_cut_off() {
    let mesh = Config::to(&Origin::saying("ok"))
        .with_manager(|manager| {
            manager.http2.keepalive = Some(Keepalive {
                interval: Duration::from_millis(50),
                timeout: Duration::from_millis(200),
                jitter_percent: 15,
            });
        })
        .start();
    run(async {
        let mut client = H2Client::connect(mesh.address).await;
        client.get("/").await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        // It answers, and lives.
        assert_eq!(client.get("/").await.status, 200);
    });
    let mut client = connect(mesh.address);
    next_of(&mut client, PING).expect("a PING");
    while next(&mut client).is_some() {}
}

#[test]
fn a_client_that_goes_takes_its_streams_with_it() {
    let origin = silent();
    let mesh = Config::to(&origin).start();
    let mut client = connect(mesh.address);
    for stream in [1, 3] {
        client.send(frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            block(&GET),
        ));
    }
    mesh.wait_stat("cluster.app.upstream_rq_active", 2);
    drop(client);
    mesh.wait_stat("cluster.app.upstream_rq_active", 0);
    mesh.wait_stat("http.test.downstream_cx_active", 0);
}

#[test]
fn a_preface_that_stalls_is_not_waited_for() {
    let mesh = Config::to(&Origin::saying("ok"))
        .with_manager(|manager| {
            manager.request_headers_timeout = Some(Duration::from_millis(200));
        })
        .start();
    let mut client = Client::connect(mesh.address);
    client.send(&PREFACE[..20]);
    assert!(client.is_closed());
}

#[test]
fn many_streams_at_once() {
    let mesh = Config::to(&Origin::saying("ok")).start();
    run(async {
        let client = H2Client::connect(mesh.address).await;
        let mut waiting = Vec::new();
        for _ in 0..500 {
            let mut client = client.clone();
            waiting.push(tokio::spawn(async move { client.get("/").await.text() }));
        }
        for answer in waiting {
            assert_eq!(answer.await.expect("a task"), "ok");
        }
        until("all streams", || {
            mesh.stat("http.test.downstream_rq_active") == 0
        })
        .await;
    });
    assert_eq!(mesh.stat("http.test.downstream_rq_2xx"), 500);
}

/// An answer of the proxy's own waits for room, and ends as it does with Envoy (1.40): where a client leaves or gives up
/// meanwhile the flags say so, and where it only takes too long they do not.
#[test]
fn an_answer_that_there_is_no_room_for_ends_with_its_client() {
    const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
    const INTERNAL_ERROR: u32 = 2;
    for (ends, flags) in [
        ("gone", "DC"),
        ("reset", "DR"),
        ("late", "-"),
        ("room", "-"),
    ] {
        let collector = Collector::zipkin();
        let respond = RouteAction::Respond {
            status: 200,
            body: "a body".to_owned(),
        };
        let patience = match ends {
            "late" => Duration::from_millis(100),
            _ => DEADLINE,
        };
        let mesh = Config::to(&Origin::saying(""))
            .zipkin(&collector)
            .gateway()
            .routes(vec![route("/", respond)])
            .with_manager(move |manager| manager.stream_idle_timeout = Some(patience))
            .start();
        let mut client = Client::connect(mesh.address);
        client.send(PREFACE);
        client.send(frame(SETTINGS, 0, 0, NO_WINDOW));
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(&GET)));
        let head = next_of(&mut client, HEADERS).expect("the head of the answer");
        assert_eq!(head.flags & END_STREAM, 0);
        assert_eq!(mesh.stat("http.test.downstream_rq_active"), 1, "{ends}");
        match ends {
            "gone" => drop(client),
            "reset" => client.send(frame(RST_STREAM, 0, 1, CANCEL.to_be_bytes())),
            "late" => {
                let reset = next_of(&mut client, RST_STREAM).expect("a reset");
                assert_eq!(reset.number(0), INTERNAL_ERROR);
                mesh.wait_stat("http.test.downstream_rq_idle_timeout", 1);
            }
            _ => {
                let mut body = Vec::new();
                for room in [2_u32, 4] {
                    client.send(frame(WINDOW_UPDATE, 0, 1, room.to_be_bytes()));
                    let data = next_of(&mut client, DATA).expect("a part of the body");
                    body.extend(data.payload);
                    assert_eq!(data.flags & END_STREAM != 0, body == b"a body");
                }
                assert_eq!(body, b"a body");
            }
        }
        let span = collector.one();
        assert_eq!(span.tag("response_flags"), flags, "{ends}");
        assert_eq!(span.tag("http.status_code"), "200", "{ends}");
        mesh.wait_stat("http.test.downstream_rq_active", 0);
        let resets = u64::from(flags != "-");
        mesh.wait_stat("http.test.downstream_rq_rx_reset", resets);
    }
}
