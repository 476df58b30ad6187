//! What Jaeger's structured filter means as a query of ours.

use periplus_store::{Comparison, Field, Intrinsic, Literal, Pattern, Relation, Scope, SpanFilter};

use super::Problem;
use super::expression::{
    AttributeReference, Call, Expression, FieldReference, NestedReference, Term,
};
use crate::go;

/// What a call says about one span.
pub(super) fn span_filter(call: &Call) -> Result<SpanFilter, Problem> {
    match call.op.as_str() {
        "and" => Ok(SpanFilter::And(predicates(call)?)),
        "or" => Ok(SpanFilter::Or(predicates(call)?)),
        "not" => match call.args.as_slice() {
            [predicate] => {
                let predicate = span_filter(as_call(predicate, call)?)?;
                Ok(SpanFilter::Not(Box::new(predicate)))
            }
            args => Err(wrong_operands(call, args.len(), "one predicate")),
        },
        "some" => some(call),
        "exists" => match call.args.as_slice() {
            [operand] => Ok(Reference::of(operand, call)?.exists()),
            args => Err(wrong_operands(call, args.len(), "one reference")),
        },
        "eq" => comparison(call, Comparison::Equal),
        "ne" => comparison(call, Comparison::NotEqual),
        "gt" => comparison(call, Comparison::Greater),
        "gte" => comparison(call, Comparison::GreaterOrEqual),
        "lt" => comparison(call, Comparison::Less),
        "lte" => comparison(call, Comparison::LessOrEqual),
        "regex" => regex(call),
        "in" => Ok(any_of(call)?.1),
        "not_in" => {
            let (reference, any) = any_of(call)?;
            Ok(present_but_not(&reference, any))
        }
        op => Err(unsupported(format!("operator '{op}'"))),
    }
}

fn unsupported(what: impl std::fmt::Display) -> Problem {
    Problem::Unsupported(format!(
        "query.filter: {what} is not supported by this store"
    ))
}

fn invalid(what: impl std::fmt::Display) -> Problem {
    Problem::Invalid(format!("malformed parameter query.filter: {what}"))
}

fn wrong_operands(call: &Call, found: usize, wanted: &str) -> Problem {
    invalid(format!(
        "'{}' takes {wanted}, not {found} operands",
        call.op
    ))
}

fn predicates(call: &Call) -> Result<Vec<SpanFilter>, Problem> {
    if call.args.is_empty() {
        return Err(wrong_operands(call, 0, "predicates"));
    }
    call.args
        .iter()
        .map(|argument| span_filter(as_call(argument, call)?))
        .collect()
}

fn as_call<'a>(argument: &'a Expression, of: &Call) -> Result<&'a Call, Problem> {
    match &argument.term {
        Some(Term::Call(call)) => Ok(call),
        _ => Err(invalid(format!("an operand of '{}' is no call", of.op))),
    }
}

/// What a constant that a field is compared with must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An attribute: whatever it holds.
    Any,
    Text,
    /// One of these words, which have no order.
    Word(&'static [&'static str]),
    /// So many hex digits.
    Id(usize),
    Duration,
}

/// What is looked at: one field, or an attribute in two places.
struct Reference {
    name: String,
    fields: Vec<Field>,
    kind: Kind,
}

impl Reference {
    fn of(operand: &Expression, call: &Call) -> Result<Self, Problem> {
        match &operand.term {
            Some(Term::Attr(attribute)) => Self::attribute(attribute),
            Some(Term::Field(field)) => Self::field(field),
            _ => Err(invalid(format!(
                "'{}' wants an attribute or a field as its first operand",
                call.op
            ))),
        }
    }

