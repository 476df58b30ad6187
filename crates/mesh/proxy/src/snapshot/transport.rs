//! What lies between the bytes of a connection and its socket.

use std::sync::Arc;

use crate::tls::{ClientTls, ServerTls};

/// The TLS that a filter chain terminates.
#[derive(Clone, Debug)]
pub enum ChainTls {
    /// Its secrets have not come: connections are closed.
    NotReady,
    /// Connections are served with this.
    Ready(Arc<ServerTls>),
}

/// How connections to an endpoint are made; by default they are plaintext.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    /// TLS, if it is spoken.
    pub tls: Option<EndpointTls>,
    /// A PROXY protocol header comes first.
    pub proxy_protocol: Option<ProxyVersion>,
}

/// The TLS that is spoken to an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointTls {
    /// Changes if anything but its secrets does: connections of before are not used any more then.
    pub(crate) version: u64,
    /// None until its secrets have come: no connection can be made.
    pub(crate) ready: Option<Arc<ClientTls>>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl Transport {
    /// Whether connections that were made for the other one can be used for this: what may differ is
    /// the secrets that they were made with.
    pub(crate) fn takes_over(&self, other: &Self) -> bool {
        let version = |transport: &Self| transport.tls.as_ref().map(|tls| tls.version);
        version(self) == version(other) && self.proxy_protocol == other.proxy_protocol
    }
}

/// The same if the secrets are the same too.
impl PartialEq for Transport {
    fn eq(&self, other: &Self) -> bool {
        let made = |transport: &Self| {
            let tls = transport.tls.as_ref();
            tls.and_then(|tls| tls.ready.as_ref().map(Arc::as_ptr))
        };
        self.takes_over(other) && made(self) == made(other)
    }
}

impl Eq for Transport {}

impl ChainTls {
    /// Whether it is made with the same secrets.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NotReady, Self::NotReady) => true,
            (Self::Ready(one), Self::Ready(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}
