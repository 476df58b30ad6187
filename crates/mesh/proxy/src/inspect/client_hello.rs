//! The first message of a TLS client (RFC 8446 §4.1.2), as much of it as chooses a filter chain.

use super::Look;

/// The most that a message may have; Envoy's limit for it.
pub const MAX_BYTES: usize = 16 * 1024;

/// The content type of records of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// The most that a record has.
const MAX_RECORD: usize = 16 * 1024 + 256;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const ALPN: u16 = 16;

/// Whom a client wants to talk to, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name of the server, in lower case (RFC 6066 §3).
    pub server_name: Option<String>,
    /// The protocols that it offers, the best first (RFC 7301 §3.1).
    pub protocols: Vec<Vec<u8>>,
}

/// Looks at what a client has sent so far.
pub fn parse(bytes: &[u8]) -> Look<ClientHello> {
    parse_or_missing(bytes).0
}

/// The same, and how many bytes more there must be at least before another look is of use.
pub(crate) fn parse_or_missing(bytes: &[u8]) -> (Look<ClientHello>, usize) {
    let mut missing = 1;
    let look = match message(bytes, &mut missing) {
        Look::Found(body) => match client_hello(&body) {
            Some(hello) => Look::Found(hello),
            None => Look::No,
        },
        Look::More => Look::More,
        Look::No => Look::No,
    };
    (look, missing)
}

/// The body of the first message, put together from its records.
fn message(mut bytes: &[u8], missing: &mut usize) -> Look<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        if let [kind, high, middle, low, body @ ..] = message.as_slice() {
            let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
            if *kind != CLIENT_HELLO || length > MAX_BYTES {
                return Look::No;
            }
            if let Some(body) = body.get(..length) {
                return Look::Found(body.to_vec());
            }
            *missing = length - body.len();
        }
        match bytes {
            // The minor version is that of an old client's, and says nothing.
            [HANDSHAKE, 3, _, high, low, rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length == 0 || length > MAX_RECORD {
                    return Look::No;
                }
                let part = &rest[..length.min(rest.len())];
                message.extend_from_slice(part);
                bytes = &rest[part.len()..];
            }
            // The end of what there is, or the beginning of a record's head.
            [] | [HANDSHAKE] | [HANDSHAKE, 3] => return Look::More,
            [HANDSHAKE, 3, _] | [HANDSHAKE, 3, _, _] => return Look::More,
            _ => return Look::No,
        }
    }
}

fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(body);
    reader.bytes(2 + 32)?; // The version and the random bytes.
    reader.short_vector()?; // The session.
    let suites = reader.vector()?;
    let compressions = reader.short_vector()?;
    if suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        // Before TLS 1.3 there need not be any extension.
        return Some(hello);
    }
    let mut extensions = Reader(reader.vector()?);
    if !reader.0.is_empty() {
        return None;
    }
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let value = Reader(extensions.vector()?);
        match kind {
            SERVER_NAME => hello.server_name = server_name(value)?,
            ALPN => hello.protocols = protocols(value)?,
            _ => {}
        }
    }
    Some(hello)
}

/// The host name among the names, of which there is at most one; none of an outer list means that
/// the extension is malformed. What stands behind the first name and is no name is passed over, as rustls does.
fn server_name(mut value: Reader<'_>) -> Option<Option<String>> {
    let mut names = Reader(value.vector()?);
    let mut found = None;
    let mut is_first = true;
    while !names.0.is_empty() {
        let kind = names.bytes(1)?[0];
        let Some(name) = names.vector() else {
            if is_first {
                return None;
            }
            break;
        };
        is_first = false;
        if kind == HOST_NAME && found.is_none() {
            let name = std::str::from_utf8(name).ok()?;
            let is_name = name.bytes().all(|byte| byte.is_ascii_graphic());
            found = (is_name && !name.is_empty()).then(|| name.to_ascii_lowercase());
        }
    }
    value.0.is_empty().then_some(found)
}

fn protocols(mut value: Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = Reader(value.vector()?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        protocols.push(list.short_vector()?.to_vec());
    }
    let is_valid = value.0.is_empty() && !protocols.iter().any(Vec::is_empty);
    is_valid.then_some(protocols)
}

/// Bytes with their lengths before them (RFC 8446 §3.4).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.bytes(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Its length has one byte.
    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let length = self.bytes(1)?[0];
        self.bytes(length.into())
    }

    /// Its length has two bytes.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.bytes(length.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::ClientConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::ServerName;

    use super::*;

    /// What rustls sends first, for this name and these protocols.
    fn first_flight(name: &str, alpn: &[&str]) -> Vec<u8> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("a vector takes all");
        bytes
    }

    fn hello(name: Option<&str>, alpn: &[&str]) -> Look<ClientHello> {
        Look::Found(ClientHello {
            server_name: name.map(str::to_owned),
            protocols: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(),
        })
    }

    /// The same message in records of at most `size` bytes.
    fn split(bytes: &[u8], size: usize) -> Vec<u8> {
        let record = |part: &[u8]| {
            let mut record = vec![HANDSHAKE, 3, 1];
            record.extend((part.len() as u16).to_be_bytes());
            record.extend(part);
            record
        };
        bytes[5..].chunks(size).flat_map(record).collect()
    }

    #[test]
    fn a_real_client_is_understood_and_every_part_of_its_message_waits() {
        for (name, alpn, expected) in [
            ("A.Example", &["h2", "http/1.1"][..], Some("a.example")),
            (
                "outbound_.9080_._.reviews.default.svc.cluster.local",
                &["istio-peer-exchange", "istio"],
                Some("outbound_.9080_._.reviews.default.svc.cluster.local"),
            ),
            ("10.0.0.1", &[], None),
        ] {
            let bytes = first_flight(name, alpn);
            assert_eq!(parse(&bytes), hello(expected, alpn));
            let more = [&bytes[..], b"more"].concat();
            assert_eq!(parse(&more), hello(expected, alpn));
            for size in [1, 7, 100] {
                assert_eq!(parse(&split(&bytes, size)), hello(expected, alpn), "{size}");
            }
            for length in 0..bytes.len() {
                assert_eq!(parse(&bytes[..length]), Look::More, "{length} bytes");
            }
        }
    }

    #[test]
    fn a_message_that_comes_byte_by_byte_is_looked_at_seldom() {
        let bytes = split(&first_flight("a.example", &["h2"]), 1);
        let (mut at, mut looks) = (1, 0);
        loop {
            looks += 1;
            match parse_or_missing(&bytes[..at]) {
                (Look::More, missing) => at += missing,
                (look, _) => {
                    assert_eq!(look, hello(Some("a.example"), &["h2"]));
                    break;
                }
            }
        }
        assert_eq!(at, bytes.len());
        assert!(looks < 100, "{looks} looks at {at} bytes");
    }

    #[test]
    fn what_is_no_client_hello_is_told_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x02",
            b"\x17\x03\x01\x00\x05",
            b"\x16\x03\x01\x00\x00",
            b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
            b"\x16\x03\x01\x00\x08\x02\x00\x00\x00",
            // A message of 4 MiB.
            b"\x16\x03\x01\x00\x04\x01\x40\x00\x00",
        ] {
            assert_eq!(parse(bytes), Look::No, "{bytes:?}");
        }
    }

    #[test]
    fn a_message_with_false_lengths_is_none() {
        let bytes = first_flight("a.example", &["h2"]);
        let mut refused = 0;
        for at in 9..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] = broken[at].wrapping_add(97);
            refused += usize::from(parse(&broken) == Look::No);
        }
        assert!(refused > 20, "{refused} of {}", bytes.len());
    }
}
