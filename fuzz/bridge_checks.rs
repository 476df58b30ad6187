//! What must hold for the frames of every client and of every endpoint of HTTP/2, shared by the fuzz targets and
//! by the test that replays their corpora (`crates/mesh/proxy/tests/fuzz_corpus.rs`).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::ext::Protocol;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use periplus_proxy::translate::{
    are_fit_trailers, from_text, response_from_text, response_to_text, to_text, trailers_from_text,
    trailers_to_text,
};
use tokio::io::AsyncWriteExt;

/// The preface and an empty SETTINGS frame: the input is what follows.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// More than the answers to any input need, so that nobody has to read them.
const ROOM: usize = 1 << 22;
/// An empty SETTINGS frame: what an endpoint begins with.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

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
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let Ok(mut connection) = builder.handshake::<_, Bytes>(server).await else {
        return;
    };
    let mut bodies = Vec::new();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        check(&head, body.is_end_stream());
        bodies.push(body);
        let mut answer = Response::new(());
        *answer.headers_mut() = head.headers;
        if let Ok(mut sending) = respond.send_response(answer, false) {
            // A client that has gone misses nothing.
            let _ = sending.send_data(Bytes::from_static(b"ok"), true);
        }
    }
    for body in bodies {
        check_trailers(body).await;
    }
}

/// Whatever the codec takes for a response is one head in the text of HTTP/1.1, and the same response again when
/// that is read; so are interim responses and trailers.
pub(crate) fn h2_response(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(ask(input));
}

async fn ask(input: &[u8]) {
    let (client, mut server) = tokio::io::duplex(ROOM);
    for part in [SETTINGS, input] {
        server.write_all(part).await.expect("there is room");
    }
    let Ok((sender, connection)) = h2::client::handshake(client).await else {
        return;
    };
    let mut waiting = Vec::new();
    for method in [Method::GET, Method::HEAD, Method::POST] {
        let mut request = Request::new(());
        *request.uri_mut() = "http://h/".parse().expect("a URI");
        *request.method_mut() = method;
        // A sender waits until its last request is on its way; another does not.
        if let Ok((response, _)) = sender.clone().send_request(request, true) {
            waiting.push(response);
        }
    }
    // The input ends with the connection: the requests are on their way before it is read.
    server.shutdown().await.expect("the end of the input");
    let local = async move {
        for mut response in waiting {
            let answer = poll_fn(|cx| {
                while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
                    check_response(interim.status(), interim.headers());
                }
                Pin::new(&mut response).poll(cx)
            });
            let Ok(response) = answer.await else {
                continue;
            };
            check_response(response.status(), response.headers());
            check_trailers(response.into_body()).await;
        }
    };
    drop(sender);
    let (_, _) = tokio::join!(connection, local);
}

fn check_response(status: StatusCode, headers: &HeaderMap) {
    let text = response_to_text(status, headers);
    let end = memchr::memmem::find(&text, b"\r\n\r\n").expect("the end of the head");
    assert_eq!(end + 4, text.len(), "more than one head: {text:?}");
    assert!(!text.contains(&0), "NUL: {text:?}");
    let again = response_from_text(&text).expect("it is read again");
    if status != StatusCode::SWITCHING_PROTOCOLS {
        assert_eq!(again.status(), status);
    }
    assert_eq!(said(again.headers()), said(headers));
}

async fn check_trailers(mut body: h2::RecvStream) {
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
    }
    let Ok(Some(trailers)) = body.trailers().await else {
        return;
    };
    let text = trailers_to_text(&trailers);
    assert!(!text.starts_with(b"\r\n"), "an end in front: {text:?}");
    assert_eq!(memchr::memmem::find(&text, b"\r\n\r\n"), None);
    let again = trailers_from_text(&text).expect("they are read again");
    assert!(are_fit_trailers(&again), "{again:?}");
    if are_fit_trailers(&trailers) {
        assert_eq!(said(&again), said(&trailers));
    }
    let twice = trailers_from_text(&trailers_to_text(&again)).expect("they are read again");
    assert_eq!(said(&twice), said(&again));
}

/// All fields as they must arrive, each name's values in their order.
fn said(fields: &HeaderMap) -> Vec<(String, Vec<Vec<u8>>)> {
    let value = |value: &HeaderValue| value.as_bytes().trim_ascii().to_vec();
    let of_name = |name| fields.get_all(name).iter().map(value).collect();
    let mut all: Vec<_> = fields
        .keys()
        .map(|name| (name.to_string(), of_name(name)))
        .collect();
    all.sort();
    all
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
    let is_upgrade = head.extensions.get::<Protocol>().is_some();
    let method = match head.method {
        // RFC 8441 §5.
        Method::CONNECT if is_upgrade => "GET",
        ref method => method.as_str(),
    };
    assert!(lines[0].starts_with(method.as_bytes()));
    if head.method == Method::CONNECT {
        // It has no path, or becomes an upgrade.
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
