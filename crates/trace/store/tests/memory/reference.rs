//! The engines' searches against a plain one that was written apart from them: collect everything,
//! look at every trace, sort, cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt;
use periplus_model::{Attribute, Resource, SpanId, SpanKind, TraceId, Value};
use periplus_store::embedded::disk::SimulatedDisk;
use periplus_store::embedded::{EmbeddedStore, Options};
use periplus_store::{
    Comparison, Field, Intrinsic, Literal, MemoryStore, Pattern, Relation, Scope, SpanFilter,
    TimeRange, TraceField, TraceFilter, TraceQuery, matches, parse,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::suite::build::{Draft, Store, noon, span, write};

const WORDS: [&str; 4] = ["a", "b", "7", "true"];

fn word() -> impl Strategy<Value = &'static str> {
    (0..WORDS.len()).prop_map(|i| WORDS[i])
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        word().prop_map(Value::from),
        (6..9_i64).prop_map(Value::from),
        (12..18_i32).prop_map(|half| Value::from(f64::from(half) / 2.0)),
        any::<bool>().prop_map(Value::from),
        Just(Value::Bytes(vec![7])),
    ]
}

pub(crate) fn any_span() -> impl Strategy<Value = Draft> {
    let attribute = || option::of((word(), value()));
    (
        (
            1..7_u64,
            word(),
            word(),
            0..6_i32,
            0..30_u64,
            0..10_u64,
            any::<u64>(),
        ),
        (
            attribute(),
            attribute(),
            attribute(),
            vec((word(), value()), 0..3),
            vec((word(), value()), 0..3),
        ),
    )
        .prop_map(
            |((trace, service, name, kind, start, duration, parent), attributes)| {
                // Its id is given when all spans are known.
                let mut draft = span(trace, service, 0)
                    .below(parent)
                    .named(name)
                    .kind(SpanKind::from_number(kind))
                    .starting(noon() + start)
                    .lasting(duration);
                let (on_span, on_resource, on_scope, on_event, on_link) = attributes;
                if let Some((key, value)) = on_span {
                    draft = draft.with(key, value);
                }
                if let Some((key, value)) = on_resource {
                    draft = draft.with_resource(key, value);
                }
                if let Some((key, value)) = on_scope {
                    draft = draft.with_scope(key, value);
                }
                for (key, value) in on_event {
                    draft = draft.with_event(key, value);
                }
                for (key, value) in on_link {
                    draft = draft.with_link(key, value);
                }
                draft
            },
        )
}

/// Gives each span an id of its own; its parent is a span before it, of whatever trace, or nobody.
pub(crate) fn identify<'a>(batches: impl IntoIterator<Item = &'a mut Vec<Draft>>) {
    for (at, draft) in batches.into_iter().flatten().enumerate() {
        let span = &mut draft.span;
        span.span_id = SpanId::from_u64(at as u64 + 1);
        let parent = span
            .parent_span_id
            .map_or(0, |id| id.as_u64() % (at as u64 + 1));
        span.parent_span_id = (parent > 0).then(|| SpanId::from_u64(parent));
    }
}

fn relation() -> impl Strategy<Value = Relation> {
    proptest::sample::select(vec![
        Relation::Parent,
        Relation::Child,
        Relation::Ancestor,
        Relation::Descendant,
        Relation::Sibling,
        Relation::Trace,
    ])
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        2 => Just(Field::Intrinsic(Intrinsic::Service)),
        1 => Just(Field::Intrinsic(Intrinsic::Name)),
        1 => Just(Field::Intrinsic(Intrinsic::Kind)),
        1 => Just(Field::Intrinsic(Intrinsic::Duration)),
        1 => Just(Field::Intrinsic(Intrinsic::ParentId)),
        1 => Just(Field::Trace(TraceField::Spans)),
        1 => Just(Field::Trace(TraceField::RootService)),
        4 => (0..6_usize, word()).prop_map(|(scope, key)| Field::Attribute {
            scope: [
                Scope::Any, Scope::Span, Scope::Resource, Scope::Instrumentation, Scope::Event,
                Scope::Link,
            ][scope],
            key: key.to_owned(),
        }),
    ]
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        word().prop_map(Literal::from),
        word().prop_map(|text| Literal::Untyped(text.to_owned())),
        Just(Literal::Untyped("7.5".to_owned())),
        (6..9_i64).prop_map(Literal::Int),
        (12..18_i32).prop_map(|half| Literal::Double(f64::from(half) / 2.0)),
        any::<bool>().prop_map(Literal::Bool),
    ]
}

