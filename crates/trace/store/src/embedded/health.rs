use std::io;
use std::sync::OnceLock;
use std::thread;

use crate::StoreError;

/// Whether spans are taken. After a failure that leaves unknown what the disk or the memory holds
/// none are, for as long as the process runs: a later success of the same call would prove nothing.
#[derive(Debug, Default)]
pub(super) struct Health {
    failure: OnceLock<Failure>,
    /// Set when a thread that changes tables has crashed: what they hold cannot be trusted.
    crashed: OnceLock<()>,
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

    /// An error if tables must not become segments: the log is to be replayed instead.
    pub(super) fn check_tables(&self) -> Result<(), StoreError> {
        match self.crashed.get() {
            Some(()) => Err(StoreError::Io {
                action: "writing a table",
                source: crash(),
            }),
            None => Ok(()),
        }
    }

    /// To be held by a thread as long as it does this: if it panics, no more spans are taken.
    pub(super) fn watch(&self, action: &'static str) -> Watch<'_> {
        Watch {
            health: self,
            action,
        }
    }
}

/// See [`Health::watch`].
#[derive(Debug)]
pub(super) struct Watch<'a> {
    health: &'a Health,
    action: &'static str,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.health.crashed.set(());
            self.health.fail(self.action, &crash());
        }
    }
}

fn crash() -> io::Error {
    io::Error::other("a thread of the store has crashed")
}
