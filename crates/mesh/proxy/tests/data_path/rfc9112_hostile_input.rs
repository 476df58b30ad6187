//! Malformed and malicious requests: each refused with its status, nothing else disturbed.

use std::time::{Duration, Instant};

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use periplus_proxy::snapshot::{
    ConnectionManager, Filter, Http2Options, HttpFilter, UpstreamProtocol,
};

use crate::support::config::{Mesh, cluster};
use crate::support::h2::{H2Origin, read};
use crate::support::origin::Origin;
use crate::support::{Config, DEADLINE, pause};

/// Requests that must not reach the origin, and what they are answered; 0 is a close without an
/// answer.
fn refused() -> Vec<(&'static str, Vec<u8>, u16)> {
    let head = |extra: &str| format!("POST /x HTTP/1.1\r\nhost: h\r\n{extra}\r\n").into_bytes();
    let with = |extra: &str, body: &str| [head(extra), body.as_bytes().to_vec()].concat();
    let raw = |text: &str| text.as_bytes().to_vec();
    let chunked = |body: &str| with("transfer-encoding: chunked\r\n", body);
    vec![
        // Framing: what smugglers live on.
        (
            "CL and TE",
            with(
                "content-length: 3\r\ntransfer-encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            400,
        ),
        (
            "TE and CL",
            with(
                "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
                "0\r\n\r\n",
            ),
            400,
        ),
        (
            "TE, CL in odd case",
            with(
                "TrAnSfEr-EnCoDiNg: chunked\r\nCONTENT-length: 3\r\n",
                "0\r\n\r\n",
            ),
            400,
        ),
        (
            "two equal CL",
            with("content-length: 3\r\ncontent-length: 3\r\n", "abc"),
            400,
        ),
        (
            "two differing CL",
            with("content-length: 3\r\ncontent-length: 4\r\n", "abcd"),
            400,
        ),
        ("list in CL", with("content-length: 3, 3\r\n", "abc"), 400),
        ("plus in CL", with("content-length: +3\r\n", "abc"), 400),
        ("minus in CL", with("content-length: -3\r\n", "abc"), 400),
        ("hex CL", with("content-length: 0x3\r\n", "abc"), 400),
        (
            "fraction in CL",
            with("content-length: 3.0\r\n", "abc"),
            400,
        ),
        ("empty CL", with("content-length:\r\n", "abc"), 400),
        ("blank in CL", with("content-length: 1 2\r\n", "abc"), 400),
        (
            "CL beyond 64 bits",
            with("content-length: 18446744073709551617\r\n", "a"),
            400,
        ),
        (
            "two TE",
            with(
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            400,
        ),
        (
            "chunked twice",
            with("transfer-encoding: chunked, chunked\r\n", "0\r\n\r\n"),
            400,
        ),
        ("TE gzip", with("transfer-encoding: gzip\r\n", ""), 501),
        (
            "TE gzip, chunked",
            with("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            501,
        ),
        (
            "TE chunked, gzip",
            with("transfer-encoding: chunked, gzip\r\n", "0\r\n\r\n"),
            501,
        ),
        (
            "TE identity",
            with("transfer-encoding: identity\r\n", ""),
            501,
        ),
        (
            "TE xchunked",
            with("transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
            501,
        ),
        (
            "TE quoted",
            with("transfer-encoding: \"chunked\"\r\n", "0\r\n\r\n"),
            501,
        ),
        ("empty TE", with("transfer-encoding:\r\n", "0\r\n\r\n"), 501),
        (
            "TE with vertical tab",
            with("transfer-encoding: \x0bchunked\r\n", "0\r\n\r\n"),
            400,
        ),
        (
            "TE in HTTP/1.0",
            raw("POST / HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "blank before the colon of TE",
            with("transfer-encoding : chunked\r\n", "0\r\n\r\n"),
            400,
        ),
        // Chunks.
        ("chunk size not hex", chunked("zz\r\nabc\r\n0\r\n\r\n"), 400),
        ("empty chunk size", chunked("\r\nabc\r\n0\r\n\r\n"), 400),
        (
            "chunk size with 0x",
            chunked("0x3\r\nabc\r\n0\r\n\r\n"),
            400,
        ),
        (
            "negative chunk size",
            chunked("-3\r\nabc\r\n0\r\n\r\n"),
            400,
        ),
        ("plus in chunk size", chunked("+3\r\nabc\r\n0\r\n\r\n"), 400),
        (
            "blank before chunk size",
            chunked(" 3\r\nabc\r\n0\r\n\r\n"),
            400,
        ),
        (
            "blank after chunk size",
            chunked("3 \r\nabc\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunk size of 17 digits",
            chunked("10000000000000003\r\nabc\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunk size with bare LF",
            chunked("3\nabc\r\n0\r\n\r\n"),
            400,
        ),
        ("chunk without CRLF", chunked("3\r\nabcX0\r\n\r\n"), 400),
        ("chunk with bare LF", chunked("3\r\nabc\n0\r\n\r\n"), 400),
        (
            "chunk longer than said",
            chunked("3\r\nabcd\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunk extension with a bare LF",
            chunked("3;a\nb\r\nabc\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunk extension with NUL",
            chunked("3;a\0\r\nabc\r\n0\r\n\r\n"),
            400,
        ),
        (
            "endless chunk extension",
            chunked(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(20_000))),
            400,
        ),
        (
            "trailer that is no field",
            chunked("0\r\nnonsense\r\n\r\n"),
            400,
        ),
        (
            "trailer with a bare LF",
            chunked("0\r\na: b\nc: d\r\n\r\n"),
            400,
        ),
        ("folded trailer", chunked("0\r\na: b\r\n c\r\n\r\n"), 400),
        (
            "endless trailers",
            chunked(&format!("0\r\n{}\r\n", "a: b\r\n".repeat(3000))),
            400,
        ),
        // Host and target.
        ("no host", raw("GET / HTTP/1.1\r\n\r\n"), 400),
        ("two hosts", head("host: other\r\n"), 400),
        ("two equal hosts", head("Host: h\r\n"), 400),
        (
            "host with a blank",
            raw("GET / HTTP/1.1\r\nhost: a b\r\n\r\n"),
            400,
        ),
        (
            "host with a path",
            raw("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n"),
            400,
        ),
        (
            "host with a user",
            raw("GET / HTTP/1.1\r\nhost: u@h\r\n\r\n"),
            400,
        ),
        (
            "host with a list",
            raw("GET / HTTP/1.1\r\nhost: a, b\r\n\r\n"),
            400,
        ),
        (
            "port not a number",
            raw("GET / HTTP/1.1\r\nhost: h:8o\r\n\r\n"),
            400,
        ),
        (
            "port too large",
            raw("GET / HTTP/1.1\r\nhost: h:65536\r\n\r\n"),
            400,
        ),
        (
            "two ports",
            raw("GET / HTTP/1.1\r\nhost: h:1:2\r\n\r\n"),
            400,
        ),
        (
            "host only a port",
            raw("GET / HTTP/1.1\r\nhost: :80\r\n\r\n"),
            400,
        ),
        (
            "broken IPv6 host",
            raw("GET / HTTP/1.1\r\nhost: [::1\r\n\r\n"),
            400,
        ),
        (
            "bad authority in the target",
            raw("GET http://u@h/ HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        (
            "absolute target without authority",
            raw("GET http:///x HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        (
            "absolute target without Host",
            raw("GET http://h/x HTTP/1.1\r\n\r\n"),
            400,
        ),
        (
            "another scheme",
            raw("GET ftp://h/x HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        (
            "relative target",
            raw("GET x HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        (
            "asterisk of GET",
            raw("GET * HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        ("fragment", raw("GET /x#y HTTP/1.1\r\nhost: h\r\n\r\n"), 400),
        (
            "target not ASCII",
            raw("GET /caf\u{e9} HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        (
            "target with a control",
            raw("GET /a\x01b HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        (
            "CONNECT to a path",
            raw("CONNECT /x HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        (
            "CONNECT without a port",
            raw("CONNECT h: HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        // Lines and fields.
        ("bare LF", raw("GET / HTTP/1.1\nhost: h\n\n"), 400),
        (
            "bare LF after a field",
            raw("GET / HTTP/1.1\r\nhost: h\nx: y\r\n\r\n"),
            400,
        ),
        (
            "bare LF at the end",
            raw("GET / HTTP/1.1\r\nhost: h\r\n\n"),
            400,
        ),
        (
            "bare LF after the request line",
            raw("GET / HTTP/1.1\nhost: h\r\n\r\n"),
            400,
        ),
        ("bare CR in a value", head("a: b\rc\r\n"), 400),
        ("folded line", head("a: b\r\n c\r\n"), 400),
        ("folded with a tab", head("a: b\r\n\tc\r\n"), 400),
        (
            "blank before the first field",
            raw("GET / HTTP/1.1\r\n host: h\r\n\r\n"),
            400,
        ),
        ("NUL in a value", head("a: b\0c\r\n"), 400),
        ("control in a value", head("a: b\x01c\r\n"), 400),
        ("DEL in a value", head("a: b\x7fc\r\n"), 400),
        ("NUL in a name", head("a\0: b\r\n"), 400),
        ("blank before the colon", head("a : b\r\n"), 400),
        ("tab before the colon", head("a\t: b\r\n"), 400),
        ("no colon", head("a\r\n"), 400),
        ("no name", head(": b\r\n"), 400),
        ("name not a token", head("a(b): c\r\n"), 400),
        ("name not ASCII", head("n\u{e4}me: c\r\n"), 400),
        (
            "connection nominates Host",
            head("connection: host\r\n"),
            400,
        ),
        (
            "connection nominates Content-Length",
            with("connection: content-length\r\ncontent-length: 3\r\n", "abc"),
            400,
        ),
        (
            "connection nominates X-Forwarded-For",
            head("x-forwarded-for: 1.2.3.4\r\nconnection: x-forwarded-for\r\n"),
            400,
        ),
        ("an unknown expectation", head("expect: magic\r\n"), 417),
        // The request line.
        ("no version", raw("GET /\r\nhost: h\r\n\r\n"), 400),
        ("HTTP/2.0", raw("GET / HTTP/2.0\r\nhost: h\r\n\r\n"), 505),
        ("HTTP/1.2", raw("GET / HTTP/1.2\r\nhost: h\r\n\r\n"), 505),
        ("HTTP/0.9", raw("GET / HTTP/0.9\r\nhost: h\r\n\r\n"), 505),
        (
            "lower case version",
            raw("GET / http/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        ("two blanks", raw("GET  / HTTP/1.1\r\nhost: h\r\n\r\n"), 400),
        ("no blank", raw("GET/ HTTP/1.1\r\nhost: h\r\n\r\n"), 400),
        (
            "a blank too many",
            raw("GET /a b HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        (
            "blank at the end",
            raw("GET / HTTP/1.1 \r\nhost: h\r\n\r\n"),
            400,
        ),
        (
            "blank in front",
            raw(" GET / HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        ("tabs", raw("GET\t/\tHTTP/1.1\r\nhost: h\r\n\r\n"), 400),
        (
            "method not a token",
            raw("GE(T / HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        (
            "empty lines in front",
            raw("\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n"),
            400,
        ),
        ("TLS", vec![0x16, 3, 1, 0, 0xa5, 1, 0, 0, 0xa1, 3, 3], 400),
        ("NULs", vec![0; 64], 400),
        // Limits.
        (
            "a field of 1 MB",
            head(&format!("a: {}\r\n", "x".repeat(1_000_000))),
            431,
        ),
        (
            "a name of 1 MB",
            head(&format!("{}: a\r\n", "x".repeat(1_000_000))),
            431,
        ),
        ("150 fields", head(&"a: b\r\n".repeat(150)), 431),
        (
            "a target of 1 MB",
            raw(&format!(
                "GET /{} HTTP/1.1\r\nhost: h\r\n\r\n",
                "x".repeat(1_000_000)
            )),
            414,
        ),
        (
            "a method of 1 MB",
            raw(&format!(
                "{} / HTTP/1.1\r\nhost: h\r\n\r\n",
                "X".repeat(1_000_000)
            )),
            414,
        ),
        ("half a head", raw("GET / HTTP/1.1\r\nhost:"), 0),
    ]
}

#[test]
fn each_is_refused_with_its_status_and_nobody_else_notices() {
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin).start();
    refuses_all(&mesh, || origin.received().len());
}

#[test]
fn none_gets_through_to_an_endpoint_of_http2() {
    let whole = Arc::<AtomicUsize>::default();
    let counted = whole.clone();
    let origin = H2Origin::new(move |mut incoming| {
        let counted = counted.clone();
        async move {
            // A chunk may be wrong when the head has gone: then the stream is reset.
            if read(&mut incoming.body).await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
                incoming.say(b"fine").await;
            }
        }
    });
    let mut config = Config::to(&Origin::saying(""));
    config.clusters = vec![cluster("app", &[origin.address])];
    config.clusters[0].protocol = UpstreamProtocol::Http2(Http2Options::default());
    refuses_all(&config.start(), || whole.load(Ordering::SeqCst));
}

/// Sends all of them, and sees to it that `reached`, the number of requests that the endpoint has got as a whole,
/// stays what it is.
fn refuses_all(mesh: &Mesh, reached: impl Fn() -> usize) {
    let mut bystander = mesh.client();
    let cases = refused();
    assert!(cases.len() >= 60);
    for (name, request, status) in cases {
        let before = reached();
        let mut client = mesh.client();
        client.send(&request);
        if status == 0 {
            client.shutdown();
            assert!(client.is_closed(), "{name}");
        } else {
            let response = client
                .response(false)
                .unwrap_or_else(|| panic!("{name}: no answer"));
            assert_eq!(response.status, status, "{name}: {response:?}");
            assert_eq!(
                response.header("connection").as_deref(),
                Some("close"),
                "{name}"
            );
            assert!(
                !response.text().is_empty(),
                "{name}: the answer says what is wrong"
            );
            // What follows on the connection must not be taken for a request.
            client.send("GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n");
            client.shutdown();
            assert!(client.is_closed(), "{name}: more than one answer");
        }
        assert_eq!(reached(), before, "{name}: reached the endpoint");
        assert_eq!(bystander.get("/bystander").text(), "fine", "after {name}");
    }
    mesh.wait_stat("http.test.downstream_cx_active", 1);
    mesh.wait_stat("http.test.downstream_rq_active", 0);
}

#[test]
fn what_looks_odd_but_is_allowed_passes() {
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin).start();
    let cases = [
        (
            "an empty line in front",
            "\r\nGET /x HTTP/1.1\r\nhost: h\r\n\r\n",
        ),
        (
            "no blank after the colon",
            "GET /x HTTP/1.1\r\nhost:h\r\n\r\n",
        ),
        (
            "blanks around a value",
            "GET /x HTTP/1.1\r\nhost: \t h \t\r\n\r\n",
        ),
        ("an empty value", "GET /x HTTP/1.1\r\nhost: h\r\na:\r\n\r\n"),
        ("an unknown method", "FROB /x HTTP/1.1\r\nhost: h\r\n\r\n"),
        ("a lower-case method", "get /x HTTP/1.1\r\nhost: h\r\n\r\n"),
        ("an IPv6 host", "GET /x HTTP/1.1\r\nhost: [::1]:80\r\n\r\n"),
        ("an empty host", "GET /x HTTP/1.1\r\nhost:\r\n\r\n"),
        ("an empty port", "GET /x HTTP/1.1\r\nhost: h:\r\n\r\n"),
        (
            "an underscore",
            "GET /x HTTP/1.1\r\nhost: my_host\r\na_b: c\r\n\r\n",
        ),
        (
            "bytes over 127 in a value",
            "GET /x HTTP/1.1\r\nhost: h\r\na: \u{fc}\r\n\r\n",
        ),
        (
            "an escaped target",
            "GET /x%00%zz?a=%20 HTTP/1.1\r\nhost: h\r\n\r\n",
        ),
        (
            "a GET with a body",
            "GET /x HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\n\r\na",
        ),
        (
            "zeros in front of a length",
            "POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 0001\r\n\r\na",
        ),
        (
            "chunks in odd case",
            "POST /x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: Chunked\r\n\r\n00a\r\n0123456789\r\n000\r\n\r\n",
        ),
    ];
    for (name, request) in cases {
        let mut client = mesh.client();
        let response = client.exchange(request);
        assert_eq!(response.status, 200, "{name}: {response:?}");
        assert_eq!(client.get("/next").text(), "fine", "after {name}");
    }
}

#[test]
fn a_head_that_trickles_in_is_cut_off() {
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin)
        .with_manager(|manager| {
            manager.request_headers_timeout = Some(Duration::from_millis(200));
        })
        .start();
    let begin = Instant::now();
    let mut slow = mesh.client();
    slow.send("GET / HTTP/1.1\r\nhost: h\r\n");
    slow.stream
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("a timeout");
    // One byte at a time does not help: the deadline is for the whole head.
    let mut answer = [0; 1024];
    let n = loop {
        assert!(begin.elapsed() < DEADLINE, "never cut off");
        slow.send("x");
        match std::io::Read::read(&mut slow.stream, &mut answer) {
            Ok(n) => break n,
            Err(_) => continue,
        }
    };
    let answer = String::from_utf8_lossy(&answer[..n]);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(begin.elapsed() >= Duration::from_millis(200));
    mesh.wait_stat("http.test.downstream_rq_header_timeout", 1);
    // An idle connection is none of its business.
    let mut client = mesh.client();
    pause(Duration::from_millis(300));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin)
        .with_manager(|manager| manager.idle_timeout = Some(Duration::from_millis(100)))
        .start();
    let mut client = mesh.client();
    assert_eq!(client.get("/").status, 200);
    assert!(client.is_closed());
    mesh.wait_stat("http.test.downstream_cx_idle_timeout", 1);
    let mut silent = mesh.client();
    assert!(silent.is_closed());
}

#[test]
fn connections_over_the_limit_are_closed_and_counted() {
    let origin = Origin::saying("fine");
    let mut config = Config::to(&origin);
    config.options.max_connections = 2;
    let mesh = config.start();
    let mut first = mesh.client();
    let mut second = mesh.client();
    assert_eq!(first.get("/").status, 200);
    assert_eq!(second.get("/").status, 200);
    assert!(mesh.client().is_closed());
    mesh.wait_stat("listener.test.downstream_global_cx_overflow", 1);
    drop(first);
    mesh.wait_stat("http.test.downstream_cx_active", 1);
    assert_eq!(mesh.client().get("/").status, 200);
}

/// Routes behind a filter that waits for bodies of at most so many bytes.
fn behind_buffer(
    origin: &Origin,
    most: u32,
    edit: impl Fn(&mut ConnectionManager) + Send + Sync + 'static,
) -> Mesh {
    let config = Config::to(origin).with_manager(move |manager| {
        manager.filters = vec![HttpFilter {
            name: "buffer".to_owned(),
            disabled: false,
            filter: Filter::Buffer(most),
        }];
        edit(manager);
    });
    config.start()
}

#[test]
fn a_body_that_a_filter_waits_for_has_as_much_time_as_any() {
    let origin = Origin::saying("fine");
    let half = Some(Duration::from_millis(500));
    let begun = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 8\r\n\r\nb";
    // Nothing moves.
    let mesh = behind_buffer(&origin, 1000, move |manager| {
        manager.stream_idle_timeout = half;
    });
    let mut client = mesh.client();
    client.send(begun);
    assert_eq!(client.response(false).expect("an answer").status, 408);
    // What moves is waited for.
    let mut client = mesh.client();
    client.send(begun);
    for byte in "egunbod".chars() {
        pause(Duration::from_millis(150));
        client.send(byte.to_string());
    }
    assert_eq!(client.response(false).expect("an answer").text(), "fine");
    assert_eq!(origin.last().body, b"begunbod");
    // The whole request may take no longer, whatever moves.
    let mesh = behind_buffer(&origin, 1000, move |manager| {
        manager.request_timeout = half;
    });
    let mut client = mesh.client();
    client.send(begun);
    for byte in "egunb".chars() {
        pause(Duration::from_millis(150));
        client.send(byte.to_string());
    }
    assert_eq!(client.response(false).expect("an answer").status, 408);
    assert_eq!(origin.received().len(), 1);
}

#[test]
fn a_body_that_trickles_in_is_looked_at_once() {
    let origin = Origin::saying("fine");
    let mesh = behind_buffer(&origin, 1_000_000, |_| ());
    let mut client = mesh.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut expected = Vec::new();
    for part in 0..2_000_u32 {
        let data = format!("{part:0>100}");
        let chunk = format!("{:x}\r\n{data}\r\n", data.len());
        // Chunks come in two parts, cut at every place.
        let (begin, end) = chunk.split_at(part as usize % chunk.len());
        client.send(begin);
        client.send(end);
        expected.extend_from_slice(data.as_bytes());
    }
    client.send("0\r\nx-last: 1\r\n\r\n");
    assert_eq!(client.response(false).expect("an answer").text(), "fine");
    assert_eq!(origin.last().body, expected);
}

#[test]
fn a_body_that_a_filter_waits_for_keeps_no_proxy_from_ending() {
    let origin = Origin::saying("fine");
    let mesh = behind_buffer(&origin, 1000, |_| ());
    let mut client = mesh.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 8\r\n\r\nb");
    mesh.wait_stat("http.test.downstream_rq_active", 1);
    let begin = Instant::now();
    mesh.shutdown(Duration::from_millis(300));
    assert!(begin.elapsed() < DEADLINE / 2, "{:?}", begin.elapsed());
    assert!(client.is_closed());
    assert_eq!(origin.received().len(), 0);
}