fn pattern() -> impl Strategy<Value = SpanFilter> {
    let pattern = proptest::sample::select(vec!["[ab]", "7|true", "t.*", ""]);
    (field(), pattern, any::<bool>()).prop_map(|(field, pattern, matches)| SpanFilter::Compare {
        field,
        comparison: if matches {
            Comparison::Matches
        } else {
            Comparison::NotMatches
        },
        literal: Literal::Pattern(Pattern::new(pattern).expect("a pattern")),
    })
}

const COMPARISONS: [Comparison; 7] = [
    Comparison::Equal,
    Comparison::NotEqual,
    Comparison::Less,
    Comparison::LessOrEqual,
    Comparison::Greater,
    Comparison::GreaterOrEqual,
    Comparison::Contains,
];

fn span_filter() -> impl Strategy<Value = SpanFilter> {
    let compare = (field(), 0..COMPARISONS.len(), literal()).prop_map(|(field, i, literal)| {
        SpanFilter::Compare {
            field,
            comparison: COMPARISONS[i],
            literal,
        }
    });
    let leaf = prop_oneof![
        1 => Just(SpanFilter::True),
        1 => field().prop_map(SpanFilter::Exists),
        3 => word().prop_map(|name| SpanFilter::equals(Field::Intrinsic(Intrinsic::Service), name)),
        6 => compare,
        1 => pattern(),
    ];
    let local = leaf
        .clone()
        .prop_filter("about one span", SpanFilter::is_local);
    let parts = (any::<bool>(), vec(local, 0..3), any::<bool>());
    let part = parts.prop_map(|(event, filters, negated)| {
        let relation = match event {
            true => Relation::Event,
            false => Relation::Link,
        };
        let filter = SpanFilter::And(filters);
        Field::relatives(
            relation,
            match negated {
                true => SpanFilter::Not(Box::new(filter)),
                false => filter,
            },
        )
    });
    let leaf = prop_oneof![
        8 => leaf,
        1 => part.prop_map(SpanFilter::Exists),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        let relatives = (relation(), inner.clone())
            .prop_map(|(relation, filter)| Field::relatives(relation, filter))
            .boxed();
        let number = (relatives.clone(), 0..6_usize, 0..3_i64).prop_map(|(field, i, number)| {
            SpanFilter::Compare {
                field,
                comparison: COMPARISONS[i],
                literal: Literal::Int(number),
            }
        });
        prop_oneof![
            3 => vec(inner.clone(), 0..4).prop_map(SpanFilter::And),
            1 => vec(inner.clone(), 0..4).prop_map(SpanFilter::Or),
            2 => relatives.prop_map(SpanFilter::Exists),
            1 => number,
            1 => inner.prop_map(|filter| SpanFilter::Not(Box::new(filter))),
        ]
    })
}

pub(crate) fn trace_filter() -> impl Strategy<Value = TraceFilter> {
    let leaf = span_filter().prop_map(TraceFilter::AnySpan);
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            2 => vec(inner.clone(), 0..3).prop_map(TraceFilter::And),
            1 => vec(inner.clone(), 0..3).prop_map(TraceFilter::Or),
            1 => inner.prop_map(|filter| TraceFilter::Not(Box::new(filter))),
        ]
    })
}

/// All spans of a trace, and those of them that count.
struct Spans<'a> {
    all: Vec<&'a Draft>,
    in_range: Vec<&'a Draft>,
}

