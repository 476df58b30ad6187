//! The contract of a store, on the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use periplus_insight::{Trace, dependencies_where};
use periplus_model::{Batch, SpanKind, TraceId, Value};

use super::EmbeddedStore;
use super::lists;
use super::meter::Meter;
use super::part::Part;
use super::payload::Payload;
use super::red;
use super::search::{Search, collect, or_default, traces_in};
use super::state::Snapshot;
use super::stream::stream;
use crate::{
    AppendOtlpError, AttributeKey, BoxFuture, BoxStream, DependencyEdge, Operation, OtlpTaken,
    RedSeries, Scope, SpanSink, SpanStore, StoreError, StoreStats, StoredTrace, TimeRange,
    TraceQuery,
};

impl SpanSink for EmbeddedStore {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.take(batch))
    }

    fn append_otlp(&self, body: Bytes) -> BoxFuture<'_, Result<OtlpTaken, AppendOtlpError>> {
        Box::pin(self.submit(Payload::Otlp(body)))
    }
}

impl SpanStore for EmbeddedStore {
    fn trace(&self, id: TraceId) -> BoxFuture<'_, Result<Option<StoredTrace>, StoreError>> {
        Box::pin(self.read(move |snapshot, _| {
            let parts: Vec<Arc<dyn Part>> = snapshot.parts().collect();
            let groups = collect(&parts, id);
            match (groups.is_empty(), snapshot.met_damage()) {
                (true, true) => Err(StoreError::Damaged {
                    reason: format!(
                        "no span of trace {id} is in what can be read, and a part cannot be; \
                         `periplus store check` says what it is"
                    ),
                }),
                (true, false) => Ok(None),
                (false, incomplete) => Ok(Some(StoredTrace {
                    id,
                    groups,
                    incomplete,
                })),
            }
        }))
    }

    fn find_traces(&self, query: TraceQuery) -> BoxStream<'_, Result<StoredTrace, StoreError>> {
        let snapshot = self.engine.state.snapshot();
        let meter = Meter::new(query.budget, self.engine.options.query_timeout);
        let make = move || Search::new(&snapshot, query, meter);
        stream(make, Arc::clone(&self.slots))
    }

    fn services(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(self.read(|snapshot, _| {
            let mut found: BTreeSet<String> = BTreeSet::new();
            for part in snapshot.parts() {
                for operation in or_default(&*part, part.operations()).iter() {
                    if !found.contains(&operation.service) {
                        found.insert(operation.service.clone());
                    }
                }
            }
            found.remove("");
            Ok(found.into_iter().collect())
        }))
    }

    fn operations<'a>(
        &'a self,
        service: &'a str,
        kind: Option<SpanKind>,
    ) -> BoxFuture<'a, Result<Vec<Operation>, StoreError>> {
        let service = service.to_owned();
        Box::pin(self.read(move |snapshot, _| {
            let mut found = BTreeSet::new();
            for part in snapshot.parts() {
                for operation in or_default(&*part, part.operations()).iter() {
                    if operation.service == service && kind.is_none_or(|k| k == operation.kind) {
                        found.insert(Operation {
                            name: operation.name.clone(),
                            kind: operation.kind,
                        });
                    }
                }
            }
            Ok(found.into_iter().collect())
        }))
    }

    fn red(&self, range: TimeRange) -> BoxFuture<'_, Result<Vec<RedSeries>, StoreError>> {
        let meter = self.meter();
        Box::pin(
            self.read(move |snapshot, cancelled| red::series(snapshot, (&meter, cancelled), range)),
        )
    }

    fn attribute_keys<'a>(
        &'a self,
        scope: Scope,
        prefix: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<AttributeKey>, StoreError>> {
        let meter = self.meter();
        let prefix = prefix.to_owned();
        Box::pin(self.read(move |snapshot, cancelled| {
            lists::keys(snapshot, (&meter, cancelled), scope, &prefix, limit)
        }))
    }

    fn attribute_values<'a>(
        &'a self,
        key: &'a str,
        scope: Scope,
        prefix: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Value>, StoreError>> {
        let meter = self.meter();
        let (key, prefix) = (key.to_owned(), prefix.to_owned());
        Box::pin(self.read(move |snapshot, cancelled| {
            lists::values(snapshot, (&meter, cancelled), (&key, scope), &prefix, limit)
        }))
    }

    fn dependencies(
        &self,
        range: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<DependencyEdge>, StoreError>> {
        let meter = self.meter();
        Box::pin(
            self.read(move |snapshot, cancelled| dependencies(snapshot, range, &meter, cancelled)),
        )
    }

    fn damage(&self) -> Option<String> {
        let snapshot = self.engine.state.snapshot();
        let damaged = snapshot.segments.iter();
        let damaged = damaged.filter(|segment| segment.is_damaged()).count();
        let parts = damaged + snapshot.lost.len();
        (parts > 0).then(|| {
            format!(
                "{parts} of the store's segments are damaged and could not be read, so something may \
                 be missing; `periplus store check` says what it is"
            )
        })
    }

    fn stats(&self) -> StoreStats {
        let snapshot = self.engine.state.snapshot();
        let counters = &self.engine.counters;
        let mut stats = StoreStats {
            max_bytes: self.engine.options.max_disk_bytes.unwrap_or(u64::MAX),
            accepted_spans: self.intake.accepted_spans(),
            evicted_traces: counters.dropped_traces.load(Ordering::Relaxed),
            evicted_spans: counters.dropped_spans.load(Ordering::Relaxed),
            ..StoreStats::default()
        };
        for segment in snapshot.segments.iter() {
            stats.traces += segment.entry().traces;
            stats.spans += segment.entry().spans;
            stats.bytes += segment.entry().bytes;
        }
        for table in &snapshot.tables {
            stats.traces += table.traces();
            stats.spans += table.spans();
            stats.bytes += table.bytes();
        }
        stats
    }
}

fn dependencies(
    snapshot: &Snapshot,
    range: TimeRange,
    meter: &Meter,
    cancelled: &AtomicBool,
) -> Result<Vec<DependencyEdge>, StoreError> {
    let (parts, ids) = traces_in(snapshot, range);
    let mut edges: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for id in ids {
        meter.check(cancelled)?;
        let trace = Trace::assemble(&collect(&parts, id));
        for edge in dependencies_where(&trace, |span| range.contains(span.start_unix_nano)) {
            let (calls, errors) = edges.entry((edge.parent, edge.child)).or_default();
            *calls += edge.calls;
            *errors += edge.errors;
        }
    }
    let edge = |((parent, child), (call_count, error_count))| DependencyEdge {
        parent,
        child,
        call_count,
        error_count,
    };
    Ok(edges.into_iter().map(edge).collect())
}
