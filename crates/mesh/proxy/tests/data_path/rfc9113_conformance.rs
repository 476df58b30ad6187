//! What an HTTP/2 server owes to clients that break the rules (RFC 9113 §4 to §8), by hand-made frames.

use crate::support::config::Mesh;
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, connect, frame, next, next_of,
};
use crate::support::{Config, Origin};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "h"),
    (":path", "/"),
];
const POST: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "h"),
    (":path", "/"),
];

fn mesh() -> (Origin, Mesh) {
    let origin = Origin::saying("ok");
    let mesh = Config::to(&origin).start();
    (origin, mesh)
}

/// A request with these fields, which ends its stream.
fn get(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, block(fields))
}

/// A request that has a body.
fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let fields: Vec<_> = POST.iter().chain(more).copied().collect();
    frame(HEADERS, END_HEADERS, stream, block(&fields))
}

fn with(more: &[(&str, &str)]) -> Vec<u8> {
    let fields: Vec<_> = GET.iter().chain(more).copied().collect();
    get(1, &fields)
}

#[test]
fn errors_of_the_connection() {
    let (_origin, mesh) = mesh();
    let number = |n: u32| n.to_be_bytes();
    let setting = |id: u16, value: u32| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let oversized = vec![0; 16_385];
    let cases: Vec<(&str, Vec<u8>, u32)> = vec![
        (
            "http2/6.1/1: DATA on stream 0",
            frame(DATA, 0, 0, "x"),
            PROTOCOL_ERROR,
        ),
        (
            "http2/6.2/3: HEADERS on stream 0",
            frame(HEADERS, END_HEADERS, 0, block(&GET)),
            PROTOCOL_ERROR,
        ),
        (
            "http2/5.1.1/1: a stream of the server's",
            get(2, &GET),
            PROTOCOL_ERROR,
        ),
        (
            "http2/5.1.1/2: a stream behind another",
            [get(5, &GET), get(3, &GET)].concat(),
            PROTOCOL_ERROR,
        ),
        (
            "http2/5.1/1: DATA on an idle stream",
            frame(DATA, 0, 1, "x"),
            PROTOCOL_ERROR,
        ),
        (
            "http2/5.1/2, http2/6.4/2: RST_STREAM on an idle stream",
            frame(RST_STREAM, 0, 1, number(8)),
            PROTOCOL_ERROR,
        ),
        (
            "http2/6.4/1: RST_STREAM on stream 0",
            frame(RST_STREAM, 0, 0, number(8)),
            PROTOCOL_ERROR,
        ),
        (
            "http2/6.4/3: RST_STREAM of 3 bytes",
            [post(1, &[]), frame(RST_STREAM, 0, 1, "abc")].concat(),
            FRAME_SIZE_ERROR,
        ),
        (
            "http2/5.1/3: WINDOW_UPDATE on an idle stream",
            frame(WINDOW_UPDATE, 0, 1, number(9)),
            PROTOCOL_ERROR,
        ),
        (
            "http2/6.9/1: WINDOW_UPDATE of 0",
            frame(WINDOW_UPDATE, 0, 0, number(0)),
            PROTOCOL_ERROR,
        ),
        (
            "http2/6.9/3: WINDOW_UPDATE of 3 bytes",
            frame(WINDOW_UPDATE, 0, 0, "abc"),
            FRAME_SIZE_ERROR,
        ),
        (
            "http2/6.9.1/2: a window over the limit",
            frame(WINDOW_UPDATE, 0, 0, number(0x7fff_ffff)),
            FLOW_CONTROL_ERROR,
        ),
        (
            "http2/6.5/1: SETTINGS acknowledged with a payload",
            frame(SETTINGS, ACK, 0, setting(1, 0)),
            FRAME_SIZE_ERROR,
        ),
        (
            "http2/6.5/2: SETTINGS on a stream",
            frame(SETTINGS, 0, 1, ""),
            PROTOCOL_ERROR,
        ),
        (
            "http2/6.5/3: SETTINGS of 5 bytes",
            frame(SETTINGS, 0, 0, "abcde"),
            FRAME_SIZE_ERROR,
        ),
        (
            "http2/6.5.2/1: ENABLE_PUSH of 2",
            frame(SETTINGS, 0, 0, setting(2, 2)),
            PROTOCOL_ERROR,
        ),
        (
            "http2/6.5.2/2, http2/6.9.2/3: INITIAL_WINDOW_SIZE over the limit",
            frame(SETTINGS, 0, 0, setting(4, 0x8000_0000)),
            FLOW_CONTROL_ERROR,
        ),
        (
            "http2/6.5.2/3: MAX_FRAME_SIZE of 16,383",
            frame(SETTINGS, 0, 0, setting(5, 16_383)),
            PROTOCOL_ERROR,
        ),
        (
            "http2/6.7/4, http2/5.4.1/2: PING of 7 bytes",
            frame(PING, 0, 0, "abcdefg"),
            FRAME_SIZE_ERROR,
        ),
        (
            "http2/6.7/3: PING on a stream",
            frame(PING, 0, 1, "abcdefgh"),
            PROTOCOL_ERROR,
        ),
        (
            "http2/6.8/1: GOAWAY on a stream",
            frame(GOAWAY, 0, 1, [0; 8]),
            PROTOCOL_ERROR,
        ),
        (
            "http2/4.2/2: a frame over the limit",
            [post(1, &[]), frame(DATA, 0, 1, &oversized)].concat(),
            FRAME_SIZE_ERROR,
        ),
        (
            "CONTINUATION without HEADERS",
            frame(CONTINUATION, END_HEADERS, 1, block(&GET)),
            PROTOCOL_ERROR,
        ),
        (
            "PING inside a header block",
            [
                frame(HEADERS, END_STREAM, 1, block(&GET)),
                frame(PING, 0, 0, "abcdefgh"),
            ]
            .concat(),
            PROTOCOL_ERROR,
        ),
        (
            "CONTINUATION of another stream",
            [
                frame(HEADERS, END_STREAM, 1, block(&GET)),
                frame(CONTINUATION, END_HEADERS, 3, ""),
            ]
            .concat(),
            PROTOCOL_ERROR,
        ),
        (
            "http2/8.2/1: PUSH_PROMISE",
            [
                post(1, &[]),
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    [number(2).to_vec(), block(&GET)].concat(),
                ),
            ]
            .concat(),
            PROTOCOL_ERROR,
        ),
        (
            "http2/6.3/1: PRIORITY on stream 0",
            frame(PRIORITY, 0, 0, [0; 5]),
            PROTOCOL_ERROR,
        ),
        (
            "hpack/2.3.3/1: an index that is not in the table",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, [0xff, 0x80, 0x01]),
            COMPRESSION_ERROR,
        ),
        (
            "hpack/6.3/1: a table over the limit",
            frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                1,
                [0x3f, 0xff, 0xff, 0x7f],
            ),
            COMPRESSION_ERROR,
        ),
        (
            "http2/6.1/3: padding longer than the frame",
            [post(1, &[]), frame(DATA, PADDED, 1, [9, 0])].concat(),
            PROTOCOL_ERROR,
        ),
        (
            "http2/5.1/5, http2/6.1/2: DATA behind the end of a stream",
            [get(1, &GET), frame(DATA, 0, 1, "x")].concat(),
            STREAM_CLOSED,
        ),
    ];
    let mut wrong = Vec::new();
    for (name, bytes, code) in cases {
        let mut client = connect(mesh.address);
        client.send(&bytes);
        // Some may be said of the stream alone; then its number is there.
        let found = loop {
            let Some(frame) = next(&mut client) else {
                panic!("{name}: closed without a word");
            };
            match frame.kind {
                GOAWAY => break frame.number(4),
                RST_STREAM if code == STREAM_CLOSED => break frame.number(0),
                _ => {}
            }
        };
        // The codec does not use every name that the RFC has for an error.
        if found != code && found != PROTOCOL_ERROR {
            wrong.push((name, found));
        }
    }
    assert_eq!(wrong, []);
    // Nobody else is disturbed.
    assert_eq!(mesh.client().get("/").status, 200);
}

