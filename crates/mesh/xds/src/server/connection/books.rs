//! What is written down of a stream.

use std::time::SystemTime;

use super::Connection;
use crate::server::form::{Asked, Form, Meaning};
use crate::server::measures::Measures;
use crate::server::status::{Counters, Nack};
use crate::type_url;

/// How much of a proxy's error text is kept.
const MAX_ERROR_BYTES: usize = 8 * 1024;

impl<F: Form> Connection<F> {
    /// Writes the books.
    pub(super) fn note(
        &self,
        asked: &Asked<'_>,
        (meaning, refuses): (Meaning, bool),
        names: Option<usize>,
    ) {
        let registry = &self.shared.registry;
        let error = asked
            .error
            .map_or_else(String::new, |error| cut(&error.message));
        self.entry.update(asked.type_url, |status| {
            status.names = names;
            match meaning {
                Meaning::Ack => {
                    status.acked_nonce.clone_from(&status.sent_nonce);
                    status.acked_version.clone_from(&status.sent_version);
                    if !refuses {
                        status.last_error = None;
                    }
                }
                Meaning::Nack => {
                    status.last_error = Some(Nack {
                        nonce: asked.nonce.to_owned(),
                        message: error.clone(),
                        at: SystemTime::now(),
                    });
                }
                Meaning::Subscribe | Meaning::Stale | Meaning::Unsubscribe => {}
            }
        });
        match meaning {
            Meaning::Ack => registry.count(|counters| counters.acks += 1),
            Meaning::Stale => registry.count(|counters| counters.stale_nonces += 1),
            Meaning::Nack => {
                registry.count(|counters| counters.nacks += 1);
                registry.measure(|measures| measures.of(asked.type_url).rejects += 1);
                tracing::warn!(
                    proxy = %self.node.id,
                    resources = type_url::short(asked.type_url),
                    nonce = %asked.nonce,
                    %error,
                    "proxy refused its configuration and keeps the one before"
                );
            }
            Meaning::Subscribe | Meaning::Unsubscribe => {}
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        self.shared.registry.count(change);
    }

    pub(super) fn measure(&self, change: impl FnOnce(&mut Measures)) {
        self.shared.registry.measure(change);
    }
}

/// A text of a proxy, as far as it is kept.
fn cut(text: &str) -> String {
    if text.len() <= MAX_ERROR_BYTES {
        return text.to_owned();
    }
    format!("{} …", &text[..text.floor_char_boundary(MAX_ERROR_BYTES)])
}
