//! The indexed search against a plain one that was written apart from it: collect everything, look
//! at every trace, sort, cut.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use periplus_model::{Attribute, Resource, SpanKind, TraceId, Value};
use periplus_store::{
    Comparison, Field, Intrinsic, Literal, MemoryStore, Scope, SpanFilter, TimeRange, TraceFilter,
    TraceQuery,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

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

fn any_span() -> impl Strategy<Value = Draft> {
    let attribute = || option::of((word(), value()));
    (
        (1..12_u64, word(), word(), 0..6_i32, 0..30_u64, 0..10_u64),
        (
            attribute(),
            attribute(),
            attribute(),
            attribute(),
            attribute(),
        ),
    )
        .prop_map(
            |((trace, service, name, kind, start, duration), attributes)| {
                let mut draft = span(trace, service, 1)
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
                if let Some((key, value)) = on_event {
                    draft = draft.with_event(key, value);
                }
                if let Some((key, value)) = on_link {
                    draft = draft.with_link(key, value);
                }
                draft
            },
        )
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        2 => Just(Field::Intrinsic(Intrinsic::Service)),
        1 => Just(Field::Intrinsic(Intrinsic::Name)),
        1 => Just(Field::Intrinsic(Intrinsic::Kind)),
        1 => Just(Field::Intrinsic(Intrinsic::Duration)),
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
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            3 => vec(inner.clone(), 0..4).prop_map(SpanFilter::And),
            1 => vec(inner.clone(), 0..4).prop_map(SpanFilter::Or),
            1 => inner.prop_map(|filter| SpanFilter::Not(Box::new(filter))),
        ]
    })
}

fn trace_filter() -> impl Strategy<Value = TraceFilter> {
    let leaf = span_filter().prop_map(TraceFilter::AnySpan);
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            2 => vec(inner.clone(), 0..3).prop_map(TraceFilter::And),
            1 => vec(inner.clone(), 0..3).prop_map(TraceFilter::Or),
            1 => inner.prop_map(|filter| TraceFilter::Not(Box::new(filter))),
        ]
    })
}

/// The values of a field: text forms, so that comparing is done on other grounds than in the store.
fn values(field: &Field, draft: &Draft) -> Vec<Value> {
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

fn span_holds(filter: &SpanFilter, draft: &Draft) -> bool {
    match filter {
        SpanFilter::True => true,
        SpanFilter::Exists(field) => !values(field, draft).is_empty(),
        SpanFilter::Compare {
            field,
            comparison,
            literal,
        } => (values(field, draft).iter()).any(|value| compares(value, *comparison, literal)),
        SpanFilter::And(filters) => filters.iter().all(|f| span_holds(f, draft)),
        SpanFilter::Or(filters) => filters.iter().any(|f| span_holds(f, draft)),
        SpanFilter::Not(filter) => !span_holds(filter, draft),
    }
}

fn trace_holds(filter: &TraceFilter, in_range: &[&Draft]) -> bool {
    match filter {
        TraceFilter::AnySpan(filter) => in_range.iter().any(|draft| span_holds(filter, draft)),
        TraceFilter::And(filters) => filters.iter().all(|f| trace_holds(f, in_range)),
        TraceFilter::Or(filters) => filters.iter().any(|f| trace_holds(f, in_range)),
        TraceFilter::Not(filter) => !trace_holds(filter, in_range),
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
        let in_range: Vec<&Draft> = (drafts.into_iter())
            .filter(|draft| {
                query.range.start_unix_nano <= draft.span.start_unix_nano
                    && draft.span.start_unix_nano < query.range.end_unix_nano
            })
            .collect();
        if !in_range.is_empty() && trace_holds(&query.filter, &in_range) {
            found.push((start, id));
        }
    }
    found.sort_unstable();
    found.reverse();
    found.truncate(query.limit);
    found.into_iter().map(|(_, id)| id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_indexed_search_finds_what_a_plain_one_finds(
        batches in vec(vec(any_span(), 1..8), 1..8),
        filters in vec(trace_filter(), 8),
        (from, until) in (0..30_u64, 0..40_u64),
        limit in 0..12_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let store: Store = Arc::new(MemoryStore::default());
        for spans in &batches {
            runtime.block_on(write(&store, spans.clone()));
        }
        let spans = batches.concat();
        let ranges = [
            (TimeRange::ALL, usize::MAX),
            (TimeRange { start_unix_nano: noon() + from, end_unix_nano: noon() + until }, limit),
        ];
        for filter in filters {
            for (range, limit) in ranges {
                let query = TraceQuery::new(range, filter.clone(), limit);
                let expected = plain_search(&spans, &query);
                let found: Vec<_> = runtime
                    .block_on(store.find_traces(query).try_collect::<Vec<_>>())
                    .expect("an answer")
                    .into_iter()
                    .map(|trace| trace.id)
                    .collect();
                prop_assert_eq!(&found, &expected, "{:?}", filter);
            }
        }
    }
}
