//! `FilterChainMatch`: which filter chain serves a connection.

use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

use super::inspection::Sniffed;

/// The conditions of a filter chain; an empty list is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainMatch {
    /// `destination_port`.
    pub destination_port: Option<u16>,
    /// `prefix_ranges` of the destination.
    pub prefix_ranges: Vec<Cidr>,
    /// `server_names`, in lower case: exact, or `*.` and the rest.
    pub server_names: Vec<String>,
    /// `transport_protocol`: whether it is `tls`, else `raw_buffer`.
    pub is_tls: Option<bool>,
    /// `application_protocols`.
    pub application_protocols: Vec<Vec<u8>>,
    /// `direct_source_prefix_ranges` of the peer.
    pub direct_source_prefix_ranges: Vec<Cidr>,
    /// `source_type`.
    pub source_type: SourceType,
    /// `source_prefix_ranges` of the client.
    pub source_prefix_ranges: Vec<Cidr>,
    /// `source_ports` of the client.
    pub source_ports: Vec<u16>,
}

/// `ConnectionSourceType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceType {
    /// Any.
    #[default]
    Any,
    /// This host: over loopback, or from the address that it goes to.
    SameIpOrLoopback,
    /// Another host.
    External,
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// An address in it.
    pub address: IpAddr,
    /// How many of its first bits all have in common.
    pub length: u8,
}

impl Cidr {
    /// Whether the block has this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (mine, its, width) = match (self.address, address) {
            (IpAddr::V4(mine), IpAddr::V4(its)) => {
                (mine.to_bits().into(), its.to_bits().into(), 32)
            }
            (IpAddr::V6(mine), IpAddr::V6(its)) => (mine.to_bits(), its.to_bits(), 128),
            _ => return false,
        };
        let rest = width - u32::from(self.length).min(width);
        let differing: u128 = mine ^ its;
        differing.checked_shr(rest).unwrap_or(0) == 0
    }
}

/// The two ends of a connection, as the client sees them, and what it has said at first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends<'a> {
    pub(crate) client: SocketAddr,
    /// The client, or who speaks for it.
    pub(crate) direct: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) sniffed: &'a Sniffed,
}

/// How well a condition fits: the higher the more specific, 0 if nothing is asked for, none if it
/// does not hold.
type Fit = fn(&ChainMatch, &Ends<'_>) -> Option<u16>;

/// Envoy's order: the most specific chains by the first criterion, of these those by the second, and so
/// on. A chain that was passed over by one criterion does not come back.
const CRITERIA: [Fit; 9] = [
    |chain, ends| match chain.destination_port {
        None => Some(0),
        Some(port) => (port == ends.destination.port()).then_some(1),
    },
    |chain, ends| longest(&chain.prefix_ranges, ends.destination.ip()),
    |chain, ends| closest_name(&chain.server_names, ends.sniffed.server_name.as_deref()),
    |chain, ends| match chain.is_tls {
        None => Some(0),
        Some(is_tls) => (is_tls == ends.sniffed.is_tls).then_some(1),
    },
    |chain, ends| first_protocol(&chain.application_protocols, &ends.sniffed.protocols),
    |chain, ends| longest(&chain.direct_source_prefix_ranges, ends.direct.ip()),
    |chain, ends| match chain.source_type {
        SourceType::Any => Some(0),
        SourceType::SameIpOrLoopback => is_local(ends).then_some(1),
        SourceType::External => (!is_local(ends)).then_some(1),
    },
    |chain, ends| longest(&chain.source_prefix_ranges, ends.client.ip()),
    |chain, ends| match chain.source_ports.as_slice() {
        [] => Some(0),
        ports => ports.contains(&ends.client.port()).then_some(1),
    },
];

/// The chain that serves a connection: its index.
pub(crate) fn select<'a>(
    chains: impl Iterator<Item = &'a ChainMatch>,
    ends: &Ends<'_>,
) -> Option<usize> {
    let ends = Ends {
        sniffed: ends.sniffed,
        client: canonical(ends.client),
        direct: canonical(ends.direct),
        destination: canonical(ends.destination),
    };
    let mut left: SmallVec<[(usize, &ChainMatch); 16]> = chains.enumerate().collect();
    for fit in CRITERIA {
        let best = left
            .iter()
            .filter_map(|(_, chain)| fit(chain, &ends))
            .max()?;
        left.retain(|(_, chain)| fit(chain, &ends) == Some(best));
    }
    left.first().map(|(index, _)| *index)
}

