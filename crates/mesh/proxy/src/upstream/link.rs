//! What connections to an endpoint begin with: a PROXY header, the handshake of TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use periplus_xds::istio_peers::PROTOCOL;
use rustls::pki_types::ServerName;

use crate::inspect::proxy_protocol::{write_v1, write_v2};
use crate::net::{Source, Stream};
use crate::snapshot::{ProxyVersion, TcpKeepalive, Transport};
use crate::stats::TlsStats;
use crate::tls::{ClientTls, Secured, TlsLayer, check_resumed};
use crate::upstream::birth::Birth;

/// The client that a connection is made for: its address, and where it connected to.
pub(crate) type Behind = Option<(SocketAddr, SocketAddr)>;

/// How connections are made, and where they are counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    pub(super) transport: Transport,
    pub(super) stats: Option<Arc<TlsStats>>,
    /// Whether the other side is probed.
    pub(super) keepalive: Option<TcpKeepalive>,
}

impl Link {
    /// For connections that no statistics tell about.
    pub(crate) fn uncounted(transport: Transport) -> Self {
        Self {
            transport,
            stats: None,
            keepalive: None,
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

    /// The stream, which ends when its other side has vanished. An endpoint of HTTP that takes no more bytes for as long is
    /// as good as one; whoever reads raw bytes may stop for hours.
    pub(super) fn watched(&self, stream: Stream, alpn: &[u8]) -> io::Result<Stream> {
        let stream = stream.with_keepalive(self.keepalive)?;
        if alpn.is_empty() || alpn == PROTOCOL.as_bytes() {
            return Ok(stream);
        }
        stream.with_patience(self.keepalive)
    }

    /// Opens a connection, unless the secrets for it are missing: with how it came to be.
    pub(crate) async fn connect(
        self,
        (address, source): (SocketAddr, Option<Source>),
        alpn: &[u8],
        behind: Behind,
    ) -> io::Result<(Stream, Birth)> {
        if self
            .transport
            .tls
            .as_ref()
            .is_some_and(|tls| tls.ready.is_none())
        {
            return Err(io::Error::other(NotReady));
        }
        let mut birth = Birth::begin();
        let stream = Stream::connect(address, source).await?;
        birth.is_connected();
        let mut stream = self.watched(stream, alpn)?;
        if let Some(version) = self.transport.proxy_protocol {
            send_header(&mut stream, version, behind).await?;
        }
        let tls = self.transport.tls.and_then(|tls| tls.ready);
        let Some(tls) = tls else {
            return Ok((stream, birth));
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
        birth.is_secured();
        Ok((shaken?, birth))
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
    let alpn = offered(&tls.alpn, alpn);
    let layer = TlsLayer::client(tls.config.clone(), name, alpn)?;
    let own = tls.identity.clone();
    let secured = |layer: &TlsLayer| Secured::of(layer.state(), own, None);
    let stream = stream.with_tls(layer, secured).await?;
    if tls.checks_chain
        && let Some(state) = stream.tls_state()
    {
        check_resumed(state)?;
    }
    Ok(stream)
}

/// What is offered over a connection for this protocol, if a cluster has this list. Who does not mean to say who it is
/// does not offer it.
fn offered(configured: &[Vec<u8>], protocol: &[u8]) -> Vec<Vec<u8>> {
    let exchange = PROTOCOL.as_bytes();
    if protocol == exchange {
        return configured.to_vec();
    }
    if configured.iter().any(|name| name == exchange) {
        let others = configured.iter().filter(|name| **name != exchange);
        return offered(&others.cloned().collect::<Vec<_>>(), protocol);
    }
    let is_of_mesh = || configured.iter().any(|name| name == b"istio");
    let says_what = |name: &Vec<u8>| name.starts_with(b"istio-");
    let of_mesh: &[&[u8]] = match protocol {
        _ if configured.is_empty() && protocol.is_empty() => return Vec::new(),
        _ if configured.is_empty() => &[protocol],
        // A proxy of the mesh has to see that it is HTTP: Istio's own do it by a filter of each listener.
        _ if !is_of_mesh() || configured.iter().any(says_what) => return configured.to_vec(),
        b"http/1.1" => &[b"istio-http/1.1", b"istio", b"http/1.1"],
        b"h2" => &[b"istio-h2", b"istio", b"h2"],
        _ => return configured.to_vec(),
    };
    of_mesh.iter().map(|name| name.to_vec()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_of_the_mesh_sees_what_is_spoken() {
        for (configured, protocol, expected) in [
            ("", "", ""),
            ("", "http/1.1", "http/1.1"),
            ("h2 http/1.1", "http/1.1", "h2 http/1.1"),
            ("istio", "http/1.1", "istio-http/1.1 istio http/1.1"),
            ("istio h2", "h2", "istio-h2 istio h2"),
            ("istio", "", "istio"),
            ("istio-peer-exchange istio", "", "istio"),
            (
                "istio-peer-exchange istio",
                PROTOCOL,
                "istio-peer-exchange istio",
            ),
            ("istio", PROTOCOL, "istio"),
            ("", PROTOCOL, ""),
            ("istio-peer-exchange istio h2", "h2", "istio-h2 istio h2"),
            ("istio-peer-exchange h2", "h2", "h2"),
            ("istio-peer-exchange", "http/1.1", "http/1.1"),
            ("istio-http/1.1 istio", "http/1.1", "istio-http/1.1 istio"),
        ] {
            let list = |text: &str| -> Vec<Vec<u8>> {
                let names = text.split_whitespace();
                names.map(|name| name.as_bytes().to_vec()).collect()
            };
            let made = offered(&list(configured), protocol.as_bytes());
            assert_eq!(made, list(expected), "{configured:?} for {protocol:?}");
        }
    }
}
