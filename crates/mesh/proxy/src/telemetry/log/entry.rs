//! What there is to be told about a request or a connection that has ended.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use periplus_model::propagation::SpanContext;

use crate::call::Call;
use crate::clock::{Clock, Micros};
use crate::exchange::Exchange;
use crate::flags::Flags;
use crate::http1::name::Name;
use crate::http1::request::RequestHead;
use crate::policy::Metadata;
use crate::snapshot::{Cluster, HeaderMatch, RequestField};
use crate::tls::Secured;
use crate::upstream::Ready;

/// A request or a connection that has ended.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) begin: Micros,
    pub(crate) end: Micros,
    /// The client, as far as its connection tells.
    pub(crate) peer: &'a SocketAddr,
    /// The other end of the connection, if that speaks for the client.
    pub(crate) direct: Option<&'a SocketAddr>,
    /// Where the client wanted to go.
    pub(crate) local: Option<&'a SocketAddr>,
    /// The address of the socket.
    pub(crate) direct_local: Option<&'a SocketAddr>,
    pub(crate) secured: Option<&'a Secured>,
    /// The name that the client asked for in its TLS, whoever terminates that.
    pub(crate) server_name: Option<&'a str>,
    /// None of a connection, and of what is no request.
    pub(crate) request: Option<Request<'a>>,
    pub(crate) protocol: Option<&'static str>,
    /// The lines of the response's head and trailers as they went to the client.
    pub(crate) response: &'a [u8],
    pub(crate) trailers: &'a [u8],
    /// 0 if the client got no response.
    pub(crate) status: u16,
    pub(crate) flags: Flags,
    /// `%RESPONSE_CODE_DETAILS%`
    pub(crate) details: Option<&'a str>,
    /// They are a word of the program's.
    pub(crate) has_plain_details: bool,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// When the request was complete, when the endpoint's response began, and when the last of what
    /// the client gets was sent.
    pub(crate) request_complete: Option<Micros>,
    pub(crate) response_begun: Option<Micros>,
    pub(crate) response_sent: Option<Micros>,
    /// How many endpoints were tried.
    pub(crate) attempts: u64,
    pub(crate) cluster: Option<&'a Cluster>,
    /// Nothing in the cluster's names has to be escaped in JSON.
    pub(crate) has_plain_cluster: bool,
    pub(crate) upstream: Option<Upstream<'a>>,
    /// Why there was no TLS with the endpoint; with the client, if there is no cluster.
    pub(crate) transport_failure: Option<&'a str>,
    /// `%CONNECTION_TERMINATION_DETAILS%`: why the proxy has ended the client's connection.
    pub(crate) termination: Option<&'a str>,
    pub(crate) route: Option<&'a str>,
    pub(crate) span: Option<&'a SpanContext>,
    /// gRPC's status, if the response said it, whatever the request was.
    pub(crate) grpc: Option<u32>,
    /// The outcome of a call of gRPC.
    pub(crate) call_status: Option<u32>,
    /// What filters have found out.
    pub(crate) metadata: Option<&'a Metadata>,
    /// The number of the client's connection.
    pub(crate) connection: Option<u64>,
    /// The name of its filter chain.
    pub(crate) chain: Option<&'a str>,
    /// All that is known of a request.
    pub(crate) whole: Option<Whole<'a>>,
}

/// A request with all that is known of it, for what few ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole<'a> {
    pub(crate) call: &'a Call,
    pub(crate) exchange: &'a Exchange,
}

/// The request.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) text: &'a [u8],
    /// The lines of the head that the endpoint gets, if somebody needs them.
    pub(crate) sent: &'a [u8],
    pub(crate) id: Option<&'a [u8]>,
    /// The client is no proxy of the mesh.
    pub(crate) is_edge: bool,
}

/// The endpoint, and the connection to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upstream<'a> {
    pub(crate) address: &'a SocketAddr,
    /// The address as it is written, if somebody has written it already.
    pub(crate) text: Option<&'a str>,
    pub(crate) local: Option<&'a SocketAddr>,
    pub(crate) secured: Option<&'a Secured>,
    /// There was a connection.
    pub(crate) is_connected: bool,
    /// Of HTTP, once there is a connection.
    pub(crate) protocol: Option<&'static str>,
    /// Of a client's connection: when the endpoint was chosen, and what came of it.
    pub(crate) of_connection: Option<(Micros, &'a Ready)>,
}

impl<'a> Entry<'a> {
    /// A connection, of which no more is known than its ends.
    pub(crate) fn of_connection(
        clock: &'a Clock,
        (peer, local): (&'a SocketAddr, Option<&'a SocketAddr>),
        begin: Micros,
        end: Micros,
    ) -> Self {
        Self {
            clock,
            begin,
            end,
            peer,
            direct: None,
            local,
            direct_local: local,
            secured: None,
            server_name: None,
            request: None,
            protocol: None,
            response: b"",
            trailers: b"",
            status: 0,
            flags: Flags::default(),
            details: None,
            has_plain_details: false,
            received: 0,
            sent: 0,
            request_complete: None,
            response_begun: None,
            response_sent: None,
            attempts: 0,
            cluster: None,
            has_plain_cluster: false,
            upstream: None,
            transport_failure: None,
            termination: None,
            route: None,
            span: None,
            grpc: None,
            call_status: None,
            metadata: None,
            connection: None,
            chain: None,
            whole: None,
        }
    }

