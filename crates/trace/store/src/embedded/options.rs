use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// When a batch counts as stored.
///
/// | | answered when | a crash of the process loses | a power cut loses |
/// |---|---|---|---|
/// | [`Durability::Fsync`] | the log is on stable storage | nothing | nothing |
/// | [`Durability::Os`] | the log is handed to the operating system | nothing | what the system had not written yet: on Linux the last 30 seconds or so |
/// | [`Durability::Memory`] | it is in memory | what is in no segment yet: up to [`Options::table_age`] | the same |
///
/// Segments are synced in every mode before the log that they replace is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After an `fdatasync`, which all batches that wait share.
    #[default]
    Fsync,
    /// After a `write`.
    Os,
    /// At once; there is no log.
    Memory,
}

impl Durability {
    /// The word for it: `fsync`, `os` or `memory`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Fsync, Self::Os, Self::Memory]
            .into_iter()
            .find(|durability| durability.as_str() == s)
            .ok_or_else(|| format!("unknown durability '{s}': use fsync, os or memory"))
    }
}

/// How the engine works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// When a batch counts as stored.
    pub durability: Durability,
    /// How long spans are kept at least; a segment goes when all of it is older. `None`: for ever.
    pub retention: Option<Duration>,
    /// The most bytes that segments and the log may take; the oldest segments go when there are more,
    /// and when the disk is full. `None`: as many as the disk has, and when it is full, spans are
    /// refused.
    pub max_disk_bytes: Option<u64>,
    /// Bytes that are kept free for when the disk is full, so that segments can be dropped then.
    pub reserve_bytes: u64,
    /// The size of a table in memory at which it becomes a segment.
    pub table_bytes: u64,
    /// The age of a table in memory at which it becomes a segment.
    pub table_age: Duration,
    /// The most bytes of all tables in memory, those included that are being written; batches are
    /// refused while there are more.
    pub max_table_bytes: u64,
    /// The most bytes of batches that may wait to be stored.
    pub queue_bytes: u64,
    /// How long a batch may wait for its turn to be written to the log; then it is refused, and
    /// nothing of it is kept. What is being written already is waited for.
    pub queue_timeout: Duration,
    /// The size of the log's files.
    pub log_file_bytes: u64,
    /// The most bytes of what was decoded of segments (row groups, dictionaries, indexes), and of sums
    /// over them, that are kept for the next query.
    pub cache_bytes: usize,
    /// The most bytes that one query takes; what exceeds it is ended.
    pub query_bytes: u64,
    /// The most bytes that all queries take.
    pub max_query_bytes: u64,
    /// How long a query may take.
    pub query_timeout: Duration,
    /// Whether tables are written, and segments merged and dropped, by threads of the engine's own.
    /// Without them only the methods for it do.
    pub background: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Fsync,
            retention: Some(Duration::from_secs(72 * 3_600)),
            max_disk_bytes: Some(10 << 30),
            reserve_bytes: 1 << 20,
            table_bytes: 40 << 20,
            table_age: Duration::from_secs(60),
            max_table_bytes: 96 << 20,
            queue_bytes: 48 << 20,
            queue_timeout: Duration::from_secs(10),
            log_file_bytes: 64 << 20,
            cache_bytes: 96 << 20,
            query_bytes: 256 << 20,
            max_query_bytes: 512 << 20,
            query_timeout: Duration::from_secs(30),
            background: true,
        }
    }
}

impl Options {
    /// With files of the log, and tables, that are small beside all that there may be.
    pub(super) fn fitted(mut self) -> Self {
        const LEAST: u64 = 1 << 20;
        if let Some(max) = self.max_disk_bytes {
            self.log_file_bytes = self.log_file_bytes.min((max / 16).max(LEAST));
            self.table_bytes = self.table_bytes.min((max / 16).max(LEAST));
        }
        self
    }
}