impl<'a> Spans<'a> {
    fn parent(&self, draft: &Draft) -> Option<&'a Draft> {
        let parent = draft.span.parent_span_id?;
        self.all
            .iter()
            .copied()
            .find(|other| other.span.span_id == parent)
    }

    fn is_below(&self, draft: &Draft, other: &Draft) -> bool {
        self.parent(draft)
            .is_some_and(|parent| same(parent, other) || self.is_below(parent, other))
    }

    /// Whether the other one is this to the span.
    fn is(&self, relation: Relation, draft: &Draft, other: &Draft) -> bool {
        let is_parent = |parent: &Draft, child: &Draft| {
            self.parent(child).is_some_and(|found| same(found, parent))
        };
        match relation {
            Relation::Parent => is_parent(other, draft),
            Relation::Child => is_parent(draft, other),
            Relation::Ancestor => self.is_below(draft, other),
            Relation::Descendant => self.is_below(other, draft),
            Relation::Sibling => {
                let parent = self.parent(draft);
                !same(draft, other) && parent.is_some_and(|parent| is_parent(parent, other))
            }
            _ => true,
        }
    }

    fn root(&self) -> Option<&'a Draft> {
        let roots = self
            .all
            .iter()
            .filter(|draft| draft.span.parent_span_id.is_none());
        roots
            .copied()
            .min_by_key(|draft| draft.span.start_unix_nano)
    }
}

fn same(draft: &Draft, other: &Draft) -> bool {
    draft.span.span_id == other.span.span_id
}

/// The values of a field: text forms, so that comparing is done on other grounds than in the store.
fn values(field: &Field, draft: &Draft, of_trace: &Spans<'_>) -> Vec<Value> {
    let of = |attributes: &[Attribute], key: &str| -> Vec<Value> {
        (attributes.iter().filter(|a| a.key == key))
            .map(|a| a.value.clone())
            .collect()
    };
    match field {
        Field::Intrinsic(Intrinsic::Service) => {
            vec![Resource::service_name(&draft.resource).into()]
        }
        Field::Intrinsic(Intrinsic::Name) => vec![draft.span.name.as_str().into()],
        Field::Intrinsic(Intrinsic::Kind) => vec![draft.span.kind.as_str().into()],
        Field::Intrinsic(Intrinsic::ParentId) => {
            let parent = draft.span.parent_span_id;
            parent
                .iter()
                .map(|id| Value::from(id.to_string()))
                .collect()
        }
        Field::Trace(TraceField::Spans) => vec![Value::Int(of_trace.all.len() as i64)],
        Field::Trace(_) => {
            let root = of_trace.root();
            root.iter()
                .map(|root| Value::from(root.resource.service_name()))
                .collect()
        }
        Field::Relatives {
            relation: relation @ (Relation::Event | Relation::Link),
            filter,
        } => {
            let span = &draft.span;
            let parts = match relation {
                Relation::Event => span.events.len(),
                _ => span.links.len(),
            };
            let number = (0..parts).filter(|part| {
                let mut alone = draft.clone();
                match relation {
                    Relation::Event => alone.span.events = vec![span.events[*part].clone()],
                    _ => alone.span.links = vec![span.links[*part].clone()],
                }
                span_holds(filter, &alone, of_trace)
            });
            vec![Value::Int(number.count() as i64)]
        }
        Field::Relatives { relation, filter } => {
            let number = (of_trace.in_range.iter())
                .filter(|other| of_trace.is(*relation, draft, other))
                .filter(|other| span_holds(filter, other, of_trace))
                .count();
            vec![Value::Int(number as i64)]
        }
        Field::Intrinsic(_) => vec![Value::Int(draft.span.duration_nano() as i64)],
        Field::Attribute { scope, key } => {
            let mut values = Vec::new();
            let places = [
                (Scope::Span, of(&draft.span.attributes, key)),
                (Scope::Resource, of(&draft.resource.attributes, key)),
                (Scope::Instrumentation, of(&draft.scope.attributes, key)),
                (
                    Scope::Event,
                    draft
                        .span
                        .events
                        .iter()
                        .flat_map(|e| of(&e.attributes, key))
                        .collect(),
                ),
                (
                    Scope::Link,
                    draft
                        .span
                        .links
                        .iter()
                        .flat_map(|l| of(&l.attributes, key))
                        .collect(),
                ),
            ];
            for (place, found) in places {
                if *scope == Scope::Any || *scope == place {
                    values.extend(found);
                }
            }
            values
        }
        other => unreachable!("not generated: {other}"),
    }
}

