//! What does not fit the usual form, through the engine: very large values, a very large trace, spans that
//! come late or from another time, and ids that are used twice.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use periplus_model::{
    Attribute, Event, Resource, Span, SpanGroup, SpanId, Status, StatusCode, TraceId, Value,
};
use prost::Message as _;

use crate::engine::{Steps, through};
use crate::ours::request;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;

/// The end of an hour of today or yesterday.
fn hour() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now.as_secs() / 3_600 - 5) * HOUR
}

fn span(trace: u64, id: u64, start: u64) -> Span {
    Span {
        trace_id: TraceId::from_halves(3, trace),
        span_id: SpanId::from_u64(id),
        name: "operation".to_owned(),
        start_unix_nano: start,
        end_unix_nano: start + id,
        attributes: vec![Attribute::new("id", id as i64)],
        ..Span::default()
    }
}

fn body(spans: Vec<Span>) -> Vec<u8> {
    let group = SpanGroup {
        resource: Arc::new(Resource::of_service("a")),
        spans,
        ..SpanGroup::default()
    };
    request(&[group]).encode_to_vec()
}

#[test]
fn values_of_a_megabyte_come_back() {
    const MEGABYTE: usize = 1 << 20;
    let noise = |seed: u64| {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| random.u8(..))
            .take(MEGABYTE)
            .collect::<Vec<u8>>()
    };
    let text = |seed| {
        noise(seed)
            .iter()
            .map(|byte| char::from(byte % 96 + 32))
            .collect::<String>()
    };
    let requests = (0..4_u64).map(|number| {
        let at = hour() + number;
        let mut large = span(number, 1, at);
        large.attributes.push(Attribute::new("text", text(number)));
        large
            .attributes
            .push(Attribute::new("same", "x".repeat(MEGABYTE)));
        large
            .attributes
            .push(Attribute::new("bytes", Value::Bytes(noise(number + 9))));
        let list = vec![Value::String(text(77)), Value::Bytes(noise(number))];
        large
            .attributes
            .push(Attribute::new("list", Value::Array(list)));
        large.status = Status {
            code: StatusCode::Error,
            message: text(number + 20),
        };
        large.events.push(Event {
            time_unix_nano: at,
            name: text(number + 30),
            attributes: vec![Attribute::new("stack", text(number + 40))],
            ..Event::default()
        });
        // A small one beside it, and one of another trace.
        body(vec![span(number, 2, at), large, span(100 + number, 1, at)])
    });
    through(&requests.collect::<Vec<_>>());
}

#[test]
fn a_trace_larger_than_a_row_group_comes_back() {
    const SPANS: u64 = 1_000_000;
    let mut steps = Steps::new();
    let ids: Vec<u64> = (1..=SPANS).collect();
    for ids in ids.chunks(SPANS as usize / 4 + 1) {
        let of_trace = ids.iter().map(|id| {
            let mut span = span(1, *id, hour() + id * 1_000);
            span.parent_span_id = (*id > 1).then(|| SpanId::from_u64(id / 2));
            span
        });
        steps.send(&body(of_trace.collect()));
        steps.flush();
    }
    steps.compact();
    steps.reopen();
    steps.compare_traces("merged and opened again");
}

#[test]
fn late_spans_and_traces_over_several_hours_come_back() {
    let end = hour();
    let requests = [
        // A trace that begins in one hour and ends in the next.
        vec![span(1, 1, end - SECOND), span(1, 2, end + SECOND)],
        // Its first span comes later than the others, of an hour before.
        vec![span(2, 2, end), span(2, 3, end + 1)],
        vec![span(2, 1, end - HOUR - 1)],
        // Spans of all times: the beginning of time, 1970, last week, tomorrow, the end of time.
        vec![
            span(3, 1, 0),
            span(3, 2, 1),
            span(3, 3, end - 7 * 24 * HOUR),
            span(3, 4, end),
            span(3, 5, end + 30 * HOUR),
            Span {
                end_unix_nano: 0,
                ..span(3, 6, u64::MAX - 10)
            },
        ],
        // And each of them again in a trace that knows one of these times only.
        vec![
            span(4, 1, 0),
            span(5, 1, end - 7 * 24 * HOUR),
            span(6, 1, u64::MAX - 10),
        ],
        vec![span(1, 3, end + 3 * HOUR), span(5, 2, end), span(4, 2, end)],
    ];
    through(&requests.map(body));
}

#[test]
fn ids_that_are_used_twice_come_back_as_often() {
    let at = hour();
    let other = |id| Span {
        name: "another".to_owned(),
        ..span(1, id, at + 5)
    };
    let requests = [
        // The same span twice in one request, and two spans of one id.
        vec![span(1, 1, at), span(1, 1, at), other(1), span(1, 2, at)],
        // The same again, as a sender does that got no answer.
        vec![span(1, 1, at), span(1, 1, at), other(1), span(1, 2, at)],
        // A span that is its own parent, and a circle.
        vec![
            Span {
                parent_span_id: Some(SpanId::from_u64(3)),
                ..span(1, 3, at)
            },
            Span {
                parent_span_id: Some(SpanId::from_u64(5)),
                ..span(1, 4, at)
            },
            Span {
                parent_span_id: Some(SpanId::from_u64(4)),
                ..span(1, 5, at)
            },
        ],
        // In another trace.
        vec![span(2, 1, at)],
    ];
    through(&requests.map(body));
}
