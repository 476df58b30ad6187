//! Looking after segments: small ones are merged, old ones dropped.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::engine::Engine;
use super::manifest::{Edit, SegmentEntry};
use super::merge::{self, Unmerged};
use super::partition;
use super::segment::{Encoded, Origin, Segment};
use crate::StoreError;

/// A segment of this many spans or more, or of so many bytes, is not merged again: what is merged lies
/// in memory until it is written, and to find a value that few spans have, all row groups of a segment are
/// looked at.
const FULL_SPANS: u64 = 1 << 19;
const FULL_BYTES: u64 = 24 << 20;

/// How many segments of one hour and level are merged at least while more may come. So a span is
/// written about once more each time the number of spans grows by this factor.
const FEW: usize = 4;

/// After so many hours nothing much more comes. Once nothing has come for so long, all segments of the
/// hour that are not full are merged.
const CLOSED_HOURS: u64 = 2;
const QUIET_NANO: u64 = 30 * 60 * 1_000_000_000;

/// So many groups that could not be merged are remembered, so that they are not tried again and again.
const MAX_REFUSED: usize = 1_024;

/// When more space is used than allowed, this part of it is freed beyond what must be, so that it
/// need not be done again at once.
const SLACK_PERCENT: u64 = 5;

/// What was merged or dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Segments that are no more.
    pub segments: u64,
    /// Their spans.
    pub spans: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Kept {
    fn add(&mut self, more: Self) {
        self.segments += more.segments;
        self.spans += more.spans;
        self.bytes += more.bytes;
    }
}

impl Engine {
    /// Drops the segments of which all is older than the retention, and the oldest while all, the log,
    /// and what is about to be written take more than they may.
    pub(super) fn retain(&self, now_unix_nano: u64, more: u64) -> Result<Kept, StoreError> {
        let _turn = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries: Vec<SegmentEntry> = {
            let manifest = self.manifest();
            manifest.contents().segments.values().cloned().collect()
        };
        entries.sort_by_key(|entry| (entry.hour, entry.id));
        let expired = |entry: &SegmentEntry| {
            self.options.retention.is_some_and(|retention| {
                let retention = u64::try_from(retention.as_nanos()).unwrap_or(u64::MAX);
                let end = partition::end_unix_nano(entry.hour);
                end.saturating_add(retention) <= now_unix_nano
            })
        };
        let by_age = entries.iter().take_while(|entry| expired(entry)).count();
        let mut count = by_age;
        if let Some(max) = self.options.max_disk_bytes {
            let segments: u64 = entries[count..].iter().map(|entry| entry.bytes).sum();
            let mut left = segments + self.log_bytes() + more;
            if left > max {
                let goal = max - max / 100 * SLACK_PERCENT;
                while count < entries.len() && left > goal {
                    left -= entries[count].bytes;
                    count += 1;
                }
            }
        }
        entries.truncate(count);
        self.drop_segments(&entries)
    }

    /// Merges the small segments of each hour: as many as there are if `all` are wanted, or if no more
    /// come into the hour; else only when there are a few of about one size.
    pub(super) fn compact(&self, now_unix_nano: u64, all: bool) -> Result<Kept, StoreError> {
        let mut merged = Kept::default();
        for group in self.small_segments(now_unix_nano, all) {
            // Given back after each group, for those who must drop something.
            let mut refused = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            if self.signal.is_stopped() {
                break;
            }
            if !self.are_there(&group) {
                continue;
            }
            let ids: Vec<u64> = group.iter().map(|segment| segment.entry().id).collect();
            if refused.contains(&ids) {
                continue;
            }
            let before = merged.segments;
            for run in self.unmixed(group) {
                merged.add(self.merge_or_parts(&run)?);
            }
            if merged.segments == before && !self.signal.is_stopped() {
                // It would go the same way the next time.
                if refused.len() >= MAX_REFUSED {
                    refused.clear();
                }
                refused.insert(ids);
            }
        }
        Ok(merged)
    }

