//! What must hold for the frames of every client of HTTP/2, shared by the fuzz target and by the test that
//! replays its corpus (`crates/mesh/proxy/tests/fuzz_corpus.rs`).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use periplus_proxy::translate::{from_text, to_text};
use tokio::io::AsyncWriteExt;

/// The preface and an empty SETTINGS frame: the input is what follows.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// More than the answers to any input need, so that nobody has to read them.
const ROOM: usize = 1 << 22;

/// Whatever the codec takes for a request is one head in the text of HTTP/1.1, and the same request again when
/// that is read.
pub(crate) fn h2_bridge(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(serve(input));
}

async fn serve(input: &[u8]) {
    let (mut client, server) = tokio::io::duplex(ROOM);
    for part in [BEGINNING, input] {
        client.write_all(part).await.expect("there is room");
    }
    client.shutdown().await.expect("the end of the input");
    let Ok(mut connection) = h2::server::handshake(server).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        check(&head, body.is_end_stream());
        let mut answer = Response::new(());
        *answer.headers_mut() = head.headers;
        if let Ok(mut sending) = respond.send_response(answer, false) {
            // A client that has gone misses nothing.
            let _ = sending.send_data(Bytes::from_static(b"ok"), true);
        }
    }
}

fn check(head: &http::request::Parts, ended: bool) {
    let Ok(text) = to_text(head, ended) else {
        return;
    };
    let end = memchr::memmem::find(&text, b"\r\n\r\n").expect("the end of the head");
    assert_eq!(end + 4, text.len(), "more than one head: {text:?}");
    let lines: Vec<&[u8]> = text[..end].split(|byte| *byte == b'\n').collect();
    assert!(!text[..end].contains(&0), "NUL: {text:?}");
    let first = lines[0].split(|byte| *byte == b' ').count();
    assert_eq!(first, 3, "a request line of three words: {text:?}");
    assert!(lines[0].starts_with(head.method.as_str().as_bytes()));
    if head.method == http::Method::CONNECT {
        // It has no path, and is answered without being forwarded.
        return;
    }
    let Ok(again) = from_text(&text, "h") else {
        return;
    };
    assert_eq!(again.method(), head.method);
    assert_eq!(again.uri().path_and_query(), head.uri.path_and_query());
    if let Some(authority) = head.uri.authority() {
        assert_eq!(again.uri().authority(), Some(authority));
    }
    assert_eq!(comparable(again.headers()), comparable(&head.headers));
}

/// The fields as they must arrive, each name's values in their order.
fn comparable(fields: &HeaderMap) -> Vec<(String, Vec<Vec<u8>>)> {
    let value = |value: &HeaderValue| value.as_bytes().trim_ascii().to_vec();
    let mut all: Vec<_> = fields
        .keys()
        // The authority stands for the host.
        .filter(|name| **name != header::HOST)
        .map(|name| {
            let mut values: Vec<_> = fields.get_all(name).iter().map(value).collect();
            if *name == header::COOKIE {
                values = vec![values.join(&b"; "[..])];
            }
            (name.to_string(), values)
        })
        .collect();
    all.sort();
    all
}