fn compares(value: &Value, comparison: Comparison, literal: &Literal) -> bool {
    let number = |value: &Value| match value {
        Value::Int(n) => Some(*n as f64),
        Value::Double(n) => Some(*n),
        _ => None,
    };
    if let Literal::Untyped(text) = literal {
        let typed = match value {
            Value::String(_) => Literal::String(text.clone()),
            Value::Bool(b) if comparison == Comparison::NotEqual => return b.to_string() != *text,
            Value::Bool(b) => return comparison == Comparison::Equal && b.to_string() == *text,
            Value::Int(_) | Value::Double(_) => match text.parse() {
                Ok(number) => Literal::Double(number),
                Err(_) => return comparison == Comparison::NotEqual,
            },
            _ => return false,
        };
        return compares(value, comparison, &typed);
    }
    let order = match (value, literal) {
        (Value::String(value), Literal::Pattern(pattern)) => {
            // Written apart from the crate that the store uses.
            let held = match pattern.as_str() {
                "[ab]" => value == "a" || value == "b",
                "7|true" => value == "7" || value == "true",
                "t.*" => value.starts_with('t'),
                _ => value.is_empty(),
            };
            return held == (comparison == Comparison::Matches);
        }
        (Value::String(value), Literal::String(text)) if comparison == Comparison::Contains => {
            return value.contains(text.as_str());
        }
        _ if comparison == Comparison::Contains => return false,
        (Value::String(value), Literal::String(text)) => value.partial_cmp(text),
        (Value::Bool(value), Literal::Bool(literal)) => {
            return match comparison {
                Comparison::Equal => value == literal,
                Comparison::NotEqual => value != literal,
                _ => false,
            };
        }
        (value, Literal::Int(literal)) => {
            number(value).and_then(|v| v.partial_cmp(&(*literal as f64)))
        }
        (value, Literal::Double(literal)) => number(value).and_then(|v| v.partial_cmp(literal)),
        _ => None,
    };
    let Some(order) = order else { return false };
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        _ => false,
    }
}

fn span_holds(filter: &SpanFilter, draft: &Draft, of_trace: &Spans<'_>) -> bool {
    let holds = |filter: &SpanFilter| span_holds(filter, draft, of_trace);
    match filter {
        SpanFilter::True => true,
        SpanFilter::Exists(field @ Field::Relatives { .. }) => {
            values(field, draft, of_trace) != [Value::Int(0)]
        }
        SpanFilter::Exists(field) => !values(field, draft, of_trace).is_empty(),
        SpanFilter::Compare {
            field,
            comparison,
            literal,
        } => (values(field, draft, of_trace).iter())
            .any(|value| compares(value, *comparison, literal)),
        SpanFilter::And(filters) => filters.iter().all(holds),
        SpanFilter::Or(filters) => filters.iter().any(holds),
        SpanFilter::Not(filter) => !holds(filter),
    }
}

fn trace_holds(filter: &TraceFilter, spans: &Spans<'_>) -> bool {
    match filter {
        TraceFilter::AnySpan(filter) => {
            (spans.in_range.iter()).any(|draft| span_holds(filter, draft, spans))
        }
        TraceFilter::And(filters) => filters.iter().all(|f| trace_holds(f, spans)),
        TraceFilter::Or(filters) => filters.iter().any(|f| trace_holds(f, spans)),
        TraceFilter::Not(filter) => !trace_holds(filter, spans),
    }
}

