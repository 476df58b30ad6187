//! Operators that ask what only the whole of a request, its connection or a certificate tells.

use std::net::SocketAddr;

use periplus_model::propagation::request_id;

use super::entry::{Entry, Whole};
use super::time::TimeFormat;
use super::value::{Kind, number, shown, text};
use crate::exchange::NOTHING;
use crate::tls::{Certificate, Secured, fingerprint, fingerprint_1};
use crate::xfcc::pem_in_url;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Known {
    /// `%CONNECTION_ID%`
    Connection,
    /// `%UPSTREAM_CONNECTION_ID%`
    UpstreamConnection,
    /// `%UPSTREAM_CONNECTION_POOL_READY_DURATION%`: how long the attempt has waited for a connection.
    PoolReady,
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`: why there is no TLS with the client.
    ClientFailure,
    /// `%FILTER_CHAIN_NAME%`
    Chain,
    /// `%UNIQUE_ID%`: a new one for each line.
    Unique,
    /// `%REQUEST_TX_DURATION%`: until the endpoint had the whole request.
    RequestSent,
    /// `%ROUNDTRIP_DURATION%`, which is one of HTTP/3 alone, as in Envoy.
    RoundTrip,
    /// `%DOWNSTREAM_WIRE_BYTES_SENT%` and others.
    Bytes {
        is_upstream: bool,
        is_sent: bool,
        is_head: bool,
    },
    /// `%UPSTREAM_HOSTS_ATTEMPTED%` and others: all endpoints that were tried.
    Attempted { with_port: bool },
    /// `%UPSTREAM_HOST_NAME_WITHOUT_PORT%`
    Host,
    /// `%DOWNSTREAM_DIRECT_REMOTE_PORT%`
    DirectRemotePort,
    /// `%DOWNSTREAM_DIRECT_LOCAL_PORT%`
    DirectLocalPort,
    /// `%DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT%`
    DirectLocalIp,
    /// `%DOWNSTREAM_PEER_ISSUER%` and others.
    Certificate { is_upstream: bool, part: Part },
    /// `%DOWNSTREAM_PEER_CHAIN_SERIALS%` and others: of all certificates that the client has shown.
    PeerChain(OfChain),
    /// `%LOCAL_REPLY_BODY%`, which in Envoy too is for the formats of answers, and empty in logs.
    Empty,
    /// `%DOWNSTREAM_TLS_SESSION_ID%`: sessions of TLS 1.3 have none.
    SessionId,
}

/// What is told of each certificate of a chain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum OfChain {
    Sha256,
    Sha1,
    Serial,
}

/// What a peer's certificate says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Issuer,
    Sha1,
    /// `PEER_CERT`: all of it, as PEM in a URL.
    Whole,
    Begin(TimeFormat),
    End(TimeFormat),
}

impl Known {
    /// Those whose names these are; none if it is another one.
    pub(super) fn parse(name: &str, argument: Option<&str>) -> Result<Option<Self>, String> {
        let (side, of_side) = match name.split_once('_') {
            Some(("UPSTREAM", rest)) => (true, rest),
            Some(("DOWNSTREAM", rest)) => (false, rest),
            _ => (false, ""),
        };
        let time = || TimeFormat::parse(argument.unwrap_or_default());
        let certificate = |part| Self::Certificate {
            is_upstream: side,
            part,
        };
        let known = match of_side {
            "PEER_CERT_V_START" => return Ok(Some(certificate(Part::Begin(time()?)))),
            "PEER_CERT_V_END" => return Ok(Some(certificate(Part::End(time()?)))),
            "PEER_ISSUER" => certificate(Part::Issuer),
            "PEER_CERT" => certificate(Part::Whole),
            _ => match name {
                "CONNECTION_ID" => Self::Connection,
                "UPSTREAM_CONNECTION_ID" => Self::UpstreamConnection,
                "UPSTREAM_CONNECTION_POOL_READY_DURATION" => Self::PoolReady,
                "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => Self::ClientFailure,
                "FILTER_CHAIN_NAME" => Self::Chain,
                "UNIQUE_ID" => Self::Unique,
                "REQUEST_TX_DURATION" => Self::RequestSent,
                "ROUNDTRIP_DURATION" => Self::RoundTrip,
                "UPSTREAM_HOSTS_ATTEMPTED" | "UPSTREAM_HOST_NAMES_ATTEMPTED" => {
                    Self::Attempted { with_port: true }
                }
                "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT"
                | "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT" => {
                    Self::Attempted { with_port: false }
                }
                "UPSTREAM_HOST_NAME_WITHOUT_PORT" => Self::Host,
                "DOWNSTREAM_PEER_FINGERPRINT_1" => certificate(Part::Sha1),
                "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256" => Self::PeerChain(OfChain::Sha256),
                "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1" => Self::PeerChain(OfChain::Sha1),
                "DOWNSTREAM_PEER_CHAIN_SERIALS" => Self::PeerChain(OfChain::Serial),
                "DOWNSTREAM_TLS_SESSION_ID" => Self::SessionId,
                "UPSTREAM_TLS_SESSION_ID" => {
                    let reason = "the library for TLS does not tell the ids of sessions";
                    return Err(format!("%{name}% is not supported: {reason}"));
                }
                "LOCAL_REPLY_BODY" => Self::Empty,
                "DOWNSTREAM_DIRECT_REMOTE_PORT" => Self::DirectRemotePort,
                "DOWNSTREAM_DIRECT_LOCAL_PORT" => Self::DirectLocalPort,
                "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT" => Self::DirectLocalIp,
                _ => {
                    let (is_head, is_sent) = match of_side {
                        "WIRE_BYTES_SENT" => (false, true),
                        "WIRE_BYTES_RECEIVED" => (false, false),
                        "HEADER_BYTES_SENT" => (true, true),
                        "HEADER_BYTES_RECEIVED" => (true, false),
                        _ => return Ok(None),
                    };
                    Self::Bytes {
                        is_upstream: side,
                        is_sent,
                        is_head,
                    }
                }
            },
        };
        match argument {
            None => Ok(Some(known)),
            Some(_) => Err(format!("%{name}% takes no argument")),
        }
    }

    /// Whether it asks for the head that the endpoint gets.
    pub(super) fn needs_sent_head(&self) -> bool {
        matches!(
            self,
            Self::Bytes {
                is_upstream: true,
                is_sent: true,
                ..
            }
        )
    }

    /// Whether it asks for the head of the response.
    pub(super) fn needs_response(&self) -> bool {
        matches!(
            self,
            Self::Bytes {
                is_upstream: false,
                is_sent: true,
                ..
            }
        )
    }

    /// Whether it asks for the head that the endpoint has sent.
    pub(super) fn needs_upstream_head(&self) -> bool {
        matches!(
            self,
            Self::Bytes {
                is_upstream: true,
                is_sent: false,
                ..
            }
        )
    }

    /// Whether it asks how the connection to the endpoint came to be.
    pub(super) fn needs_birth(&self) -> bool {
        matches!(
            self,
            Self::UpstreamConnection | Self::PoolReady | Self::RequestSent
        )
    }

    pub(super) fn append(&self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Kind {
        let endpoint = entry.upstream.as_ref();
        match self {
            Self::Connection => number(entry.connection, out),
            Self::UpstreamConnection => {
                let opened = entry.ready().and_then(|(_, ready)| ready.connection);
                number(Some(opened.map_or(0, |opened| opened.number)), out)
            }
            Self::PoolReady => {
                let waited = entry.ready();
                let waited = waited.map(|(begin, ready)| ready.at.saturating_sub(begin) / 1000);
                number(waited, out)
            }
            Self::ClientFailure => text(entry.client_failure(), out),
            Self::Chain => text(entry.chain, out),
            Self::Unique => {
                let random = fastrand::u128(..).to_be_bytes();
                out.extend_from_slice(&request_id::generate(random));
                Kind::Text
            }
            Self::RequestSent => {
                let sent = entry.request_sent();
                let took = sent.map(|at| at.saturating_sub(entry.begin) / 1000);
                number(took, out)
            }
            Self::RoundTrip => Kind::Absent,
            Self::Bytes {
                is_upstream,
                is_sent,
                is_head,
            } => number(Some(bytes(entry, (*is_upstream, *is_sent, *is_head))), out),
            Self::Attempted { with_port } => attempted(entry, *with_port, out),
            Self::Host => shown(endpoint.map(|endpoint| endpoint.address.ip()), out),
            Self::DirectRemotePort => number(Some(entry.direct().port().into()), out),
            Self::DirectLocalPort => {
                number(entry.direct_local.map(|local| local.port().into()), out)
            }
            Self::DirectLocalIp => shown(entry.direct_local.map(SocketAddr::ip), out),
            Self::PeerChain(of_chain) => {
                let secured = entry.secured.filter(|secured| secured.peer.is_some());
                let all = secured.map(|secured| of_chain.of(secured));
                text(all.as_deref(), out)
            }
            Self::Empty => Kind::Text,
            Self::SessionId => Kind::Absent,
            Self::Certificate { is_upstream, part } => {
                let secured = match is_upstream {
                    true => endpoint.and_then(|endpoint| endpoint.secured),
                    false => entry.secured,
                };
                match secured.and_then(|secured| secured.peer.as_ref()) {
                    None => Kind::Absent,
                    Some(certificate) => part.append(certificate, out),
                }
            }
        }
    }
}

impl OfChain {
    fn of(self, secured: &Secured) -> String {
        let peer = secured.peer.iter().map(|peer| &peer.der);
        let all = peer.chain(&secured.peer_issuers);
        let all = all.map(|der| match self {
            Self::Sha256 => fingerprint(der),
            Self::Sha1 => fingerprint_1(der),
            Self::Serial => Certificate::read(der).map_or_else(String::new, |read| read.serial),
        });
        all.collect::<Vec<_>>().join(",")
    }
}

impl Part {
    fn append(&self, certificate: &Certificate, out: &mut Vec<u8>) -> Kind {
        let moment = |format: &TimeFormat, seconds: i64, out: &mut Vec<u8>| {
            let seconds = u64::try_from(seconds).unwrap_or_default();
            format.append(seconds.saturating_mul(1_000_000), out)
        };
        match self {
            Self::Issuer => text(Some(&certificate.issuer), out),
            Self::Sha1 => text(Some(&fingerprint_1(&certificate.der)), out),
            Self::Whole => text(Some(&pem_in_url(&certificate.der)), out),
            Self::Begin(format) => moment(format, certificate.not_before, out),
            Self::End(format) => moment(format, certificate.not_after, out),
        }
    }
}

/// Bodies count without the sizes of their chunks.
fn bytes(entry: &Entry<'_>, (is_upstream, is_sent, is_head): (bool, bool, bool)) -> u64 {
    let Some(Whole { call, exchange }) = entry.whole else {
        // A connection has no heads, and its bytes are those of both sides.
        return match is_head {
            true => 0,
            false if is_sent != is_upstream => entry.sent,
            false => entry.received,
        };
    };
    let told = exchange.told.as_deref().unwrap_or(&NOTHING);
    let is_connected = entry.upstream.is_some_and(|endpoint| endpoint.is_connected);
    let [whole, headers] = match (is_upstream, is_sent) {
        (false, false) => sizes(call.buffer.head(), false),
        (false, true) => match entry.status {
            0 => [0, 0],
            _ => sizes(entry.response, true),
        },
        (true, _) if !is_connected => return 0,
        (true, true) => {
            let sent = entry.request.as_ref().map_or(&b""[..], |it| it.sent);
            sizes(sent, true)
        }
        (true, false) if told.upstream_head[0] == 0 => return 0,
        (true, false) => told.upstream_head.map(u64::from),
    };
    match is_head {
        true => headers,
        // What came from one side went to the other one.
        false if is_sent == is_upstream => whole + entry.received,
        false => whole + entry.sent,
    }
}

/// The bytes of a head, and those of its lines but for the first and the last, as Envoy counts them: of what it has
/// sent all of each line, of what it has received one less.
pub(crate) fn sizes(head: &[u8], is_sent: bool) -> [u64; 2] {
    let mut ends = memchr::memchr_iter(b'\n', head);
    let first = ends.next().map_or(0, |end| end + 1);
    let lines = ends.count().saturating_sub(1);
    let headers = head.len().saturating_sub(first + 2);
    let headers = match is_sent {
        true => headers,
        false => headers.saturating_sub(lines),
    };
    [head.len() as u64, headers as u64]
}

fn attempted(entry: &Entry<'_>, with_port: bool, out: &mut Vec<u8>) -> Kind {
    let rare = entry.whole.and_then(|whole| whole.exchange.rare.as_deref());
    let before = rare.map_or(&[][..], |rare| &rare.tries.reached);
    let last = entry.upstream.as_ref();
    let last = last.filter(|endpoint| endpoint.is_connected);
    let last = last.map(|endpoint| endpoint.address);
    let last = last.filter(|last| !before.contains(last));
    let begin = out.len();
    for endpoint in before.iter().chain(last) {
        if out.len() > begin {
            out.push(b',');
        }
        match with_port {
            true => shown(Some(endpoint), out),
            false => shown(Some(endpoint.ip()), out),
        };
    }
    match out.len() > begin {
        true => Kind::Text,
        false => Kind::Absent,
    }
}
