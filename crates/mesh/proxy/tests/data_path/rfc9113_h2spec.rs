//! The cases of h2spec's sections `generic`, `http2` and `hpack` that the other tables do not have. Each is
//! named for the section of RFC 7540 or RFC 7541 that h2spec has it in.

use crate::support::config::Mesh;
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PADDED, PING,
    PREFACE, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, connect, frame, next, next_of,
};
use crate::support::wire::Client;
use crate::support::{Config, Origin};

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

const HAS_PRIORITY: u8 = 0x20;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

/// A name, what a client sends, and the errors that it may be told.
type Offence = (&'static str, Vec<Vec<u8>>, &'static [u32]);

fn fields(method: &str) -> Vec<u8> {
    block(&[
        (":method", method),
        (":scheme", "http"),
        (":authority", "h"),
        (":path", "/"),
    ])
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, fields("GET"))
}

/// A request whose body is still to come.
fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, fields("POST"))
}

/// A GET with these bytes at the end of its header block.
fn get_with(more: &[u8]) -> Vec<u8> {
    let block = [&fields("GET")[..], more].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, 1, block)
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, code.to_be_bytes())
}

fn set(id: u16, value: u32) -> Vec<u8> {
    let setting = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, setting)
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, more.to_be_bytes())
}

fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, dependency(on, weight))
}

fn dependency(on: u32, weight: u8) -> Vec<u8> {
    [&on.to_be_bytes()[..], &[weight]].concat()
}

fn mesh() -> (Origin, Mesh) {
    let origin = Origin::saying("hello");
    let mesh = Config::to(&origin).start();
    (origin, mesh)
}

/// What an offence leads to: GOAWAY or RST_STREAM with its error, or the end of the connection.
fn outcome(client: &mut Client) -> (&'static str, u32) {
    while let Some(frame) = next(client) {
        match frame.kind {
            GOAWAY if frame.number(4) != 0 => return ("GOAWAY", frame.number(4)),
            RST_STREAM if frame.number(0) != 0 => return ("RST_STREAM", frame.number(0)),
            _ => {}
        }
    }
    ("the end", 0)
}

fn is_pong(frame: &Frame) -> bool {
    frame.flags == ACK && frame.payload == b"h2spec.."
}

/// Waits for the answer to a PING: the connection lives.
fn answers_ping(client: &mut Client) -> bool {
    client.send(frame(PING, 0, 0, "h2spec.."));
    while let Some(frame) = next_of(client, PING) {
        if is_pong(&frame) {
            return true;
        }
    }
    false
}

