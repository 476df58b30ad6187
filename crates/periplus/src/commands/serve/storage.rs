use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use periplus_collect::access::{Quota, Tenant};
use periplus_store::embedded::{Durability, EmbeddedStore, Options};
use periplus_store::{MemoryStore, SpanStore};

use super::size;
use crate::commands::{data_dir, duration, open_files};

/// Flags that say where spans are kept.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(super) struct Flags {
    /// Directory to keep spans in; made if it is not there [default: $PERIPLUS_DATA,
    /// $XDG_DATA_HOME/periplus, or ~/.local/share/periplus]
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
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

    /// Spans that are taken each second; what is more is refused so that the sender comes again
    /// [default: as many as there are]
    #[arg(long, value_name = "SPANS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) max_spans_per_second: Option<u64>,

    #[command(flatten)]
    tuning: Tuning,
}

/// Sizes that nobody needs to change but tests, which want many small files.
#[derive(Clone, Debug, clap::Args)]
struct Tuning {
    /// Bytes of a table in memory at which it becomes a segment
    #[arg(long, hide = true, value_name = "BYTES", default_value_t = Options::default().table_bytes)]
    table_bytes: u64,

    /// Age of a table in memory at which it becomes a segment, in milliseconds
    #[arg(long, hide = true, value_name = "MS", default_value_t = 60_000)]
    table_age_ms: u64,

    /// Bytes of a file of the log
    #[arg(long, hide = true, value_name = "BYTES", default_value_t = Options::default().log_file_bytes)]
    log_file_bytes: u64,
}

/// The store that the flags ask for.
pub(super) struct Storage {
    pub(super) store: Arc<dyn SpanStore>,
    /// The engine's name.
    pub(super) engine: &'static str,
    pub(super) embedded: Option<Arc<EmbeddedStore>>,
    /// Where archived traces are: nothing is dropped from it.
    pub(super) archive: Arc<dyn SpanStore>,
    embedded_archive: Option<Arc<EmbeddedStore>>,
}

/// The directory of archived traces, inside of the one of all spans.
const ARCHIVE: &str = "archive";

/// The directory of tenants, each of which has one inside.
const TENANTS: &str = "tenants";

/// Memory for archived traces with --memory.
const MAX_ARCHIVE_MEMORY: u64 = 64 << 20;

impl Flags {
    /// The directory that spans are kept in; none with --memory.
    pub(super) fn dir(&self) -> anyhow::Result<Option<PathBuf>> {
        match (&self.data, self.memory) {
            (_, true) => Ok(None),
            (Some(dir), false) => Ok(Some(dir.clone())),
            (None, false) => data_dir::default().map(Some),
        }
    }

    /// Where spans are kept, in words.
    pub(super) fn place(&self, has_tenants: bool) -> anyhow::Result<String> {
        let each = if has_tenants { " for each tenant" } else { "" };
        Ok(match self.dir()? {
            None => format!("in memory, {} MiB of them{each}", self.max_memory >> 20),
            Some(dir) => format!(
                "in {}{each} (durability {})",
                match has_tenants {
                    true => dir.join(TENANTS),
                    false => dir,
                }
                .display(),
                self.durability
            ),
        })
    }

    /// Opens the store of all.
    pub(super) fn open(&self) -> anyhow::Result<Storage> {
        match self.dir()? {
            None => Ok(Storage::in_memory(self.max_memory)),
            Some(dir) => self.open_in(&dir, self.max_disk, self.options()),
        }
    }

