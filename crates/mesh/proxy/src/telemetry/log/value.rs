//! What an operator says of an entry.

use std::io::Write as _;
use std::net::SocketAddr;

use super::digits;
use super::entry::{Entry, Upstream};
use super::operator::{GrpcForm, Header, Moment, Operator, Original, Simple};
use crate::clock::Micros;
use crate::grpc;
use crate::http1::name::Name;
use crate::snapshot::{FieldName, RequestField};
use crate::tls::Certificate;

/// What was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: there is no value.
    Absent,
    Text,
    /// A text of ASCII in which nothing has to be escaped.
    Plain,
    /// Digits, which JSON shows as a number.
    Number,
    /// JSON, which is no text in JSON.
    Json,
}

impl Operator {
    /// Appends the value.
    pub(super) fn append(&self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Kind {
        match self {
            Self::StartTime(format) => format.append_at(entry.clock, entry.begin, out),
            Self::EmitTime(format) => format.append_at(entry.clock, entry.clock.now(), out),
            Self::Request(header) => {
                let kind = header.append(|name| entry.request_field(name.of_request, name), out);
                // A method is a token (RFC 9110 §9.1).
                let is_method = header.name.of_request == RequestField::Method;
                plain_if(is_method && header.otherwise.is_none(), kind)
            }
            Self::Response(header) => header.append(|name| response_header(entry, name), out),
            Self::Trailer(header) => header.append(|name| entry.trailer(name), out),
            Self::Path { query, original } => bytes(path(entry, *query, *original), out),
            Self::GrpcStatus(form) => grpc_status(entry.call_status, *form, out),
            Self::Between(from, to, unit) => {
                let between = moment(entry, *from).zip(moment(entry, *to));
                let micros = between.and_then(|(from, to)| to.checked_sub(from));
                let [times, unit] = unit;
                number(micros.map(|micros| micros * times / unit), out)
            }
            Self::Fixed(fixed) => text(Some(fixed), out),
            Self::Simple(simple) => simple.append(entry, out),
            Self::Rare(rare) => rare.append(entry, out),
            Self::Nothing => Kind::Absent,
        }
    }
}

impl Header {
    #[inline]
    fn append<'a>(&self, find: impl Fn(&FieldName) -> Option<&'a [u8]>, out: &mut Vec<u8>) -> Kind {
        let value = find(&self.name).or_else(|| find(self.otherwise.as_ref()?));
        let most = self.most.unwrap_or(usize::MAX);
        bytes(value.map(|value| &value[..value.len().min(most)]), out)
    }
}