    /// When the endpoint had the whole request.
    pub(super) fn request_sent(&self) -> Option<Micros> {
        let endpoint = self.upstream.as_ref();
        let is_connected = endpoint.is_some_and(|endpoint| endpoint.is_connected);
        let complete = self.request_complete.filter(|_| is_connected)?;
        // What was there before the connection was sent with it.
        Some(
            self.ready()
                .map_or(complete, |(_, ready)| complete.max(ready.at)),
        )
    }

    /// Why there was no TLS with the client.
    pub(super) fn client_failure(&self) -> Option<&'a str> {
        self.transport_failure.filter(|_| self.cluster.is_none())
    }

    /// Why there was no TLS with the endpoint.
    pub(super) fn upstream_failure(&self) -> Option<&'a str> {
        self.transport_failure.filter(|_| self.cluster.is_some())
    }

    /// When the endpoint was chosen, and when there was a connection to it, or none was to be had; kept where a log
    /// tells it.
    pub(super) fn ready(&self) -> Option<(Micros, &'a Ready)> {
        let Some(whole) = self.whole else {
            return self.upstream.and_then(|upstream| upstream.of_connection);
        };
        let attempt = whole.exchange.attempt.as_ref()?;
        Some((attempt.begin, attempt.ready()?))
    }

    /// The other end of the connection, whoever it speaks for.
    pub(super) fn direct(&self) -> &'a SocketAddr {
        self.direct.unwrap_or(self.peer)
    }

    /// How long it took.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_micros(self.end.saturating_sub(self.begin))
    }

    /// A header of the request, as the endpoint gets it.
    pub(crate) fn request_header(&self, name: &str) -> Option<&'a [u8]> {
        self.request_field(RequestField::of(name), name)
    }

    /// The same, of a name that has been looked up.
    pub(super) fn request_field(&self, field: RequestField, name: &str) -> Option<&'a [u8]> {
        let request = self.request.as_ref()?;
        let target = &request.head.target;
        let value = match field {
            RequestField::Method => request.head.method(request.text),
            RequestField::Path => target.path.get(request.text),
            RequestField::Authority => {
                let sent = header(request.sent, "host");
                sent.unwrap_or_else(|| target.authority.get(request.text))
            }
            RequestField::Scheme if request.head.is_https => b"https",
            RequestField::Scheme => b"http",
            RequestField::Line(Name::XRequestId) => return request.id,
            RequestField::Line(_) if !request.sent.is_empty() => {
                return header(request.sent, name);
            }
            RequestField::Line(Name::Other) => {
                let fields = &request.head.fields;
                return fields.all_by_text(name, request.text).next();
            }
            RequestField::Line(name) => return request.head.fields.value(name, request.text),
        };
        Some(value).filter(|value| !value.is_empty())
    }

    /// Whether the request meets a condition on a header.
    pub(super) fn has(&self, condition: &HeaderMatch) -> bool {
        let (name, field) = (&condition.name, condition.name.of_request);
        match (&self.request, field) {
            (Some(_), RequestField::Line(Name::XRequestId)) => {
                condition.matches(self.request_field(field, name))
            }
            (Some(request), RequestField::Line(_)) if !request.sent.is_empty() => {
                condition.matches_lines(all(request.sent, name))
            }
            (Some(request), RequestField::Line(id)) => {
                let fields = &request.head.fields;
                condition.matches_lines(fields.all_named(id, name, request.text))
            }
            _ => condition.matches(self.request_field(field, name)),
        }
    }

    /// A header of the response.
    pub(crate) fn response_header(&self, name: &str) -> Option<&'a [u8]> {
        header(self.response, name)
    }

    /// A trailer of the response.
    pub(crate) fn trailer(&self, name: &str) -> Option<&'a [u8]> {
        header(self.trailers, name)
    }

    /// The client as the proxies in front have named it, else that of the connection.
    pub(crate) fn client(&self) -> SocketAddr {
        let named = || {
            let request = self.request.as_ref().filter(|request| !request.is_edge)?;
            let fields = &request.head.fields;
            let all = fields.all(Name::XForwardedFor, request.text).last()?;
            let last = all.rsplit(|byte| *byte == b',').next()?;
            let ip: IpAddr = std::str::from_utf8(last).ok()?.trim().parse().ok()?;
            Some(SocketAddr::new(ip, 0))
        };
        named().unwrap_or(*self.peer)
    }
}

/// The value of the first line of this name among the lines of a head; a line without a colon has none.
fn header<'a>(lines: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = lines;
    while !rest.is_empty() {
        let colon = rest.get(name.len()) == Some(&b':');
        let is_here = colon && rest[..name.len()].eq_ignore_ascii_case(name.as_bytes());
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        if is_here && name.len() < end {
            return Some(rest[name.len() + 1..end].trim_ascii());
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    None
}

/// The values of all lines of a name.
fn all<'a>(mut lines: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    std::iter::from_fn(move || {
        let value = header(lines, name)?;
        // It is a part of the lines: what is left of them begins behind its line.
        let end = value.as_ptr_range().end as usize - lines.as_ptr() as usize;
        let rest = &lines[end..];
        lines = memchr::memchr(b'\n', rest).map_or(&[], |at| &rest[at + 1..]);
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_of_a_name_are_found() {
        let head = b"a:1\r\nb: a:9\r\nA:  2 \r\na: \r\nab:3\r\na:4";
        let values: Vec<_> = all(head, "a").collect();
        assert_eq!(values, [&b"1"[..], b"2", b"", b"4"]);
        assert_eq!(header(head, "a"), Some(&b"1"[..]));
        assert_eq!(all(head, "c").next(), None);
        assert_eq!(all(b"", "a").next(), None);
    }
}