    /// Opens the store of a tenant, one of `tenants`.
    pub(super) fn open_for(
        &self,
        tenant: &Tenant,
        quota: Quota,
        tenants: usize,
    ) -> anyhow::Result<Storage> {
        let Some(dir) = self.dir()? else {
            let bytes = quota.max_disk_bytes.unwrap_or(u64::MAX);
            return Ok(Storage::in_memory(self.max_memory.min(bytes)));
        };
        let dir = dir.join(TENANTS).join(tenant.as_str());
        let max_disk = quota.max_disk_bytes.unwrap_or(self.max_disk);
        // All of them together take about as much memory as one that is alone, but none less than
        // the largest request needs.
        let whole = self.options();
        let share = |bytes: u64, least: u64| (bytes / tenants as u64).clamp(least, bytes);
        let options = Options {
            table_bytes: share(whole.table_bytes, 4 << 20),
            max_table_bytes: share(whole.max_table_bytes, 32 << 20),
            queue_bytes: share(whole.queue_bytes, 32 << 20),
            log_file_bytes: share(whole.log_file_bytes, 4 << 20),
            cache_bytes: share(whole.cache_bytes as u64, 4 << 20) as usize,
            ..whole
        };
        self.open_in(&dir, max_disk, options)
    }

    /// Of a store that is alone.
    fn options(&self) -> Options {
        Options {
            durability: self.durability,
            retention: (!self.retention.is_zero()).then_some(self.retention),
            table_bytes: self.tuning.table_bytes,
            table_age: Duration::from_millis(self.tuning.table_age_ms),
            log_file_bytes: self.tuning.log_file_bytes,
            ..Options::default()
        }
    }

    fn open_in(&self, dir: &Path, max_disk: u64, options: Options) -> anyhow::Result<Storage> {
        let options = Options {
            max_disk_bytes: Some(max_disk),
            ..options
        };
        open_files::allow();
        let store = EmbeddedStore::open(dir, options)
            .with_context(|| format!("cannot open the store in {}", dir.display()))?;
        let recovery = store.recovery();
        tracing::info!(
            segments = recovery.segments,
            replayed_spans = recovery.replayed_spans,
            swept_files = recovery.swept_files,
            directory = %dir.display(),
            "the store is open"
        );
        let store = Arc::new(store);
        let archive = Arc::new(open_archive(dir, self.durability)?);
        Ok(Storage {
            store: Arc::clone(&store) as Arc<dyn SpanStore>,
            engine: "embedded",
            embedded: Some(store),
            archive: Arc::clone(&archive) as Arc<dyn SpanStore>,
            embedded_archive: Some(archive),
        })
    }
}

/// People archive single traces by hand, so little memory is enough.
fn open_archive(dir: &Path, durability: Durability) -> anyhow::Result<EmbeddedStore> {
    let dir = dir.join(ARCHIVE);
    let options = Options {
        durability,
        retention: None,
        max_disk_bytes: None,
        table_bytes: 4 << 20,
        max_table_bytes: 64 << 20,
        queue_bytes: 64 << 20,
        log_file_bytes: 4 << 20,
        cache_bytes: 8 << 20,
        ..Options::default()
    };
    EmbeddedStore::open(&dir, options)
        .with_context(|| format!("cannot open the archive in {}", dir.display()))
}

impl Storage {
    fn in_memory(bytes: u64) -> Self {
        Self {
            store: Arc::new(MemoryStore::new(bytes)),
            engine: "memory",
            embedded: None,
            archive: Arc::new(MemoryStore::new(MAX_ARCHIVE_MEMORY)),
            embedded_archive: None,
        }
    }

    /// A store of nobody's, which stays empty.
    pub(super) fn of_nobody() -> Self {
        Self::in_memory(0)
    }

    /// Stores what waits, when all receivers have ended.
    pub(super) async fn close(&self) -> anyhow::Result<()> {
        let stores = [self.embedded.clone(), self.embedded_archive.clone()];
        let closed = tokio::task::spawn_blocking(move || {
            let closed = stores.into_iter().flatten().map(|store| store.close());
            // All of them, then the first error.
            closed
                .collect::<Vec<_>>()
                .into_iter()
                .collect::<Result<(), _>>()
        });
        closed
            .await
            .context("closing the store crashed")?
            .context("cannot write what is in memory; if there is a log, the next start reads it")
    }
}
