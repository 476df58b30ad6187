//! Looking after segments: small ones are merged, old ones dropped.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::engine::Engine;
use super::intake::now_unix_nano;
use super::manifest::{Edit, SegmentEntry};
use super::partition;
use super::segment::{self, Segment};
use crate::StoreError;

/// A segment of this many spans or more is not merged again: it takes its memory to merge.
const FULL_SPANS: u64 = 1 << 18;

/// How many segments of one hour and level are merged at least while more may come. So a span is
/// written about once more each time the number of spans grows by this factor.
const FEW: usize = 4;

/// After so many hours nothing much more comes.
const CLOSED_HOURS: u64 = 2;

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

impl Engine {
    /// Drops the segments of which all is older than the retention, and the oldest while all take
    /// more than they may.
    pub(super) fn retain(&self, now_unix_nano: u64) -> Result<Kept, StoreError> {
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
        let left = |from: usize| entries[from..].iter().map(|entry| entry.bytes).sum::<u64>();
        let mut count = by_age;
        if let Some(max) = self.options.max_disk_bytes
            && left(count) > max
        {
            let goal = max - max / 100 * SLACK_PERCENT;
            while count < entries.len() && left(count) > goal {
                count += 1;
            }
        }
        entries.truncate(count);
        self.drop_segments(&entries)
    }

    /// Merges the small segments of each hour; of an hour in which more may come only when there
    /// are a few, unless `all` are wanted.
    pub(super) fn compact(&self, now_unix_nano: u64, all: bool) -> Result<Kept, StoreError> {
        let _turn = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let mut merged = Kept::default();
        for group in self.small_segments(now_unix_nano, all) {
            self.merge(&group)?;
            let entries = || group.iter().map(|segment| segment.entry());
            merged.segments += group.len() as u64 - 1;
            merged.spans += entries().map(|entry| entry.spans).sum::<u64>();
            merged.bytes += entries().map(|entry| entry.bytes).sum::<u64>();
        }
        Ok(merged)
    }

    /// Groups of segments to be merged into one each.
    fn small_segments(&self, now_unix_nano: u64, all: bool) -> Vec<Vec<Arc<Segment>>> {
        let mut sets: BTreeMap<(u64, u32), Vec<Arc<Segment>>> = BTreeMap::new();
        let is_closed = |hour: u64| {
            all || partition::end_unix_nano(hour.saturating_add(CLOSED_HOURS)) <= now_unix_nano
        };
        for segment in self.state.snapshot().segments.iter() {
            let entry = segment.entry();
            // What cannot be read cannot be merged, and is not thrown away either.
            if entry.spans < FULL_SPANS && segment.damages() == 0 {
                let level = if is_closed(entry.hour) {
                    0
                } else {
                    entry.level
                };
                let set = sets.entry((entry.hour, level)).or_default();
                set.push(Arc::clone(segment));
            }
        }
        let mut groups = Vec::new();
        for ((hour, _), mut segments) in sets {
            segments.sort_by_key(|segment| segment.entry().spans);
            let closed = is_closed(hour);
            let mut group = Vec::new();
            let mut spans = 0;
            for segment in segments {
                spans += segment.entry().spans;
                if spans > FULL_SPANS && !group.is_empty() {
                    groups.push(std::mem::take(&mut group));
                    spans = segment.entry().spans;
                }
                group.push(segment);
            }
            if group.len() >= if closed { 2 } else { FEW } {
                groups.push(group);
            }
        }
        groups.retain(|group| group.len() > 1);
        groups
    }

    fn merge(&self, group: &[Arc<Segment>]) -> Result<(), StoreError> {
        let level = group.iter().map(|segment| segment.entry().level).max();
        let mut in_order = group.to_vec();
        in_order.sort_by_key(|segment| segment.entry().id);
        let hour = group.first().map_or(0, |segment| segment.entry().hour);
        let encoded = match segment::merge(hour, &in_order) {
            Ok(encoded) => encoded,
            Err(reason) => {
                tracing::error!(reason, "segments are not merged");
                return Ok(());
            }
        };
        let new = self.write_segment(&encoded, level.unwrap_or_default() + 1)?;
        let old: Vec<SegmentEntry> = group.iter().map(|s| s.entry().clone()).collect();
        let ids: Vec<u64> = old.iter().map(|entry| entry.id).collect();
        let edit = Edit {
            add: vec![new.entry().clone()],
            remove: ids.clone(),
            ..Edit::default()
        };
        if let Err(error) = self.edit(&edit) {
            self.discard(&[new]);
            return Err(error);
        }
        self.state.replace_segments(&ids, Some(new));
        self.cache.forget(&ids);
        self.counters.merges.fetch_add(1, Ordering::Relaxed);
        self.remove_files(&old);
        Ok(())
    }

    fn drop_segments(&self, entries: &[SegmentEntry]) -> Result<Kept, StoreError> {
        if entries.is_empty() {
            return Ok(Kept::default());
        }
        let ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
        self.edit(&Edit {
            remove: ids.clone(),
            ..Edit::default()
        })?;
        self.state.replace_segments(&ids, None);
        self.cache.forget(&ids);
        self.remove_files(entries);
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

    /// Both, now.
    pub(super) fn keep(&self) -> Result<(), StoreError> {
        let now = now_unix_nano();
        self.retain(now)?;
        self.compact(now, false)?;
        Ok(())
    }
}
