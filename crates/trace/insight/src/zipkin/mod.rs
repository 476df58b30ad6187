//! What Zipkin makes of a trace: spans merged, a tree of them, and who called whom.
//!
//! Zipkin's server keeps spans as they came and works this out when it is asked for its dependency
//! graph. Its rules differ from [`crate::dependencies`] in what they make of missing halves, of
//! brokers and of errors, so its API answers by these.

mod link;
mod merge;
mod tree;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use periplus_model::{SpanId, SpanKind, TraceId};

pub use link::{Link, Links};
pub use merge::merge;
pub use tree::{Node, Tree};

/// A span of version 2, its names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span<'a> {
    /// The trace.
    pub trace_id: TraceId,
    /// The parent; none at the root.
    pub parent_id: Option<SpanId>,
    /// Its id, which both halves of a shared span have.
    pub id: SpanId,
    /// Client, server, producer or consumer; anything else is none.
    pub kind: SpanKind,
    /// Its name; empty if it has none.
    pub name: Cow<'a, str>,
    /// When it began, microseconds.
    pub timestamp: Option<u64>,
    /// How long it took, microseconds.
    pub duration: Option<u64>,
    /// Who reported it.
    pub local: Endpoint<'a>,
    /// The other side.
    pub remote: Endpoint<'a>,
    /// Microseconds and texts.
    pub annotations: Vec<(u64, Cow<'a, str>)>,
    /// Its tags.
    pub tags: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    /// Whether it is one of a request being debugged.
    pub debug: bool,
    /// Whether its id is that of the other side.
    pub shared: bool,
}

/// One side of a call; what is not known is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint<'a> {
    /// The service.
    pub service_name: Option<Cow<'a, str>>,
    /// The IPv4 address.
    pub ipv4: Option<IpAddr>,
    /// The IPv6 address.
    pub ipv6: Option<IpAddr>,
    /// The port.
    pub port: Option<u16>,
}

impl Endpoint<'_> {
    fn is_empty(&self) -> bool {
        *self == Endpoint::default()
    }
}

impl<'a> Span<'a> {
    fn local_service(&self) -> Option<&Cow<'a, str>> {
        self.local.service_name.as_ref()
    }

    fn remote_service(&self) -> Option<&Cow<'a, str>> {
        self.remote.service_name.as_ref()
    }

    /// Whether the span has a tag `error`, whatever its value.
    fn is_error(&self) -> bool {
        self.tags.contains_key("error")
    }

    /// The kind, if it is one that Zipkin knows.
    fn known_kind(&self) -> Option<SpanKind> {
        match self.kind {
            SpanKind::Client | SpanKind::Server | SpanKind::Producer | SpanKind::Consumer => {
                Some(self.kind)
            }
            SpanKind::Unspecified | SpanKind::Internal => None,
        }
    }
}
