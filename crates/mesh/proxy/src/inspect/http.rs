//! Whether a client begins with HTTP, and with which.

use super::Look;
use crate::http2::PREFACE;

/// How far the end of a request line is looked for; Envoy's limit.
pub const MAX_BYTES: usize = 64 * 1024;

/// The methods that the registry has (RFC 9110 §16.1.1): Envoy's inspector too looks for nothing else.
const METHODS: [&[u8]; 39] = [
    b"ACL",
    b"BASELINE-CONTROL",
    b"BIND",
    b"CHECKIN",
    b"CHECKOUT",
    b"CONNECT",
    b"COPY",
    b"DELETE",
    b"GET",
    b"HEAD",
    b"LABEL",
    b"LINK",
    b"LOCK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKCOL",
    b"MKREDIRECTREF",
    b"MKWORKSPACE",
    b"MOVE",
    b"OPTIONS",
    b"ORDERPATCH",
    b"PATCH",
    b"POST",
    b"PRI",
    b"PROPFIND",
    b"PROPPATCH",
    b"PUT",
    b"REBIND",
    b"REPORT",
    b"SEARCH",
    b"TRACE",
    b"UNBIND",
    b"UNCHECKOUT",
    b"UNLINK",
    b"UNLOCK",
    b"UPDATE",
    b"UPDATEREDIRECTREF",
    b"VERSION-CONTROL",
];
/// The longest of them.
const LONGEST: usize = 17;

/// A version of HTTP, as its protocol is called in a filter chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `http/1.0`.
    Http10,
    /// `http/1.1`.
    Http11,
    /// `h2c`.
    Http2,
}

impl Version {
    /// The name of the protocol.
    pub fn protocol(self) -> &'static [u8] {
        match self {
            Self::Http10 => b"http/1.0",
            Self::Http11 => b"http/1.1",
            Self::Http2 => b"h2c",
        }
    }
}

/// Looks at what a client has sent so far.
pub fn parse(bytes: &[u8]) -> Look<Version> {
    let begun = bytes.len().min(PREFACE.len());
    if bytes[..begun] == PREFACE[..begun] {
        return if begun == PREFACE.len() {
            Look::Found(Version::Http2)
        } else {
            Look::More
        };
    }
    let method = bytes.iter().take(LONGEST + 1).position(|b| *b == b' ');
    match method {
        Some(end) if METHODS.contains(&&bytes[..end]) => {}
        None if METHODS.iter().any(|method| method.starts_with(bytes)) => return Look::More,
        _ => return Look::No,
    }
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return if bytes.len() < MAX_BYTES {
            Look::More
        } else {
            Look::No
        };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    if line.ends_with(b" HTTP/1.1") {
        Look::Found(Version::Http11)
    } else if line.ends_with(b" HTTP/1.0") {
        Look::Found(Version::Http10)
    } else {
        Look::No
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_method_is_known() {
        let longest = METHODS.iter().map(|method| method.len()).max();
        assert_eq!(longest, Some(LONGEST));
    }

    #[test]
    fn http_is_told_from_what_is_not() {
        for (text, expected) in [
            (
                "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
                Look::Found(Version::Http11),
            ),
            ("GET / HTTP/1.0\r\n\r\n", Look::Found(Version::Http10)),
            ("POST /a?b HTTP/1.1\n", Look::Found(Version::Http11)),
            (
                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore",
                Look::Found(Version::Http2),
            ),
            ("PRI * HTTP/2.0\r\n", Look::More),
            ("PRI / HTTP/1.1\r\n", Look::Found(Version::Http11)),
            ("", Look::More),
            ("UPDATEREDIRECTRE", Look::More),
            ("GET", Look::More),
            ("GET /", Look::More),
            ("GET / HTTP/1.1\r", Look::More),
            ("GET / HTTP/1.2\r\n", Look::No),
            ("GET /\r\n", Look::No),
            ("GETTY / HTTP/1.1\r\n", Look::No),
            ("get / HTTP/1.1\r\n", Look::No),
            (" GET / HTTP/1.1\r\n", Look::No),
            ("*3\r\n$3\r\nSET\r\n", Look::No),
            ("\u{16}\u{3}\u{1}", Look::No),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
        let long = [&b"GET /"[..], &vec![b'a'; MAX_BYTES]].concat();
        assert_eq!(parse(&long[..MAX_BYTES - 1]), Look::More);
        assert_eq!(parse(&long), Look::No);
    }
}
