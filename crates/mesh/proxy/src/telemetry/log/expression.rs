//! What expressions ask about a request or a connection that has ended.

use std::borrow::Cow;
use std::net::SocketAddr;

use periplus_cel::{Asked, Attribute, Expression, Headers, Subject, Value};

use super::entry::Entry;
use super::filter::grpc_status_of;
use super::format::is_written_by_proxies;
use crate::tls::Secured;
use crate::trace::text;

impl Entry<'_> {
    fn header_text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.request_header(name).map(text)
    }

    /// The path and the query.
    fn target(&self) -> Option<[&[u8]; 2]> {
        let target = self.request_header(":path")?;
        Some(match memchr::memchr(b'?', target) {
            Some(at) => [&target[..at], &target[at + 1..]],
            None => [target, b""],
        })
    }
}

impl Subject for Entry<'_> {
    fn attribute(&self, attribute: Attribute) -> Option<Value<'_>> {
        let number = |number: u64| Some(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)));
        let texts = |text: Cow<'static, str>| Some(Value::Text(text));
        let address = |address: Option<&SocketAddr>| texts(address?.to_string().into());
        let port = |address: Option<&SocketAddr>| number(address?.port().into());
        let header = |name: &str| self.header_text(name).map(Value::Text);
        let upstream = self.upstream.as_ref().map(|upstream| upstream.address);
        let answered = self.status != 0;
        match attribute {
            Attribute::RequestPath => header(":path"),
            Attribute::RequestUrlPath => Some(Value::Text(text(self.target()?[0]))),
            Attribute::RequestQuery => Some(Value::Text(text(self.target()?[1]))),
            Attribute::RequestHost => header(":authority"),
            Attribute::RequestScheme => header(":scheme"),
            Attribute::RequestMethod => header(":method"),
            Attribute::RequestReferer => header("referer"),
            Attribute::RequestUserAgent => header("user-agent"),
            Attribute::RequestId => header("x-request-id"),
            Attribute::RequestProtocol => self.protocol.map(Value::from),
            Attribute::RequestSize => {
                self.request.as_ref()?;
                let said = self.header_text("content-length");
                let said = said.and_then(|length| length.parse().ok());
                number(said.unwrap_or(self.received))
            }
            Attribute::ResponseCode if answered => number(self.status.into()),
            Attribute::ResponseGrpcStatus if answered => number(grpc_status_of(self).into()),
            Attribute::ResponseCode | Attribute::ResponseGrpcStatus => None,
            Attribute::ResponseCodeDetails => self.details.map(Value::from),
            Attribute::ResponseSize => number(self.sent),
            Attribute::ConnectionMtls => {
                let shown = self.secured.is_some_and(|secured| secured.peer.is_some());
                Some(Value::Bool(shown))
            }
            Attribute::ConnectionServerName => Some(self.server_name.unwrap_or_default().into()),
            Attribute::ConnectionPeerUri => {
                self.secured.and_then(Secured::peer_id).map(Value::from)
            }
            Attribute::ConnectionLocalUri => {
                self.secured.and_then(Secured::own_id).map(Value::from)
            }
            Attribute::SourceAddress => address(Some(&self.client())),
            Attribute::SourcePort => port(Some(&self.client())),
            Attribute::DestinationAddress => address(self.local),
            Attribute::DestinationPort => port(self.local),
            Attribute::UpstreamAddress => address(upstream),
            Attribute::UpstreamPort => port(upstream),
            Attribute::UpstreamFailure => {
                upstream?;
                Some(self.transport_failure.unwrap_or_default().into())
            }
            Attribute::ClusterName => Some((&*self.cluster?.name).into()),
            Attribute::RouteName => self.route.map(Value::from),
        }
    }

    fn header(&self, of: Headers, name: &str) -> Option<Cow<'_, str>> {
        match of {
            Headers::Request => self.header_text(name),
            Headers::Response => self.response_header(name).map(text),
            Headers::Trailers => self.trailer(name).map(text),
        }
    }
}

/// Whether an expression asks for headers that the proxy itself writes into requests.
pub(super) fn needs_sent_head(expression: &Expression) -> bool {
    expression.asks(|asked| match asked {
        Asked::Header(Headers::Request, name) => is_written_by_proxies(name),
        _ => false,
    })
}

/// Whether it asks for the response's headers or trailers, or what they say of gRPC.
pub(crate) fn needs_response(expression: &Expression) -> bool {
    expression.asks(|asked| {
        matches!(
            asked,
            Asked::Header(Headers::Response | Headers::Trailers, _)
                | Asked::Attribute(Attribute::ResponseGrpcStatus)
        )
    })
}
