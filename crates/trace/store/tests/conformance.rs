//! Every engine gives the same answers.

#[macro_use]
mod suite;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use periplus_model::{Batch, SpanKind, TraceId, Value};
use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::embedded::{EmbeddedStore, Options};
use periplus_store::{
    AppendOtlpError, AttributeKey, BoxFuture, BoxStream, DependencyEdge, Operation, OtlpTaken,
    RedSeries, Scope, SpanSink, SpanStore, StoreError, StoreStats, StoredTrace, TimeRange,
    TraceQuery,
};

/// An engine on a disk in memory; nothing happens by itself.
fn embedded() -> EmbeddedStore {
    let options = Options {
        background: false,
        ..Options::default()
    };
    let disk = Arc::new(SimulatedDisk::new());
    let options = Options {
        // The disk has its zeros in memory, too.
        log_file_bytes: 1 << 20,
        ..options
    };
    EmbeddedStore::open_on(disk, Path::new("/"), options).expect("an empty store")
}

/// The engine, after each batch with all of it in segments.
struct InSegments {
    store: EmbeddedStore,
    /// And these merged.
    merged: bool,
}

impl InSegments {
    fn new(merged: bool) -> Self {
        Self {
            store: embedded(),
            merged,
        }
    }

    fn settle(&self) -> Result<(), StoreError> {
        self.store.flush()?;
        if self.merged {
            self.store.compact()?;
        }
        assert_eq!(self.store.engine_stats().table_spans, 0);
        Ok(())
    }
}

impl SpanSink for InSegments {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.store.append(batch).await?;
            self.settle()
        })
    }

    fn append_otlp(&self, body: Bytes) -> BoxFuture<'_, Result<OtlpTaken, AppendOtlpError>> {
        Box::pin(async move {
            let taken = self.store.append_otlp(body).await?;
            self.settle()?;
            Ok(taken)
        })
    }
}

impl SpanStore for InSegments {
    fn trace(&self, id: TraceId) -> BoxFuture<'_, Result<Option<StoredTrace>, StoreError>> {
        self.store.trace(id)
    }

    fn find_traces(&self, query: TraceQuery) -> BoxStream<'_, Result<StoredTrace, StoreError>> {
        self.store.find_traces(query)
    }

    fn attribute_keys<'a>(
        &'a self,
        scope: Scope,
        prefix: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<AttributeKey>, StoreError>> {
        self.store.attribute_keys(scope, prefix, limit)
    }

    fn attribute_values<'a>(
        &'a self,
        key: &'a str,
        scope: Scope,
        prefix: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Value>, StoreError>> {
        self.store.attribute_values(key, scope, prefix, limit)
    }

    fn red(&self, range: TimeRange) -> BoxFuture<'_, Result<Vec<RedSeries>, StoreError>> {
        self.store.red(range)
    }

    fn services(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        self.store.services()
    }

    fn operations<'a>(
        &'a self,
        service: &'a str,
        kind: Option<SpanKind>,
    ) -> BoxFuture<'a, Result<Vec<Operation>, StoreError>> {
        self.store.operations(service, kind)
    }

    fn dependencies(
        &self,
        range: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<DependencyEdge>, StoreError>> {
        self.store.dependencies(range)
    }

    fn stats(&self) -> StoreStats {
        self.store.stats()
    }
}

conformance!(memory, periplus_store::MemoryStore::default());
conformance!(embedded_in_a_table, crate::embedded());
conformance!(embedded_in_segments, crate::InSegments::new(false));
conformance!(embedded_merged, crate::InSegments::new(true));
