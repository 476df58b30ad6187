//! Batches and queries in few words.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, TraceId,
    Value,
};
use periplus_store::{
    Budget, Cursor, Field, Intrinsic, Literal, Outcome, SpanFilter, SpanStore, StoredTrace,
    TimeRange, TraceFilter, TraceQuery,
};

pub(crate) type Store = Arc<dyn SpanStore>;

pub(crate) const SECOND: u64 = 1_000_000_000;

/// Noon of yesterday.
pub(crate) fn noon() -> u64 {
    static NOON: OnceLock<u64> = OnceLock::new();
    *NOON.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let days = now.expect("a clock after 1970").as_secs() / 86_400;
        (days - 1) * 86_400 * SECOND + 43_200 * SECOND
    })
}

/// A span of a service: 1 µs long, at noon.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) resource: Resource,
    pub(crate) scope: Scope,
    pub(crate) span: Span,
}

pub(crate) fn trace_id(n: u64) -> TraceId {
    TraceId::from_halves(0, n)
}

pub(crate) fn span(trace: u64, service: &str, id: u64) -> Draft {
    Draft {
        resource: Resource::of_service(service),
        scope: Scope::default(),
        span: Span {
            trace_id: trace_id(trace),
            span_id: SpanId::from_u64(id),
            name: "operation".to_owned(),
            ..Span::default()
        },
    }
    .starting(noon())
    .lasting(1_000)
}

impl Draft {
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.span.name);
        self
    }

    pub(crate) fn below(mut self, parent: u64) -> Self {
        self.span.parent_span_id = Some(SpanId::from_u64(parent));
        self
    }

    pub(crate) fn kind(mut self, kind: SpanKind) -> Self {
        self.span.kind = kind;
        self
    }

    /// Moves the span.
    pub(crate) fn starting(mut self, nano: u64) -> Self {
        let duration = self.span.duration_nano();
        self.span.start_unix_nano = nano;
        self.span.end_unix_nano = nano + duration;
        self
    }

    pub(crate) fn lasting(mut self, nano: u64) -> Self {
        self.span.end_unix_nano = self.span.start_unix_nano + nano;
        self
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// On the span itself.
    pub(crate) fn with(self, key: &str, value: impl Into<Value>) -> Self {
        let attribute = Attribute::new(key, value);
        self.change(|draft| draft.span.attributes.push(attribute))
    }

    pub(crate) fn with_resource(self, key: &str, value: impl Into<Value>) -> Self {
        let attribute = Attribute::new(key, value);
        self.change(|draft| draft.resource.attributes.push(attribute))
    }

    pub(crate) fn with_scope(self, key: &str, value: impl Into<Value>) -> Self {
        let attribute = Attribute::new(key, value);
        self.change(|draft| draft.scope.attributes.push(attribute))
    }

    /// On an event of its own.
    pub(crate) fn with_event(self, key: &str, value: impl Into<Value>) -> Self {
        let event = Event {
            time_unix_nano: self.span.start_unix_nano,
            attributes: vec![Attribute::new(key, value)],
            ..Event::default()
        };
        self.change(|draft| draft.span.events.push(event))
    }

    /// On a link of its own.
    pub(crate) fn with_link(self, key: &str, value: impl Into<Value>) -> Self {
        let link = Link {
            trace_id: trace_id(0xff),
            span_id: SpanId::from_u64(0xff),
            attributes: vec![Attribute::new(key, value)],
            ..Link::default()
        };
        self.change(|draft| draft.span.links.push(link))
    }

    pub(crate) fn group(self) -> SpanGroup {
        SpanGroup {
            resource: Arc::new(self.resource),
            scope: Arc::new(self.scope),
            spans: vec![self.span],
        }
    }
}

pub(crate) fn batch(drafts: impl IntoIterator<Item = Draft>) -> Batch {
    Batch {
        groups: drafts.into_iter().map(Draft::group).collect(),
    }
}

pub(crate) async fn write(store: &Store, drafts: impl IntoIterator<Item = Draft>) {
    let written = store.append(batch(drafts)).await;
    written.expect("the store takes the batch");
}

pub(crate) fn service_is(name: &str) -> SpanFilter {
    intrinsic_is(Intrinsic::Service, name)
}

pub(crate) fn name_is(name: &str) -> SpanFilter {
    intrinsic_is(Intrinsic::Name, name)
}

pub(crate) fn intrinsic_is(intrinsic: Intrinsic, text: &str) -> SpanFilter {
    SpanFilter::equals(Field::Intrinsic(intrinsic), text)
}

/// Jaeger's tag search.
pub(crate) fn tag_is(key: &str, text: &str) -> SpanFilter {
    let field = Field::Attribute {
        scope: periplus_store::Scope::Any,
        key: key.to_owned(),
    };
    SpanFilter::equals(field, Literal::Untyped(text.to_owned()))
}

impl From<SpanFilter> for Query {
    fn from(filter: SpanFilter) -> Self {
        TraceFilter::AnySpan(filter).into()
    }
}

impl From<TraceFilter> for Query {
    fn from(filter: TraceFilter) -> Self {
        Self(TraceQuery::new(TimeRange::ALL, filter, 1_000))
    }
}

/// A query line.
pub(crate) fn line(line: &str) -> Query {
    periplus_store::parse(line)
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .into()
}

/// A query over all of time with a high limit, to be refined.
pub(crate) struct Query(TraceQuery);

impl Query {
    pub(crate) fn limit(mut self, limit: usize) -> Self {
        self.0.limit = limit;
        self
    }

    pub(crate) fn between(mut self, start: u64, end: u64) -> Self {
        self.0.range = TimeRange {
            start_unix_nano: start,
            end_unix_nano: end,
        };
        self
    }

    /// Behind this trace.
    pub(crate) fn after(mut self, cursor: Option<Cursor>) -> Self {
        self.0.after = cursor;
        self
    }

    pub(crate) fn within(mut self, budget: Budget) -> Self {
        self.0.budget = budget;
        self
    }

    pub(crate) async fn run(self, store: &Store) -> Vec<StoredTrace> {
        self.run_to_the_end(store).await.0
    }

    pub(crate) async fn run_to_the_end(self, store: &Store) -> (Vec<StoredTrace>, Outcome) {
        let mut search = store.search(self.0).expect("the query can be answered");
        let mut found = Vec::new();
        while let Some(trace) = search.next().await {
            found.push(trace.expect("the query is answered"));
        }
        (found, search.outcome().expect("the search is at its end"))
    }

    /// The ids of what is found, in the order of the answer.
    pub(crate) async fn ids(self, store: &Store) -> Vec<u64> {
        let found = self.run(store).await;
        found.iter().map(|trace| trace.id.low()).collect()
    }
}

/// Everything that a trace holds, in an order that does not depend on how it arrived.
pub(crate) fn contents(groups: &[Arc<SpanGroup>]) -> Vec<(&Resource, &Scope, &Span)> {
    let mut spans: Vec<_> = groups
        .iter()
        .flat_map(|group| {
            let (resource, scope) = (&*group.resource, &*group.scope);
            group.spans.iter().map(move |span| (resource, scope, span))
        })
        .collect();
    spans.sort_by_cached_key(|(resource, _, span)| {
        (
            span.span_id,
            span.start_unix_nano,
            format!("{resource:?}{span:?}"),
        )
    });
    spans
}
