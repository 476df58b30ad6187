use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use periplus_filter::Scalar;
use periplus_model::{SpanGroup, TraceId};
use periplus_segment::{
    Builder, Calls, EncodeOptions, Group, ReadError, Red, ServiceOperation, TracePlace,
};

use super::cache::{Cache, What};
use super::files::{Files, SegmentFile};
use super::manifest::SegmentEntry;
use super::meter::{Meter, bytes_of};
use super::part::{Chunk, Damage, Part, Place, Prepared};
use super::partition;
use crate::{Detail, Scope, SpanFilter, TimeRange};

/// About what a span takes in memory, as long as nobody knows.
const SPAN_BYTES: u64 = 512;

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

    fn group(&self, number: usize) -> Arc<Group> {
        // Asked for before: the cache is locked while it makes something.
        let content = self.content();
        self.cache
            .group(self.entry.id, number, || content.group(number))
    }

    /// Where the pieces of a trace lie.
    fn places(&self, id: TraceId) -> Result<Vec<TracePlace>, ReadError> {
        let mut places = Vec::new();
        for place in self.summary().find_by_hash(id)? {
            // What is found by its hash must be compared; the row group is needed next anyway.
            if self.group(place.group).trace_id(place.trace)? == Some(id) {
                places.push(place);
            }
        }
        Ok(places)
    }

    /// A handle for what says something of all traces.
    fn summary(&self) -> periplus_segment::Segment {
        let key = (self.entry.id, What::Summary);
        self.cache.segment(key, || self.reader.undecoded())
    }

    /// A handle for dictionaries and row groups.
    fn content(&self) -> periplus_segment::Segment {
        let key = (self.entry.id, What::Content);
        self.cache.segment(key, || self.reader.undecoded())
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

impl Part for Segment {
    fn segment(&self) -> Option<u64> {
        Some(self.entry.id)
    }

    fn starts(&self) -> (u64, u64) {
        let entry = &self.entry;
        (entry.min_start_unix_nano, entry.max_start_unix_nano)
    }

    fn chunks(&self) -> Vec<Chunk> {
        let chunk = |number| {
            let group = self.reader.group(number);
            let (first, last) = group.span_starts();
            Chunk { first, last }
        };
        (0..self.reader.group_count()).map(chunk).collect()
    }

    fn prepare(&self, filter: &SpanFilter) -> Result<Prepared, Damage> {
        let search = self.content().search(filter)?;
        Ok(if search.may_match() {
            Prepared::Segment(search)
        } else {
            Prepared::Nothing
        })
    }

    fn hits(
        &self,
        chunk: usize,
        filter: &Prepared,
        range: TimeRange,
        _: &Meter,
    ) -> Result<Vec<Place>, Damage> {
        let Prepared::Segment(search) = filter else {
            return Ok(Vec::new());
        };
        let hits = self.group(chunk).hits(search, range)?;
        let hits = hits.iter().map(|hit| (hit.start_unix_nano, hit.id));
        Ok(hits.collect())
    }

    fn count(
        &self,
        chunk: usize,
        filter: &Prepared,
        range: TimeRange,
        _: &Meter,
    ) -> Result<u64, Damage> {
        let Prepared::Segment(search) = filter else {
            return Ok(0);
        };
        Ok(self.group(chunk).match_count(search, range)?)
    }

    fn spans(
        &self,
        (chunk, _): (usize, usize),
        filter: &Prepared,
        range: TimeRange,
        _: &Meter,
    ) -> Result<(Vec<SpanGroup>, Option<usize>), Damage> {
        let Prepared::Segment(search) = filter else {
            return Ok(Default::default());
        };
        Ok((self.group(chunk).matching_spans(search, range)?, None))
    }

    fn trace(&self, id: TraceId, detail: Detail, meter: &Meter) -> Result<Vec<SpanGroup>, Damage> {
        let places = self.places(id)?;
        // What it takes is known when it is there: until then a guess, so that it is not too late.
        let mut guess = 0;
        for place in &places {
            guess += self.group(place.group).trace_spans(place.trace)? as u64 * SPAN_BYTES;
        }
        if !meter.take(guess) {
            return Ok(Vec::new());
        }
        let groups = match places[..] {
            [] => return Ok(Vec::new()),
            [place] => self.group(place.group).trace_in(place.trace, detail)?,
            // A very large one, which is put together from its pieces.
            _ => self.content().trace(id)?.unwrap_or_default(),
        };
        meter.resize(guess, bytes_of(groups.iter()));
        Ok(groups)
    }

    fn trace_start(&self, id: TraceId) -> Result<Option<u64>, Damage> {
        let Some(place) = self.places(id)?.first().copied() else {
            return Ok(None);
        };
        let group = self.group(place.group);
        let start = group.traces()?.nth(place.trace);
        Ok(start.map(|(_, start)| start))
    }

    fn operations(&self, _: &Meter) -> Result<Arc<Vec<ServiceOperation>>, Damage> {
        Ok(self.summary().operations()?)
    }

    fn red(&self, _: &Meter) -> Result<Vec<Arc<Red>>, Damage> {
        Ok(vec![self.summary().red()?])
    }

    fn calls(&self, _: &Meter) -> Result<Arc<Calls>, Damage> {
        Ok(self.summary().calls()?)
    }

    fn calls_of(&self, id: TraceId, meter: &Meter) -> Result<Calls, Damage> {
        let groups = self.trace(id, Detail::Full, meter)?;
        meter.give_back(bytes_of(groups.iter()));
        let mut builder = Builder::new();
        let appended = builder.append_groups(&groups);
        // It was in a builder before.
        appended.map_err(|error| Damage {
            reason: error.to_string(),
            lasting: false,
        })?;
        Ok(builder.calls(0..builder.trace_count(), builder.span_count()))
    }

    fn trace_hashes(&self, _: &Meter) -> Result<Arc<Vec<u64>>, Damage> {
        Ok(self.summary().trace_hashes()?)
    }

    fn id_of(&self, number: u32) -> Result<Option<TraceId>, Damage> {
        let place = self.reader.place_of(number);
        Ok(self.group(place.group).trace_id(place.trace)?)
    }

    fn attribute_keys(
        &self,
        scope: Scope,
        meter: &Meter,
        see: &mut dyn FnMut(&str),
    ) -> Result<(), Damage> {
        let content = self.content();
        content.attribute_keys(scope, |key| see(&key.key))?;
        if content.has_residual(scope)? {
            for number in 0..content.group_count() {
                if meter.is_over() {
                    break;
                }
                content.group(number).residual_keys(scope, &mut *see)?;
            }
        }
        Ok(())
    }

    fn attribute_values(
        &self,
        (scope, key): (Scope, &str),
        (prefix, limit): (&str, usize),
        meter: &Meter,
        see: &mut dyn FnMut(Scalar<'_>),
    ) -> Result<(), Damage> {
        let content = self.content();
        content.attribute_values((scope, key), prefix, limit, &mut *see)?;
        if content.has_plain_values(scope, key)? {
            for number in 0..content.group_count() {
                if meter.is_over() {
                    break;
                }
                let group = content.group(number);
                group.attribute_values((scope, key), &mut *see)?;
            }
        }
        Ok(())
    }

    fn damaged(&self, damage: &Damage) {
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
