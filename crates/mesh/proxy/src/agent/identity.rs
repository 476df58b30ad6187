//! The proxy's own certificate: its key is made here, and nobody else sees it.

use std::sync::Arc;

use periplus_identity::{Config, Credentials, FetchError, Taker};

use super::Shared;

/// Keeps it valid for ever.
pub(super) async fn keep(shared: Arc<Shared>, config: Config) {
    let id = config.id.to_string();
    let mut holder = Holder {
        shared,
        id,
        told: String::new(),
    };
    match periplus_identity::keep(&config, &mut holder).await {}
}

struct Holder {
    shared: Arc<Shared>,
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
