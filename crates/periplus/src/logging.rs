//! What the roles log: to standard error, `RUST_LOG` chooses what.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

/// Changes what is logged, once logging was started.
type Set = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

static SET: OnceLock<Set> = OnceLock::new();

/// Starts logging, from `default` upwards unless `RUST_LOG` says otherwise.
pub(crate) fn start(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    if let Err(error) = builder.try_init() {
        tracing::debug!(%error, "logging was started already");
        return;
    }
    let set: Set = Box::new(move |filter| {
        let reloaded = handle.reload(filter);
        reloaded.map_err(|error| error.to_string())
    });
    // It is started once.
    let _ = SET.set(set);
}

/// What is logged at first: what `RUST_LOG` says, else `default`.
pub(crate) fn first(default: &str) -> String {
    let said = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let said = said.filter(|text| EnvFilter::try_new(text).is_ok());
    said.unwrap_or_else(|| default.to_owned())
}

/// Logs something else from now on.
pub(crate) fn set(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    let set = SET.get().ok_or("logging was not started")?;
    set(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_changes_at_once_or_not_at_all() {
        let is_told = || tracing::enabled!(target: "periplus_proxy::http2", tracing::Level::DEBUG);
        assert_eq!(
            set("info").expect_err("too early"),
            "logging was not started"
        );
        start("info");
        assert!(!is_told());
        set("info,periplus_proxy::http2=debug").expect("a good filter");
        assert!(is_told());
        set("info,=[").expect_err("no filter");
        assert!(is_told());
        set("error").expect("a good filter");
        assert!(!is_told());
    }
}
