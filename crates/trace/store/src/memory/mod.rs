//! The engine without a disk.

mod arrival;
mod attributes;
mod index;
mod intern;
mod red;
mod search;
pub(crate) mod size;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use periplus_model::{Batch, SpanKind, TraceId, Value};

use crate::{
    AttributeKey, BoxFuture, BoxStream, DependencyEdge, Operation, RedQuery, RedSeries, Scope,
    SpanSink, SpanStore, StoreError, StoreStats, StoredTrace, TimeRange, TraceQuery,
};
use arrival::Arrival;
use index::Index;

/// Keeps the newest traces in memory, up to a number of bytes.
///
/// * **Limit.** The bytes are an estimate of the heap: every buffer by its capacity, every
///   allocation with the allocator's overhead, the indexes, and each distinct resource and scope
///   once, however many spans share it.
/// * **Eviction.** When a batch does not fit, the traces that have been quiet for the longest time
///   go, whole. A trace to which spans still arrive is the last to go. What is gone is counted.
/// * **One trace** may take half of the limit, so that one that never ends cannot push out all
///   others: further spans of it are refused and counted. A batch that brings more than that for
///   one trace, or more than the whole limit, is an error.
/// * **Readers** hold the lock only while they copy pointers; filters run without it, a few traces
///   at a time, so that a long search neither blocks writers nor the thread that polls it.
#[derive(Debug)]
pub struct MemoryStore {
    index: RwLock<Index>,
}

impl MemoryStore {
    /// A limit that fits a laptop: 256 MiB.
    pub const DEFAULT_MAX_BYTES: u64 = 256 * 1024 * 1024;

    /// An empty store that takes this many bytes at most.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            index: RwLock::new(Index::new(max_bytes)),
        }
    }

    fn take(&self, batch: Batch) -> Result<(), StoreError> {
        let arrivals = Arrival::split(batch);
        let evicted = self.write().insert(arrivals)?;
        // The lock is free again: giving back the memory of large traces takes a while.
        drop(evicted);
        Ok(())
    }

    // A panic under the lock is a bug, and may leave a count wrong. Losing access to every span for
    // that would be worse.
    fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MAX_BYTES)
    }
}

impl SpanSink for MemoryStore {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.take(batch) })
    }
}

impl SpanStore for MemoryStore {
    fn trace(&self, id: TraceId) -> BoxFuture<'_, Result<Option<StoredTrace>, StoreError>> {
        Box::pin(async move {
            let groups = self.read().groups(id);
            Ok(groups.map(|groups| StoredTrace {
                id,
                groups: groups.to_vec(),
                incomplete: None,
            }))
        })
    }

    fn find_traces(&self, query: TraceQuery) -> BoxStream<'_, Result<StoredTrace, StoreError>> {
        Box::pin(search::Search::new(self, query))
    }

    fn attribute_keys<'a>(
        &'a self,
        scope: Scope,
        prefix: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<AttributeKey>, StoreError>> {
        Box::pin(async move { Ok(attributes::keys(self, scope, prefix, limit).await) })
    }

    fn attribute_values<'a>(
        &'a self,
        key: &'a str,
        scope: Scope,
        prefix: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Value>, StoreError>> {
        Box::pin(async move { Ok(attributes::values(self, key, scope, prefix, limit).await) })
    }

    fn red_by(&self, query: RedQuery) -> BoxFuture<'_, Result<Vec<RedSeries>, StoreError>> {
        Box::pin(async move { Ok(red::series(self, &query).await) })
    }

    fn services(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(async move { Ok(self.read().services()) })
    }

    fn operations<'a>(
        &'a self,
        service: &'a str,
        kind: Option<SpanKind>,
    ) -> BoxFuture<'a, Result<Vec<Operation>, StoreError>> {
        Box::pin(async move { Ok(self.read().operations(service, kind)) })
    }

    fn dependencies(
        &self,
        range: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<DependencyEdge>, StoreError>> {
        Box::pin(search::dependencies(self, range))
    }

    fn stats(&self) -> StoreStats {
        self.read().stats()
    }
}
