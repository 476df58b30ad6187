//! The search cases of Jaeger's storage integration suite: what is stored, what is asked, what must
//! be found. Plain data: the store's suite asks the trait, the query APIs' tests ask over the wire.

use std::sync::Arc;

use periplus_model::{
    Attribute, Batch, Event, Link, Resource, Scope, Span, SpanGroup, SpanId, TraceId, Value,
};

const SECOND: u64 = 1_000_000_000;

/// The middle of the window that most cases ask for, after a day's midnight: 16:46:31.639875.
const MIDDLE: u64 = 60_391 * SECOND + 639_875_000;

/// A question, and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Jaeger's name for it.
    pub(crate) caption: &'static str,
    pub(crate) service: String,
    pub(crate) operation: Option<String>,
    /// Keys, and values as texts: Jaeger's tags have no types.
    pub(crate) tags: Vec<(String, &'static str)>,
    /// The shortest and the longest duration, nanoseconds, both included.
    pub(crate) duration: (Option<u64>, Option<u64>),
    /// The first and the last start of a span, nanoseconds, both included.
    pub(crate) window: (u64, u64),
    /// The traces that must be found, and nothing else.
    pub(crate) expected: Vec<Batch>,
    /// Traces that must not be found: each tag on another span, other durations.
    pub(crate) decoys: Vec<Batch>,
}

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

use Spot::{Event as E, Link as L, OwnEvent as O, Resource as R, Scope as C, Span as S};

/// A row of the table.
struct Row {
    caption: &'static str,
    /// Where the four tags are; the query asks for all of them.
    tags: Option<[Spot; 4]>,
    /// The middle of the tags' keys.
    key: &'static str,
    /// Whether the query asks for the operation.
    operation: bool,
    /// The durations of the trace's spans.
    spans: &'static [u64],
    duration: (Option<u64>, Option<u64>),
}

