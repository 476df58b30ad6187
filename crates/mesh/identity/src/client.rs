//! A workload's own certificate: its key is made here and stays here; it is renewed before it ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::certificate::Facts;
use crate::csr::Asking;
use crate::dial::{Dialer, Own, Trust};
use crate::private::{self, FileError};
use crate::proto;
use crate::spiffe::SpiffeId;

/// As long may one attempt take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After the first failure, and at the most.
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A longer token is none.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;
/// A chain with its roots.
const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// Where certificates come from, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The control plane, as `http://HOST:PORT`, or as `https://HOST:PORT` with `trust`.
    pub endpoint: String,
    /// How it is known; plaintext is spoken without it.
    pub trust: Option<Trust>,
    /// The file of the token, which is read again each time.
    pub token: PathBuf,
    /// Who this is.
    pub id: SpiffeId,
    /// How long certificates are to hold; the authority's default if nothing is said.
    pub lifetime: Option<Duration>,
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// In PEM: the certificate and those between it and a root.
    pub chain: String,
    /// Its key, PKCS #8 in PEM.
    pub key: String,
    /// What peers are to be believed by, in PEM.
    pub roots: String,
    /// When it ends.
    pub expires: SystemTime,
    /// In hexadecimal digits.
    pub serial: String,
}

