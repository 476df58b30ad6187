//! The PROXY protocol, versions 1 and 2: a header that says whose connection a proxy passes on
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Look;

/// The longest line of version 1, its end included.
const MAX_LINE: usize = 107;
/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it has.
    pub length: usize,
    /// Whether it is of version 2.
    pub is_v2: bool,
    /// Who connected to whom; none if the proxy speaks for itself, or of another kind of address.
    pub ends: Option<(SocketAddr, SocketAddr)>,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Whether it is of version 2.
    pub is_v2: bool,
}

/// Looks at what a client has sent so far.
pub fn parse(bytes: &[u8]) -> Result<Look<Header>, Malformed> {
    let begins = |with: &[u8]| {
        let length = bytes.len().min(with.len());
        bytes[..length] == with[..length]
    };
    if begins(b"PROXY ") {
        return if bytes.len() < 6 {
            Ok(Look::More)
        } else {
            version_1(bytes)
        };
    }
    if begins(SIGNATURE) {
        return version_2(bytes);
    }
    Ok(Look::No)
}

fn version_1(bytes: &[u8]) -> Result<Look<Header>, Malformed> {
    const MALFORMED: Malformed = Malformed { is_v2: false };
    let searched = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = memchr::memchr(b'\n', searched) else {
        return if searched.len() < MAX_LINE {
            Ok(Look::More)
        } else {
            Err(MALFORMED)
        };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(MALFORMED)?;
    let line = std::str::from_utf8(line).map_err(|_| MALFORMED)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(MALFORMED)?;
    let ends = if family == "UNKNOWN" {
        None
    } else {
        let parts: Vec<&str> = words.collect();
        let &[source, destination, source_port, destination_port] = parts.as_slice() else {
            return Err(MALFORMED);
        };
        let read = |address, port| address_of(family, address, port).ok_or(MALFORMED);
        Some((
            read(source, source_port)?,
            read(destination, destination_port)?,
        ))
    };
    Ok(Look::Found(Header {
        length: end + 1,
        is_v2: false,
        ends,
    }))
}

/// An address and a port as version 1 writes them.
fn address_of(family: &str, address: &str, port: &str) -> Option<SocketAddr> {
    let ip: IpAddr = match family {
        "TCP4" => address.parse::<Ipv4Addr>().ok()?.into(),
        "TCP6" => address.parse::<Ipv6Addr>().ok()?.into(),
        _ => return None,
    };
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number)?;
    Some(SocketAddr::new(ip, port))
}

fn version_2(bytes: &[u8]) -> Result<Look<Header>, Malformed> {
    const MALFORMED: Malformed = Malformed { is_v2: true };
    let Some((head, rest)) = bytes.split_at_checked(16) else {
        // The version is told as soon as it is there.
        return match bytes.get(12) {
            Some(0x20 | 0x21) | None => Ok(Look::More),
            Some(_) => Err(MALFORMED),
        };
    };
    let is_local = match head[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(MALFORMED),
    };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let needed = match head[13] {
        _ if is_local => 0,
        TCP_OVER_IPV4 => 12,
        TCP_OVER_IPV6 => 36,
        // Others are passed over: RFC-less, but as the protocol says.
        _ => 0,
    };
    if length < needed {
        return Err(MALFORMED);
    }
    let Some(body) = rest.get(..length) else {
        return Ok(Look::More);
    };
    let ends = match needed {
        12 => Some(ends::<4>(body)),
        36 => Some(ends::<16>(body)),
        _ => None,
    };
    Ok(Look::Found(Header {
        length: 16 + length,
        is_v2: true,
        ends,
    }))
}

/// Two addresses of `N` bytes and their ports.
fn ends<const N: usize>(body: &[u8]) -> (SocketAddr, SocketAddr)
where
    [u8; N]: Into<IpAddr>,
{
    let address = |at: usize| -> IpAddr {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&body[at..at + N]);
        bytes.into()
    };
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    (
        SocketAddr::new(address(0), port(2 * N)),
        SocketAddr::new(address(N), port(2 * N + 2)),
    )
}

/// Writes a header of version 1.
pub fn write_v1(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let (source, destination) = same_family(source, destination);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let (from_port, to_port) = (source.port(), destination.port());
    // Writing to a vector cannot fail.
    let _ = write!(out, "PROXY {family} {from} {to} {from_port} {to_port}\r\n");
}

