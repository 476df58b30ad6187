//! Our answers: of the store where it has the question, else summed up from its traces.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use periplus_model::{Resource, Span, SpanKind, StatusCode, Value};
use periplus_parquet::{ExportOptions, Import, export_range};
use periplus_store::{
    Comparison, Field, Intrinsic, Literal, Scope, SpanFilter, SpanStore, StoredTrace, TimeRange,
    TraceFilter, TraceQuery,
};
use serde_json::{Value as Json, json};
use tokio::runtime::{Builder, Runtime};

use super::data::Engine;
use crate::support::contents;

pub(crate) struct Ours {
    runtime: Runtime,
    store: Arc<dyn SpanStore>,
    /// Newest first.
    traces: Vec<StoredTrace>,
}

impl Ours {
    /// Of the demo's spans, and of odd ones.
    pub(crate) fn new(engine: Engine) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let store = engine.store(&runtime);
        let everything = TraceFilter::AnySpan(SpanFilter::True);
        let traces = runtime.block_on(find(&*store, everything, usize::MAX));
        Self {
            runtime,
            store,
            traces,
        }
    }

    pub(crate) fn export(&self, path: &Path) {
        let file = File::create(path).unwrap();
        let options = ExportOptions {
            row_group_spans: 3_000,
            ..ExportOptions::default()
        };
        let all = (TimeRange::ALL, SpanFilter::True);
        let exported = export_range(&*self.store, all.0, all.1, file, options);
        let (counts, file) = self.runtime.block_on(exported).unwrap();
        assert_eq!(counts.bytes, file.metadata().unwrap().len());
        assert_eq!(counts.traces, self.traces.len() as u64);
    }

    pub(crate) fn assert_imports(&self, path: &Path, ignored: &[&str]) {
        let mut import = Import::open(path).unwrap();
        assert_eq!(import.ignored_columns(), ignored);
        let batches: Vec<_> = import.by_ref().map(Result::unwrap).collect();
        let read = contents(batches.iter().flat_map(|batch| &batch.groups));
        let all = self.traces.iter().flat_map(|trace| &trace.groups);
        assert!(read == contents(all.map(|group| &**group)));
    }

    pub(crate) fn trace_id(&self) -> String {
        self.traces[self.traces.len() / 2].id.to_string()
    }

    pub(crate) fn services(&self) -> Json {
        let services = self.runtime.block_on(self.store.services());
        let services = services.unwrap().into_iter();
        services.map(|name| json!([name])).collect()
    }

    pub(crate) fn operations(&self, service: &str) -> Json {
        let operations = self.runtime.block_on(self.store.operations(service, None));
        let operations = operations.unwrap().into_iter();
        operations
            .map(|o| json!([o.name, o.kind.as_str()]))
            .collect()
    }

    pub(crate) fn dependencies(&self) -> Json {
        let edges = self.store.dependencies(TimeRange::ALL);
        let edges = self.runtime.block_on(edges).unwrap().into_iter();
        edges
            .map(|e| json!([e.parent, e.child, e.call_count, e.error_count]))
            .collect()
    }

    pub(crate) fn ids(&self, filter: TraceFilter) -> Json {
        let mut ids = self.search(filter, usize::MAX);
        ids.sort();
        ids.iter().map(|id| json!([id])).collect()
    }

    pub(crate) fn newest(&self, service: &str, limit: usize) -> Json {
        let ids = self.search(any(service_is(service)), limit);
        ids.iter().map(|id| json!([id])).collect()
    }

    fn search(&self, filter: TraceFilter, limit: usize) -> Vec<String> {
        let found = self.runtime.block_on(find(&*self.store, filter, limit));
        found.iter().map(|trace| trace.id.to_string()).collect()
    }

    fn spans(&self) -> impl Iterator<Item = (&Resource, &Span)> {
        let groups = self.traces.iter().flat_map(|trace| &trace.groups);
        groups.flat_map(|group| group.spans.iter().map(|span| (&*group.resource, span)))
    }

    /// What is said of the spans of each service.
    pub(crate) fn by_service(&self, say: fn(&[&Span]) -> Json) -> Json {
        let mut services: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (resource, span) in self.spans() {
            services
                .entry(resource.service_name())
                .or_default()
                .push(span);
        }
        let services = services.into_iter();
        services.map(|(name, s)| json!([name, say(&s)])).collect()
    }

    pub(crate) fn error_rate_by_operation(&self) -> Json {
        let mut operations: BTreeMap<_, (u32, u32)> = BTreeMap::new();
        for (resource, span) in self.spans() {
            let key = (resource.service_name(), &*span.name);
            let (calls, errors) = operations.entry(key).or_default();
            *calls += 1;
            *errors += u32::from(failed(span));
        }
        let operations = operations.into_iter();
        operations
            .map(|((service, name), (calls, errors))| {
                json!([service, name, calls, f64::from(errors) / f64::from(calls)])
            })
            .collect()
    }

    pub(crate) fn red(&self) -> Json {
        let mut windows: BTreeMap<_, (u64, u64, u64)> = BTreeMap::new();
        for (_, span) in self.spans() {
            let window = span.start_unix_nano / 10_000_000_000;
            let (calls, errors, longest) = windows.entry(window).or_default();
            *calls += 1;
            *errors += u64::from(failed(span));
            *longest = span.duration_nano().max(*longest);
        }
        let windows = windows.into_iter();
        windows.map(|(w, (c, e, l))| json!([w, c, e, l])).collect()
    }

    /// Of the store's own series: a row for each bucket of each window of each operation.
    pub(crate) fn durations(&self) -> Json {
        let series = self
            .runtime
            .block_on(self.store.red(TimeRange::ALL))
            .unwrap();
        let mut rows = Vec::new();
        for series in &series {
            for point in &series.points {
                for (bucket, spans) in point.durations.iter() {
                    let window = point.start_unix_nano / 10_000_000_000;
                    let kind = series.kind.as_str();
                    rows.push(json!([
                        series.service,
                        series.name,
                        kind,
                        window,
                        bucket,
                        spans
                    ]));
                }
            }
        }
        sorted(rows)
    }

    /// Of the store's own series: spans and errors of each operation.
    pub(crate) fn rates(&self) -> Json {
        let series = self
            .runtime
            .block_on(self.store.red(TimeRange::ALL))
            .unwrap();
        let rows = series.iter().map(|series| {
            let spans: u64 = series.points.iter().map(|point| point.spans).sum();
            let errors: u64 = series.points.iter().map(|point| point.errors).sum();
            json!([
                series.service,
                series.name,
                series.kind.as_str(),
                spans,
                errors
            ])
        });
        sorted(rows.collect())
    }

    pub(crate) fn one_trace(&self) -> Json {
        let id = self.trace_id().parse().unwrap();
        let found = self.runtime.block_on(self.store.trace(id));
        let trace = found.unwrap().unwrap();
        let row = |(g, s, span): (usize, usize, &Span)| {
            let parent = span.parent_span_id.map(|id| id.to_string());
            let (start, end) = (span.start_unix_nano, span.end_unix_nano);
            let id = span.span_id.to_string();
            json!([g, s, id, parent, span.name, span.kind.as_str(), start, end])
        };
        let groups = trace.groups.iter().enumerate();
        groups
            .flat_map(|(g, group)| {
                let spans = group.spans.iter().enumerate();
                spans.map(move |(s, span)| row((g, s, span)))
            })
            .collect()
    }

    pub(crate) fn children(&self) -> Json {
        let mut pairs: BTreeMap<_, u64> = BTreeMap::new();
        for trace in &self.traces {
            let tree = periplus_insight::Trace::assemble(&trace.groups);
            let say = |row| (tree.service(row).to_owned(), tree.span(row).name.clone());
            for row in &tree.rows {
                if let Some(parent) = row.parent {
                    *pairs
                        .entry((say(&tree.rows[parent]), say(row)))
                        .or_default() += 1;
                }
            }
        }
        let pairs = pairs.into_iter();
        pairs
            .map(|((p, c), n)| json!([p.0, p.1, c.0, c.1, n]))
            .collect()
    }

    pub(crate) fn http(&self) -> Json {
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        for (_, span) in self.spans() {
            let method = span.attribute("http.request.method");
            let status = match span.attribute("http.response.status_code") {
                Some(Value::Int(n)) => Some(*n),
                _ => None,
            };
            *counts
                .entry((method.and_then(Value::as_str), status))
                .or_default() += 1;
        }
        let counts = counts.into_iter();
        counts.map(|((m, s), n)| json!([m, s, n])).collect()
    }
}

