//! Heads of HTTP/2 in the text of HTTP/1.1, and back (RFC 9113 §8.2, §8.3).
//!
//! The `h2` crate has seen to it that names are lower-case tokens, that values have no control
//! characters, that no field concerns one connection only, and that the pseudo-header fields are
//! complete: so nothing in a head can be anything else in its text.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, COOKIE, HOST, SEC_WEBSOCKET_KEY};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::http1::name::Name;
use crate::http1::status::append_status_line;
use crate::relay::is_forbidden_trailer;

/// The message is malformed (RFC 9113 §8.1.1): a stream error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Appends the text of a request head; `ended` says that no body follows.
pub(crate) fn append_request(
    head: &http::request::Parts,
    ended: bool,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let authority = head.uri.authority().map(Authority::as_str);
    let is_connect = head.method == Method::CONNECT;
    let protocol = head.extensions.get::<Protocol>().filter(|_| is_connect);
    // A request for another protocol than TCP is an upgrade in HTTP/1.1 (RFC 8441 §5).
    let method = protocol.map_or(head.method.as_str(), |_| "GET");
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    match head.uri.path_and_query() {
        _ if is_connect && protocol.is_none() => {
            out.extend_from_slice(authority.unwrap_or_default().as_bytes());
        }
        Some(path) => out.extend_from_slice(path.as_str().as_bytes()),
        None => return Err(Malformed("no path")),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority {
        // RFC 9113 §8.3.1: two parties may take two different ones for true.
        let same = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
        if !head.headers.get_all(HOST).iter().all(same) {
            return Err(Malformed("host is not what :authority says"));
        }
        append_line(out, "host", authority.as_bytes());
    }
    let mut cookies = 0;
    for (name, value) in &head.headers {
        if *name == HOST && authority.is_some() {
            continue;
        }
        if *name == COOKIE {
            cookies += 1;
            continue;
        }
        if value.as_bytes().trim_ascii().len() != value.len() {
            return Err(Malformed("a value begins or ends with a blank"));
        }
        append_line(out, name.as_str(), value.as_bytes());
    }
    if cookies > 0 {
        // One field again (RFC 9113 §8.2.3).
        out.extend_from_slice(b"cookie: ");
        for (index, cookie) in head.headers.get_all(COOKIE).iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b"; ");
            }
            out.extend_from_slice(cookie.as_bytes().trim_ascii());
        }
        out.extend_from_slice(b"\r\n");
    }
    if let Some(protocol) = protocol {
        if head.headers.contains_key(CONTENT_LENGTH) {
            return Err(Malformed("a tunnel has no length"));
        }
        append_line(out, "connection", b"upgrade");
        append_line(out, "upgrade", check_protocol(protocol)?);
        let is_websocket = protocol.as_str().eq_ignore_ascii_case("websocket");
        if is_websocket && !head.headers.contains_key(SEC_WEBSOCKET_KEY) {
            // A stream has none (RFC 8441 §5), but servers of HTTP/1.1 ask for it (RFC 6455 §4.1).
            let key = BASE64_STANDARD.encode(fastrand::u128(..).to_ne_bytes());
            append_line(out, "sec-websocket-key", key.as_bytes());
        }
    }
    if !ended && !is_connect && !head.headers.contains_key(CONTENT_LENGTH) {
        // What HTTP/1.1 would say of a body of unknown length.
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The name of a protocol, which is a token, and not one that HTTP/1.1 would pass over.
fn check_protocol(protocol: &Protocol) -> Result<&[u8], Malformed> {
    let name = protocol.as_str();
    let is_token = HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !is_token || name.eq_ignore_ascii_case("h2c") {
        return Err(Malformed("the protocol"));
    }
    Ok(name.as_bytes())
}

/// Appends the text of a response head, interim or final.
pub(crate) fn append_response(status: StatusCode, headers: &HeaderMap, out: &mut Vec<u8>) {
    append_status_line(out, status.as_u16());
    append_fields(headers, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends the lines of a trailer section.
pub(crate) fn append_fields(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        append_line(out, name.as_str(), value.as_bytes().trim_ascii());
    }
}

fn append_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    crate::http1::edit::append_field(out, name, value);
}

/// The request whose text this is; `host` stands in if it names none.
///
/// What is another one in each request must not drive the rest out of the connection's table (RFC 7541
/// §2.3.2). Only the first request on a connection has it put there, for its name.
pub(crate) fn request(
    text: &Bytes,
    scheme: Scheme,
    host: &str,
    is_first: bool,
) -> Result<http::Request<()>, Malformed> {
    let mut lines = Lines::new(text);
    let first = lines.next().ok_or(Malformed("no request line"))?;
    let mut words = first.split(|byte| *byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next());
    let method = Method::from_bytes(method).map_err(|_| Malformed("the method"))?;
    let path = text.slice_ref(path.unwrap_or_default());
    let path = match method {
        // Its target is the authority, which `Host` says too.
        Method::CONNECT => None,
        _ => Some(PathAndQuery::from_maybe_shared(path).map_err(|_| Malformed("the path"))?),
    };
    let mut authority = None;
    let headers = fields(text, lines, |name, value| {
        if name == Name::Host {
            authority = Some(value.clone());
        }
        match name {
            Name::Host => Keep::Not,
            name if name.is_unique() && !is_first => Keep::OutOfTable,
            _ => Keep::Whole,
        }
    })?;
    let authority = match authority.filter(|authority| !authority.is_empty()) {
        Some(authority) => Authority::from_maybe_shared(authority),
        None => Authority::try_from(host),
    };
    let mut uri = http::uri::Parts::default();
    uri.scheme = path.as_ref().map(|_| scheme);
    uri.authority = Some(authority.map_err(|_| Malformed("the authority"))?);
    uri.path_and_query = path;
    let mut request = http::Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Malformed("the target"))?;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The response whose text this is.
pub(crate) fn response(text: &Bytes) -> Result<http::Response<()>, Malformed> {
    let mut lines = Lines::new(text);
    let status = lines
        .next()
        .and_then(|line| line.get(9..12))
        .and_then(|status| StatusCode::from_bytes(status).ok())
        .map(|status| match status {
            // HTTP/2 has another way to change the protocol (RFC 8441 §4).
            StatusCode::SWITCHING_PROTOCOLS => StatusCode::OK,
            status => status,
        })
        .ok_or(Malformed("the status"))?;
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields(text, lines, |_, _| Keep::Whole)?;
    Ok(response)
}

/// The trailer fields whose lines these are, but for those that a trailer must not change.
pub(crate) fn trailers(lines: &Bytes) -> Result<HeaderMap, Malformed> {
    fields(
        lines,
        Lines::new(lines),
        |name, _| match is_forbidden_trailer(name) {
            true => Keep::Not,
            false => Keep::Whole,
        },
    )
}

/// Whether trailer fields may go on as they have come.
pub(crate) fn are_fit_trailers(fields: &HeaderMap) -> bool {
    fields.iter().all(|(name, value)| {
        let known = Name::of(name.as_str().as_bytes());
        let is_trim = value.as_bytes().trim_ascii().len() == value.len();
        is_trim && !is_forbidden_trailer(known) && !known.is_hop_by_hop()
    })
}

/// What becomes of a field.
enum Keep {
    Not,
    Whole,
    /// It is never put into the table of the compression.
    OutOfTable,
}

/// The fields that `keep` keeps, without those that concern one connection only.
fn fields(
    text: &Bytes,
    lines: Lines<'_>,
    mut keep: impl FnMut(Name, &Bytes) -> Keep,
) -> Result<HeaderMap, Malformed> {
    // A line is about as long. If there are more, there will be more room.
    let mut fields = HeaderMap::with_capacity(text.len() / 32);
    for line in lines {
        let colon = memchr::memchr(b':', line).ok_or(Malformed("a line without a colon"))?;
        let known = Name::of(&line[..colon]);
        // `te: trailers` alone is left of `te` by now.
        if known.is_hop_by_hop() && known != Name::Te {
            continue;
        }
        let value = text.slice_ref(line[colon + 1..].trim_ascii());
        let keep = keep(known, &value);
        if let Keep::Not = keep {
            continue;
        }
        let name = match known.header() {
            Some(name) => name.clone(),
            None => HeaderName::from_bytes(&line[..colon]).map_err(|_| Malformed("a name"))?,
        };
        let mut value = HeaderValue::from_maybe_shared(value).map_err(|_| Malformed("a value"))?;
        value.set_sensitive(matches!(keep, Keep::OutOfTable));
        fields.append(name, value);
    }
    Ok(fields)
}

/// The lines of a head up to the empty one.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn new(text: &'a [u8]) -> Self {
        Self(text)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b'\n', self.0)?;
        let (line, rest) = self.0.split_at(end + 1);
        self.0 = rest;
        let line = line.trim_ascii_end();
        (!line.is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(request: http::Request<()>, ended: bool) -> Result<String, Malformed> {
        let mut out = Vec::new();
        append_request(&request.into_parts().0, ended, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    fn get(uri: &str) -> http::request::Builder {
        http::Request::get(uri)
    }

    #[test]
    fn a_request_in_the_text_of_http1() {
        let request = get("http://h.example:80/a?b")
            .header("cookie", "a=1")
            .header("x", "y")
            .header("host", "H.example:80")
            .header("cookie", "b=2")
            .body(())
            .expect("valid");
        assert_eq!(
            text_of(request, true).as_deref(),
            Ok("GET /a?b HTTP/1.1\r\nhost: h.example:80\r\nx: y\r\ncookie: a=1; b=2\r\n\r\n")
        );
        let request = get("/a").header("host", "h").body(()).expect("valid");
        assert_eq!(
            text_of(request, false).as_deref(),
            Ok("GET /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
        );
        let request = get("/a")
            .header("content-length", "3")
            .body(())
            .expect("valid");
        assert_eq!(
            text_of(request, false).as_deref(),
            Ok("GET /a HTTP/1.1\r\ncontent-length: 3\r\n\r\n")
        );
    }

    #[test]
    fn what_is_malformed() {
        let other_host = get("http://h/").header("host", "other").body(());
        assert!(text_of(other_host.expect("valid"), true).is_err());
        let blank = get("http://h/").header("a", "b ").body(());
        assert!(text_of(blank.expect("valid"), true).is_err());
    }

    #[test]
    fn the_text_of_http1_as_a_request() {
        let text = b"POST /a?b HTTP/1.1\r\nHost: h\r\nX-Y:  z \r\nconnection: close\r\nte: trailers\r\n\
            transfer-encoding: chunked\r\nupgrade: x\r\nkeep-alive: 3\r\nproxy-connection: x\r\n\r\n";
        let made = request(&Bytes::from_static(text), Scheme::HTTP, "other", true).expect("valid");
        assert_eq!(made.uri().to_string(), "http://h/a?b");
        let fields: Vec<_> = made
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        assert_eq!(fields, [("x-y", "z"), ("te", "trailers")]);
        let made = request(
            &Bytes::from_static(b"OPTIONS * HTTP/1.1\r\n\r\n"),
            Scheme::HTTP,
            "1.2.3.4:5",
            true,
        );
        let made = made.expect("valid");
        assert_eq!(made.uri().authority().expect("one").as_str(), "1.2.3.4:5");
        assert_eq!(made.uri().path(), "*");
        let bad = b"GET /<x> HTTP/1.1\r\nhost: h\r\n\r\n";
        let bad = request(&Bytes::from_static(bad), Scheme::HTTP, "x", true);
        assert_eq!(bad.expect_err("no URI"), Malformed("the path"));
    }

    #[test]
    fn what_each_request_has_anew_stays_out_of_the_table_but_for_the_first_time() {
        let text =
            b"GET / HTTP/1.1\r\nhost: h\r\nx-request-id: 1\r\nx-b3-traceid: 2\r\nx: 3\r\n\r\n";
        for is_first in [true, false] {
            let text = Bytes::from_static(text);
            let made = request(&text, Scheme::HTTP, "h", is_first).expect("valid");
            for (name, is_unique) in [("x-request-id", true), ("x-b3-traceid", true), ("x", false)]
            {
                let is_sensitive = made.headers()[name].is_sensitive();
                assert_eq!(is_sensitive, is_unique && !is_first, "{name}");
            }
        }
    }

    #[test]
    fn trailers_that_would_lie_are_dropped() {
        let lines = Bytes::from_static(b"A: b\r\ncontent-length: 3\r\nhost: x\r\nc: d\r\n");
        let made = trailers(&lines).expect("valid");
        assert!(are_fit_trailers(&made));
        assert_eq!(made.len(), 2);
        assert_eq!(
            (&made["a"], &made["c"]),
            (
                &HeaderValue::from_static("b"),
                &HeaderValue::from_static("d")
            )
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the codec lets through is one head in the text, and the same fields again.
        #[test]
        fn a_response_survives_the_text(
            status in 200_u16..600,
            fields in prop::collection::vec(("x-[a-z0-9-]{1,12}", prop::collection::vec(any::<u8>(), 0..30)), 0..12),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &fields {
                if let Ok(value) = HeaderValue::from_bytes(value.trim_ascii()) {
                    headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value);
                }
            }
            let status = StatusCode::from_u16(status).expect("a status");
            let mut text = Vec::new();
            append_response(status, &headers, &mut text);
            let ends = text.windows(4).filter(|window| window == b"\r\n\r\n").count();
            prop_assert_eq!(ends, 1);
            let again = response(&text.into()).expect("valid");
            prop_assert_eq!(again.status(), status);
            let sorted = |headers: &HeaderMap| {
                let mut all: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                    .collect();
                all.sort();
                all
            };
            prop_assert_eq!(sorted(again.headers()), sorted(&headers));
        }
    }
}
