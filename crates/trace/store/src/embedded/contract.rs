//! The contract of a store, on the engine.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use periplus_model::{Batch, SpanGroup, SpanKind, TraceId, Value};

use super::part::Part;
use super::payload::Payload;
use super::scan::Scan;
use super::search::{Search, collect, incomplete, or_default};
use super::stream::{Cancel, stream};
use super::{EmbeddedStore, calls, lists, red};
use crate::{
    AppendOtlpError, AttributeKey, BoxFuture, BoxStream, DependencyEdge, Detail, Incomplete,
    Operation, OtlpTaken, RedQuery, RedSeries, ScanQuery, Scope, SpanSink, SpanStore, StoreError,
    StoreStats, StoredTrace, TimeRange, TraceQuery,
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
        Box::pin(self.read(move |snapshot, meter| {
            let parts: Vec<Arc<dyn Part>> = snapshot.parts().collect();
            meter.cut_traces_at(u64::MAX);
            let groups = collect(&parts, id, Detail::Full, meter);
            meter.check()?;
            match (groups.is_empty(), incomplete(&parts, id, snapshot, meter)) {
                (true, Some(Incomplete::Damaged)) => Err(StoreError::Damaged {
                    reason: format!(
                        "no span of trace {id} is in what can be read, and a part cannot be; \
                         `periplus store check` says what it is"
                    ),
                }),
                (true, Some(Incomplete::TooLarge { .. })) => Err(StoreError::QueryLimit {
                    reason: "a single span takes too much memory",
                }),
                (true, None) => Ok(None),
                (_, incomplete) => Ok(Some(StoredTrace {
                    id,
                    groups,
                    incomplete,
                })),
            }
        }))
    }

    fn find_traces(&self, query: TraceQuery) -> BoxStream<'_, Result<StoredTrace, StoreError>> {
        let snapshot = self.engine.state.snapshot();
        let cancel = Cancel::default();
        let meter = self.meter(query.budget, &cancel);
        let turns = self.turns(&meter);
        let make = move || Search::new(&snapshot, query, meter);
        stream(make, cancel, turns)
    }

    fn scan(&self, query: ScanQuery) -> BoxStream<'_, Result<Vec<SpanGroup>, StoreError>> {
        if let Err(error) = check_scan(&query) {
            return Box::pin(futures_util::stream::once(async { Err(error) }));
        }
        let snapshot = self.engine.state.snapshot();
        let cancel = Cancel::default();
        let meter = self.meter(query.budget, &cancel);
        let turns = self.turns(&meter);
        let make = move || Scan::new(snapshot, query, meter);
        stream(make, cancel, turns)
    }

    fn count(&self, query: ScanQuery) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            check_scan(&query)?;
            let budget = query.budget;
            self.read_within(budget, move |snapshot, meter| {
                Scan::new(snapshot.clone(), query, meter).count()
            })
            .await
        })
    }

    fn services(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(self.read(|snapshot, meter| {
            let mut found: BTreeSet<String> = BTreeSet::new();
            for part in snapshot.parts() {
                meter.check()?;
                let operations = or_default(&*part, part.operations(meter));
                // They are sorted by service.
                let mut rest = &operations[..];
                while let Some(first) = rest.first() {
                    if !found.contains(&first.service) {
                        found.insert(first.service.clone());
                    }
                    rest = &rest[rest.partition_point(|one| one.service <= first.service)..];
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
        Box::pin(self.read(move |snapshot, meter| {
            let mut found = BTreeSet::new();
            for part in snapshot.parts() {
                meter.check()?;
                let operations = or_default(&*part, part.operations(meter));
                let first = operations.partition_point(|one| one.service < service);
                let of_service = operations[first..].iter();
                for operation in of_service.take_while(|one| one.service == service) {
                    if kind.is_none_or(|k| k == operation.kind) {
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

    fn red_by(&self, query: RedQuery) -> BoxFuture<'_, Result<Vec<RedSeries>, StoreError>> {
        let cache = Arc::clone(&self.engine.cache);
        Box::pin(
            self.read(move |snapshot, meter| red::series(snapshot, meter, &query, &cache.minutes)),
        )
    }

    fn attribute_keys<'a>(
        &'a self,
        scope: Scope,
        prefix: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<AttributeKey>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(
            self.read(move |snapshot, meter| lists::keys(snapshot, meter, scope, &prefix, limit)),
        )
    }

    fn attribute_values<'a>(
        &'a self,
        key: &'a str,
        scope: Scope,
        prefix: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Value>, StoreError>> {
        let (key, prefix) = (key.to_owned(), prefix.to_owned());
        Box::pin(self.read(move |snapshot, meter| {
            lists::values(snapshot, meter, (&key, scope), &prefix, limit)
        }))
    }

    fn dependencies(
        &self,
        range: TimeRange,
    ) -> BoxFuture<'_, Result<Vec<DependencyEdge>, StoreError>> {
        let cache = Arc::clone(&self.engine.cache);
        Box::pin(
            self.read(move |snapshot, meter| calls::dependencies(snapshot, range, meter, &cache)),
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

fn check_scan(query: &ScanQuery) -> Result<(), StoreError> {
    match query.filter.is_local() {
        true => Ok(()),
        false => Err(StoreError::InvalidQuery {
            reason: "it speaks of other spans of the trace, and a scan looks at single spans: \
                     search for traces"
                .to_owned(),
        }),
    }
}
