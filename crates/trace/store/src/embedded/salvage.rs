//! Damaged segments: what is known of them is noted, and what can be read of them is saved.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, PoisonError};

use periplus_model::{SpanGroup, TraceId};
use periplus_segment::{Builder, EncodeOptions};

use super::disk::read_file;
use super::engine::Engine;
use super::manifest::{Edit, SegmentEntry};
use super::quarantine;
use super::segment::{self, Encoded, Origin, Segment};
use crate::StoreError;

/// What became of a damaged segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// Its number.
    pub segment: u64,
    /// Its hour, such as `2026-11-22T08`.
    pub hour: String,
    /// The spans that are in another segment now.
    pub saved_spans: u64,
    /// Those that are no more.
    pub dropped_spans: u64,
    /// Where its bytes are; `None` if its file was missing.
    pub copy: Option<String>,
}

impl Engine {
    /// Looks into the segments in which reads have met wrong bytes: which row groups are damaged is
    /// noted in the manifest, and their bytes are copied to the quarantine.
    pub(super) fn inspect(&self) -> Result<(), StoreError> {
        let _turn = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let segments = self.state.snapshot().segments;
        for segment in segments.iter().filter(|segment| segment.is_suspect()) {
            let reader = segment.reader();
            let mut entry = segment.entry().clone();
            entry.damaged_groups = (0..reader.group_count())
                .filter(|number| reader.group(*number).all().is_err())
                .filter_map(|number| u32::try_from(number).ok())
                .collect();
            entry.damaged = entry.damaged_groups.is_empty() && segment.verify().is_err();
            for group in &entry.damaged_groups {
                self.keep_group(segment, *group);
            }
            self.edit(&Edit {
                add: vec![entry.clone()],
                ..Edit::default()
            })?;
            let known = Arc::new(segment.with_entry(entry.clone()));
            self.state.replace_segments(&[entry.id], Some(known));
            if entry.is_damaged() {
                tracing::error!(
                    segment = entry.id,
                    hour = entry.hour_name(),
                    groups = ?entry.damaged_groups,
                    "a segment is damaged: 'periplus store check --repair' saves what can be read"
                );
            }
        }
        Ok(())
    }

    fn keep_group(&self, segment: &Segment, group: u32) {
        let range = segment.reader().group(group as usize).byte_range();
        let name = format!("segment-{:012}-group-{group:06}", segment.entry().id);
        let length = usize::try_from(range.end - range.start).unwrap_or_default();
        let mut bytes = vec![0; length];
        let path = segment::path(&self.dir, segment.entry());
        let kept = self
            .disk
            .open(&path)
            .and_then(|file| file.read_at(&mut bytes, range.start))
            .and_then(|()| quarantine::keep(&*self.disk, &self.dir, &name, &bytes));
        if let Err(error) = kept {
            tracing::warn!(%error, name, "no copy of a damaged row group is kept");
        }
    }

    /// Puts what can be read of damaged segments into others, and drops the rest.
    pub(super) fn salvage(&self) -> Result<Vec<Salvaged>, StoreError> {
        let _turn = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.state.snapshot();
        let mut salvaged = Vec::new();
        for segment in snapshot.segments.iter() {
            if segment.verify().is_err() {
                let copy = self.keep_file(segment.entry())?;
                let builder = readable(segment).map_err(|reason| StoreError::Damaged { reason })?;
                salvaged.push(self.replace(segment.entry(), &builder, copy)?);
                segment.remove_when_unused();
            }
        }
        for lost in snapshot.lost.iter() {
            let copy = self.keep_file(lost)?;
            salvaged.push(self.replace(lost, &Builder::new(), copy)?);
            self.remove_file(lost);
        }
        Ok(salvaged)
    }

    fn replace(
        &self,
        old: &SegmentEntry,
        readable: &Builder,
        copy: Option<String>,
    ) -> Result<Salvaged, StoreError> {
        let origin = Origin {
            level: old.level,
            merged_from: Some(old.covers()),
        };
        let new = match readable.is_empty() {
            true => None,
            false => {
                let bytes = readable.encode(&EncodeOptions::default());
                let encoded = Encoded {
                    hour: old.hour,
                    bytes: bytes.into(),
                };
                Some(self.write_segment(&encoded, origin)?)
            }
        };
        let edit = Edit {
            add: new.iter().map(|new| new.entry().clone()).collect(),
            remove: vec![old.id],
            ..Edit::default()
        };
        if let Err(error) = self.edit(&edit) {
            self.discard(new.as_slice());
            return Err(error);
        }
        self.state.replace_segments(&[old.id], new);
        self.cache.forget(&[old.id], None);
        let saved_spans = readable.span_count() as u64;
        Ok(Salvaged {
            segment: old.id,
            hour: old.hour_name(),
            saved_spans,
            dropped_spans: old.spans.saturating_sub(saved_spans),
            copy,
        })
    }

    /// Nothing of a damaged file is thrown away before there is a copy of it.
    fn keep_file(&self, entry: &SegmentEntry) -> Result<Option<String>, StoreError> {
        let path = segment::path(&self.dir, entry);
        let bytes = match read_file(&*self.disk, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read,
        };
        let name = format!("segment-{:012}", entry.id);
        let kept = bytes.and_then(|bytes| quarantine::keep(&*self.disk, &self.dir, &name, &bytes));
        let kept = kept.map_err(|source| StoreError::Io {
            action: "copying a damaged segment to the quarantine",
            source,
        })?;
        Ok(Some(kept.display().to_string()))
    }
}

/// The spans that can be read, trace by trace.
fn readable(segment: &Segment) -> Result<Builder, String> {
    let reader = segment.reader();
    let mut builder = Builder::new();
    // Traces in pieces of which all could be read.
    let mut whole: HashSet<TraceId> = HashSet::new();
    for number in 0..reader.group_count() {
        let group = reader.group(number);
        let Ok(ids) = group.traces().map(|traces| traces.map(|(id, _)| id)) else {
            continue;
        };
        for (at, id) in ids.enumerate() {
            if whole.contains(&id) {
                continue;
            }
            let pieces = reader.find(id).map_or(1, |places| places.len());
            let all = (pieces > 1)
                .then(|| reader.trace(id).ok().flatten())
                .flatten();
            let spans: Vec<SpanGroup> = match all {
                Some(all) => {
                    whole.insert(id);
                    all
                }
                None => group.trace(at).unwrap_or_default(),
            };
            let appended = builder.append_groups(&spans);
            appended.map_err(|error| format!("segment {}: {error}", segment.entry().id))?;
        }
    }
    Ok(builder)
}