const ROW: Row = Row {
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

/// By the number that is in the names of their services; 5 and 22 have no row.
#[rustfmt::skip]
const ROWS: [(u64, Row); 23] = [
    (1, Row { caption: "Tags in one spot - Tags", tags: Some([S, S, S, S]), ..ROW }),
    (2, Row { caption: "Tags in one spot - Logs", tags: Some([E, E, E, E]), ..ROW }),
    (3, Row { caption: "Tags in one spot - Process", tags: Some([R, R, R, R]), ..ROW }),
    (4, Row { caption: "Tags in different spots", tags: Some([R, E, S, S]), ..ROW }),
    (6, Row { caption: "Operation name", operation: true, ..ROW }),
    (7, Row { caption: "Operation name + max Duration", operation: true, spans: &[1_000, 2_000], duration: AT_MOST_2, ..ROW }),
    (8, Row { caption: "Operation name + Duration range", operation: true, duration: RANGE, ..ROW }),
    (9, Row { caption: "Duration range", duration: RANGE, ..ROW }),
    (10, Row { caption: "max Duration", spans: &[1_000], duration: AT_MOST_1, ..ROW }),
    (11, Row { caption: "default", ..ROW }),
    (12, Row { caption: "Tags + Operation name", tags: Some([S, S, S, S]), operation: true, ..ROW }),
    (13, Row { caption: "Tags + Operation name + max Duration", tags: Some([R, R, R, R]), operation: true, spans: &[1_000, 2_000], duration: AT_MOST_2, ..ROW }),
    (14, Row { caption: "Tags + Operation name + Duration range", tags: Some([E, E, E, E]), operation: true, duration: RANGE, ..ROW }),
    (15, Row { caption: "Tags + Duration range", tags: Some([S, S, S, S]), duration: RANGE, ..ROW }),
    (16, Row { caption: "Tags + max Duration", tags: Some([R, R, R, R]), spans: &[1_000], duration: AT_MOST_1, ..ROW }),
    (17, Row { caption: "Multi-spot Tags + Operation name", tags: Some([R, O, S, O]), operation: true, ..ROW }),
    (18, Row { caption: "Multi-spot Tags + Operation name + max Duration", tags: Some([S, O, R, O]), operation: true, spans: &[1_000, 2_000], duration: AT_MOST_2, ..ROW }),
    (19, Row { caption: "Multi-spot Tags + Operation name + Duration range", tags: Some([S, E, R, R]), operation: true, duration: RANGE, ..ROW }),
    (20, Row { caption: "Multi-spot Tags + Duration range", tags: Some([E, S, R, S]), duration: RANGE, ..ROW }),
    (21, Row { caption: "Multi-spot Tags + max Duration", tags: Some([S, E, R, R]), spans: &[1_000], duration: AT_MOST_1, ..ROW }),
    (23, Row { caption: "Scope Name and Version", tags: Some([S, S, S, S]), ..ROW }),
    (24, Row { caption: "Scope Attributes", tags: Some([C, C, C, C]), key: "scopeattribute", ..ROW }),
    (25, Row { caption: "Link Attributes", tags: Some([L, L, L, L]), key: "linkattribute", ..ROW }),
];

/// The values of the tags, each with the text that queries ask for.
fn values() -> [(Value, &'static str); 4] {
    [
        (Value::from("sameplacevalue"), "sameplacevalue"),
        (Value::Int(123), "123"),
        (Value::Double(72.5), "72.5"),
        (Value::Bool(true), "true"),
    ]
}

fn service(number: u64) -> String {
    format!("query{number:02}-service")
}

fn operation(number: u64) -> String {
    format!("query{number:02}-operation")
}

fn span(trace: u64, id: u64, name: String, start: u64, duration: u64) -> Span {
    Span {
        trace_id: TraceId::from_halves(0, trace),
        span_id: SpanId::from_u64(id),
        name,
        start_unix_nano: start,
        end_unix_nano: start + duration,
        ..Span::default()
    }
}

fn of_service(service: &str, spans: Vec<Span>) -> Batch {
    Batch {
        groups: vec![SpanGroup {
            resource: Arc::new(Resource::of_service(service)),
            scope: Arc::new(Scope::default()),
            spans,
        }],
    }
}

impl Row {
    fn tag(&self, i: usize, value: Value) -> Attribute {
        Attribute::new(format!("sameplace{}{}", self.key, i + 1), value)
    }

    fn case(&self, number: u64, midnight: u64) -> Case {
        let asks = self.operation || self.tags.is_some() || self.duration.1.is_some();
        let tag =
            |(i, (value, text)): (usize, (Value, &'static str))| (self.tag(i, value).key, text);
        let tags = values().into_iter().enumerate().map(tag);
        let middle = midnight + MIDDLE;
        Case {
            caption: self.caption,
            service: service(number),
            operation: self.operation.then(|| operation(number)),
            tags: if self.tags.is_some() {
                tags.collect()
            } else {
                Vec::new()
            },
            duration: self.duration,
            window: (middle - 3_600 * SECOND, middle + 3_600 * SECOND),
            expected: vec![self.trace(number, middle)],
            decoys: asks
                .then(|| self.decoy(number, middle))
                .into_iter()
                .collect(),
        }
    }

    fn trace(&self, number: u64, middle: u64) -> Batch {
        let mut resource = Resource::of_service(&service(number));
        let mut scope = Scope {
            name: "library".to_owned(),
            version: "1.1.1".to_owned(),
            ..Scope::default()
        };
        let mut first = span(number, 1, operation(number), middle, self.spans[0]);
        let blob = Value::Bytes(vec![0, 0x30, 0x39]);
        first.attributes.push(Attribute::new("blob", blob));
        if number == 12 {
            first.links = (1..=3).map(|i| link(i, Vec::new())).collect();
        }
        let spots = self.tags.into_iter().flatten().enumerate();
        for ((i, spot), (value, _)) in spots.zip(values()) {
            let tag = self.tag(i, value);
            let event = |attributes| Event {
                time_unix_nano: middle,
                name: format!("event{i}"),
                attributes,
                ..Event::default()
            };
            match spot {
                S => first.attributes.push(tag),
                R => resource.attributes.push(tag),
                C => scope.attributes.push(tag),
                O => first.events.push(event(vec![tag])),
                L => first.links.push(link(i as u64, vec![tag])),
                E => match first.events.last_mut() {
                    Some(last) => last.attributes.push(tag),
                    None => first.events.push(event(vec![tag])),
                },
            }
        }
        let more = self
            .spans
            .iter()
            .enumerate()
            .skip(1)
            .map(|(i, duration)| Span {
                span_id: SpanId::from_u64(i as u64 + 1),
                end_unix_nano: middle + duration,
                ..first.clone()
            });
        let spans = std::iter::once(first.clone()).chain(more).collect();
        Batch {
            groups: vec![SpanGroup {
                resource: Arc::new(resource),
                scope: Arc::new(scope),
                spans,
            }],
        }
    }

    fn decoy(&self, number: u64, middle: u64) -> Batch {
        let trace = 1_000 + number;
        let mut spans = vec![span(trace, 9, "other".to_owned(), middle, 50_000)];
        if self.tags.is_some() {
            for (i, (value, _)) in values().into_iter().enumerate() {
                let mut tagged = span(
                    trace,
                    20 + i as u64,
                    operation(number),
                    middle,
                    self.spans[0],
                );
                tagged.attributes.push(self.tag(i, value));
                spans.push(tagged);
            }
        }
        of_service(&service(number), spans)
    }
}

fn link(id: u64, attributes: Vec<Attribute>) -> Link {
    Link {
        trace_id: TraceId::from_halves(0, 0xff),
        span_id: SpanId::from_u64(id + 1),
        attributes,
        ..Link::default()
    }
}

/// All 25 cases, in Jaeger's order; `midnight` begins the day that they take for the second one.
pub(crate) fn cases(midnight: u64) -> Vec<Case> {
    let mut cases: Vec<(u64, Case)> = ROWS
        .iter()
        .map(|(number, row)| (*number, row.case(*number, midnight)))
        .collect();
    let plain = |caption, number| Case {
        caption,
        service: service(number),
        operation: None,
        tags: Vec::new(),
        duration: (None, None),
        window: cases[0].1.window,
        expected: Vec::new(),
        decoys: Vec::new(),
    };
    let mut over_days = plain("Trace spans over multiple indices", 5);
    over_days.window = (midnight + 31 * SECOND, midnight + 451 * SECOND);
    // The second span starts before the window, and comes along.
    let starts = [midnight + 211 * SECOND, midnight - 209 * SECOND];
    let spans = (1..).zip(starts);
    let spans = spans.map(|(id, start)| span(5, id, operation(5), start, 5_000));
    over_days.expected = vec![of_service(&service(5), spans.collect())];
    let mut several = plain("Multiple Traces", 22);
    let middle = midnight + MIDDLE;
    // With the same span id.
    several.expected = (2_201..=2_203)
        .map(|trace| {
            of_service(
                &service(22),
                vec![span(trace, 3, String::new(), middle, 5_000)],
            )
        })
        .collect();
    cases.push((5, over_days));
    cases.push((22, several));
    cases.sort_by_key(|(number, _)| *number);
    cases.into_iter().map(|(_, case)| case).collect()
}
