//! TLS of the control plane's secured port: a certificate of the mesh's own authority, and clients who may show
//! theirs.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore, ServerConfig};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::authority::{Authority, AuthorityError};
use crate::certificate::Facts;
use crate::counts::{Counts, Reason};
use crate::server::PeerId;

/// As long may a handshake take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// As many handshakes are under way at once; further connections wait.
const MAX_HANDSHAKES: usize = 64;
/// How long the server's certificate holds; another is made at half of it.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked whether another is to be made, though nobody connects.
const LOOK: Duration = Duration::from_secs(5);
/// After an error of the listening socket, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Why there is no TLS.
#[derive(Debug, Error)]
enum TlsError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("the certificate that was made cannot be read")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct TlsStream {
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    peer: PeerId,
}

/// Accepts connections over TLS on a socket, in a task that ends once the result is dropped. The server's
/// certificate has `names`, and follows the authority.
pub fn accept(
    listener: TcpListener,
    authority: watch::Receiver<Arc<Authority>>,
    names: Vec<String>,
    counts: Arc<Counts>,
) -> ReceiverStream<io::Result<TlsStream>> {
    let (accepted, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut serving = Serving {
            authority,
            names,
            made: None,
            counts: Arc::clone(&counts),
            trouble: None,
        };
        serving.current();
        let permits = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return;
            };
            let (tcp, peer) = tokio::select! {
                connection = listener.accept() => match connection {
                    Ok(connection) => connection,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept");
                        sleep(PAUSE).await;
                        continue;
                    }
                },
                () = sleep(LOOK) => {
                    serving.current();
                    continue;
                }
                () = accepted.closed() => return,
            };
            let Some(config) = serving.current() else {
                continue;
            };
            let (accepted, counts) = (accepted.clone(), Arc::clone(&counts));
            tokio::spawn(async move {
                if let Some(stream) = handshake(tcp, peer, config, &counts).await {
                    // An error means that the server is gone.
                    let _ = accepted.send(Ok(stream)).await;
                }
                drop(permit);
            });
        }
    });
    ReceiverStream::new(stream)
}

async fn handshake(
    tcp: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    counts: &Counts,
) -> Option<TlsStream> {
    // Else an answer waits for the acknowledgement of its head; without it, it is only slower.
    let _ = tcp.set_nodelay(true);
    let stream = match timeout(HANDSHAKE, TlsAcceptor::from(config).accept(tcp)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let inner = error.get_ref().and_then(|it| it.downcast_ref());
            if let Some(rustls::Error::InvalidCertificate(problem)) = inner {
                let reason = reason(problem);
                counts.request();
                if counts.refuse(reason, SystemTime::now()) {
                    let (name, in_all) = (reason.name(), counts.refused(reason));
                    tracing::warn!(reason = name, in_all, peer = %address, %error, "refused a client certificate");
                }
            } else {
                tracing::debug!(peer = %address, %error, "no handshake");
            }
            return None;
        }
        Err(_) => return None,
    };
    let shown = stream.get_ref().1.peer_certificates();
    let facts = shown.and_then(|shown| Facts::read(shown.first()?));
    let id = facts.and_then(|facts| match facts.uris.as_slice() {
        [uri] => uri.parse().ok(),
        _ => None,
    });
    Some(TlsStream {
        stream,
        peer: PeerId { id, address },
    })
}

fn reason(problem: &CertificateError) -> Reason {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Reason::ExpiredCertificate
        }
        CertificateError::Revoked => Reason::RevokedCertificate,
        _ => Reason::ForeignCertificate,
    }
}

/// The configuration of the server, with a certificate that is made anew when it must be.
struct Serving {
    authority: watch::Receiver<Arc<Authority>>,
    names: Vec<String>,
    made: Option<(Arc<ServerConfig>, SystemTime)>,
    counts: Arc<Counts>,
    /// What was wrong when it was looked at last.
    trouble: Option<String>,
}

impl Serving {
    /// That of now; why there is none is told once.
    fn current(&mut self) -> Option<Arc<ServerConfig>> {
        let config = self.config(SystemTime::now());
        let trouble = config.as_ref().err().map(|error| crate::with_causes(error));
        if let Some(text) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            tracing::error!(error = %text, "no TLS for the control plane");
        }
        self.trouble = trouble;
        config.ok()
    }

    fn config(&mut self, now: SystemTime) -> Result<Arc<ServerConfig>, TlsError> {
        let is_new = self.authority.has_changed().unwrap_or(false);
        if let Some((config, until)) = self.made.as_ref().filter(|_| !is_new)
            && now < *until
        {
            return Ok(Arc::clone(config));
        }
        let authority = Arc::clone(&self.authority.borrow_and_update());
        let (key, issued) = authority.serve_as(&self.names, LIFETIME, now)?;
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(authority.roots().as_bytes()) {
            roots.add(root?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .with_crls(authority.revoked().iter().cloned())
                .enforce_revocation_expiration();
        let chain = issued.chain[..issued.chain.len() - 1].concat();
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let leaf = chain.first().and_then(|leaf| Facts::read(leaf));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            .with_single_cert(
                chain,
                PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?,
            )?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let config = Arc::new(config);
        self.counts.serve_with(leaf);
        let left = issued.expires.duration_since(now).unwrap_or_default();
        self.made = Some((Arc::clone(&config), now + left / 2));
        Ok(config)
    }
}

impl Connected for TlsStream {
    type ConnectInfo = PeerId;

    fn connect_info(&self) -> PeerId {
        self.peer.clone()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
