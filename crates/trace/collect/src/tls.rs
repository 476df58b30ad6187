use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// The files that a server's TLS is made of, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, the intermediate ones behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of which one must have signed each client's certificate; none: clients need no
    /// certificate.
    pub client_authorities: Option<PathBuf>,
}

/// TLS 1.2 and 1.3 for a listener, with HTTP/2 and HTTP/1.1 by ALPN. Its files are read again when
/// they change; new connections then use what is new, and a bad file leaves what was.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    files: TlsFiles,
    current: RwLock<Loaded>,
}

struct Loaded {
    acceptor: TlsAcceptor,
    changed: Vec<Option<SystemTime>>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is no PEM.
    #[error("cannot read {what} from {}", path.display())]
    Read {
        /// What is in the file.
        what: &'static str,
        /// Which one it is.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file has nothing of the kind that is looked for.
    #[error("no {what} in {}: expected PEM with a line -----BEGIN", path.display())]
    Missing {
        /// What is looked for.
        what: &'static str,
        /// Which file it is.
        path: PathBuf,
    },
    /// The certificate and the key do not go together, or one of them cannot be used.
    #[error("the certificate in {} cannot be used with the key", path.display())]
    Certificate {
        /// Which file it is.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The system's authorities cannot be read.
    #[error("cannot read the system's authorities: name a file of them")]
    System(#[source] io::Error),
    /// An authority cannot be used.
    #[error("the authorities in {} cannot be used", path.display())]
    Authorities {
        /// Which file it is.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// What is wrong with which file.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let current = RwLock::new(Loaded::of(&files)?);
        Ok(Self {
            inner: Arc::new(Inner { files, current }),
        })
    }

    /// Follows the files until the future is dropped.
    pub async fn follow(&self) -> Infallible {
        let mut ticks = tokio::time::interval(RELOAD_INTERVAL);
        loop {
            ticks.tick().await;
            match self.reload() {
                Ok(false) => {}
                Ok(true) => tracing::info!(
                    certificate = %self.inner.files.certificate.display(),
                    "the certificate was read again"
                ),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the certificate has changed and cannot be used; the former one stays"
                ),
            }
        }
    }

    /// Reads the files again if one of them has changed; whether it has.
    ///
    /// # Errors
    ///
    /// What is wrong with which file; what was read before stays in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let changed = changes(&self.inner.files);
        let read = self.inner.current.read();
        if read.unwrap_or_else(PoisonError::into_inner).changed == changed {
            return Ok(false);
        }
        let loaded = Loaded::of(&self.inner.files)?;
        let write = self.inner.current.write();
        *write.unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(true)
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let current = self.inner.current.read();
        current
            .unwrap_or_else(PoisonError::into_inner)
            .acceptor
            .clone()
    }
}

impl Loaded {
    fn of(files: &TlsFiles) -> Result<Self, TlsError> {
        // Looked at first: a change while they are read is read again.
        let changed = changes(files);
        let certificates = certificates("certificate", &files.certificate)?;
        let key = private_key(&files.key)?;
        let builder = ServerConfig::builder();
        let builder = match &files.client_authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let verifier = WebPkiClientVerifier::builder(roots).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| {
                    TlsError::Authorities {
                        path: path.clone(),
                        source: error.into(),
                    }
                })?)
            }
        };
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|source| TlsError::Certificate {
                path: files.certificate.clone(),
                source,
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            changed,
        })
    }
}

/// How a client speaks TLS: it trusts the authorities in this file, without one those of the system;
/// and shows the certificate, and proves it with the key, of these files. A client that is not
/// `secure` has no use for authorities, and none are read for it.
///
/// # Errors
///
/// What is wrong with which file.
pub fn client_config(
    secure: bool,
    authorities_file: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<ClientConfig, TlsError> {
    let roots = match authorities_file {
        Some(path) => authorities(path)?,
        None if secure => authorities_of_system()?,
        None => RootCertStore::empty(),
    };
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let Some((certificate, key)) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates("certificate", certificate)?;
    let config = builder.with_client_auth_cert(chain, private_key(key)?);
    config.map_err(|source| TlsError::Certificate {
        path: certificate.to_owned(),
        source,
    })
}

fn authorities_of_system() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors = found.errors.iter().map(ToString::to_string);
        let text = errors.collect::<Vec<_>>().join("; ");
        return Err(TlsError::System(io::Error::other(text)));
    }
    Ok(roots)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("certificate of an authority", path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Authorities {
                path: path.to_owned(),
                source: error.into(),
            })?;
    }
    Ok(roots)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "private key";
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::Missing {
            what,
            path: path.to_owned(),
        },
        source => TlsError::Read {
            what,
            path: path.to_owned(),
            source,
        },
    })
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<_, _>>()
        .map_err(read)?;
    if found.is_empty() {
        return Err(TlsError::Missing {
            what,
            path: path.to_owned(),
        });
    }
    Ok(found)
}

/// When each file was changed, as far as that can be told.
fn changes(files: &TlsFiles) -> Vec<Option<SystemTime>> {
    let modified = |path: &Path| -> io::Result<SystemTime> { fs::metadata(path)?.modified() };
    [Some(&files.certificate), Some(&files.key)]
        .into_iter()
        .chain([files.client_authorities.as_ref()])
        .flatten()
        .map(|path| modified(path).ok())
        .collect()
}
