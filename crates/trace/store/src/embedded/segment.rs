use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use periplus_segment::{Builder, EncodeOptions, Group, ReadError, Red, TracePlace};

use super::cache::{Cache, What};
use super::files::{Files, SegmentFile};
use super::manifest::SegmentEntry;
use super::part::Damage;
use super::partition;

/// A segment on the disk.
#[derive(Debug)]
pub(super) struct Segment {
    entry: SegmentEntry,
    /// Nothing is decoded through it: see [`Self::summary`] and [`Self::content`].
    reader: periplus_segment::Segment,
    cache: Arc<Cache>,
    damages: AtomicU64,
    /// Set when a read has met bytes that are wrong, until they were looked into.
    suspect: AtomicBool,
    unwanted: Arc<AtomicBool>,
}

/// A segment that is not on the disk yet.
pub(super) struct Encoded {
    pub(super) hour: u64,
    pub(super) bytes: Bytes,
}

/// Where a segment comes from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Origin {
    /// The number of merges behind it.
    pub(super) level: u32,
    /// See [`SegmentEntry::merged_from`].
    pub(super) merged_from: Option<(u64, u64)>,
}

impl Encoded {
    /// What the manifest will say of it.
    pub(super) fn entry(
        &self,
        id: u64,
        origin: Origin,
        written_unix_nano: u64,
    ) -> Result<SegmentEntry, ReadError> {
        let info = periplus_segment::Segment::open(self.bytes.clone())?.info();
        Ok(SegmentEntry {
            id,
            level: origin.level,
            merged_from: origin.merged_from,
            written_unix_nano,
            damaged_groups: Vec::new(),
            damaged: false,
            hour: self.hour,
            bytes: info.bytes,
            spans: info.spans,
            traces: info.traces,
            min_start_unix_nano: info.first_start_unix_nano,
            max_start_unix_nano: info.last_start_unix_nano,
        })
    }
}

impl Segment {
    /// Opens the file of a segment; only its footer is read.
    pub(super) fn open(
        files: &Arc<Files>,
        dir: &Path,
        entry: SegmentEntry,
        cache: &Arc<Cache>,
    ) -> io::Result<Self> {
        let (file, unwanted) = SegmentFile::open(files, path(dir, &entry))?;
        let reader = periplus_segment::Segment::open(file).map_err(into_io)?;
        let info = reader.info();
        if (info.bytes, info.spans) != (entry.bytes, entry.spans) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is another segment than the manifest says",
            ));
        }
        Ok(Self {
            entry,
            reader,
            cache: Arc::clone(cache),
            damages: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            unwanted,
        })
    }

    /// The same segment, of which more is known.
    pub(super) fn with_entry(&self, entry: SegmentEntry) -> Self {
        Self {
            entry,
            reader: self.reader.clone(),
            cache: Arc::clone(&self.cache),
            damages: AtomicU64::new(self.damages()),
            suspect: AtomicBool::new(false),
            unwanted: Arc::clone(&self.unwanted),
        }
    }

    pub(super) fn entry(&self) -> &SegmentEntry {
        &self.entry
    }

    /// A reader of its own: what is decoded through it goes with it.
    pub(super) fn reader(&self) -> periplus_segment::Segment {
        self.reader.undecoded()
    }

    /// Its file is removed when nobody reads it any more.
    pub(super) fn remove_when_unused(&self) {
        self.unwanted.store(true, Ordering::Relaxed);
    }

    /// Whether a read has met wrong bytes that were not looked into yet.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// How many reads have met damage.
    pub(super) fn damages(&self) -> u64 {
        self.damages.load(Ordering::Relaxed)
    }

    /// Whether wrong bytes were met, now or earlier.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_suspect() || self.entry.is_damaged()
    }

    /// Reads all of it; what is wrong.
    pub(super) fn verify(&self) -> Result<(), String> {
        match &self.reader.undecoded().verify()[..] {
            [] => Ok(()),
            errors => {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Err(errors.join("; "))
            }
        }
    }

    /// Its rates, errors and durations, which are not kept.
    pub(super) fn red_once(&self) -> Result<Arc<Red>, Damage> {
        Ok(self.reader.undecoded().red()?)
    }

    /// A handle for what says something of all traces.
    pub(super) fn summary(&self) -> periplus_segment::Segment {
        let key = (self.entry.id, What::Summary);
        self.cache.segment(key, || self.reader.undecoded())
    }

    /// A handle for dictionaries and row groups.
    pub(super) fn content(&self) -> periplus_segment::Segment {
        let key = (self.entry.id, What::Content);
        self.cache.segment(key, || self.reader.undecoded())
    }

    /// How many row groups it has.
    pub(super) fn group_count(&self) -> usize {
        self.reader.group_count()
    }

    /// The start of a row group's earliest span, and that of its latest.
    pub(super) fn span_starts(&self, group: usize) -> (u64, u64) {
        self.reader.span_starts(group)
    }

    /// Where a piece of a trace lies, by its number.
    pub(super) fn place_of(&self, number: u32) -> TracePlace {
        self.reader.place_of(number)
    }

    /// The row group that is kept, or the one that is made now.
    pub(super) fn group(&self, number: usize, make: impl FnOnce() -> Group) -> Arc<Group> {
        self.cache.group(self.entry.id, number, make)
    }

    /// Notes that something of it cannot be read.
    pub(super) fn damaged(&self, damage: &Damage) {
        if damage.lasting {
            self.suspect.store(true, Ordering::Relaxed);
        }
        // One line for each segment: the counter says how often it was met.
        if self.damages.fetch_add(1, Ordering::Relaxed) > 0 {
            return;
        }
        tracing::error!(
            segment = self.entry.id,
            hour = self.entry.hour_name(),
            reason = %damage.reason,
            "a segment is damaged: the answer lacks spans"
        );
    }
}

/// Writes spans as segments, one per hour.
pub(super) fn encode(builder: &Builder, hour_of: impl Fn(u64) -> u64) -> Vec<Encoded> {
    let encoded = builder.encode_by(&EncodeOptions::default(), hour_of);
    let encoded = encoded.into_iter().map(|(hour, bytes)| Encoded {
        hour,
        bytes: bytes.into(),
    });
    encoded.collect()
}

/// The path of a segment's file.
pub(super) fn path(dir: &Path, entry: &SegmentEntry) -> PathBuf {
    partition::dir(dir, entry.hour).join(partition::file_name(entry.id))
}

impl From<ReadError> for Damage {
    fn from(error: ReadError) -> Self {
        let lasting = match &error {
            // A file that ends early is damaged; all else may be the disk's or the system's fault.
            ReadError::Io { source, .. } => source.kind() == io::ErrorKind::UnexpectedEof,
            _ => true,
        };
        let reason = match &error {
            ReadError::Io { source, .. } => format!("{error}: {source}"),
            error => error.to_string(),
        };
        Self { reason, lasting }
    }
}

fn into_io(error: ReadError) -> io::Error {
    match error {
        ReadError::Io { source, .. } => source,
        error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}
