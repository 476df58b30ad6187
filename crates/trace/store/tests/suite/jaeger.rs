//! The search cases of Jaeger's storage integration suite (`queries.json` and its fixtures).

use periplus_model::Value;
use periplus_store::{Comparison, Field, Intrinsic, Literal, SpanFilter};

use super::build::{Draft, Query, SECOND, Store, name_is, noon, service_is, span, tag_is, write};

/// Where a tag sits.
#[derive(Clone, Copy)]
enum Spot {
    Span,
    Resource,
    Scope,
    /// On one event, with the other tags that are there.
    Event,
    /// On an event of its own.
    OwnEvent,
    /// On a link of its own.
    Link,
}

use Spot::{Event, Link, OwnEvent, Resource, Scope, Span};

/// A trace, and the query that must find it and nothing else.
struct Case {
    caption: &'static str,
    /// Where the four tags of the trace are; the query asks for all of them.
    tags: Option<[Spot; 4]>,
    /// The middle of the tags' keys.
    key: &'static str,
    /// Whether the query asks for the operation.
    operation: bool,
    /// The durations of the trace's spans.
    spans: &'static [u64],
    /// The durations that the query asks for, both ends included.
    duration: (Option<u64>, Option<u64>),
}

const CASE: Case = Case {
    caption: "",
    tags: None,
    key: "tag",
    operation: false,
    spans: &[5_000],
    duration: (None, None),
};

const RANGE: (Option<u64>, Option<u64>) = (Some(4_500), Some(5_500));
const AT_MOST_1: (Option<u64>, Option<u64>) = (None, Some(1_000));
const AT_MOST_2: (Option<u64>, Option<u64>) = (None, Some(2_000));

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let all = |spot| Some([spot; 4]);
    vec![
        Case { caption: "Tags in one spot - Tags", tags: all(Span), ..CASE },
        Case { caption: "Tags in one spot - Logs", tags: all(Event), ..CASE },
        Case { caption: "Tags in one spot - Process", tags: all(Resource), ..CASE },
        Case { caption: "Tags in different spots", tags: Some([Resource, Event, Span, Span]), ..CASE },
        Case { caption: "Operation name", operation: true, ..CASE },
        Case { caption: "Operation name + max Duration", operation: true, spans: &[1_000, 2_000], duration: AT_MOST_2, ..CASE },
        Case { caption: "Operation name + Duration range", operation: true, duration: RANGE, ..CASE },
        Case { caption: "Duration range", duration: RANGE, ..CASE },
        Case { caption: "max Duration", spans: &[1_000], duration: AT_MOST_1, ..CASE },
        Case { caption: "default", ..CASE },
        Case { caption: "Tags + Operation name", tags: all(Span), operation: true, ..CASE },
        Case { caption: "Tags + Operation name + max Duration", tags: all(Resource), operation: true, spans: &[1_000, 2_000], duration: AT_MOST_2, ..CASE },
        Case { caption: "Tags + Operation name + Duration range", tags: all(Event), operation: true, duration: RANGE, ..CASE },
        Case { caption: "Tags + Duration range", tags: all(Span), duration: RANGE, ..CASE },
        Case { caption: "Tags + max Duration", tags: all(Resource), spans: &[1_000], duration: AT_MOST_1, ..CASE },
        Case { caption: "Multi-spot Tags + Operation name", tags: Some([Resource, OwnEvent, Span, OwnEvent]), operation: true, ..CASE },
        Case { caption: "Multi-spot Tags + Operation name + max Duration", tags: Some([Span, OwnEvent, Resource, OwnEvent]), operation: true, spans: &[1_000, 2_000], duration: AT_MOST_2, ..CASE },
        Case { caption: "Multi-spot Tags + Operation name + Duration range", tags: Some([Span, Event, Resource, Resource]), operation: true, duration: RANGE, ..CASE },
        Case { caption: "Multi-spot Tags + Duration range", tags: Some([Event, Span, Resource, Span]), duration: RANGE, ..CASE },
        Case { caption: "Multi-spot Tags + max Duration", tags: Some([Event, Event, Resource, Resource]), spans: &[1_000], duration: AT_MOST_1, ..CASE },
        Case { caption: "Scope Name and Version", tags: all(Span), ..CASE },
        Case { caption: "Scope Attributes", tags: all(Scope), key: "scopeattribute", ..CASE },
        Case { caption: "Link Attributes", tags: Some([Link, Link, Link, Link]), key: "linkattribute", ..CASE },
    ]
}

