use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use periplus_segment::{Group, Segment};

use super::calls::Settled;
use super::minutes::Minutes;

/// One part in so many of what may be kept is for sums over minutes.
const MINUTES_PART: usize = 3;

/// What of segments was read last, decoded as far as somebody needed it: all within one limit.
#[derive(Debug)]
pub(super) struct Cache {
    inner: Mutex<Inner>,
    max_bytes: usize,
    /// Traces of which several segments have spans.
    pub(super) settled: Settled,
    /// What spans of whole minutes took.
    pub(super) minutes: Minutes,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    clock: u64,
    bytes: usize,
    /// What was given out since it was weighed.
    used: Vec<Key>,
}

/// What is kept of a segment, by its number.
pub(super) type Key = (u64, What);

/// Things that are given back apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// What says something of all traces: index, filter, operations, rates, calls.
    Summary,
    /// What row groups need: schema, dictionaries, resources.
    Content,
    /// A row group.
    Group(usize),
}

#[derive(Debug)]
struct Entry {
    kept: Kept,
    bytes: usize,
    used: u64,
}

#[derive(Debug)]
enum Kept {
    Segment(Segment),
    Group(Arc<Group>),
}

impl Kept {
    fn bytes(&self) -> usize {
        /// What an entry takes by itself.
        const OWN: usize = 512;
        OWN + match self {
            Self::Segment(segment) => segment.cached_bytes(),
            Self::Group(group) => group.heap_bytes(),
        }
    }
}

impl Cache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            inner: Mutex::default(),
            max_bytes: max_bytes - max_bytes / MINUTES_PART,
            settled: Settled::default(),
            minutes: Minutes::new(max_bytes / MINUTES_PART),
        }
    }

    /// The row group that is kept, or the one that is made now.
    pub(super) fn group(
        &self,
        segment: u64,
        number: usize,
        make: impl FnOnce() -> Group,
    ) -> Arc<Group> {
        let key = (segment, What::Group(number));
        let mut inner = self.begin(key);
        match inner.find(key) {
            Some(Kept::Group(group)) => Arc::clone(group),
            _ => {
                let group = Arc::new(make());
                inner.keep(key, Kept::Group(Arc::clone(&group)));
                group
            }
        }
    }

    /// The handle that is kept, or the one that is made now. What is decoded through it is kept with
    /// it.
    pub(super) fn segment(&self, key: Key, make: impl FnOnce() -> Segment) -> Segment {
        let mut inner = self.begin(key);
        match inner.find(key) {
            Some(Kept::Segment(segment)) => segment.clone(),
            _ => {
                let segment = make();
                inner.keep(key, Kept::Segment(segment.clone()));
                segment
            }
        }
    }

    /// The bytes that are kept.
    pub(super) fn bytes(&self) -> usize {
        let mut inner = self.inner();
        inner.weigh();
        inner.bytes + self.minutes.bytes()
    }

    /// Forgets what there is of segments that are no more; another may have come in their place, with
    /// the same spans.
    pub(super) fn forget(&self, segments: &[u64], merged_into: Option<u64>) {
        let mut inner = self.inner();
        inner.weigh();
        inner.retain(|(segment, _)| !segments.contains(segment));
        drop(inner);
        self.settled.forget(segments);
        self.minutes.replace(segments, merged_into);
    }

    fn begin(&self, key: Key) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner();
        inner.weigh();
        inner.shrink(self.max_bytes, key);
        inner
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn find(&mut self, key: Key) -> Option<&Kept> {
        self.clock += 1;
        let entry = self.entries.get_mut(&key)?;
        entry.used = self.clock;
        self.used.push(key);
        Some(&entry.kept)
    }

    fn keep(&mut self, key: Key, kept: Kept) {
        let entry = Entry {
            bytes: 0,
            used: self.clock,
            kept,
        };
        self.entries.insert(key, entry);
        self.used.push(key);
    }

    /// What is kept grows as more of it is decoded: what was given out is weighed again.
    fn weigh(&mut self) {
        for key in std::mem::take(&mut self.used) {
            if let Some(entry) = self.entries.get_mut(&key) {
                let bytes = entry.kept.bytes();
                self.bytes = self.bytes - entry.bytes + bytes;
                entry.bytes = bytes;
            }
        }
    }

    /// Drops what was not used for the longest time, but not this.
    fn shrink(&mut self, max_bytes: usize, but: Key) {
        while self.bytes > max_bytes {
            let others = self.entries.iter().filter(|(key, _)| **key != but);
            let Some((&(segment, what), _)) = others.min_by_key(|(_, entry)| entry.used) else {
                return;
            };
            self.retain(|(of, kept)| match what {
                // Row groups hold on to what they need: that goes with them.
                What::Content => of != &segment || *kept == What::Summary,
                what => (*of, *kept) != (segment, what),
            });
        }
    }

    fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        let mut gone = 0;
        self.entries.retain(|key, entry| {
            let stays = keep(key);
            gone += if stays { 0 } else { entry.bytes };
            stays
        });
        self.bytes -= gone;
    }
}
