//! What the roles log: to standard error, `RUST_LOG` chooses what.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging, from `default` upwards unless `RUST_LOG` says otherwise.
pub(crate) fn start(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started already");
    }
}