#[test]
fn offences_end_the_stream_or_the_connection() {
    let (_origin, mesh) = mesh();
    let padded_too_much = [&[255][..], &fields("GET")].concat();
    let depends_on_itself = [dependency(1, 15), fields("GET")].concat();
    let all = END_STREAM | END_HEADERS;
    let huge = block(&[("x-large", "y".repeat(120))]).repeat(160);
    let begun = frame(HEADERS, END_STREAM, 1, fields("GET"));
    let eos = b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f";
    let cases: Vec<Offence> = vec![
        (
            "http2/4.2/3: HEADERS over SETTINGS_MAX_FRAME_SIZE",
            vec![get_with(&huge)],
            &[FRAME_SIZE_ERROR],
        ),
        (
            "http2/4.3/1: a literal that breaks off",
            vec![frame(HEADERS, all, 1, b"\x40")],
            &[COMPRESSION_ERROR],
        ),
        (
            "http2/4.3/2, http2/6.2/1: PRIORITY inside a header block",
            vec![begun.clone(), priority(1, 0, 255)],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/4.3/3, http2/6.2/2: HEADERS of another stream inside a header block",
            vec![begun.clone(), get(3)],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/5.1/6: HEADERS on a half-closed stream",
            vec![get(1), get(1)],
            &[STREAM_CLOSED, PROTOCOL_ERROR],
        ),
        (
            "http2/5.1/7: CONTINUATION on a half-closed stream",
            vec![get(1), frame(CONTINUATION, END_HEADERS, 1, fields("GET"))],
            &[STREAM_CLOSED, PROTOCOL_ERROR],
        ),
        (
            "http2/5.1/4: CONTINUATION on an idle stream",
            vec![frame(CONTINUATION, END_HEADERS, 1, fields("GET"))],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/5.1/10: CONTINUATION behind RST_STREAM",
            vec![
                post(1),
                reset(1, 8),
                frame(CONTINUATION, END_HEADERS, 1, fields("GET")),
            ],
            &[STREAM_CLOSED, PROTOCOL_ERROR],
        ),
        (
            "http2/5.3.1/1: HEADERS that depends on itself",
            vec![frame(HEADERS, all | HAS_PRIORITY, 1, depends_on_itself)],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/5.3.1/2: PRIORITY that depends on itself",
            vec![post(1), priority(1, 1, 255)],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/5.5/2: an unknown frame inside a header block",
            vec![begun.clone(), frame(0xff, 0, 1, "extension")],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/6.2/4: HEADERS with too much padding",
            vec![frame(HEADERS, all | PADDED, 1, padded_too_much)],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/6.3/2: PRIORITY of 4 bytes",
            vec![post(1), frame(PRIORITY, 0, 1, [0; 4])],
            &[FRAME_SIZE_ERROR],
        ),
        (
            "http2/6.5.2/4: SETTINGS_MAX_FRAME_SIZE above the maximum",
            vec![set(MAX_FRAME_SIZE, 1 << 24)],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/6.9.1/3: a stream's window above the maximum",
            vec![post(1), window(1, 0x7fff_ffff), window(1, 0x7fff_ffff)],
            &[FLOW_CONTROL_ERROR],
        ),
        (
            "http2/6.10/2: DATA between CONTINUATION",
            vec![
                begun.clone(),
                frame(CONTINUATION, 0, 1, block(&[("a", "b")])),
                frame(DATA, END_STREAM, 1, "test"),
            ],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/6.10/3: CONTINUATION on stream 0",
            vec![begun, frame(CONTINUATION, END_HEADERS, 0, "")],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/6.10/4: CONTINUATION behind the end of a header block",
            vec![
                frame(HEADERS, END_HEADERS, 1, fields("POST")),
                frame(CONTINUATION, END_HEADERS, 1, ""),
            ],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/6.10/5: CONTINUATION behind the last CONTINUATION",
            vec![
                frame(HEADERS, 0, 1, fields("POST")),
                frame(CONTINUATION, END_HEADERS, 1, ""),
                frame(CONTINUATION, END_HEADERS, 1, ""),
            ],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/6.10/6: CONTINUATION behind DATA",
            vec![
                post(1),
                frame(DATA, 0, 1, "test"),
                frame(CONTINUATION, END_HEADERS, 1, ""),
            ],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/8.1.2.3/6: two :scheme",
            vec![get_with(&block(&[(":scheme", "http")]))],
            &[PROTOCOL_ERROR],
        ),
        (
            "http2/8.1.2.6/2: several DATA that are not content-length",
            vec![
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    [fields("POST"), block(&[("content-length", "1")])].concat(),
                ),
                frame(DATA, 0, 1, "test"),
                frame(DATA, END_STREAM, 1, "test"),
            ],
            &[PROTOCOL_ERROR],
        ),
        (
            "hpack/2.3.3/2: a literal whose name's index is not in the table",
            vec![get_with(b"\x7f\xff\xff\x7f\x01a")],
            &[COMPRESSION_ERROR],
        ),
        (
            "hpack/4.2/1: a table size at the end of a header block",
            vec![get_with(b"\x21")],
            &[COMPRESSION_ERROR],
        ),
        (
            "hpack/5.2/1: padding longer than 7 bits",
            vec![get_with(
                b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff",
            )],
            &[COMPRESSION_ERROR],
        ),
        (
            "hpack/5.2/2: padding of zeros",
            vec![get_with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")],
            &[COMPRESSION_ERROR],
        ),
        (
            "hpack/5.2/3: the EOS symbol",
            vec![get_with(eos)],
            &[COMPRESSION_ERROR],
        ),
        (
            "hpack/6.1/1: index 0",
            vec![get_with(b"\x80")],
            &[COMPRESSION_ERROR],
        ),
    ];
    let mut wrong = Vec::new();
    for (name, frames, codes) in cases {
        let mut client = connect(mesh.address);
        client.send(frames.concat());
        let (what, code) = outcome(&mut client);
        // The codec does not use every name that the RFC has for an error.
        if !codes.contains(&code) && code != PROTOCOL_ERROR {
            wrong.push(format!("{name}: {what} of {code}, not {codes:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(mesh.client().get("/").status, 200);
}

#[test]
fn a_closed_stream_takes_nothing_any_more() {
    let (_origin, mesh) = mesh();
    // Closed by both sides.
    let late: [(&str, Vec<u8>); 3] = [
        ("http2/5.1/11: DATA", frame(DATA, END_STREAM, 1, "test")),
        ("http2/5.1/12: HEADERS", get(1)),
        (
            "http2/5.1/13: CONTINUATION",
            frame(CONTINUATION, END_HEADERS, 1, fields("GET")),
        ),
    ];
    for (name, frame) in late {
        let mut client = connect(mesh.address);
        client.send(get(1));
        while next_of(&mut client, DATA).expect("a body").flags & END_STREAM == 0 {}
        client.send(&frame);
        let (what, code) = outcome(&mut client);
        assert!(
            [STREAM_CLOSED, PROTOCOL_ERROR].contains(&code),
            "{name}: {what} of {code}"
        );
    }
    // Closed by RST_STREAM; what was on its way is not an offence of the connection.
    for (name, late) in [
        ("http2/5.1/8: DATA", frame(DATA, END_STREAM, 1, "test")),
        ("http2/5.1/9: HEADERS", get(1)),
    ] {
        let mut client = connect(mesh.address);
        client.send([post(1), reset(1, 8), late].concat());
        client.send(frame(PING, 0, 0, "h2spec.."));
        let said = loop {
            let Some(frame) = next(&mut client) else {
                panic!("{name}: the end");
            };
            match frame.kind {
                PING if is_pong(&frame) => break 0,
                RST_STREAM => break frame.number(0),
                GOAWAY => break frame.number(4),
                _ => {}
            }
        };
        // Of HEADERS the codec says so of the connection, by another name.
        let may_be = [0, STREAM_CLOSED, PROTOCOL_ERROR];
        let may_be = if name.ends_with("DATA") {
            &may_be[..2]
        } else {
            &may_be
        };
        assert!(may_be.contains(&said), "{name}: {said}");
    }
}

#[test]
fn what_is_allowed_disturbs_nobody() {
    let (origin, mesh) = mesh();
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        (
            "generic/2/1: PRIORITY on an idle stream",
            vec![priority(1, 0, 0)],
        ),
        (
            "generic/2/2: WINDOW_UPDATE on a half-closed stream",
            vec![get(1), window(1, 1)],
        ),
        (
            "generic/2/3: PRIORITY on a half-closed stream",
            vec![get(1), priority(1, 0, 1)],
        ),
        (
            "generic/2/4: RST_STREAM on a half-closed stream",
            vec![get(1), reset(1, 8)],
        ),
        (
            "generic/2/5: PRIORITY on a closed stream",
            vec![post(1), reset(1, 8), priority(1, 0, 1)],
        ),
        (
            "generic/3.3/1: PRIORITY of 1",
            vec![post(1), priority(1, 0, 0), reset(1, 8)],
        ),
        (
            "generic/3.3/2: PRIORITY of 256",
            vec![post(1), priority(1, 0, 255), reset(1, 8)],
        ),
        (
            "generic/3.3/3: PRIORITY with a dependency",
            vec![post(1), priority(1, 3, 255), reset(1, 8)],
        ),
        (
            "generic/3.3/4: PRIORITY with an exclusive dependency",
            vec![post(1), priority(1, 0x8000_0003, 255), reset(1, 8)],
        ),
        ("generic/3.4/1: RST_STREAM", vec![post(1), reset(1, 8)]),
        ("generic/3.7/1: PING", vec![frame(PING, 0, 0, "ignored.")]),
        (
            "generic/3.3/5: PRIORITY on a stream above one that comes later",
            vec![priority(3, 0, 255), get(1)],
        ),
        (
            "generic/3.9/1: WINDOW_UPDATE of the connection",
            vec![window(0, 1)],
        ),
        (
            "generic/3.9/2: WINDOW_UPDATE of a stream",
            vec![get(1), window(1, 1)],
        ),
        (
            "http2/4.1/2: an undefined flag",
            vec![frame(PING, 0xfe, 0, "ignored.")],
        ),
        (
            "http2/4.1/3: the reserved bit",
            vec![frame(PING, 0, 0x8000_0000, "ignored.")],
        ),
        (
            "http2/6.7/2: PING with ACK",
            vec![frame(PING, ACK, 0, "invalid.")],
        ),
        (
            "http2/7/2: RST_STREAM with an unknown error",
            vec![post(1), reset(1, 0xff)],
        ),
        ("http2/6.5.2/5: an unknown setting", vec![set(0xff, 1)]),
    ];
    for (name, frames) in cases {
        let mut client = connect(mesh.address);
        client.send(frames.concat());
        assert!(answers_ping(&mut client), "{name}");
        client.send(get(5));
        let head = loop {
            let head = next_of(&mut client, HEADERS);
            let head = head.unwrap_or_else(|| panic!("{name}: no response"));
            if head.stream == 5 {
                break head;
            }
        };
        assert_eq!(head.flags & END_HEADERS, END_HEADERS, "{name}");
    }
    // http2/7/1, generic/3.8/1: a client that goes, and says why in a way that nobody knows, takes nobody along.
    let mut client = connect(mesh.address);
    client.send(frame(GOAWAY, 0, 0, [0, 0, 0, 0, 0, 0, 0, 0xff]));
    drop(client);
    assert_eq!(mesh.client().get("/").status, 200);
    // generic/3.1/2, generic/3.1/3: a body in several frames, with padding.
    let mut client = connect(mesh.address);
    let padded = frame(DATA, PADDED, 1, b"\x04two \0\0\0\0");
    let frames = [
        post(1),
        frame(DATA, 0, 1, "one "),
        padded,
        frame(DATA, END_STREAM, 1, "three"),
    ];
    client.send(frames.concat());
    next_of(&mut client, HEADERS).expect("a response");
    assert_eq!(origin.last().body, b"one two three");
}

#[test]
fn every_representation_of_a_field_is_understood() {
    let (origin, mesh) = mesh();
    // `user-agent` is 58 in the static table; "h2spec" with and without Huffman's code.
    let cases: [(&str, &[u8], &str); 14] = [
        (
            "generic/5/1: an indexed field",
            b"\x90",
            "accept-encoding: gzip, deflate",
        ),
        (
            "generic/5/2: indexed, its name too",
            b"\x7a\x06h2spec",
            "user-agent: h2spec",
        ),
        (
            "generic/5/3: the same in Huffman's code",
            b"\x7a\x84\x9c\x48\xac\xa4",
            "user-agent: h2spec",
        ),
        (
            "generic/5/4: indexed, with a new name",
            b"\x40\x06x-test\x06h2spec",
            "x-test: h2spec",
        ),
        (
            "generic/5/5: the same in Huffman's code",
            b"\x40\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4",
            "x-test: h2spec",
        ),
        (
            "generic/5/6: not indexed, but its name",
            b"\x0f\x2b\x06h2spec",
            "user-agent: h2spec",
        ),
        (
            "generic/5/7: the same in Huffman's code",
            b"\x0f\x2b\x84\x9c\x48\xac\xa4",
            "user-agent: h2spec",
        ),
        (
            "generic/5/8: not indexed",
            b"\x00\x06x-test\x06h2spec",
            "x-test: h2spec",
        ),
        (
            "generic/5/9: the same in Huffman's code",
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4",
            "x-test: h2spec",
        ),
        (
            "generic/5/10: never indexed, but its name",
            b"\x1f\x2b\x06h2spec",
            "user-agent: h2spec",
        ),
        (
            "generic/5/11: the same in Huffman's code",
            b"\x1f\x2b\x84\x9c\x48\xac\xa4",
            "user-agent: h2spec",
        ),
        (
            "generic/5/12: never indexed",
            b"\x10\x06x-test\x06h2spec",
            "x-test: h2spec",
        ),
        (
            "generic/5/13: the same in Huffman's code",
            b"\x10\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4",
            "x-test: h2spec",
        ),
        ("an empty value", b"\x00\x06x-test\x00", "x-test: "),
    ];
    for (name, more, line) in cases {
        let mut client = connect(mesh.address);
        client.send(get_with(more));
        next_of(&mut client, HEADERS).unwrap_or_else(|| panic!("{name}: no response"));
        let head = origin.last().head;
        assert!(head.contains(line.trim_end()), "{name}: {head}");
    }
    // generic/5/14, generic/5/15: sizes of the table, one and several, before the fields.
    for sizes in [&b"\x21"[..], b"\x21\x3f\xe1\x1f"] {
        let mut client = connect(mesh.address);
        let block = [sizes, &fields("GET")].concat();
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block));
        next_of(&mut client, HEADERS).expect("a response");
    }
}

#[test]
fn windows_of_streams_are_heeded() {
    let (_origin, mesh) = mesh();
    let next_data = |client: &mut Client| next_of(client, DATA).expect("a body").payload;
    // http2/6.9.1/1: one byte.
    let mut client = connect(mesh.address);
    client.send([set(INITIAL_WINDOW_SIZE, 1), get(1)].concat());
    assert_eq!(next_data(&mut client), b"h");
    // http2/6.9.2/1: a window that grows while a stream waits for it.
    let mut client = connect(mesh.address);
    client.send([set(INITIAL_WINDOW_SIZE, 0), get(1)].concat());
    next_of(&mut client, HEADERS).expect("a head");
    assert!(answers_ping(&mut client));
    client.send(set(INITIAL_WINDOW_SIZE, 1));
    assert_eq!(next_data(&mut client), b"h");
    // http2/6.9.2/2: one that becomes negative.
    let mut client = connect(mesh.address);
    client.send([set(INITIAL_WINDOW_SIZE, 3), get(1)].concat());
    assert_eq!(next_data(&mut client), b"hel");
    client.send([set(INITIAL_WINDOW_SIZE, 2), window(1, 1)].concat());
    // No DATA may come before it is positive again.
    client.send(frame(PING, 0, 0, "h2spec.."));
    loop {
        let frame = next(&mut client).expect("a pong");
        assert_ne!(frame.kind, DATA);
        if frame.kind == PING {
            break;
        }
    }
    client.send(window(1, 2));
    assert_eq!(next_data(&mut client), b"lo");
    // http2/6.5.3/1, http2/6.5.3/2: of two values in one frame the last one counts; the frame is acknowledged.
    let mut client = connect(mesh.address);
    let twice = [
        &INITIAL_WINDOW_SIZE.to_be_bytes()[..],
        &100_u32.to_be_bytes(),
        &INITIAL_WINDOW_SIZE.to_be_bytes(),
        &1_u32.to_be_bytes(),
    ];
    client.send([frame(SETTINGS, 0, 0, twice.concat()), get(1)].concat());
    while next_of(&mut client, SETTINGS)
        .expect("an acknowledgement")
        .flags
        & ACK
        == 0
    {}
    assert_eq!(next_data(&mut client), b"h");
}

#[test]
fn limits_and_beginnings() {
    // http2/5.1.2/1: more streams than are allowed.
    let origin = Origin::saying("hello");
    let mesh = Config::to(&origin)
        .with_manager(|manager| manager.http2.max_concurrent_streams = 2)
        .start();
    let mut client = connect(mesh.address);
    client.send([post(1), post(3), post(5)].concat());
    let (what, code) = outcome(&mut client);
    assert!(
        [REFUSED_STREAM, PROTOCOL_ERROR].contains(&code),
        "{what} of {code}"
    );
    // http2/3.5/2: what begins like the preface, and is none.
    let mut client = Client::connect(mesh.address);
    client.send(&PREFACE[..16]);
    client.send("XX\r\n\r\n");
    let answer = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 505 ") || answer.starts_with("HTTP/1.1 400 "),
        "{answer}"
    );
    assert_eq!(mesh.client().get("/").status, 200);
}
