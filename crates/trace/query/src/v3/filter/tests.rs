use periplus_store::{TraceFilter, parse};

use super::*;

fn filter(json: &str) -> Result<SpanFilter, Problem> {
    span_filter(&serde_json::from_str(json).unwrap())
}

fn call(op: &str, args: &[&str]) -> String {
    format!(r#"{{"op":"{op}","args":[{}]}}"#, args.join(","))
}

const STATUS: &str = r#"{"attr":{"key":"http.status_code","level":"span"}}"#;
const TYPE: &str = r#"{"attr":{"key":"type","level":"event"}}"#;
const NAME: &str = r#"{"field":{"name":"name","level":"span"}}"#;
const DURATION: &str = r#"{"field":{"name":"duration","level":"span"}}"#;
const WORD: &str = r#"{"field":{"name":"status","level":"span"}}"#;
const EVENTS: &str = r#"{"nested":{"level":"event"}}"#;

fn scalar(value: &str, kind: &str) -> String {
    format!(r#"{{"scalar":{{"value":"{value}","type":"{kind}"}}}}"#)
}

#[test]
fn filters_mean_what_query_lines_mean() {
    let of = |op, reference, value, kind| call(op, &[reference, &scalar(value, kind)]);
    let nested = |call: &str| format!(r#"{{"call":{call}}}"#);
    let slow = of("gt", DURATION, "1.5s", "");
    for (json, line) in [
        (of("eq", STATUS, "500", ""), "span.http.status_code=500"),
        (
            of("gte", STATUS, "500", "int"),
            "span.http.status_code>=int:500",
        ),
        (slow.clone(), "duration>1.5s"),
        (of("eq", WORD, "ERROR", ""), "status=error"),
        (of("eq", NAME, "get", ""), "name=\"get\""),
        (call("exists", &[STATUS]), "span.http.status_code?"),
        (call("not", &[&nested(&slow)]), "NOT duration>1.5s"),
        (
            call("lt", &[&scalar("5", "double"), STATUS]),
            "span.http.status_code>double:5",
        ),
        (
            call("some", &[EVENTS, &nested(&of("eq", TYPE, "x", ""))]),
            "event.type=x",
        ),
    ] {
        let TraceFilter::AnySpan(expected) = parse(line).unwrap() else {
            panic!("{line} is about one span");
        };
        assert_eq!(filter(&json).unwrap(), expected, "{json}");
    }
    let any = r#"{"attr":{"key":"k"}}"#;
    let in_either = filter(&of("eq", any, "v", "")).unwrap();
    assert_eq!(in_either.to_string_form(), "span.k=v OR resource.k=v");
    let neither = filter(&of("ne", any, "v", "")).unwrap();
    assert_eq!(
        neither.to_string_form(),
        "(span.k? OR resource.k?) NOT (span.k=v OR resource.k=v)"
    );
}

#[test]
fn several_conditions_may_be_about_the_same_event() {
    let nested = |call: &str| format!(r#"{{"call":{call}}}"#);
    let of = |op: &str, value: &str| nested(&call(op, &[TYPE, &scalar(value, "")]));
    let name = r#"{"field":{"name":"name","level":"event"}}"#;
    let name = nested(&call("eq", &[name, &scalar("exception", "")]));
    for (predicate, line) in [
        (
            nested(&call("and", &[&name, &of("eq", "IO")])),
            "event{event:name=exception event.type=IO}",
        ),
        (of("ne", "IO"), "event{event.type? NOT event.type=IO}"),
        (
            nested(&call("not", &[&of("eq", "IO")])),
            "event{NOT event.type=IO}",
        ),
        (
            nested(&call("or", &[&name, &of("eq", "IO")])),
            "event:name=exception OR event.type=IO",
        ),
    ] {
        let filter = filter(&call("some", &[EVENTS, &predicate])).unwrap();
        assert_eq!(filter.to_string_form(), line);
    }
}

trait StringForm {
    fn to_string_form(&self) -> String;
}

impl StringForm for SpanFilter {
    fn to_string_form(&self) -> String {
        TraceFilter::AnySpan(self.clone()).to_string()
    }
}

#[test]
fn what_is_not_answered_is_named() {
    let phrase = call("phrase", &[STATUS, r#"{"list":{"values":["a"]}}"#]);
    let two = call("eq", &[STATUS, NAME]);
    let time = call(
        "gt",
        &[
            r#"{"field":{"name":"startTime","level":"span"}}"#,
            &scalar("x", ""),
        ],
    );
    for (json, what) in [
        (phrase, "operator 'phrase'"),
        (two, "'eq' of two references"),
        (time, "field 'span.startTime'"),
    ] {
        match filter(&json) {
            Err(Problem::Unsupported(text)) => assert_eq!(
                text,
                format!("query.filter: {what} is not supported by this store")
            ),
            other => panic!("{json}: {other:?}"),
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (json, what) in [
        (
            call("eq", &[DURATION, &scalar("5", "")]),
            "'span.duration' compares with a duration such as 1.5s, not with \"5\"",
        ),
        (
            call("gt", &[WORD, &scalar("ok", "")]),
            "the values of 'span.status' have no order",
        ),
        (
            call("eq", &[WORD, &scalar("bad", "")]),
            "'span.status' compares with one of unset, ok, error, not with \"bad\"",
        ),
        (
            call("eq", &[STATUS, &scalar("x", "int")]),
            "'http.status_code' compares with an int, not with \"x\"",
        ),
        (
            call("eq", &[STATUS]),
            "'eq' takes two operands, not 1 operands",
        ),
        (
            call("regex", &[NAME, &scalar("a(", "")]),
            "'a(' is no regular expression: unclosed group",
        ),
        (
            call("exists", &[r#"{"attr":{"key":"k","level":"trace"}}"#]),
            "unknown level 'trace': use span, resource, scope, event or link",
        ),
        (
            call(
                "some",
                &[
                    EVENTS,
                    &format!(r#"{{"call":{}}}"#, call("exists", &[STATUS])),
                ],
            ),
            "a predicate inside of 'some' may only refer to the level 'event'",
        ),
        (call("and", &[]), "'and' takes predicates, not 0 operands"),
    ] {
        match filter(&json) {
            Err(Problem::Invalid(text)) => {
                assert_eq!(text, format!("malformed parameter query.filter: {what}"));
            }
            other => panic!("{json}: {other:?}"),
        }
    }
}
