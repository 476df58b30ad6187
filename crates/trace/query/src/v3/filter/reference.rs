//! What the structured filter's references name.

use periplus_store::{Comparison, Field, Intrinsic, Literal, Scope, SpanFilter};

use super::super::Problem;
use super::super::expression::{AttributeReference, Call, Expression, FieldReference, Term};
use super::{invalid, unsupported};
use crate::go;

/// What a constant that a field is compared with must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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
pub(super) struct Reference {
    pub(super) name: String,
    fields: Vec<Field>,
    pub(super) kind: Kind,
}

impl Reference {
    pub(super) fn of(operand: &Expression, call: &Call) -> Result<Self, Problem> {
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

    pub(super) fn exists(&self) -> SpanFilter {
        self.any(SpanFilter::Exists)
    }

    pub(super) fn compares(&self, comparison: Comparison, literal: &Literal) -> SpanFilter {
        self.any(|field| SpanFilter::Compare {
            field,
            comparison,
            literal: literal.clone(),
        })
    }

    pub(super) fn literal(&self, value: &str, kind: &str) -> Result<Literal, Problem> {
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