impl Simple {
    fn append(self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Kind {
        // What few operators ask for is found out for them alone.
        let client = || entry.secured?.peer.as_ref();
        let own = || entry.secured?.own.as_deref();
        let remote = || {
            let upstream = entry.upstream.as_ref()?;
            upstream.is_connected.then_some(upstream.address)
        };
        let upstream_local = || entry.upstream.as_ref()?.local;
        let upstream_secured = || entry.upstream.as_ref()?.secured;
        let endpoint = || upstream_secured()?.peer.as_ref();
        let upstream_protocol = || entry.upstream.as_ref()?.protocol;
        let millis = |from: Option<Micros>, to: Option<Micros>| {
            let micros = from.zip(to).map(|(from, to)| to.saturating_sub(from));
            micros.map(|micros| micros / 1000)
        };
        match self {
            Self::Protocol => plain(entry.protocol, out),
            Self::ResponseCode => number(Some(entry.status.into()), out),
            Self::ResponseFlags if entry.flags.is_empty() => plain(Some("-"), out),
            Self::ResponseFlags => shown(Some(entry.flags), out),
            Self::ResponseFlagsLong => shown(Some(entry.flags.long()), out),
            Self::ResponseCodeDetails => {
                plain_if(entry.has_plain_details, text(entry.details, out))
            }
            Self::ConnectionTerminationDetails => text(entry.termination, out),
            Self::UpstreamTransportFailureReason => text(entry.upstream_failure(), out),
            Self::BytesReceived => number(Some(entry.received), out),
            Self::BytesSent => number(Some(entry.sent), out),
            Self::Duration => number(millis(Some(entry.begin), Some(entry.end)), out),
            Self::RequestDuration => number(millis(Some(entry.begin), entry.request_complete), out),
            Self::ResponseDuration => number(millis(Some(entry.begin), entry.response_begun), out),
            Self::ResponseTxDuration => {
                number(millis(entry.response_begun, entry.response_sent), out)
            }
            Self::UpstreamHost | Self::UpstreamHostName => host(entry.upstream.as_ref(), out),
            Self::UpstreamRemoteAddress => {
                let upstream = entry.upstream.as_ref();
                host(upstream.filter(|upstream| upstream.is_connected), out)
            }
            Self::UpstreamCluster => {
                let name = entry.cluster.map(|cluster| &*cluster.observability_name);
                plain_if(entry.has_plain_cluster, text(name, out))
            }
            Self::UpstreamClusterRaw => {
                let name = entry.cluster.map(|cluster| &*cluster.name);
                plain_if(entry.has_plain_cluster, text(name, out))
            }
            Self::UpstreamLocalAddress => address(upstream_local(), out),
            Self::UpstreamLocalIp => ip(upstream_local(), out),
            Self::UpstreamLocalPort => port(upstream_local(), out),
            Self::UpstreamRemoteIp => ip(remote(), out),
            Self::UpstreamRemotePort => port(remote(), out),
            Self::UpstreamProtocol => plain(upstream_protocol(), out),
            Self::UpstreamRequestAttemptCount => number(Some(entry.attempts), out),
            Self::UpstreamPeerUriSan => list(endpoint().map(|one| &*one.uris), out),
            Self::UpstreamPeerDnsSan => list(endpoint().map(|one| &*one.dns_names), out),
            Self::UpstreamPeerSubject => text(endpoint().map(|one| &*one.subject), out),
            Self::UpstreamLocalUriSan => {
                let own = upstream_secured().and_then(|secured| secured.own.as_deref());
                list(own.map(|one| &*one.uris), out)
            }
            Self::DownstreamLocalAddress => address(entry.local, out),
            Self::DownstreamLocalIp => ip(entry.local, out),
            Self::DownstreamLocalPort => port(entry.local, out),
            Self::DownstreamDirectLocalAddress => address(entry.direct_local, out),
            Self::DownstreamRemoteAddress => address(Some(&entry.client()), out),
            Self::DownstreamRemoteIp => ip(Some(&entry.client()), out),
            Self::DownstreamRemotePort => port(Some(&entry.client()), out),
            Self::DownstreamDirectRemoteAddress => address(Some(entry.direct()), out),
            Self::DownstreamDirectRemoteIp => ip(Some(entry.direct()), out),
            Self::DownstreamPeerUriSan => list(client().map(|one| &*one.uris), out),
            Self::DownstreamPeerDnsSan => list(client().map(|one| &*one.dns_names), out),
            Self::DownstreamPeerSubject => text(client().map(|one| &*one.subject), out),
            Self::DownstreamPeerSerial => text(client().map(|one| &*one.serial), out),
            Self::DownstreamPeerFingerprint => shown(client().map(Certificate::fingerprint), out),
            Self::DownstreamLocalUriSan => list(own().map(|one| &*one.uris), out),
            Self::DownstreamLocalDnsSan => list(own().map(|one| &*one.dns_names), out),
            Self::DownstreamLocalSubject => text(own().map(|one| &*one.subject), out),
            Self::RequestedServerName => text(entry.server_name, out),
            Self::RouteName => text(entry.route, out),
            Self::TraceId => {
                let id = entry.span.map(|span| span.trace_id.to_hex());
                plain(id.as_ref(), out)
            }
            Self::SpanId => {
                let id = entry.span.map(|span| span.span_id.to_hex());
                plain(id.as_ref(), out)
            }
            Self::StreamId => bytes(entry.request.as_ref().and_then(|request| request.id), out),
            Self::AccessLogType => {
                let of_request = entry.request.is_some() || entry.status != 0;
                text(
                    Some(if of_request {
                        "DownstreamEnd"
                    } else {
                        "TcpConnectionEnd"
                    }),
                    out,
                )
            }
        }
    }
}

fn response_header<'a>(entry: &Entry<'a>, name: &str) -> Option<&'a [u8]> {
    match name {
        ":status" => {
            let mut words = entry.response.split(|byte| *byte == b' ');
            words.nth(1).filter(|_| !entry.response.is_empty())
        }
        _ => entry.response_header(name),
    }
}

fn path<'a>(entry: &Entry<'a>, query: bool, original: Original) -> Option<&'a [u8]> {
    let original_path = RequestField::Line(Name::XEnvoyOriginalPath);
    let of_client = || entry.request_field(original_path, Name::XEnvoyOriginalPath.as_str());
    let of_request = || entry.request_field(RequestField::Path, ":path");
    let path = match original {
        Original::Either => of_client().or_else(of_request),
        Original::Only => of_client(),
        Original::Never => of_request(),
    }?;
    if query {
        return Some(path);
    }
    let end = memchr::memchr(b'?', path).unwrap_or(path.len());
    Some(&path[..end])
}