    /// Whether the segments of a group are still there, and nothing new is known of them.
    fn are_there(&self, group: &[Arc<Segment>]) -> bool {
        let all = self.state.snapshot().segments;
        let is_there = |segment| all.iter().any(|other| Arc::ptr_eq(segment, other));
        group.iter().all(is_there)
    }

    /// Groups of segments to be merged into one each: neighbours of one hour, in the order in which
    /// their spans came.
    fn small_segments(&self, now_unix_nano: u64, all: bool) -> Vec<Vec<Arc<Segment>>> {
        let mut hours: BTreeMap<u64, Vec<Arc<Segment>>> = BTreeMap::new();
        for segment in self.state.snapshot().segments.iter() {
            let hour = hours.entry(segment.entry().hour).or_default();
            hour.push(Arc::clone(segment));
        }
        let mut groups = Vec::new();
        for segments in hours.into_values() {
            let entries = || segments.iter().map(|segment| segment.entry());
            let newest = entries().map(|entry| entry.written_unix_nano).max();
            let quiet_since = newest.unwrap_or_default().saturating_add(QUIET_NANO);
            let is_closed = entries().any(|entry| {
                partition::end_unix_nano(entry.hour.saturating_add(CLOSED_HOURS)) <= now_unix_nano
            });
            let whole = all || (is_closed && quiet_since <= now_unix_nano);
            let tier = |segment: &Arc<Segment>| {
                let entry = segment.entry();
                // What cannot be read cannot be merged, and is not thrown away either.
                let mergeable =
                    entry.spans < FULL_SPANS && entry.bytes < FULL_BYTES && !entry.is_damaged();
                mergeable.then_some(if whole { 0 } else { entry.level })
            };
            for run in segments.chunk_by(|a, b| tier(a) == tier(b)) {
                if run.first().is_some_and(|first| tier(first).is_some()) {
                    let few = if whole { 2 } else { FEW };
                    groups.extend(cut(run).filter(|group| group.len() >= few));
                }
            }
        }
        groups
    }

    /// The group, or runs of it, such that no trace of a run has spans that came between those of the
    /// run and lie elsewhere.
    fn unmixed(&self, group: Vec<Arc<Segment>>) -> Vec<Vec<Arc<Segment>>> {
        let all = self.state.snapshot().segments;
        let is_fine = |run: &[Arc<Segment>]| match merge::would_mix(run, &all) {
            Ok(mixes) => !mixes,
            Err(reason) => {
                tracing::warn!(%reason, "segments are not merged");
                false
            }
        };
        if is_fine(&group) {
            return vec![group];
        }
        let mut runs: Vec<Vec<Arc<Segment>>> = Vec::new();
        for segment in group {
            match runs.last_mut() {
                Some(run) => {
                    run.push(Arc::clone(&segment));
                    if !is_fine(run) {
                        run.pop();
                        runs.push(vec![segment]);
                    }
                }
                None => runs.push(vec![segment]),
            }
        }
        runs.retain(|run| run.len() > 1);
        runs
    }

    /// Merges a group, or halves of it where all of it takes too much memory.
    fn merge_or_parts(&self, group: &[Arc<Segment>]) -> Result<Kept, StoreError> {
        let hour = group.first().map_or(0, |segment| segment.entry().hour);
        match merge::merge(hour, group, &|| self.signal.is_stopped()) {
            Ok(encoded) => self.merge(group, &encoded),
            Err(Unmerged::TooLarge) if group.len() > 3 => {
                let (before, behind) = group.split_at(group.len() / 2);
                let mut kept = self.merge_or_parts(before)?;
                kept.add(self.merge_or_parts(behind)?);
                Ok(kept)
            }
            Err(Unmerged::Stopped) => Ok(Kept::default()),
            Err(reason) => {
                tracing::warn!(%reason, "segments are not merged");
                Ok(Kept::default())
            }
        }
    }

