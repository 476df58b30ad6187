//! What a policy asks about a request or a connection.

use crate::policy::{Asked, MetadataMatch, Subject, jwt};
use crate::route::matches_header;
use crate::snapshot::{Cidr, HeaderMatch, RequestField, ValueMatch};
use crate::tls::Secured;

/// A simple condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    /// It always holds.
    Always,
    /// `header`; never holds of a connection.
    Header(HeaderMatch),
    /// The same of `:method`, or of anything else if the second is set.
    Method(ValueMatch, bool),
    /// `url_path`: the path without its query.
    Path(ValueMatch),
    /// `destination_ip`.
    DestinationIp(Cidr),
    /// `destination_port` and `destination_port_range`: from the first to, and without, the second.
    DestinationPort(u32, u32),
    /// `requested_server_name`.
    ServerName(ValueMatch),
    /// `metadata`, as other filters have left it.
    Metadata(MetadataMatch),
    /// `authenticated`: the client has TLS, and one of its names is asked for.
    Authenticated(Option<ValueMatch>),
    /// `source_ip`: the address that the connection comes from, as whoever speaks for the client says.
    PeerIp(Cidr),
    /// `direct_remote_ip`: the one that it really comes from.
    DirectIp(Cidr),
    /// `remote_ip`: the client's address, as whoever is trusted says.
    ClientIp(Cidr),
}

impl From<HeaderMatch> for Condition {
    fn from(header: HeaderMatch) -> Self {
        match header.name.of_request {
            RequestField::Method => Self::Method(header.value, header.invert),
            _ => Self::Header(header),
        }
    }
}

impl Condition {
    /// Whether it asks what a token says.
    pub(crate) fn is_about_tokens(&self) -> bool {
        matches!(self, Self::Metadata(metadata) if metadata.filter == jwt::FILTER)
    }

    /// Whether it holds.
    #[inline(always)]
    pub(crate) fn holds(&self, asked: &Asked<'_>) -> bool {
        match self {
            // Most are about these.
            Self::Method(method, invert) => {
                asked.method.is_some_and(|is| method.matches(is) != *invert)
            }
            Self::Path(path) => asked.path.is_some_and(|is| path.matches(is)),
            _ => self.holds_otherwise(asked.subject),
        }
    }

    fn holds_otherwise(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Always => true,
            Self::Header(header) => subject.request.is_some_and(|(request, head)| {
                matches_header(header, request, head, subject.scheme)
            }),
            Self::Method(..) | Self::Path(_) => self.holds(&Asked::of(subject)),
            Self::DestinationIp(block) => subject
                .destination
                .is_some_and(|destination| block.contains(destination.ip().to_canonical())),
            Self::DestinationPort(from, to) => subject
                .destination
                .is_some_and(|destination| (*from..*to).contains(&destination.port().into())),
            Self::ServerName(name) => {
                name.matches(subject.server_name.unwrap_or_default().as_bytes())
            }
            Self::Metadata(metadata) => metadata.holds(subject.metadata),
            Self::Authenticated(None) => subject.secured.is_some(),
            Self::Authenticated(Some(name)) => subject
                .secured
                .is_some_and(|secured| is_named(secured, name)),
            Self::PeerIp(block) => block.contains(subject.peer),
            Self::DirectIp(block) => block.contains(subject.direct),
            Self::ClientIp(block) => block.contains(subject.client),
        }
    }
}

/// Whether one of the names of the client's certificate is asked for: of its URIs, else of its DNS
/// names, else its subject.
fn is_named(secured: &Secured, name: &ValueMatch) -> bool {
    let Some(peer) = &secured.peer else {
        // A client without a certificate has the empty name, as with Envoy.
        return name.matches(b"");
    };
    let is = |text: &String| name.matches(text.as_bytes());
    peer.uris.iter().any(is) || peer.dns_names.iter().any(is) || is(&peer.subject)
}