    fn attribute(attribute: &AttributeReference) -> Result<Self, Problem> {
        let AttributeReference { key, level } = attribute;
        if key.is_empty() {
            return Err(invalid("an attribute without a key"));
        }
        let scopes: &[Scope] = match level.as_str() {
            "" => &[Scope::Span, Scope::Resource],
            "span" => &[Scope::Span],
            "resource" => &[Scope::Resource],
            "scope" => &[Scope::Instrumentation],
            "event" => &[Scope::Event],
            "link" => &[Scope::Link],
            _ => return Err(unknown_level(level)),
        };
        Ok(Self {
            name: key.clone(),
            fields: scopes
                .iter()
                .map(|scope| Field::Attribute {
                    scope: *scope,
                    key: key.clone(),
                })
                .collect(),
            kind: Kind::Any,
        })
    }

    fn field(field: &FieldReference) -> Result<Self, Problem> {
        const KINDS: &[&str] = &["internal", "server", "client", "producer", "consumer"];
        const STATUSES: &[&str] = &["unset", "ok", "error"];
        let FieldReference { name, level } = field;
        let full = format!("{level}.{name}");
        let (intrinsic, kind) = match (level.as_str(), name.as_str()) {
            ("span", "traceID") => (Intrinsic::TraceId, Kind::Id(32)),
            ("span", "spanID") => (Intrinsic::SpanId, Kind::Id(16)),
            ("span", "parentSpanID") => (Intrinsic::ParentId, Kind::Id(16)),
            ("span", "name") => (Intrinsic::Name, Kind::Text),
            ("span", "kind") => (Intrinsic::Kind, Kind::Word(KINDS)),
            ("span", "status") => (Intrinsic::Status, Kind::Word(STATUSES)),
            ("span", "statusMessage") => (Intrinsic::StatusMessage, Kind::Text),
            ("span", "duration") => (Intrinsic::Duration, Kind::Duration),
            ("resource", "service") => (Intrinsic::Service, Kind::Text),
            ("scope", "name") => (Intrinsic::ScopeName, Kind::Text),
            ("scope", "version") => (Intrinsic::ScopeVersion, Kind::Text),
            ("event", "name") => (Intrinsic::EventName, Kind::Text),
            ("event", "timeSinceStart") => (Intrinsic::EventTime, Kind::Duration),
            ("link", "traceID") => (Intrinsic::LinkTraceId, Kind::Id(32)),
            ("link", "spanID") => (Intrinsic::LinkSpanId, Kind::Id(16)),
            ("span", "traceState" | "startTime" | "endTime")
            | ("resource" | "scope", "schemaURL")
            | ("event", "time")
            | ("link", "traceState") => return Err(unsupported(format!("field '{full}'"))),
            ("span" | "resource" | "scope" | "event" | "link", _) => {
                return Err(invalid(format!("no field is called '{full}'")));
            }
            _ => return Err(unknown_level(level)),
        };
        Ok(Self {
            name: full,
            fields: vec![Field::Intrinsic(intrinsic)],
            kind,
        })
    }

    /// Whether one of the places passes.
    fn any(&self, of: impl Fn(Field) -> SpanFilter) -> SpanFilter {
        let mut filters: Vec<_> = self.fields.iter().cloned().map(of).collect();
        match filters.pop() {
            Some(only) if filters.is_empty() => only,
            last => SpanFilter::Or(filters.into_iter().chain(last).collect()),
        }
    }

    fn exists(&self) -> SpanFilter {
        self.any(SpanFilter::Exists)
    }

    fn compares(&self, comparison: Comparison, literal: &Literal) -> SpanFilter {
        self.any(|field| SpanFilter::Compare {
            field,
            comparison,
            literal: literal.clone(),
        })
    }