/// It has a private key.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The token could not be read.
    #[error(transparent)]
    Token(#[from] FileError),
    /// It is not of characters that a header may have.
    #[error("{0} has no token in it")]
    NoToken(PathBuf),
    /// No key could be made.
    #[error("cannot make a key")]
    Make(#[from] rcgen::Error),
    /// The authority cannot be reached.
    #[error("cannot reach the certificate authority at {endpoint}")]
    Connect {
        /// Where it should be.
        endpoint: String,
        /// The cause.
        #[source]
        source: tonic::transport::Error,
    },
    /// It takes too long.
    #[error("the certificate authority at {0} does not answer")]
    Timeout(String),
    /// It has refused.
    #[error("the certificate authority refuses: {} ({:?})", .0.message(), .0.code())]
    Refused(Box<Status>),
    /// What it sent is not what was asked for.
    #[error("the certificate authority has sent something else: {0}")]
    Unusable(&'static str),
}

impl FetchError {
    /// With what lies behind it.
    pub fn with_causes(&self) -> String {
        crate::with_causes(self)
    }
}

impl Config {
    /// Reads the token.
    pub fn token(&self) -> Result<String, FileError> {
        let token = private::read_secret(&self.token, MAX_TOKEN_BYTES)?;
        Ok(token.trim().to_owned())
    }

    /// What makes connections to the control plane that show this certificate; none if plaintext is spoken.
    pub fn dialer(&self, own: Own) -> Option<Dialer> {
        let trust = self.trust.clone()?;
        let address = self.endpoint.strip_prefix("https://");
        let address = address.unwrap_or(&self.endpoint).trim_end_matches('/');
        Some(Dialer {
            address: address.to_owned(),
            trust,
            own,
        })
    }
}

/// Asks for a certificate once, by the token.
pub async fn fetch(config: &Config) -> Result<Credentials, FetchError> {
    fetch_as(config, None).await
}

/// Asks for a certificate once: by the one that there is, if it can be shown, else by the token.
async fn fetch_as(
    config: &Config,
    own: Option<&Arc<Credentials>>,
) -> Result<Credentials, FetchError> {
    let asked = timeout(TIMEOUT, ask(config, own)).await;
    asked.map_err(|_| FetchError::Timeout(config.endpoint.clone()))?
}

async fn ask(config: &Config, own: Option<&Arc<Credentials>>) -> Result<Credentials, FetchError> {
    let dialer = config.dialer(watch::channel(own.cloned()).1);
    let is_shown = dialer
        .as_ref()
        .is_some_and(|dialer| dialer.shown().is_some());
    let asking = Asking::new(&config.id)?;
    let mut request = Request::new(proto::Request {
        csr: asking.csr,
        validity_duration: config.lifetime.map_or(0, |it| it.as_secs().cast_signed()),
    });
    // A token may have expired long ago where there is a certificate.
    if !is_shown {
        let mut bearer = MetadataValue::try_from(format!("Bearer {}", config.token()?))
            .map_err(|_| FetchError::NoToken(config.token.clone()))?;
        bearer.set_sensitive(true);
        request.metadata_mut().insert("authorization", bearer);
    }

    let failed = |source| FetchError::Connect {
        endpoint: config.endpoint.clone(),
        source,
    };
    let endpoint = Endpoint::from_shared(config.endpoint.clone()).map_err(failed)?;
    let connected = match dialer {
        Some(dialer) => endpoint.connect_with_connector(dialer).await,
        None => endpoint.connect().await,
    };
    let channel: Channel = connected.map_err(failed)?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_REPLY_BYTES);
    grpc.ready().await.map_err(failed)?;
    let path = http::uri::PathAndQuery::from_static(proto::METHOD);
    let codec = ProstCodec::<proto::Request, proto::Response>::default();
    let reply = grpc.unary(request, path, codec).await;
    let reply = reply.map_err(|status| FetchError::Refused(Box::new(status)))?;
    check(asking.key, &config.id, &reply.into_inner().cert_chain)
}

/// Whether the certificate is for this key and this workload.
fn check(key: String, id: &SpiffeId, chain: &[String]) -> Result<Credentials, FetchError> {
    let Some((roots, chain)) = chain.split_last().filter(|(_, chain)| !chain.is_empty()) else {
        return Err(FetchError::Unusable("there is no chain"));
    };
    let leaf = CertificateDer::from_pem_slice(chain[0].as_bytes()).ok();
    let facts = leaf.as_deref().and_then(Facts::read);
    let facts = facts.ok_or(FetchError::Unusable("the first element is no certificate"))?;
    if facts.key != KeyPair::from_pem(&key)?.der_bytes() {
        return Err(FetchError::Unusable("the certificate is for another key"));
    }
    if facts.uris != [id.to_string()] {
        return Err(FetchError::Unusable(
            "the certificate is for another workload",
        ));
    }
    if facts.not_after <= SystemTime::now() {
        return Err(FetchError::Unusable(
            "the certificate has ended already: compare the clocks",
        ));
    }
    Ok(Credentials {
        chain: chain.concat(),
        key,
        roots: roots.clone(),
        expires: facts.not_after,
        serial: facts.serial,
    })
}

/// How it went.
pub trait Taker {
    /// There is a new certificate.
    fn renewed(&mut self, credentials: Credentials);

    /// There is none; the former one, if there is any, is in use. It is tried again.
    fn failed(&mut self, error: &FetchError);
}

/// Keeps a workload certified for ever: renews at half of the time, and tries again when that fails.
pub async fn keep(config: &Config, taker: &mut impl Taker) -> std::convert::Infallible {
    let mut pause = MIN_PAUSE;
    let mut own: Option<Arc<Credentials>> = None;
    // Where the certificate does not help, the token may, and the other way round.
    let mut shows = true;
    loop {
        let began = SystemTime::now();
        match fetch_as(config, own.as_ref().filter(|_| shows)).await {
            Ok(credentials) => {
                let lifetime = credentials.expires.duration_since(began);
                own = Some(Arc::new(credentials.clone()));
                shows = true;
                taker.renewed(credentials);
                pause = MIN_PAUSE;
                sleep(until_renewal(lifetime.unwrap_or_default())).await;
            }
            Err(error) => {
                taker.failed(&error);
                shows = !shows;
                sleep(pause.mul_f64(fastrand::f64().mul_add(0.5, 0.5))).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }
}

/// Half of the time, and up to a tenth of that less: workloads that began together do not come together.
fn until_renewal(lifetime: Duration) -> Duration {
    lifetime.mul_f64(fastrand::f64().mul_add(-0.05, 0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_at_half_of_the_time() {
        let day = Duration::from_secs(24 * 3600);
        let due: Vec<_> = (0..100).map(|_| until_renewal(day)).collect();
        assert!(
            due.iter()
                .all(|due| *due <= day / 2 && *due >= day.mul_f64(0.45))
        );
        assert!(due.iter().any(|one| *one != due[0]), "not all at once");
    }
}