/// An exact name fits best, then the longest one that begins with `*.`.
fn closest_name(names: &[String], wanted: Option<&str>) -> Option<u16> {
    if names.is_empty() {
        return Some(0);
    }
    let wanted = wanted?;
    let fit = |name: &String| match name.strip_prefix('*') {
        Some(suffix) => {
            let fits = wanted.len() > suffix.len() && wanted.ends_with(suffix);
            fits.then(|| 1 + name.len().min(u16::MAX as usize - 2) as u16)
        }
        None => (name == wanted).then_some(u16::MAX),
    };
    names.iter().filter_map(fit).max()
}

/// What the client would like best decides.
fn first_protocol(protocols: &[Vec<u8>], offered: &[Vec<u8>]) -> Option<u16> {
    if protocols.is_empty() {
        return Some(0);
    }
    let place = offered.iter().position(|offer| protocols.contains(offer))?;
    Some(u16::MAX.saturating_sub(place as u16).max(1))
}

fn longest(blocks: &[Cidr], address: IpAddr) -> Option<u16> {
    if blocks.is_empty() {
        return Some(0);
    }
    let fitting = blocks.iter().filter(|block| block.contains(address));
    fitting.map(|block| 1 + u16::from(block.length)).max()
}

fn is_local(ends: &Ends<'_>) -> bool {
    ends.client.ip().is_loopback() || ends.client.ip() == ends.destination.ip()
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        let (address, length) = text.split_once('/').expect("a block");
        Cidr {
            address: address.parse().expect("an address"),
            length: length.parse().expect("a length"),
        }
    }

    #[test]
    fn blocks_have_their_addresses() {
        for (block, address, expected) in [
            ("10.1.0.0/16", "10.1.255.255", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "fe80::1", true),
            ("fd00:1::/32", "fd00:1:2::3", true),
            ("fd00:1::/32", "fd00:2::3", false),
            ("::1/128", "::2", false),
        ] {
            let contains = cidr(block).contains(address.parse().expect("an address"));
            assert_eq!(contains, expected, "{block} {address}");
        }
    }

    #[test]
    fn the_most_specific_chain_serves() {
        let port = |port| ChainMatch {
            destination_port: Some(port),
            ..ChainMatch::default()
        };
        let to = |blocks: &[&str]| ChainMatch {
            prefix_ranges: blocks.iter().map(|block| cidr(block)).collect(),
            ..ChainMatch::default()
        };
        let both = |number, block| ChainMatch {
            destination_port: Some(number),
            ..to(&[block])
        };
        let from = |source_type| ChainMatch {
            source_type,
            ..ChainMatch::default()
        };
        let any = ChainMatch::default;
        let chains = |chains: Vec<ChainMatch>, client: &str, destination: &str| {
            let ends = Ends {
                client: client.parse().expect("an address"),
                direct: client.parse().expect("an address"),
                destination: destination.parse().expect("an address"),
                sniffed: &Sniffed::default(),
            };
            select(chains.iter(), &ends)
        };
        let remote = "10.9.9.9:40000";
        for (list, client, destination, expected) in [
            (vec![], remote, "10.0.0.1:80", None),
            (vec![any()], remote, "10.0.0.1:80", Some(0)),
            (vec![any(), port(80)], remote, "10.0.0.1:80", Some(1)),
            (vec![any(), port(80)], remote, "10.0.0.1:81", Some(0)),
            (vec![port(80)], remote, "10.0.0.1:81", None),
            (
                vec![to(&["10.0.0.0/8"]), to(&["10.1.0.0/16", "10.2.0.0/16"])],
                remote,
                "10.2.3.4:1",
                Some(1),
            ),
            (
                vec![to(&["10.0.0.0/8"]), to(&["10.1.0.0/16"])],
                remote,
                "10.2.3.4:1",
                Some(0),
            ),
            (
                vec![to(&["10.0.0.0/8"])],
                remote,
                "[::ffff:10.2.3.4]:1",
                Some(0),
            ),
            (
                vec![to(&["fd00::/8"]), any()],
                remote,
                "[fd00::1]:1",
                Some(0),
            ),
            // The port is asked first, and there is no way back from its chains.
            (
                vec![to(&["10.0.0.1/32"]), both(80, "192.168.0.0/16")],
                remote,
                "10.0.0.1:80",
                None,
            ),
            (
                vec![
                    from(SourceType::External),
                    from(SourceType::SameIpOrLoopback),
                ],
                remote,
                "10.0.0.1:80",
                Some(0),
            ),
            (
                vec![
                    from(SourceType::External),
                    from(SourceType::SameIpOrLoopback),
                ],
                "10.0.0.1:9",
                "10.0.0.1:80",
                Some(1),
            ),
            (
                vec![
                    from(SourceType::External),
                    from(SourceType::SameIpOrLoopback),
                ],
                "127.0.0.1:9",
                "10.0.0.1:80",
                Some(1),
            ),
        ] {
            let got = chains(list.clone(), client, destination);
            assert_eq!(got, expected, "{client} to {destination}: {list:#?}");
        }
        let sources = vec![
            ChainMatch {
                source_prefix_ranges: vec![cidr("10.9.0.0/16")],
                ..any()
            },
            ChainMatch {
                source_prefix_ranges: vec![cidr("10.9.0.0/16")],
                source_ports: vec![1, 2],
                ..any()
            },
        ];
        assert_eq!(
            chains(sources.clone(), "10.9.0.1:2", "10.0.0.1:80"),
            Some(1)
        );
        assert_eq!(
            chains(sources.clone(), "10.9.0.1:3", "10.0.0.1:80"),
            Some(0)
        );
        assert_eq!(chains(sources, "10.8.0.1:3", "10.0.0.1:80"), None);
    }

    #[test]
    fn what_the_client_says_first_chooses_too() {
        let sni = |names: &[&str]| ChainMatch {
            server_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..ChainMatch::default()
        };
        let protocols = |is_tls, names: &[&str]| ChainMatch {
            is_tls,
            application_protocols: names.iter().map(|name| name.as_bytes().to_vec()).collect(),
            ..ChainMatch::default()
        };
        let any = ChainMatch::default;
        let named = vec![
            sni(&["*.example.com"]),
            sni(&["a.example.com", "b.example.com"]),
            sni(&["*.x.example.com"]),
            any(),
        ];
        let port = ChainMatch {
            destination_port: Some(80),
            ..any()
        };
        let permissive = vec![
            protocols(Some(true), &["istio", "istio-http/1.1"]),
            protocols(Some(true), &[]),
            protocols(Some(false), &["http/1.1", "h2c"]),
            protocols(Some(false), &[]),
        ];
        let best = vec![protocols(None, &["h2"]), protocols(None, &["http/1.1"])];
        for (chains, is_tls, name, offered, expected) in [
            (&named, true, Some("a.example.com"), &[][..], Some(1)),
            (&named, true, Some("c.example.com"), &[], Some(0)),
            (&named, true, Some("c.d.example.com"), &[], Some(0)),
            (&named, true, Some("y.x.example.com"), &[], Some(2)),
            (&named, true, Some("example.com"), &[], Some(3)),
            (&named, true, Some(".example.com"), &[], Some(3)),
            (&named, false, None, &[], Some(3)),
            (&named[..3].to_vec(), true, Some("example.org"), &[], None),
            (&vec![port, sni(&["a.b"])], true, Some("a.b"), &[], Some(0)),
            (&permissive, true, None, &["h2", "istio"], Some(0)),
            (&permissive, true, None, &["h2"], Some(1)),
            (&permissive, true, None, &[], Some(1)),
            (&permissive, false, None, &["h2c"], Some(2)),
            (&permissive, false, None, &[], Some(3)),
            (&best, true, None, &["http/1.1", "h2"], Some(1)),
            (&best, true, None, &["h2", "http/1.1"], Some(0)),
            (&best, true, None, &["x"], None),
        ] {
            let sniffed = Sniffed {
                is_tls,
                server_name: name.map(str::to_owned),
                protocols: offered
                    .iter()
                    .map(|name| name.as_bytes().to_vec())
                    .collect(),
            };
            let ends = Ends {
                client: "10.9.9.9:40000".parse().expect("an address"),
                direct: "10.9.9.9:40000".parse().expect("an address"),
                destination: "10.0.0.1:80".parse().expect("an address"),
                sniffed: &sniffed,
            };
            let got = select(chains.iter(), &ends);
            assert_eq!(got, expected, "{sniffed:?}: {chains:#?}");
        }
    }

    #[test]
    fn who_speaks_for_a_client_is_another_one() {
        let block = |text: &str| vec![cidr(text)];
        let chains = [
            ChainMatch {
                direct_source_prefix_ranges: block("10.0.0.0/8"),
                ..ChainMatch::default()
            },
            ChainMatch {
                direct_source_prefix_ranges: block("127.0.0.0/8"),
                source_prefix_ranges: block("10.0.0.0/8"),
                ..ChainMatch::default()
            },
        ];
        let ends = Ends {
            client: "10.1.2.3:1000".parse().expect("an address"),
            direct: "127.0.0.1:1000".parse().expect("an address"),
            destination: "10.0.0.1:80".parse().expect("an address"),
            sniffed: &Sniffed::default(),
        };
        assert_eq!(select(chains.iter(), &ends), Some(1));
    }
}