/// The values that the traces have, each with the text that queries ask for.
fn values() -> [(Value, &'static str); 4] {
    [
        (Value::from("sameplacevalue"), "sameplacevalue"),
        (Value::Int(123), "123"),
        (Value::Double(72.5), "72.5"),
        (Value::Bool(true), "true"),
    ]
}

impl Case {
    fn service(number: u64) -> String {
        format!("query{number:02}-service")
    }

    fn key(&self, i: usize) -> String {
        format!("sameplace{}{}", self.key, i + 1)
    }

    fn trace(&self, number: u64) -> Vec<Draft> {
        let draft = |(id, &duration): (u64, &u64)| {
            let draft = span(number, &Self::service(number), id)
                .named(&format!("query{number:02}-operation"))
                .lasting(duration)
                .change(|draft| {
                    draft.scope.name = "library".to_owned();
                    draft.scope.version = "1.1.1".to_owned();
                });
            let spots = self.tags.into_iter().flatten().enumerate();
            spots
                .zip(values())
                .fold(draft, |draft, ((i, spot), (value, _))| {
                    let key = &self.key(i);
                    match spot {
                        Span => draft.with(key, value),
                        Resource => draft.with_resource(key, value),
                        Scope => draft.with_scope(key, value),
                        OwnEvent => draft.with_event(key, value),
                        Link => draft.with_link(key, value),
                        Event => match draft.span.events.is_empty() {
                            true => draft.with_event(key, value),
                            false => draft.change(|draft| {
                                let attribute = periplus_model::Attribute::new(key, value);
                                draft.span.events[0].attributes.push(attribute);
                            }),
                        },
                    }
                })
        };
        (1..).zip(self.spans).map(draft).collect()
    }

    fn query(&self, number: u64) -> Query {
        let mut filters = vec![service_is(&Self::service(number))];
        if self.operation {
            filters.push(name_is(&format!("query{number:02}-operation")));
        }
        for (comparison, nano) in [
            (Comparison::GreaterOrEqual, self.duration.0),
            (Comparison::LessOrEqual, self.duration.1),
        ] {
            filters.extend(nano.map(|nano| SpanFilter::Compare {
                field: Field::Intrinsic(Intrinsic::Duration),
                comparison,
                literal: Literal::Int(nano as i64),
            }));
        }
        if self.tags.is_some() {
            let tag = |(i, (_, text)): (usize, (Value, &str))| tag_is(&self.key(i), text);
            filters.extend(values().into_iter().enumerate().map(tag));
        }
        Query::from(SpanFilter::And(filters)).between(noon() - SECOND, noon() + SECOND)
    }
}

/// What a query must not find: each tag on another span, values that differ, other durations.
fn decoys(case: &Case, number: u64) -> Vec<Draft> {
    let trace = 1_000 + number;
    let service = &Case::service(number);
    let other = |id| span(trace, service, id).named("other").lasting(50_000);
    let mut decoys = vec![other(9)];
    if case.tags.is_some() {
        for (i, (value, _)) in values().into_iter().enumerate() {
            let name = format!("query{number:02}-operation");
            let tagged = other(20 + i as u64).named(&name).lasting(case.spans[0]);
            decoys.push(tagged.with(&case.key(i), value));
        }
    }
    decoys
}

pub(crate) async fn jaegers_find_traces_cases(store: Store) {
    let cases = cases();
    for (number, case) in (1..).zip(&cases) {
        write(&store, case.trace(number)).await;
        let asks_for_anything = case.operation || case.tags.is_some() || case.duration.1.is_some();
        if asks_for_anything {
            write(&store, decoys(case, number)).await;
        }
    }
    for (number, case) in (1..).zip(&cases) {
        let found = case.query(number).run(&store).await;
        let ids: Vec<u64> = found.iter().map(|trace| trace.id.low()).collect();
        assert_eq!(ids, [number], "{}", case.caption);
        assert_eq!(found[0].span_count(), case.spans.len(), "{}", case.caption);
    }

    // "Trace spans over multiple indices": one span lies before the range, and comes along.
    let over_two_days = || span(500, "query-indices", 1);
    let midnight = noon() - 43_200 * SECOND;
    write(
        &store,
        [
            over_two_days().starting(midnight + 211 * SECOND),
            over_two_days().starting(midnight - 209 * SECOND),
        ],
    )
    .await;
    let found = Query::from(service_is("query-indices"))
        .between(midnight + 31 * SECOND, midnight + 451 * SECOND)
        .run(&store)
        .await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].span_count(), 2);

    // "Multiple Traces": with the same span id.
    write(
        &store,
        (601..=603).map(|trace| span(trace, "query-multiple", 3)),
    )
    .await;
    let mut found = Query::from(service_is("query-multiple")).ids(&store).await;
    found.sort_unstable();
    assert_eq!(found, [601, 602, 603]);
}

pub(crate) async fn traces_are_found_without_a_service(store: Store) {
    let tagged = |trace, service| span(trace, service, 1).with("cross.service", "yes");
    write(
        &store,
        [
            tagged(1, "cross-service-a").starting(noon() + 1),
            tagged(2, "cross-service-b"),
            span(3, "cross-service-b", 1),
        ],
    )
    .await;
    assert_eq!(
        Query::from(tag_is("cross.service", "yes"))
            .ids(&store)
            .await,
        [1, 2]
    );
}
