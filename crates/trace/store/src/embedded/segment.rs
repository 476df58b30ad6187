use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use periplus_model::{Batch, SpanGroup, SpanKind, TraceId};

use super::batch;
use super::disk::{Disk, read_file};
use super::manifest::SegmentEntry;
use super::part::{Damage, Part, Place};
use super::partition;
use super::rows::Rows;
use crate::{Operation, SpanFilter, TimeRange};

/// A segment on the disk.
#[derive(Debug)]
pub(super) struct Segment {
    entry: SegmentEntry,
    rows: Rows,
    damages: AtomicU64,
}

/// A segment that is not on the disk yet.
pub(super) struct Encoded {
    pub(super) hour: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) spans: u64,
    pub(super) traces: u64,
    pub(super) starts: (u64, u64),
}

impl Segment {
    pub(super) fn open(disk: &dyn Disk, dir: &Path, entry: SegmentEntry) -> io::Result<Self> {
        let bytes = read_file(disk, &path(dir, &entry))?;
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let (crc, body) = bytes
            .split_first_chunk()
            .ok_or_else(|| bad("it is too short"))?;
        if u32::from_le_bytes(*crc) != crc32c::crc32c(body) {
            return Err(bad("its checksum is wrong"));
        }
        let mut rows = Rows::default();
        rows.append(&batch::decode(body).map_err(|error| bad(&error.to_string()))?);
        Ok(Self {
            entry,
            rows,
            damages: AtomicU64::new(0),
        })
    }

    pub(super) fn entry(&self) -> &SegmentEntry {
        &self.entry
    }

    pub(super) fn damages(&self) -> u64 {
        self.damages.load(Ordering::Relaxed)
    }

    /// Reads all of it; how many spans it has, or what is wrong.
    pub(super) fn verify(&self) -> Result<u64, String> {
        Ok(self.rows.spans)
    }
}

/// Writes spans as segments, one per hour.
pub(super) fn encode(rows: &Rows, hour_of: impl Fn(u64) -> u64) -> Vec<Encoded> {
    let mut by_hour: std::collections::BTreeMap<u64, Rows> = Default::default();
    for groups in rows.traces.values() {
        let start = groups.iter().fold(0, |s, g| {
            super::part::earlier(s, g.spans[0].start_unix_nano)
        });
        let batch = Batch {
            groups: groups.clone(),
        };
        by_hour.entry(hour_of(start)).or_default().append(&batch);
    }
    let encode = |(hour, rows): (u64, Rows)| {
        let starts = rows.chunks().first().copied().unwrap_or_default();
        let (spans, traces) = (rows.spans, rows.traces.len() as u64);
        let batch = Batch {
            groups: rows.traces.into_values().flatten().collect(),
        };
        let mut bytes = vec![0; 4];
        assert!(batch::encode(&batch, &mut bytes), "checked when it came");
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        Encoded {
            hour,
            bytes,
            spans,
            traces,
            starts,
        }
    };
    by_hour.into_iter().map(encode).collect()
}

/// The path of a segment's file.
pub(super) fn path(dir: &Path, entry: &SegmentEntry) -> PathBuf {
    partition::dir(dir, entry.hour).join(partition::file_name(entry.id))
}

impl Part for Segment {
    fn chunks(&self) -> Vec<(u64, u64)> {
        self.rows.chunks()
    }

    fn hits(&self, _: usize, filter: &SpanFilter, range: TimeRange) -> Result<Vec<Place>, Damage> {
        Ok(self.rows.hits(filter, range))
    }

    fn trace(&self, id: TraceId) -> Result<Vec<SpanGroup>, Damage> {
        Ok(self.rows.trace(id))
    }

    fn trace_start(&self, id: TraceId) -> Result<Option<u64>, Damage> {
        Ok(self.rows.trace_start(id))
    }

    fn services(&self, found: &mut BTreeSet<String>) -> Result<(), Damage> {
        self.rows.services(found);
        Ok(())
    }

    fn operations(
        &self,
        service: &str,
        kind: Option<SpanKind>,
        found: &mut BTreeSet<Operation>,
    ) -> Result<(), Damage> {
        self.rows.operations(service, kind, found);
        Ok(())
    }

    fn damaged(&self, damage: &Damage) {
        self.damages.fetch_add(1, Ordering::Relaxed);
        tracing::error!(segment = self.entry.id, reason = %damage.reason, "a segment is damaged");
    }
}

/// Puts the spans of segments of one hour into one.
pub(super) fn merge(segments: &[std::sync::Arc<Segment>]) -> Encoded {
    let mut rows = Rows::default();
    for segment in segments {
        for groups in segment.rows.traces.values() {
            rows.append(&Batch {
                groups: groups.clone(),
            });
        }
    }
    let hour = segments.first().map_or(0, |segment| segment.entry.hour);
    let mut encoded = encode(&rows, |_| hour);
    encoded.pop().expect("segments are not empty")
}