async fn find(store: &dyn SpanStore, filter: TraceFilter, limit: usize) -> Vec<StoredTrace> {
    let query = TraceQuery::new(TimeRange::ALL, filter, limit);
    store.find_traces(query).try_collect().await.unwrap()
}

/// Rows in the order of their texts, as kinds sort by number on one side and by name on the other.
pub(crate) fn sorted(mut rows: Vec<Json>) -> Json {
    rows.sort_by_cached_key(Json::to_string);
    Json::Array(rows)
}

fn failed(span: &Span) -> bool {
    span.status.code == StatusCode::Error
}

/// The smallest duration that 95 % of the spans do not exceed.
pub(crate) fn p95(spans: &[&Span]) -> Json {
    let mut durations: Vec<_> = spans.iter().map(|span| span.duration_nano()).collect();
    durations.sort_unstable();
    json!(durations[(durations.len() * 95).div_ceil(100) - 1])
}

fn any(filter: SpanFilter) -> TraceFilter {
    TraceFilter::AnySpan(filter)
}

fn service_is(name: &str) -> SpanFilter {
    SpanFilter::equals(Field::Intrinsic(Intrinsic::Service), name)
}

fn compare(field: Field, comparison: Comparison, literal: impl Into<Literal>) -> SpanFilter {
    SpanFilter::Compare {
        field,
        comparison,
        literal: literal.into(),
    }
}