#[test]
fn malformed_requests_are_errors_of_their_stream() {
    let (origin, mesh) = mesh();
    let without = |gone: &str| {
        let fields: Vec<_> = GET
            .iter()
            .filter(|(name, _)| *name != gone)
            .copied()
            .collect();
        get(1, &fields)
    };
    let body = |length: &str, data: &str| {
        [
            post(1, &[("content-length", length)]),
            frame(DATA, END_STREAM, 1, data),
        ]
        .concat()
    };
    let raw = |name: &[u8], value: &[u8]| {
        let fields = [&block(&GET)[..], &block(&[(name, value)])].concat();
        frame(HEADERS, END_STREAM | END_HEADERS, 1, fields)
    };
    let trailers = |flags: u8, fields: &[(&str, &str)]| {
        [
            post(1, &[]),
            frame(DATA, 0, 1, "x"),
            frame(HEADERS, END_HEADERS | flags, 1, block(fields)),
        ]
        .concat()
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("http2/8.1.2.3/2: no :method", without(":method")),
        ("http2/8.1.2.3/3: no :scheme", without(":scheme")),
        ("http2/8.1.2.3/4: no :path", without(":path")),
        (
            "http2/8.1.2.3/1: an empty :path",
            get(1, &[GET[0], GET[1], GET[2], (":path", "")]),
        ),
        ("http2/8.1.2.3/5: two :method", with(&[(":method", "GET")])),
        (
            "http2/8.1.2.3/7: two :path",
            get(1, &[GET[0], GET[1], GET[2], GET[3], (":path", "/b")]),
        ),
        (
            "two :authority",
            get(1, &[GET[0], GET[1], GET[2], GET[2], GET[3]]),
        ),
        (
            "http2/8.1.2.1/1: an unknown pseudo-header field",
            get(1, &[GET[0], GET[1], GET[2], GET[3], (":x", "y")]),
        ),
        (
            "http2/8.1.2.1/2: a pseudo-header field of responses",
            get(1, &[GET[0], GET[1], GET[2], GET[3], (":status", "200")]),
        ),
        (
            "http2/8.1.2.1/4: a pseudo-header field behind another field",
            get(1, &[GET[0], GET[1], GET[2], ("a", "b"), GET[3]]),
        ),
        ("http2/8.1.2/1: a name in capitals", with(&[("X-Y", "z")])),
        (
            "http2/8.1.2.2/1: connection",
            with(&[("connection", "close")]),
        ),
        ("keep-alive", with(&[("keep-alive", "1")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
        ),
        ("upgrade", with(&[("upgrade", "websocket")])),
        (
            "http2/8.1.2.2/2: te other than trailers",
            with(&[("te", "gzip")]),
        ),
        (
            "te with trailers and more",
            with(&[("te", "trailers, gzip")]),
        ),
        ("host that is not :authority", with(&[("host", "other")])),
        (
            "one of two hosts is not :authority",
            with(&[("host", "h"), ("host", "other")]),
        ),
        ("a value with LF", raw(b"a", b"b\nc: d")),
        ("a value with CR", raw(b"a", b"b\rc: d")),
        ("a value with NUL", raw(b"a", b"b\0c")),
        ("a value that begins with a blank", with(&[("a", " b")])),
        ("a value that ends with a tab", with(&[("a", "b\t")])),
        ("a name with a blank", raw(b"a b", b"c")),
        ("a name with a colon", raw(b"a:b", b"c")),
        ("a name with LF", raw(b"a\nb", b"c")),
        ("an empty name", raw(b"", b"c")),
        (
            "a :path with a blank",
            get(1, &[GET[0], GET[1], GET[2], (":path", "/a b HTTP/1.1")]),
        ),
        (
            "a :method with a blank",
            get(1, &[(":method", "GET /x"), GET[1], GET[2], GET[3]]),
        ),
        (
            "an :authority with a blank",
            get(1, &[GET[0], GET[1], (":authority", "h evil"), GET[3]]),
        ),
        ("a body shorter than content-length", body("5", "four")),
        (
            "http2/8.1.2.6/1: a body longer than content-length",
            body("3", "four"),
        ),
        ("a body where content-length is 0", body("0", "x")),
        (
            "no body where content-length is 3",
            with(&[("content-length", "3")]),
        ),
        (
            "two different content-length",
            [
                post(1, &[("content-length", "1"), ("content-length", "2")]),
                frame(DATA, END_STREAM, 1, "x"),
            ]
            .concat(),
        ),
        (
            "content-length that is no number",
            [
                post(1, &[("content-length", "+1")]),
                frame(DATA, END_STREAM, 1, "x"),
            ]
            .concat(),
        ),
        (
            "http2/8.1/1: trailers that do not end the stream",
            trailers(0, &[("a", "b")]),
        ),
        (
            "http2/6.9/2: a window of 0 more",
            [post(1, &[]), frame(WINDOW_UPDATE, 0, 1, [0; 4])].concat(),
        ),
    ];
    let of_codec = [
        "http2/8.1.2.1/1: an unknown pseudo-header field",
        "http2/8.1.2/1: a name in capitals",
        "a value with LF",
        "a value with CR",
        "a value with NUL",
        "a name with a blank",
        "a name with a colon",
        "a name with LF",
        "an empty name",
        "a :method with a blank",
        "http2/6.9/2: a window of 0 more",
    ];
    let mut wrong = Vec::new();
    for (name, bytes) in cases {
        let mut client = connect(mesh.address);
        client.send(&bytes);
        let found = loop {
            let Some(frame) = next(&mut client) else {
                break ("nothing", 0);
            };
            match frame.kind {
                GOAWAY => break ("GOAWAY", frame.number(4)),
                RST_STREAM => break ("RST_STREAM", frame.number(0)),
                HEADERS => break ("HEADERS", 0),
                _ => {}
            }
        };
        match found {
            ("RST_STREAM", PROTOCOL_ERROR) => {}
            // Which the codec may do as well (RFC 9113 §5.4.2).
            ("GOAWAY", PROTOCOL_ERROR) if of_codec.contains(&name) => continue,
            _ => {
                wrong.push((name, found));
                continue;
            }
        }
        // The connection is still good.
        client.send(frame(PING, 0, 0, "abcdefgh"));
        let pong = next_of(&mut client, PING).unwrap_or_else(|| panic!("{name}: no pong"));
        assert_eq!(pong.payload, b"abcdefgh", "{name}");
    }
    assert_eq!(wrong, []);
    // Whatever began on its way to the origin was broken off there.
    assert!(
        origin
            .received()
            .iter()
            .all(|request| request.line() == "POST / HTTP/1.1")
    );
    mesh.wait_stat("http.test.downstream_rq_active", 0);
    mesh.wait_stat("cluster.app.upstream_rq_active", 0);
}

#[test]
fn what_is_unknown_is_ignored() {
    let (_origin, mesh) = mesh();
    let mut client = connect(mesh.address);
    client.send(frame(0xbe, 0xff, 0, "whatever"));
    client.send(frame(SETTINGS, 0, 0, [0, 0x99, 0, 0, 0, 1]));
    client.send(frame(PRIORITY, 0, 1, [0, 0, 0, 3, 7]));
    client.send(frame(PING, 0xfe, 0, "abcdefgh"));
    // http2/4.1/1, http2/5.5/1: a type of frame. http2/6.7/1: the answer has the same payload.
    let pong = next_of(&mut client, PING).expect("a pong");
    assert_eq!((pong.flags, &pong.payload[..]), (ACK, &b"abcdefgh"[..]));
    // Padding, priority and CONTINUATION are understood.
    let fields = block(&GET);
    let (first, second) = fields.split_at(9);
    let padded = [&[4, 0, 0, 0, 0, 16][..], first, &[0; 4]].concat();
    client.send(frame(HEADERS, END_STREAM | PADDED | 0x20, 1, padded));
    client.send(frame(CONTINUATION, 0, 1, ""));
    client.send(frame(CONTINUATION, END_HEADERS, 1, second));
    let head = next_of(&mut client, HEADERS).expect("a response");
    assert_eq!(head.stream, 1);
    let data = next_of(&mut client, DATA).expect("a body");
    assert_eq!(
        (&data.payload[..], data.flags & END_STREAM),
        (&b"ok"[..], END_STREAM)
    );
}

#[test]
fn a_pseudo_header_field_among_trailers_goes_nowhere() {
    // http2/8.1.2.1/3, where h2spec wants the stream to end: the codec drops the field and tells nobody.
    let (origin, mesh) = mesh();
    let mut client = connect(mesh.address);
    client.send(post(1, &[]));
    client.send(frame(DATA, 0, 1, "x"));
    let trailers = block(&[(":method", "GET"), ("a", "b"), ("host", "other")]);
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, trailers));
    next_of(&mut client, HEADERS).expect("a response");
    assert_eq!(origin.last().trailers, "a: b\n");
}
