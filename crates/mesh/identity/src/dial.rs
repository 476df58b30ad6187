//! Connections to the control plane over TLS: it must be known by the mesh's roots, and is shown the workload's
//! certificate once there is one.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use crate::client::Credentials;
use crate::private;

const MAX_ROOTS_BYTES: u64 = 256 * 1024;

/// How the control plane is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The file of the roots that it is believed by, read again for each connection.
    pub roots: PathBuf,
    /// The name that its certificate must have.
    pub server_name: ServerName<'static>,
}

/// The certificate that a workload has now, and gets later.
pub type Own = watch::Receiver<Option<Arc<Credentials>>>;

/// Makes connections.
#[derive(Clone)]
pub struct Dialer {
    /// `HOST:PORT`
    pub address: String,
    /// How the other side is known.
    pub trust: Trust,
    /// What is shown to it.
    pub own: Own,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Dialer");
        shown
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Dialer {
    /// The certificate that is shown, if there is one that holds.
    pub fn shown(&self) -> Option<Arc<Credentials>> {
        let own = self.own.borrow().clone();
        own.filter(|own| own.expires > SystemTime::now())
    }

    /// A connection whose handshake is done.
    pub async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let config = self.config()?;
        let tcp = TcpStream::connect(&self.address).await?;
        // Else requests wait for acknowledgements; without it they are only slower.
        let _ = tcp.set_nodelay(true);
        let name = self.trust.server_name.clone();
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }

    fn config(&self) -> io::Result<ClientConfig> {
        let own = self.shown();
        let mut roots = RootCertStore::empty();
        let file = private::read(&self.trust.roots, MAX_ROOTS_BYTES).map_err(io::Error::other)?;
        // Those that came with the certificate know of a root that the file does not have yet.
        let later = own.as_ref().map_or("", |own| &own.roots);
        for text in [file.as_str(), later] {
            for root in CertificateDer::pem_slice_iter(text.as_bytes()) {
                let root = root.map_err(io::Error::other)?;
                roots.add(root).map_err(io::Error::other)?;
            }
        }
        if roots.is_empty() {
            let file = self.trust.roots.display();
            return Err(io::Error::other(format!(
                "{file} has no certificate in PEM"
            )));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::pem_slice_iter(own.chain.as_bytes());
                let chain = chain.collect::<Result<_, _>>().map_err(io::Error::other)?;
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes());
                let key = key.map_err(io::Error::other)?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(io::Error::other)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

impl Service<http::Uri> for Dialer {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { Ok(TokioIo::new(dialer.connect().await?)) })
    }
}
