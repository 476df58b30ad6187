//! What a check is made with.

use std::io;
use std::net::SocketAddr;

use crate::health::watched::Subject;
use crate::net::{Source, Stream};
use crate::snapshot::{HealthCheck, Transport};
use crate::upstream::Link;

/// Where a check goes, what is asked, and a connection that was left over.
pub(super) struct Probe<'a> {
    pub(super) subject: &'a Subject,
    pub(super) check: &'a HealthCheck,
    pub(super) address: SocketAddr,
    pub(super) kept: &'a mut Kept,
}

/// A connection for the next check.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) http1: Option<Stream>,
    pub(super) http2: Option<h2::client::SendRequest<bytes::Bytes>>,
    /// How it was made.
    transport: Transport,
}

impl Kept {
    /// Lets a connection go that is of no use for this transport.
    pub(super) fn fit(&mut self, transport: &Transport) {
        if !self.transport.takes_over(transport) {
            *self = Self::default();
        }
        self.transport.clone_from(transport);
    }
}

impl Probe<'_> {
    /// Opens a connection in the way that requests to the endpoint have it; the PROXY header says that the
    /// proxy speaks for itself.
    pub(super) async fn connect(&self, alpn: &[u8]) -> io::Result<Stream> {
        let source = Source::of_cluster(&self.subject.cluster, self.address);
        let ends = (self.address, source);
        let link = Link::uncounted(self.subject.endpoint.transport.clone());
        let (stream, _) = link.connect(ends, alpn, None).await?;
        Ok(stream)
    }

    /// The scheme of what is asked for.
    pub(super) fn scheme(&self) -> &'static str {
        if self.subject.endpoint.transport.tls.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// The host that is asked for.
    pub(super) fn host(&self, configured: &str) -> String {
        let of_endpoint = &self.subject.endpoint.check_hostname;
        let names = [configured, of_endpoint, &self.subject.cluster.name];
        let named = names.into_iter().find(|name| !name.is_empty());
        named.unwrap_or_default().to_owned()
    }
}
