use std::io;
use std::sync::OnceLock;

use crate::StoreError;

/// Whether spans are taken. After a failure that leaves unknown what the disk holds none are, for
/// as long as the process runs: a later success of the same call would prove nothing.
#[derive(Debug, Default)]
pub(super) struct Health {
    failure: OnceLock<Failure>,
}

#[derive(Debug)]
struct Failure {
    action: &'static str,
    kind: io::ErrorKind,
    text: String,
}

impl Health {
    /// Stops the taking of spans for good.
    pub(super) fn fail(&self, action: &'static str, error: &io::Error) {
        tracing::error!(%error, action, "the store takes no more spans until it is restarted");
        // The first failure is the one to be told of.
        let _ = self.failure.set(Failure {
            action,
            kind: error.kind(),
            text: error.to_string(),
        });
    }

    /// An error if spans are no longer taken.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let Some(failure) = self.failure.get() else {
            return Ok(());
        };
        Err(StoreError::Io {
            action: failure.action,
            source: io::Error::new(failure.kind, failure.text.clone()),
        })
    }
}