    /// Replaces a group by what was merged of it.
    fn merge(&self, group: &[Arc<Segment>], encoded: &Encoded) -> Result<Kept, StoreError> {
        let level = group.iter().map(|segment| segment.entry().level).max();
        let origin = Origin {
            level: level.unwrap_or_default() + 1,
            merged_from: Some(merge::covers(group)),
        };
        let new = self.write_segment(encoded, origin)?;
        let old = || group.iter().map(|segment| segment.entry());
        let ids: Vec<u64> = old().map(|entry| entry.id).collect();
        let edit = Edit {
            add: vec![new.entry().clone()],
            remove: ids.clone(),
            ..Edit::default()
        };
        if let Err(error) = self.edit(&edit) {
            self.discard(&[new]);
            return Err(error);
        }
        let (merged, spans) = (new.entry().id, new.entry().spans);
        for old in self.state.replace_segments(&ids, Some(new)) {
            old.remove_when_unused();
        }
        self.cache.forget(&ids, Some(merged));
        self.counters.merges.fetch_add(1, Ordering::Relaxed);
        (self.counters.merged_spans).fetch_add(spans, Ordering::Relaxed);
        Ok(Kept {
            segments: ids.len() as u64 - 1,
            spans: old().map(|entry| entry.spans).sum(),
            bytes: old().map(|entry| entry.bytes).sum(),
        })
    }

    pub(super) fn drop_segments(&self, entries: &[SegmentEntry]) -> Result<Kept, StoreError> {
        if entries.is_empty() {
            return Ok(Kept::default());
        }
        let ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
        self.edit(&Edit {
            remove: ids.clone(),
            ..Edit::default()
        })?;
        let removed = self.state.replace_segments(&ids, None);
        self.cache.forget(&ids, None);
        let open: HashSet<u64> = removed.iter().map(|segment| segment.entry().id).collect();
        for segment in removed {
            segment.remove_when_unused();
        }
        for entry in entries.iter().filter(|entry| !open.contains(&entry.id)) {
            self.remove_file(entry);
        }
        let dropped = Kept {
            segments: ids.len() as u64,
            spans: entries.iter().map(|entry| entry.spans).sum(),
            bytes: entries.iter().map(|entry| entry.bytes).sum(),
        };
        let traces = entries.iter().map(|entry| entry.traces).sum();
        let counters = &self.counters;
        counters
            .dropped_segments
            .fetch_add(dropped.segments, Ordering::Relaxed);
        counters
            .dropped_spans
            .fetch_add(dropped.spans, Ordering::Relaxed);
        counters.dropped_traces.fetch_add(traces, Ordering::Relaxed);
        Ok(dropped)
    }

    /// All that is to be done every now and then.
    pub(super) fn keep(&self, now_unix_nano: u64) -> Result<(), StoreError> {
        self.make_room()?;
        self.fill_reserve();
        self.retain(now_unix_nano, 0)?;
        self.inspect()?;
        self.compact(now_unix_nano, false)?;
        Ok(())
    }
}

/// Cuts a run of segments where one would become too large.
fn cut(run: &[Arc<Segment>]) -> impl Iterator<Item = Vec<Arc<Segment>>> {
    let mut groups: Vec<Vec<Arc<Segment>>> = Vec::new();
    let (mut spans, mut bytes) = (0, 0);
    for segment in run {
        let entry = segment.entry();
        spans += entry.spans;
        bytes += entry.bytes;
        match groups.last_mut() {
            Some(group) if spans <= FULL_SPANS && bytes <= FULL_BYTES => {
                group.push(Arc::clone(segment));
            }
            _ => {
                groups.push(vec![Arc::clone(segment)]);
                (spans, bytes) = (entry.spans, entry.bytes);
            }
        }
    }
    groups.into_iter()
}
