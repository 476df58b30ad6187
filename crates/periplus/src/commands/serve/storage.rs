use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use periplus_store::embedded::{Durability, EmbeddedStore, Options};
use periplus_store::{MemoryStore, SpanStore};

use super::size;
use crate::commands::{data_dir, duration};

/// Flags that say where spans are kept.
#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// Directory to keep spans in; made if it is not there [default: $XDG_DATA_HOME/periplus, or
    /// ~/.local/share/periplus]
    #[arg(
        long,
        value_name = "DIR",
        env = "PERIPLUS_DATA",
        conflicts_with = "memory"
    )]
    data: Option<PathBuf>,

    /// When a span counts as stored: fsync (it survives a power cut), os (a crash of this process),
    /// memory (neither, until it is in a segment)
    #[arg(long, value_name = "WHEN", default_value_t = Durability::Fsync)]
    durability: Durability,

    /// How long spans are kept, such as 72h or 14d; 0 keeps them for ever
    #[arg(long, value_name = "TIME", default_value = "72h", value_parser = duration::parse)]
    retention: Duration,

    /// Space for spans on the disk; the oldest go first when it is full
    #[arg(long, value_name = "SIZE", default_value = "10GiB", value_parser = size::parse)]
    max_disk: u64,

    /// Keep spans in memory only: nothing is left when this ends
    #[arg(long)]
    memory: bool,

    /// Memory for spans with --memory; the oldest traces go first when it is full
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = size::parse)]
    max_memory: u64,
}

/// The store that the flags ask for.
pub(super) struct Storage {
    pub(super) store: Arc<dyn SpanStore>,
    /// The engine's name.
    pub(super) engine: &'static str,
    /// Where spans are, in words.
    pub(super) place: String,
    pub(super) embedded: Option<Arc<EmbeddedStore>>,
}

impl Flags {
    /// Opens the store.
    pub(super) fn open(&self) -> anyhow::Result<Storage> {
        if self.memory {
            return Ok(Storage {
                store: Arc::new(MemoryStore::new(self.max_memory)),
                engine: "memory",
                place: format!("in memory, {} MiB of them", self.max_memory >> 20),
                embedded: None,
            });
        }
        let dir = match &self.data {
            Some(dir) => dir.clone(),
            None => data_dir::default()?,
        };
        let options = Options {
            durability: self.durability,
            retention: (!self.retention.is_zero()).then_some(self.retention),
            max_disk_bytes: Some(self.max_disk),
            ..Options::default()
        };
        let store = EmbeddedStore::open(&dir, options)
            .with_context(|| format!("cannot open the store in {}", dir.display()))?;
        let recovery = store.recovery();
        tracing::info!(
            segments = recovery.segments,
            replayed_spans = recovery.replayed_spans,
            swept_files = recovery.swept_files,
            "the store is open"
        );
        let store = Arc::new(store);
        Ok(Storage {
            store: Arc::clone(&store) as Arc<dyn SpanStore>,
            engine: "embedded",
            place: format!("in {} (durability {})", dir.display(), self.durability),
            embedded: Some(store),
        })
    }
}

impl Storage {
    /// Stores what waits, when all receivers have ended.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        let Some(store) = self.embedded else {
            return Ok(());
        };
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        closed
            .context("closing the store crashed")?
            .context("cannot write what is in memory; if there is a log, the next start reads it")
    }
}