/// Writes a header of version 2.
pub fn write_v2(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    let (source, destination) = same_family(source, destination);
    out.push(0x21);
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend_from_slice(&[TCP_OVER_IPV4, 0, 12]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            out.extend_from_slice(&[TCP_OVER_IPV6, 0, 36]);
            out.extend_from_slice(&v6(source).octets());
            out.extend_from_slice(&v6(destination).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Both addresses as IPv4 if they are, else both as IPv6.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (source, destination) = (canonical(source), canonical(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let mapped = |end: SocketAddr| SocketAddr::new(v6(end.ip()).into(), end.port());
    (mapped(source), mapped(destination))
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_is_written_is_read_and_every_part_of_it_waits() {
        for (source, destination) in [
            ("10.0.0.1:1234", "10.0.0.2:80"),
            ("[fd00::1]:1", "[fd00::2]:65535"),
            ("[::ffff:10.0.0.1]:1", "10.0.0.2:2"),
            ("10.0.0.1:1", "[fd00::2]:2"),
        ] {
            let (source, destination) = (at(source), at(destination));
            for write in [write_v1, write_v2] {
                let mut bytes = Vec::new();
                write(source, destination, &mut bytes);
                let length = bytes.len();
                bytes.extend_from_slice(b"GET /");
                let Ok(Look::Found(header)) = parse(&bytes) else {
                    panic!("{:?}", parse(&bytes));
                };
                assert_eq!(header.length, length);
                let (from, to) = header.ends.expect("both ends");
                let canonical = |end: SocketAddr| (end.ip().to_canonical(), end.port());
                assert_eq!(canonical(from), canonical(source));
                assert_eq!(canonical(to), canonical(destination));
                for part in 0..length {
                    assert_eq!(parse(&bytes[..part]), Ok(Look::More), "{part} bytes");
                }
            }
        }
    }

    #[test]
    fn the_line_of_version_1() {
        let found = |length, ends| {
            Ok(Look::Found(Header {
                length,
                is_v2: false,
                ends,
            }))
        };
        let malformed = Err(Malformed { is_v2: false });
        let ends = Some((at("1.2.3.4:5"), at("6.7.8.9:10")));
        let long = format!("PROXY UNKNOWN {}", "x".repeat(100));
        for (text, expected) in [
            ("PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\nx", found(33, ends)),
            ("PROXY UNKNOWN\r\n", found(15, None)),
            ("PROXY UNKNOWN a b c\r\n", found(21, None)),
            ("PROXY TCP4 1.2.3.4 6.7.8.9 5\r\n", malformed),
            ("PROXY TCP4 1.2.3.4 6.7.8.9 5 10 11\r\n", malformed),
            ("PROXY TCP4 ::1 ::2 5 10\r\n", malformed),
            ("PROXY TCP6 1.2.3.4 6.7.8.9 5 10\r\n", malformed),
            ("PROXY TCP4 1.2.3.4 6.7.8.9 5 65536\r\n", malformed),
            ("PROXY TCP4 1.2.3.4 6.7.8.9 5 +1\r\n", malformed),
            ("PROXY TCP4 1.2.3.4  6.7.8.9 5 1\r\n", malformed),
            ("PROXY UDP4 1.2.3.4 6.7.8.9 5 1\r\n", malformed),
            ("PROXY TCP4 1.2.3.4 6.7.8.9 5 10\n", malformed),
            ("PROXY \r\n", malformed),
            (&long, malformed),
            (&long[..106], Ok(Look::More)),
            ("PROXYx", Ok(Look::No)),
            ("GET / HTTP/1.1\r\n", Ok(Look::No)),
            ("", Ok(Look::More)),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn the_head_of_version_2() {
        let header = |rest: &[u8]| [&SIGNATURE[..], rest].concat();
        let found = |length| {
            Ok(Look::Found(Header {
                length,
                is_v2: true,
                ends: None,
            }))
        };
        let malformed = Err(Malformed { is_v2: true });
        for (rest, expected) in [
            // LOCAL, with and without addresses.
            (&[0x20, 0, 0, 0][..], found(16)),
            (&[0x20, 0x11, 0, 2, 1, 2, 3], found(18)),
            // A socket of this host.
            (&[0x21, 0x31, 0, 1, 9], found(17)),
            (&[0x21, 0x11, 0, 11, 1, 2, 3], malformed),
            (&[0x21, 0x21, 0, 35], malformed),
            (&[0x22, 0x11, 0, 12], malformed),
            (&[0x11], malformed),
            (&[0x21, 0x11, 0, 12, 1], Ok(Look::More)),
            (&[0x21, 0x11], Ok(Look::More)),
        ] {
            assert_eq!(parse(&header(rest)), expected, "{rest:?}");
        }
    }
}