    fn literal(&self, value: &str, kind: &str) -> Result<Literal, Problem> {
        let wrong = |wanted: &str| {
            invalid(format!(
                "'{}' compares with {wanted}, not with {}",
                self.name,
                go::quote(value)
            ))
        };
        if !matches!(kind, "" | "string" | "int" | "double" | "bool") {
            return Err(invalid(format!(
                "unknown type '{kind}': use string, int, double, bool or none"
            )));
        }
        if self.kind != Kind::Any && !matches!(kind, "" | "string") {
            return Err(wrong("a text"));
        }
        match self.kind {
            Kind::Any => match kind {
                "string" => Ok(Literal::from(value)),
                "int" => value.parse().map(Literal::Int).map_err(|_| wrong("an int")),
                "double" => (value.parse())
                    .map(Literal::Double)
                    .map_err(|_| wrong("a double")),
                "bool" => go::parse_bool(value)
                    .map(Literal::Bool)
                    .map_err(|_| wrong("a bool")),
                _ => Ok(Literal::Untyped(value.to_owned())),
            },
            Kind::Text => Ok(Literal::from(value)),
            Kind::Word(words) => {
                let word = value.to_ascii_lowercase();
                if words.contains(&word.as_str()) {
                    Ok(Literal::String(word))
                } else {
                    Err(wrong(&format!("one of {}", words.join(", "))))
                }
            }
            Kind::Id(digits) => {
                let is_id = value.len() <= digits && value.bytes().all(|b| b.is_ascii_hexdigit());
                if value.is_empty() || !is_id {
                    return Err(wrong(&format!("1 to {digits} hex digits")));
                }
                let id = value.to_ascii_lowercase();
                Ok(Literal::String(format!("{id:0>digits$}")))
            }
            Kind::Duration => go::parse_duration(value)
                .map(Literal::Int)
                .map_err(|_| wrong("a duration such as 1.5s")),
        }
    }
}

fn unknown_level(level: &str) -> Problem {
    invalid(format!(
        "unknown level '{level}': use span, resource, scope, event or link"
    ))
}

/// A negated comparison holds where there is a value and none matches.
fn present_but_not(reference: &Reference, matching: SpanFilter) -> SpanFilter {
    SpanFilter::And(vec![
        reference.exists(),
        SpanFilter::Not(Box::new(matching)),
    ])
}

fn comparison(call: &Call, comparison: Comparison) -> Result<SpanFilter, Problem> {
    let [left, right] = call.args.as_slice() else {
        return Err(wrong_operands(call, call.args.len(), "two operands"));
    };
    let (reference, constant, comparison) = match (&left.term, &right.term) {
        (_, Some(Term::Scalar(constant))) if !matches!(left.term, Some(Term::Scalar(_))) => {
            (left, constant, comparison)
        }
        (Some(Term::Scalar(constant)), Some(Term::Attr(_) | Term::Field(_))) => {
            (right, constant, reversed(comparison))
        }
        (Some(Term::Scalar(_)), Some(Term::Scalar(_))) => {
            return Err(unsupported(format!("'{}' of two constants", call.op)));
        }
        (Some(Term::Attr(_) | Term::Field(_)), Some(Term::Attr(_) | Term::Field(_))) => {
            return Err(unsupported(format!("'{}' of two references", call.op)));
        }
        _ => {
            return Err(invalid(format!(
                "'{}' compares an attribute or a field with a scalar",
                call.op
            )));
        }
    };
    let reference = Reference::of(reference, call)?;
    let literal = reference.literal(&constant.value, &constant.r#type)?;
    match comparison {
        Comparison::Equal => Ok(reference.compares(comparison, &literal)),
        Comparison::NotEqual => {
            let equal = reference.compares(Comparison::Equal, &literal);
            Ok(present_but_not(&reference, equal))
        }
        _ if matches!(reference.kind, Kind::Word(_)) || matches!(literal, Literal::Bool(_)) => Err(
            invalid(format!("the values of '{}' have no order", reference.name)),
        ),
        _ => Ok(reference.compares(comparison, &literal)),
    }
}

fn reversed(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        other => other,
    }
}

