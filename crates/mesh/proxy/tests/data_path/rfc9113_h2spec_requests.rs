//! The cases of h2spec that every server owes to every client.

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, SETTINGS, block,
    connect, frame, next, next_of,
};
use crate::support::{Config, Origin};

const HAS_PRIORITY: u8 = 0x20;
/// `:status: 200` of the static table (RFC 7541 appendix A).
const STATUS_200: u8 = 0x88;

/// Name, frames, and what the origin must get: its request line and body.
type Request = (&'static str, Vec<Vec<u8>>, &'static str, &'static str);

#[test]
fn requests_in_every_form_are_answered() {
    let origin = Origin::saying("hello");
    let mesh = Config::to(&origin).start();
    let fields = |method| {
        block(&[
            (":method", method),
            (":scheme", "http"),
            (":authority", "h"),
            (":path", "/"),
        ])
    };
    let all = END_STREAM | END_HEADERS;
    let get = frame(HEADERS, all, 1, fields("GET"));
    let post = frame(HEADERS, END_HEADERS, 1, fields("POST"));
    let padded = [&[3][..], &fields("GET"), &[0; 3]].concat();
    let depends = [&[0, 0, 0, 0, 255][..], &fields("GET")].concat();
    let begun = frame(HEADERS, END_STREAM, 1, fields("GET"));
    let more = block(&[("x-more", "1")]);
    let trailers = frame(HEADERS, all, 1, block(&[("x-sum", "1")]));
    let cases: Vec<Request> = vec![
        (
            "generic/1/1: the preface, and a request",
            vec![get.clone()],
            "GET",
            "",
        ),
        (
            "generic/3.1/1: one DATA",
            vec![post.clone(), frame(DATA, END_STREAM, 1, "one")],
            "POST",
            "one",
        ),
        ("generic/3.2/1: HEADERS", vec![get.clone()], "GET", ""),
        (
            "generic/3.2/2: HEADERS with padding",
            vec![frame(HEADERS, all | PADDED, 1, padded)],
            "GET",
            "",
        ),
        (
            "generic/3.2/3: HEADERS with a priority",
            vec![frame(HEADERS, all | HAS_PRIORITY, 1, depends)],
            "GET",
            "",
        ),
        (
            "generic/3.5/1: SETTINGS",
            vec![frame(SETTINGS, 0, 0, [0, 3, 0, 0, 0, 100]), get.clone()],
            "GET",
            "",
        ),
        (
            "generic/3.10/1: one CONTINUATION",
            vec![begun.clone(), frame(CONTINUATION, END_HEADERS, 1, &more)],
            "GET",
            "",
        ),
        (
            "generic/3.10/2, http2/6.10/1: several CONTINUATION",
            vec![
                begun,
                frame(CONTINUATION, 0, 1, &more),
                frame(CONTINUATION, END_HEADERS, 1, &more),
            ],
            "GET",
            "",
        ),
        ("generic/4/1: GET", vec![get], "GET", ""),
        (
            "generic/4/2: HEAD",
            vec![frame(HEADERS, all, 1, fields("HEAD"))],
            "HEAD",
            "",
        ),
        (
            "generic/4/3: POST",
            vec![post.clone(), frame(DATA, END_STREAM, 1, "test")],
            "POST",
            "test",
        ),
        (
            "generic/4/4: POST with trailers",
            vec![post.clone(), frame(DATA, 0, 1, "test"), trailers],
            "POST",
            "test",
        ),
    ];
    for (index, (name, frames, method, body)) in cases.into_iter().enumerate() {
        let mut client = connect(mesh.address);
        client.send(frames.concat());
        let head = next_of(&mut client, HEADERS).unwrap_or_else(|| panic!("{name}: no response"));
        assert_eq!((head.stream, head.payload[0]), (1, STATUS_200), "{name}");
        if method == "HEAD" {
            assert_eq!(head.flags & END_STREAM, END_STREAM, "{name}");
        } else {
            let data = next_of(&mut client, DATA).unwrap_or_else(|| panic!("{name}: no body"));
            assert_eq!(data.payload, b"hello", "{name}");
        }
        let received = origin.nth(index + 1);
        assert_eq!(received.line(), format!("{method} / HTTP/1.1"), "{name}");
        assert_eq!(received.body, body.as_bytes(), "{name}");
        let sum = if name.contains("trailers") {
            "x-sum: 1\n"
        } else {
            ""
        };
        assert_eq!(received.trailers, sum, "{name}");
    }
    // http2/4.2/1: a frame as large as any may be.
    let mut client = connect(mesh.address);
    let large = vec![b'x'; 1 << 14];
    client.send([post, frame(DATA, END_STREAM, 1, &large)].concat());
    next_of(&mut client, HEADERS).expect("a response");
    assert_eq!(origin.last().body, large);
}

#[test]
fn a_connection_begins_with_settings_and_ends_behind_its_goaway() {
    let mesh = Config::to(&Origin::saying("hello")).start();
    // http2/3.5/1: the first frame of all.
    let mut client = connect(mesh.address);
    let first = next(&mut client).expect("the server's preface");
    assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0));
    // http2/5.4.1/1: an error of the connection closes it.
    client.send(frame(PING, 0, 0, "abcdefg"));
    next_of(&mut client, GOAWAY).expect("a GOAWAY");
    assert!(client.is_closed());
}
