//! Heads are forwarded as runs of the lines that stay, copied as they came, with lines added behind.

use crate::http1::head::{Fields, list};
use crate::http1::name::Name;

/// A set of known field names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(u64);

const _: () = assert!(Name::COUNT <= 64, "a set of names is one word");

impl Names {
    /// A set of these names.
    pub(crate) const fn of(names: &[Name]) -> Self {
        let mut set = 0;
        let mut i = 0;
        while i < names.len() {
            set |= 1 << names[i] as u64;
            i += 1;
        }
        Self(set)
    }

    /// Adds a name.
    #[inline]
    pub(crate) fn add(&mut self, name: Name) {
        self.0 |= 1 << name as u64;
    }

    /// Both sets.
    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline]
    pub(crate) fn has(self, name: Name) -> bool {
        name != Name::Other && self.0 >> name as u64 & 1 == 1
    }
}

/// What never goes on to the other side as it came (RFC 9110 §7.6.1).
pub(crate) const HOP_BY_HOP: Names = Names::of(&[
    Name::Connection,
    Name::TransferEncoding,
    Name::Te,
    Name::Upgrade,
    Name::KeepAlive,
    Name::ProxyConnection,
    Name::Http2Settings,
]);

/// What only parts of the mesh may send.
pub(crate) const INTERNAL_ONLY: Names = Names::of(&[
    Name::XEnvoyForceTrace,
    Name::XEnvoyExpectedRqTimeoutMs,
    Name::XEnvoyRetryOn,
    Name::XEnvoyRetryGrpcOn,
    Name::XEnvoyMaxRetries,
    Name::XEnvoyRetriableStatusCodes,
    Name::XEnvoyRetriableHeaderNames,
    Name::XEnvoyUpstreamAltStatName,
    Name::XEnvoyUpstreamRqTimeoutMs,
    Name::XEnvoyUpstreamRqPerTryTimeoutMs,
    Name::XEnvoyUpstreamRqTimeoutAltResponse,
    Name::XEnvoyIpTags,
    Name::XEnvoyOriginalUrl,
    Name::XEnvoyHedgeOnPerTryTimeout,
]);

/// Copies the lines from `from` (0: the first line of the head too) without those of `drop`, and
/// without those that `Connection` nominates if `nominates` says that it does.
pub(crate) fn copy_lines(
    out: &mut Vec<u8>,
    head: &[u8],
    fields: &Fields,
    from: usize,
    drop: Names,
    nominates: bool,
) {
    let mut run = from;
    let mut dropping = false;
    for field in fields.iter() {
        let drops =
            drop.has(field.id) || nominates && is_nominated(field.name.get(head), fields, head);
        if drops != dropping {
            let start = field.name.start();
            if drops {
                out.extend_from_slice(&head[run..start]);
            }
            run = start;
            dropping = drops;
        }
    }
    if !dropping {
        out.extend_from_slice(&head[run..head.len() - 2]);
    }
}

#[cold]
fn is_nominated(name: &[u8], fields: &Fields, head: &[u8]) -> bool {
    fields
        .all(Name::Connection, head)
        .flat_map(list)
        .any(|option| option.eq_ignore_ascii_case(name))
}

/// Whether a line of this name and value is one field, and nothing besides: what a token or a service says may be any
/// text.
pub(crate) fn is_one_field(name: &str, value: &[u8]) -> bool {
    http::HeaderName::from_bytes(name.as_bytes()).is_ok()
        && http::HeaderValue::from_bytes(value).is_ok()
}

/// Appends a field line.
#[inline]
pub(crate) fn append_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field line with a number.
#[inline]
pub(crate) fn append_number(out: &mut Vec<u8>, name: &str, value: u64) {
    append_field(out, name, itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use crate::http1::head::Limits;
    use crate::http1::request::RequestHead;

    use super::*;

    fn copied(lines: &str, drop: &[Name]) -> String {
        let mut bytes = format!("GET / HTTP/1.1\r\nhost: h\r\n{lines}\r\n").into_bytes();
        let mut head = RequestHead::default();
        let limits = Limits {
            bytes: 1000,
            fields: 100,
        };
        let length = head
            .parse(&mut bytes, limits)
            .expect("valid")
            .expect("whole");
        let mut out = Vec::new();
        let from = bytes.len() - lines.len() - 2;
        assert_eq!(length, bytes.len());
        copy_lines(
            &mut out,
            &bytes,
            &head.fields,
            from - "host: h\r\n".len(),
            Names::of(drop),
            head.nominates,
        );
        String::from_utf8(out)
            .expect("text")
            .replace("host: h\r\n", "")
    }

    #[test]
    fn lines_are_dropped_wherever_they_are() {
        let lines =
            "Server:  x \r\na: 1\r\ndate: y\r\nserver: z\r\nb: 2\r\nexpect: 100-continue\r\n";
        assert_eq!(copied(lines, &[]), lines);
        assert_eq!(
            copied(lines, &[Name::Server]),
            "a: 1\r\ndate: y\r\nb: 2\r\nexpect: 100-continue\r\n"
        );
        assert_eq!(
            copied(lines, &[Name::Server, Name::Date, Name::Expect]),
            "a: 1\r\nb: 2\r\n"
        );
        assert_eq!(copied("", &[Name::Host]), "");
    }

    #[test]
    fn a_line_is_one_field() {
        for (name, value, expected) in [
            ("x-a", &b"1, \t\"2\" \xc3\xa4"[..], true),
            ("x-a", b"", true),
            ("x-a", b"1\r\nx-b: 2", false),
            ("x-a", b"1\n", false),
            ("x-a", b"\0", false),
            ("x-a: 1\r\nx-b", b"2", false),
            ("x a", b"1", false),
            ("", b"1", false),
        ] {
            assert_eq!(is_one_field(name, value), expected, "{name:?} {value:?}");
        }
    }

    #[test]
    fn lines_that_connection_names_are_dropped() {
        let lines = "A: 1\r\nconnection: a, b\r\nb: 2\r\nc: 3\r\na: 4\r\n";
        assert_eq!(copied(lines, &[Name::Connection]), "c: 3\r\n");
    }
}