fn moment(entry: &Entry<'_>, moment: Moment) -> Option<Micros> {
    let ready = || entry.ready().map(|(_, ready)| ready);
    let opened = || ready()?.connection;
    match moment {
        Moment::ConnectBegun => Some(opened()?.begun),
        Moment::Connected => Some(opened()?.connected),
        Moment::Secured => opened()?.secured,
        // As with Envoy, only requests have one.
        Moment::RequestBegun => {
            entry.request.as_ref()?;
            opened().and(ready()).map(|ready| ready.at)
        }
        Moment::Begin => Some(entry.begin),
        Moment::RequestComplete => entry.request_complete,
        Moment::RequestSent => entry.request_sent(),
        Moment::ResponseBegun => entry.response_begun,
        Moment::End => entry.response_sent,
    }
}

fn grpc_status(code: Option<u32>, form: GrpcForm, out: &mut Vec<u8>) -> Kind {
    let Some(code) = code else {
        return Kind::Absent;
    };
    let name = match form {
        GrpcForm::Number => return number(Some(code.into()), out),
        GrpcForm::Camel => grpc::name_of(code).map(|(camel, _)| camel),
        GrpcForm::Snake => grpc::name_of(code).map(|(_, snake)| snake),
    };
    match name {
        Some(name) => text(Some(name), out),
        None => shown(Some(code), out),
    }
}

fn plain(value: Option<&(impl AsRef<[u8]> + ?Sized)>, out: &mut Vec<u8>) -> Kind {
    plain_if(true, bytes(value.map(AsRef::as_ref), out))
}

/// A text in which nothing has to be escaped, if that is known.
fn plain_if(is_plain: bool, kind: Kind) -> Kind {
    match kind {
        Kind::Text if is_plain => Kind::Plain,
        kind => kind,
    }
}

/// Whether nothing in a text has to be escaped in JSON, and all of it is ASCII.
pub(crate) fn needs_no_escape(text: &str) -> bool {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    text.bytes().all(is_plain)
}

fn bytes(value: Option<&[u8]>, out: &mut Vec<u8>) -> Kind {
    match value {
        Some(value) => {
            out.extend_from_slice(value);
            Kind::Text
        }
        None => Kind::Absent,
    }
}

/// An empty text is none.
pub(super) fn text(value: Option<&str>, out: &mut Vec<u8>) -> Kind {
    bytes(
        value.filter(|text| !text.is_empty()).map(str::as_bytes),
        out,
    )
}

fn list(values: Option<&[String]>, out: &mut Vec<u8>) -> Kind {
    let Some(values) = values.filter(|values| !values.is_empty()) else {
        return Kind::Absent;
    };
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(value.as_bytes());
    }
    Kind::Text
}

pub(super) fn shown(value: Option<impl std::fmt::Display>, out: &mut Vec<u8>) -> Kind {
    match value {
        Some(value) => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "{value}");
            Kind::Text
        }
        None => Kind::Absent,
    }
}

pub(super) fn number(value: Option<u64>, out: &mut Vec<u8>) -> Kind {
    match value {
        Some(value) => {
            digits::number(out, value);
            Kind::Number
        }
        None => Kind::Absent,
    }
}

fn host(upstream: Option<&Upstream<'_>>, out: &mut Vec<u8>) -> Kind {
    match upstream.and_then(|upstream| upstream.text) {
        Some(text) => plain(Some(text), out),
        None => address(upstream.map(|upstream| upstream.address), out),
    }
}

fn ip(address: Option<&SocketAddr>, out: &mut Vec<u8>) -> Kind {
    match address {
        Some(SocketAddr::V4(address)) => {
            digits::v4(out, *address.ip());
            Kind::Plain
        }
        address => shown(address.map(|address| address.ip()), out),
    }
}

fn address(address: Option<&SocketAddr>, out: &mut Vec<u8>) -> Kind {
    match address {
        Some(SocketAddr::V4(address)) => {
            digits::v4(out, *address.ip());
            out.push(b':');
            digits::number(out, address.port().into());
            Kind::Plain
        }
        address => shown(address, out),
    }
}

fn port(address: Option<&SocketAddr>, out: &mut Vec<u8>) -> Kind {
    number(address.map(|address| address.port().into()), out)
}