fn plain_search(spans: &[Draft], query: &TraceQuery) -> Vec<TraceId> {
    let mut traces: BTreeMap<TraceId, Vec<&Draft>> = BTreeMap::new();
    for draft in spans {
        traces.entry(draft.span.trace_id).or_default().push(draft);
    }
    let mut found = Vec::new();
    for (id, drafts) in traces {
        let start = drafts.iter().map(|draft| draft.span.start_unix_nano).min();
        let in_range: Vec<&Draft> = (drafts.iter().copied())
            .filter(|draft| {
                query.range.start_unix_nano <= draft.span.start_unix_nano
                    && draft.span.start_unix_nano < query.range.end_unix_nano
            })
            .collect();
        let spans = Spans {
            all: drafts,
            in_range,
        };
        if !spans.in_range.is_empty() && trace_holds(&query.filter, &spans) {
            found.push((start, id));
        }
    }
    found.sort_unstable();
    found.reverse();
    found.truncate(query.limit);
    found.into_iter().map(|(_, id)| id).collect()
}

/// Writes the batches, and asks the store and the plain search.
fn compare(
    runtime: &Runtime,
    store: &Store,
    batches: &mut [Vec<Draft>],
    filters: &[TraceFilter],
    (from, until): (u64, u64),
    limit: usize,
) -> Result<(), TestCaseError> {
    identify(batches.iter_mut());
    for spans in &*batches {
        runtime.block_on(write(store, spans.clone()));
    }
    let spans = batches.concat();
    let part = TimeRange {
        start_unix_nano: noon() + from,
        end_unix_nano: noon() + until,
    };
    let ask = |query| {
        let search = store.search(query).expect("a query that can be answered");
        let traces: Result<Vec<_>, _> = runtime.block_on(search.try_collect());
        traces.expect("an answer")
    };
    for filter in filters {
        for (range, limit) in [(TimeRange::ALL, usize::MAX), (part, limit)] {
            let query = TraceQuery::new(range, filter.clone(), limit);
            let expected = plain_search(&spans, &query);
            let traces = ask(query);
            let found: Vec<_> = traces.iter().map(|trace| trace.id).collect();
            prop_assert_eq!(&found, &expected, "{}", filter);
            // What an engine looks at first leaves nothing out, and the text means the same.
            let bound = filter.local_bound();
            for trace in &traces {
                let possible = matches(&bound, &trace.groups, range);
                prop_assert!(possible, "{} of {}", bound, filter);
            }
            let shown = filter.to_string();
            let read = parse(&shown).expect("what is shown can be read");
            let again = ask(TraceQuery::new(range, read, limit));
            prop_assert_eq!(&again, &traces, "{}", shown);
        }
    }
    Ok(())
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.expect("a runtime")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_indexed_search_finds_what_a_plain_one_finds(
        mut batches in vec(vec(any_span(), 1..8), 1..8),
        filters in vec(trace_filter(), 8),
        range in (0..30_u64, 0..40_u64),
        limit in 0..12_usize,
    ) {
        let store: Store = Arc::new(MemoryStore::default());
        compare(&runtime(), &store, &mut batches, &filters, range, limit)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn the_embedded_engine_finds_what_a_plain_search_finds(
        mut batches in vec(vec(any_span(), 1..8), 1..8),
        filters in vec(trace_filter(), 60),
        range in (0..30_u64, 0..40_u64),
        limit in 0..12_usize,
        table_bytes in proptest::sample::select(vec![1, 1 << 20]),
    ) {
        let disk = Arc::new(SimulatedDisk::new());
        let options = Options { table_bytes, ..Options::default() };
        let store = EmbeddedStore::open_on(disk, Path::new("/"), options).expect("an empty store");
        let store: Store = Arc::new(store);
        compare(&runtime(), &store, &mut batches, &filters, range, limit)?;
    }
}
