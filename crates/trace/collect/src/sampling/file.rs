use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use periplus_sampling::{ConfigError, Strategies};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::time::MissedTickBehavior;

use super::RemoteSampling;

/// Bytes of a file of strategies.
const MAX_BYTES: u64 = 8 << 20;

/// A file of sampling strategies that is read again when it has changed.
#[derive(Debug)]
pub struct StrategiesFile {
    path: PathBuf,
    default_probability: f64,
    /// What was read last, good or bad: it is looked at once.
    text: String,
}

/// Why a file of strategies cannot be used.
#[derive(Debug, Error)]
pub enum StrategiesError {
    /// It cannot be read.
    #[error("cannot read the sampling strategies in {path}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It says something that is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl StrategiesFile {
    /// Reads the file; `default_probability` holds where it says nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be read or used.
    pub async fn open(
        path: &Path,
        default_probability: f64,
    ) -> Result<(Self, Strategies), StrategiesError> {
        let mut file = Self {
            path: path.to_owned(),
            default_probability,
            text: String::new(),
        };
        let text = file.read().await?;
        let strategies = file.parse(&text)?;
        file.text = text;
        Ok((file, strategies))
    }

    /// Looks at the file again and again, for ever, and hands what has changed to `remote`. A file
    /// that cannot be used is logged and counted; what was in force before stays.
    pub async fn watch(mut self, every: Duration, remote: RemoteSampling) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first comes at once, and the file was read just now.
        ticks.tick().await;
        let mut unreadable = false;
        loop {
            ticks.tick().await;
            let text = match self.read().await {
                Ok(text) => text,
                Err(error) => {
                    // Once, not at every look.
                    if !unreadable {
                        complain(&remote, &error);
                    }
                    unreadable = true;
                    continue;
                }
            };
            unreadable = false;
            if text == self.text {
                continue;
            }
            match self.parse(&text) {
                Ok(strategies) => {
                    let services = strategies.services();
                    remote.replace(strategies);
                    remote.stats().load();
                    tracing::info!(file = %self.path.display(), services, "sampling strategies loaded");
                }
                Err(error) => complain(&remote, &error.into()),
            }
            self.text = text;
        }
    }

    async fn read(&self) -> Result<String, StrategiesError> {
        let failed = |source| StrategiesError::Read {
            path: self.path.display().to_string(),
            source,
        };
        let file = tokio::fs::File::open(&self.path).await.map_err(failed)?;
        let mut text = String::new();
        let read = file.take(MAX_BYTES + 1).read_to_string(&mut text).await;
        match read.map_err(failed)? as u64 {
            ..=MAX_BYTES => Ok(text),
            _ => Err(failed(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it has more than {MAX_BYTES} bytes"),
            ))),
        }
    }

    fn parse(&self, text: &str) -> Result<Strategies, ConfigError> {
        let name = self.path.display().to_string();
        let (strategies, warnings) = Strategies::parse(&name, text, self.default_probability)?;
        for warning in warnings {
            tracing::warn!(file = name, "{warning}");
        }
        Ok(strategies)
    }
}

fn complain(remote: &RemoteSampling, error: &StrategiesError) {
    remote.stats().fail();
    let source = std::error::Error::source(error).map(ToString::to_string);
    tracing::error!(%error, source, "the sampling strategies before stay in force");
}