fn attribute(scope: Scope, key: &str) -> Field {
    let key = key.to_owned();
    Field::Attribute { scope, key }
}

pub(crate) fn span_int(key: &str, value: i64) -> TraceFilter {
    any(SpanFilter::equals(attribute(Scope::Span, key), value))
}

pub(crate) fn span_text(key: &str, value: &str) -> TraceFilter {
    any(SpanFilter::equals(attribute(Scope::Span, key), value))
}

pub(crate) fn span_contains(key: &str, part: &str) -> TraceFilter {
    let field = attribute(Scope::Span, key);
    any(compare(field, Comparison::Contains, part))
}

pub(crate) fn resource_text(key: &str, value: &str) -> TraceFilter {
    any(SpanFilter::equals(attribute(Scope::Resource, key), value))
}

pub(crate) fn event_contains(key: &str, part: &str) -> TraceFilter {
    let field = attribute(Scope::Event, key);
    any(compare(field, Comparison::Contains, part))
}

pub(crate) fn slow_server(service: &str, nano: i64) -> TraceFilter {
    let kind = Field::Intrinsic(Intrinsic::Kind);
    let duration = Field::Intrinsic(Intrinsic::Duration);
    any(SpanFilter::And(vec![
        service_is(service),
        SpanFilter::equals(kind, SpanKind::Server.as_str()),
        compare(duration, Comparison::GreaterOrEqual, nano),
    ]))
}

pub(crate) fn without_errors(service: &str) -> TraceFilter {
    let status = Field::Intrinsic(Intrinsic::Status);
    let failed = any(SpanFilter::equals(status, "error"));
    TraceFilter::And(vec![
        any(service_is(service)),
        TraceFilter::Not(Box::new(failed)),
    ])
}
