//! The proxy's own certificate: its key is made here, and nobody else sees it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use periplus_identity::{Config, Credentials, Dialer, FetchError, Own, Taker};
use periplus_xds::client::{Dial, Secure, Stream};
use tokio::sync::watch;

use super::{AgentError, Shared};
use crate::Options;
use crate::bootstrap::Bootstrap;

/// How the control plane is connected to, if TLS is spoken to it.
pub(super) fn secure(
    bootstrap: &Bootstrap,
    options: &Options,
    own: Own,
) -> Result<Option<Secure>, AgentError> {
    let Some(trust) = &bootstrap.trust else {
        return Ok(None);
    };
    let endpoint = bootstrap.control_plane.clone();
    let Some(identity) = options.identity.clone() else {
        return Err(AgentError::Unknown { endpoint });
    };
    let identity = Config {
        endpoint,
        trust: Some(trust.clone()),
        ..identity
    };
    let dialer = identity.dialer(own);
    let known = |dialer| Known {
        dialer,
        identity,
        shows_certificate: AtomicBool::new(false),
    };
    Ok(dialer.map(|dialer| Secure(Arc::new(known(dialer)))))
}

/// Shows the certificate, or the token while there is none.
struct Known {
    dialer: Dialer,
    identity: Config,
    /// Of the newest connection.
    shows_certificate: AtomicBool,
}

impl Dial for Known {
    fn dial(&self) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>> {
        // One that comes while the connection is made is none of its.
        let own = self.dialer.shown();
        self.shows_certificate
            .store(own.is_some(), Ordering::Relaxed);
        let dialer = Dialer {
            own: watch::channel(own).1,
            ..self.dialer.clone()
        };
        Box::pin(async move {
            let stream = dialer.connect().await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn token(&self) -> Option<String> {
        if self.shows_certificate.load(Ordering::Relaxed) {
            return None;
        }
        let token = self.identity.token();
        let token = token.inspect_err(|error| {
            tracing::warn!(%error, "the control plane cannot be shown a token");
        });
        token.ok()
    }
}

/// Keeps it valid for ever.
pub(super) async fn keep(
    shared: Arc<Shared>,
    config: Config,
    own: watch::Sender<Option<Arc<Credentials>>>,
) {
    let id = config.id.to_string();
    let mut holder = Holder {
        shared,
        own,
        id,
        told: String::new(),
    };
    match periplus_identity::keep(&config, &mut holder).await {}
}

struct Holder {
    shared: Arc<Shared>,
    /// For those who show it to the control plane.
    own: watch::Sender<Option<Arc<Credentials>>>,
    id: String,
    /// Why there is no new certificate: each reason is told once, however often it is retried.
    told: String,
}

impl Holder {
    fn fail(&mut self, reason: String) {
        self.shared.state().identity.failed += 1;
        if self.told != reason {
            tracing::warn!(id = %self.id, error = %reason, "no new certificate, trying again");
            self.told = reason;
        }
    }
}

impl Taker for Holder {
    fn renewed(&mut self, credentials: Credentials) {
        let taken = {
            let mut state = self.shared.state();
            let secrets = credentials.secrets().into_iter();
            let taken = secrets
                .map(|secret| state.store.put_own_secret(secret))
                .collect::<Result<Vec<()>, _>>();
            if taken.is_ok() {
                state.identity.renewed += 1;
                state.identity.expires = Some(credentials.expires);
            }
            taken
        };
        match taken {
            Ok(_) => {
                self.told.clear();
                self.own.send_replace(Some(Arc::new(credentials.clone())));
                tracing::info!(id = %self.id, serial = %credentials.serial, "has a new certificate");
                self.shared.advance();
            }
            Err(refused) => self.fail(refused.to_string()),
        }
    }

    fn failed(&mut self, error: &FetchError) {
        self.fail(error.with_causes());
    }
}
