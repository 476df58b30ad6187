use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use periplus_model::{SpanGroup, SpanKind, TraceId};
use periplus_segment::{Builder, EncodeOptions, ReadError, Source};

use super::disk::{Disk, DiskFile};
use super::manifest::SegmentEntry;
use super::part::{Damage, Part, Place};
use super::partition;
use crate::{Operation, SpanFilter, TimeRange, span_matches};

/// A segment on the disk.
#[derive(Debug)]
pub(super) struct Segment {
    entry: SegmentEntry,
    reader: periplus_segment::Segment,
    damages: AtomicU64,
}

/// A segment that is not on the disk yet.
pub(super) struct Encoded {
    pub(super) hour: u64,
    pub(super) bytes: Bytes,
}

impl Encoded {
    /// What the manifest will say of it.
    pub(super) fn entry(&self, id: u64, level: u32) -> Result<SegmentEntry, ReadError> {
        let info = periplus_segment::Segment::open(self.bytes.clone())?.info();
        Ok(SegmentEntry {
            id,
            hour: self.hour,
            bytes: info.bytes,
            spans: info.spans,
            traces: info.traces,
            min_start_unix_nano: info.first_start_unix_nano,
            max_start_unix_nano: info.last_start_unix_nano,
            level,
        })
    }
}

impl Segment {
    /// Opens the file of a segment; only its footer is read.
    pub(super) fn open(disk: &dyn Disk, dir: &Path, entry: SegmentEntry) -> io::Result<Self> {
        let file = disk.open(&path(dir, &entry))?;
        let size = file.size()?;
        let source = FileSource { file, size };
        let reader = periplus_segment::Segment::open(source).map_err(into_io)?;
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
            damages: AtomicU64::new(0),
        })
    }

    pub(super) fn entry(&self) -> &SegmentEntry {
        &self.entry
    }

    /// How many reads have met damage.
    pub(super) fn damages(&self) -> u64 {
        self.damages.load(Ordering::Relaxed)
    }

    /// Reads all of it; how many spans it has, or what is wrong.
    pub(super) fn verify(&self) -> Result<u64, String> {
        let mut spans = 0;
        for number in 0..self.reader.group_count() {
            let traces = self.reader.group(number).all();
            let traces = traces.map_err(|error| error.to_string())?;
            let groups = traces.iter().flatten();
            spans += groups.map(|group| group.spans.len() as u64).sum::<u64>();
        }
        if spans != self.entry.spans {
            return Err(format!("{spans} spans were read"));
        }
        Ok(spans)
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

/// Puts the spans of segments of one hour into one.
pub(super) fn merge(hour: u64, segments: &[Arc<Segment>]) -> Result<Encoded, String> {
    let mut builder = Builder::new();
    for segment in segments {
        for number in 0..segment.reader.group_count() {
            let read = segment.reader.group(number).all();
            let traces = read.map_err(|error| {
                segment.damaged(&error.into());
                format!("segment {} is damaged", segment.entry.id)
            })?;
            let appended = builder.append_groups(traces.iter().flatten());
            appended.map_err(|error| error.to_string())?;
        }
    }
    let bytes = builder.encode(&EncodeOptions::default());
    Ok(Encoded {
        hour,
        bytes: bytes.into(),
    })
}

/// The path of a segment's file.
pub(super) fn path(dir: &Path, entry: &SegmentEntry) -> PathBuf {
    partition::dir(dir, entry.hour).join(partition::file_name(entry.id))
}

impl Part for Segment {
    fn chunks(&self) -> Vec<(u64, u64)> {
        (0..self.reader.group_count())
            .map(|number| self.reader.group(number).span_starts())
            .collect()
    }

    fn hits(
        &self,
        chunk: usize,
        filter: &SpanFilter,
        range: TimeRange,
    ) -> Result<Vec<Place>, Damage> {
        let mut found = Vec::new();
        for groups in self.reader.group(chunk).all()? {
            let hit = groups.iter().any(|group| {
                (group.spans.iter()).any(|span| {
                    range.contains(span.start_unix_nano) && span_matches(filter, group, span)
                })
            });
            if hit && let Some(span) = groups.first().and_then(|group| group.spans.first()) {
                let start = self.reader.trace_start(span.trace_id)?;
                found.push((start.unwrap_or_default(), span.trace_id));
            }
        }
        Ok(found)
    }

    fn trace(&self, id: TraceId) -> Result<Vec<SpanGroup>, Damage> {
        Ok(self.reader.trace(id)?.unwrap_or_default())
    }

    fn trace_start(&self, id: TraceId) -> Result<Option<u64>, Damage> {
        Ok(self.reader.trace_start(id)?)
    }

    fn services(&self, found: &mut BTreeSet<String>) -> Result<(), Damage> {
        for number in 0..self.reader.group_count() {
            let groups = self.reader.group(number).all()?;
            let names = groups.iter().flatten();
            found.extend(names.map(|group| group.resource.service_name().to_owned()));
        }
        Ok(())
    }

    fn operations(
        &self,
        service: &str,
        kind: Option<SpanKind>,
        found: &mut BTreeSet<Operation>,
    ) -> Result<(), Damage> {
        for number in 0..self.reader.group_count() {
            for group in self.reader.group(number).all()?.iter().flatten() {
                if group.resource.service_name() != service {
                    continue;
                }
                for span in &group.spans {
                    if kind.is_none_or(|kind| kind == span.kind) {
                        found.insert(Operation {
                            name: span.name.clone(),
                            kind: span.kind,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn damaged(&self, damage: &Damage) {
        self.damages.fetch_add(1, Ordering::Relaxed);
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
        Self {
            reason: error.to_string(),
        }
    }
}

fn into_io(error: ReadError) -> io::Error {
    match error {
        ReadError::Io { source, .. } => source,
        error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}

/// An open file that a segment is read from.
struct FileSource {
    file: Arc<dyn DiskFile>,
    size: u64,
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>> {
        let mut bytes = vec![0; length];
        self.file.read_at(&mut bytes, offset)?;
        Ok(Cow::Owned(bytes))
    }
}