/// RE2, anywhere in the text.
fn regex(call: &Call) -> Result<SpanFilter, Problem> {
    let [subject, pattern] = call.args.as_slice() else {
        return Err(wrong_operands(
            call,
            call.args.len(),
            "a reference and a string",
        ));
    };
    let Some(Term::Scalar(constant)) = &pattern.term else {
        return Err(invalid("'regex' wants a string as its second operand"));
    };
    let reference = Reference::of(subject, call)?;
    if matches!(reference.kind, Kind::Duration | Kind::Id(_)) {
        return Err(invalid(format!("'{}' is no text to match", reference.name)));
    }
    if !matches!(constant.r#type.as_str(), "" | "string") {
        return Err(invalid("'regex' wants a string as its second operand"));
    }
    // By itself first, so that an error shows what was sent.
    Pattern::new(&constant.value).map_err(invalid)?;
    let anywhere = format!("(?s:.*)(?:{})(?s:.*)", constant.value);
    let pattern = Pattern::new(&anywhere).map_err(invalid)?;
    Ok(reference.compares(Comparison::Matches, &Literal::Pattern(pattern)))
}

/// The reference of a membership, and that its value is one of the list's.
fn any_of(call: &Call) -> Result<(Reference, SpanFilter), Problem> {
    let [subject, list] = call.args.as_slice() else {
        return Err(wrong_operands(
            call,
            call.args.len(),
            "a reference and a list",
        ));
    };
    let Some(Term::List(list)) = &list.term else {
        return Err(invalid(format!(
            "'{}' wants a list as its second operand",
            call.op
        )));
    };
    let reference = Reference::of(subject, call)?;
    let one_of = list
        .values
        .iter()
        .map(|value| {
            let literal = reference.literal(value, &list.r#type)?;
            Ok(reference.compares(Comparison::Equal, &literal))
        })
        .collect::<Result<_, Problem>>()?;
    Ok((reference, SpanFilter::Or(one_of)))
}

/// That one event, or one link, satisfies a predicate.
fn some(call: &Call) -> Result<SpanFilter, Problem> {
    let [collection, predicate] = call.args.as_slice() else {
        let wanted = "a collection and a predicate";
        return Err(wrong_operands(call, call.args.len(), wanted));
    };
    let Some(Term::Nested(NestedReference { level })) = &collection.term else {
        return Err(invalid(
            "'some' wants a nested reference as its first operand",
        ));
    };
    let relation = match level.as_str() {
        "event" => Relation::Event,
        "link" => Relation::Link,
        _ => {
            return Err(invalid(format!(
                "'some' speaks of the level event or link, not of '{level}'"
            )));
        }
    };
    let predicate = as_call(predicate, call)?;
    within(predicate, level)?;
    let filter = span_filter(predicate)?;
    // A condition of ours looks at all events by itself, so one that stands alone needs no more.
    Ok(match is_alternatives(&filter) {
        true => filter,
        false => SpanFilter::Exists(Field::relatives(relation, filter)),
    })
}

/// Whether it is one condition, or one of several.
fn is_alternatives(filter: &SpanFilter) -> bool {
    match filter {
        SpanFilter::Exists(_) | SpanFilter::Compare { .. } => true,
        SpanFilter::Or(filters) => filters.iter().all(is_alternatives),
        SpanFilter::True | SpanFilter::And(_) | SpanFilter::Not(_) => false,
    }
}

/// Whether everything in the call refers to the level.
fn within(call: &Call, level: &str) -> Result<(), Problem> {
    for argument in &call.args {
        let is_within = match &argument.term {
            Some(Term::Attr(attribute)) => attribute.level == level,
            Some(Term::Field(field)) => field.level == level,
            Some(Term::Nested(_)) => false,
            Some(Term::Call(inner)) => {
                within(inner, level)?;
                true
            }
            _ => true,
        };
        if !is_within {
            return Err(invalid(format!(
                "a predicate inside of 'some' may only refer to the level '{level}'"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
}
