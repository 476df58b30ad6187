//! What connections to an endpoint begin with: a PROXY header, the handshake of TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;

use crate::inspect::proxy_protocol::{write_v1, write_v2};
use crate::net::{Source, Stream};
use crate::snapshot::{ProxyVersion, Transport};
use crate::stats::TlsStats;
use crate::tls::{ClientTls, Secured, TlsLayer};

/// The client that a connection is made for: its address, and where it connected to.
pub(crate) type Behind = Option<(SocketAddr, SocketAddr)>;

/// How connections are made, and where they are counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    pub(super) transport: Transport,
    pub(super) stats: Option<Arc<TlsStats>>,
}

impl Link {
    /// For connections that no statistics tell about.
    pub(crate) fn uncounted(transport: Transport) -> Self {
        Self {
            transport,
            stats: None,
        }
    }

    /// Whether nothing comes before the bytes of the connection.
    pub(super) fn is_plain(&self) -> bool {
        self.transport.tls.is_none() && self.transport.proxy_protocol.is_none()
    }

    /// Whether a connection serves any client.
    pub(super) fn is_shared(&self) -> bool {
        self.transport.proxy_protocol.is_none()
    }

    /// Opens a connection, unless the secrets for it are missing.
    pub(crate) async fn connect(
        self,
        (address, source): (SocketAddr, Option<Source>),
        alpn: &[u8],
        behind: Behind,
    ) -> io::Result<Stream> {
        if self
            .transport
            .tls
            .as_ref()
            .is_some_and(|tls| tls.ready.is_none())
        {
            return Err(io::Error::other(NotReady));
        }
        let mut stream = Stream::connect(address, source).await?;
        if let Some(version) = self.transport.proxy_protocol {
            send_header(&mut stream, version, behind).await?;
        }
        let tls = self.transport.tls.and_then(|tls| tls.ready);
        let Some(tls) = tls else {
            return Ok(stream);
        };
        let shaken = shake(stream, address, &tls, alpn).await;
        if let Some(stats) = &self.stats {
            match &shaken {
                Ok(stream) => {
                    if let Some(state) = stream.tls_state() {
                        stats.count_handshake(state);
                    }
                }
                Err(error) => stats.count_failure(error),
            }
        }
        shaken
    }
}

/// The secrets of a cluster have not come.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("TLS error: the secrets have not come")]
pub(super) struct NotReady;

async fn shake(
    stream: Stream,
    address: SocketAddr,
    tls: &ClientTls,
    alpn: &[u8],
) -> io::Result<Stream> {
    let name = match &tls.options.sni {
        Some(name) => name.clone(),
        // An address is never sent; sessions are kept under it.
        None => ServerName::from(address.ip()),
    };
    let alpn = match tls.alpn.as_slice() {
        [] if alpn.is_empty() => Vec::new(),
        [] => vec![alpn.to_vec()],
        configured => configured.to_vec(),
    };
    let layer = TlsLayer::client(tls.config.clone(), name, alpn)?;
    let own = tls.identity.clone();
    let secured = |layer: &TlsLayer| Secured::of(layer.state(), own, None);
    stream.with_tls(layer, secured).await
}

async fn send_header(stream: &mut Stream, version: ProxyVersion, behind: Behind) -> io::Result<()> {
    let mut header = Vec::new();
    match (version, behind) {
        (ProxyVersion::V1, Some((source, destination))) => {
            write_v1(source, destination, &mut header);
        }
        (ProxyVersion::V2, Some((source, destination))) => {
            write_v2(source, destination, &mut header);
        }
        (ProxyVersion::V1, None) => header.extend_from_slice(b"PROXY UNKNOWN\r\n"),
        // LOCAL: the proxy speaks for itself.
        (ProxyVersion::V2, None) => {
            header.extend_from_slice(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
        }
    }
    tokio::io::AsyncWriteExt::write_all(stream, &header).await
}
