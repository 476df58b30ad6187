use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use periplus_segment::Group;

/// The row groups that were read last, decoded as far as somebody needed them.
#[derive(Debug)]
pub(super) struct GroupCache {
    inner: Mutex<Inner>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Inner {
    groups: HashMap<Key, Entry>,
    clock: u64,
}

/// The number of a segment, and of a row group in it.
type Key = (u64, usize);

#[derive(Debug)]
struct Entry {
    group: Arc<Group>,
    used: u64,
}

impl GroupCache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            inner: Mutex::default(),
            max_bytes,
        }
    }

    /// The row group that is kept, or the one that is made now.
    pub(super) fn group(&self, key: Key, make: impl FnOnce() -> Group) -> Arc<Group> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let used = inner.clock;
        if let Some(entry) = inner.groups.get_mut(&key) {
            entry.used = used;
            return Arc::clone(&entry.group);
        }
        inner.shrink(self.max_bytes);
        let group = Arc::new(make());
        let entry = Entry {
            group: Arc::clone(&group),
            used,
        };
        inner.groups.insert(key, entry);
        group
    }

    /// Forgets the row groups of segments that are no more.
    pub(super) fn forget(&self, segments: &[u64]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner
            .groups
            .retain(|(segment, _), _| !segments.contains(segment));
    }
}

impl Inner {
    /// Drops what was not used for the longest time. What is kept grows as more of it is decoded,
    /// so it is weighed again each time.
    fn shrink(&mut self, max_bytes: usize) {
        let mut bytes: usize = self.groups.values().map(|e| e.group.heap_bytes()).sum();
        while bytes > max_bytes {
            let oldest = self.groups.iter().min_by_key(|(_, entry)| entry.used);
            let Some(key) = oldest.map(|(key, _)| *key) else {
                return;
            };
            if let Some(entry) = self.groups.remove(&key) {
                bytes -= entry.group.heap_bytes().min(bytes);
            }
        }
    }
}
