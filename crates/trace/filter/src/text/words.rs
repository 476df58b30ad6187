//! The names of fields.

use crate::{Field, Intrinsic, Literal, Relation, Scope, SpanFilter, TraceField};

/// Names that may be followed by `:` instead of `=`; the first name of a field is the one shown.
const PLAIN: [(&str, Intrinsic); 8] = [
    ("service", Intrinsic::Service),
    ("name", Intrinsic::Name),
    ("op", Intrinsic::Name),
    ("operation", Intrinsic::Name),
    ("kind", Intrinsic::Kind),
    ("status", Intrinsic::Status),
    ("duration", Intrinsic::Duration),
    ("dur", Intrinsic::Duration),
];

/// Names that cannot be mistaken for an attribute, and Jaeger's tag for the kind.
static SPECIAL: [(&str, Field); 15] = [
    (
        "span:statusMessage",
        Field::Intrinsic(Intrinsic::StatusMessage),
    ),
    ("span:id", Field::Intrinsic(Intrinsic::SpanId)),
    ("span:parentID", Field::Intrinsic(Intrinsic::ParentId)),
    ("event:name", Field::Intrinsic(Intrinsic::EventName)),
    (
        "event:timeSinceStart",
        Field::Intrinsic(Intrinsic::EventTime),
    ),
    ("link:traceID", Field::Intrinsic(Intrinsic::LinkTraceId)),
    ("link:spanID", Field::Intrinsic(Intrinsic::LinkSpanId)),
    (
        "instrumentation:name",
        Field::Intrinsic(Intrinsic::ScopeName),
    ),
    (
        "instrumentation:version",
        Field::Intrinsic(Intrinsic::ScopeVersion),
    ),
    ("trace:id", Field::Intrinsic(Intrinsic::TraceId)),
    ("trace:duration", Field::Trace(TraceField::Duration)),
    ("trace:rootService", Field::Trace(TraceField::RootService)),
    ("trace:rootName", Field::Trace(TraceField::RootName)),
    ("trace:spans", Field::Trace(TraceField::Spans)),
    ("span.kind", Field::Intrinsic(Intrinsic::Kind)),
];

const SCOPES: [(&str, Scope); 6] = [
    ("", Scope::Any),
    ("span", Scope::Span),
    ("resource", Scope::Resource),
    ("instrumentation", Scope::Instrumentation),
    ("event", Scope::Event),
    ("link", Scope::Link),
];

const RELATIONS: [(&str, Relation); 8] = [
    ("parent", Relation::Parent),
    ("child", Relation::Child),
    ("ancestor", Relation::Ancestor),
    ("descendant", Relation::Descendant),
    ("sibling", Relation::Sibling),
    ("trace", Relation::Trace),
    ("event", Relation::Event),
    ("link", Relation::Link),
];

const KEYWORDS: [&str; 6] = ["AND", "OR", "NOT", "contains", "error", "root"];

/// The plain name at the start of a word like `service:checkout`, or all of it.
pub(super) fn plain(name: &str) -> Option<Field> {
    let named = PLAIN.iter().find(|(plain, _)| *plain == name);
    named.map(|(_, intrinsic)| Field::Intrinsic(*intrinsic))
}

/// What a bare word means.
pub(super) fn field(word: &str) -> Field {
    if let Some(field) = plain(word) {
        return field;
    }
    if let Some((_, field)) = SPECIAL.iter().find(|(name, _)| *name == word) {
        return field.clone();
    }
    match word.split_once('.') {
        Some((prefix, key)) if !key.is_empty() => match scope(prefix) {
            Some(scope) => attribute(scope, key),
            None => attribute(Scope::Any, word),
        },
        _ => attribute(Scope::Any, word),
    }
}

/// The scope before the first dot; nothing before it is any.
pub(super) fn scope(name: &str) -> Option<Scope> {
    let named = SCOPES.iter().find(|(scope, _)| *scope == name);
    named.map(|(_, scope)| *scope)
}

pub(super) fn relation(name: &str) -> Option<Relation> {
    let named = RELATIONS.iter().find(|(relation, _)| *relation == name);
    named.map(|(_, relation)| *relation)
}

pub(super) fn attribute(scope: Scope, key: &str) -> Field {
    Field::Attribute {
        scope,
        key: key.to_owned(),
    }
}

/// What the flag `error` stands for.
pub(super) fn failed() -> SpanFilter {
    SpanFilter::Or(vec![
        SpanFilter::equals(Field::Intrinsic(Intrinsic::Status), "error"),
        SpanFilter::equals(
            attribute(Scope::Span, "error"),
            Literal::Untyped("true".to_owned()),
        ),
    ])
}

/// What the flag `root` stands for.
pub(super) fn root() -> SpanFilter {
    let parent = SpanFilter::Exists(Field::Intrinsic(Intrinsic::ParentId));
    SpanFilter::Not(Box::new(parent))
}

/// Whether words of this field are from a list, and which.
pub(super) fn choices(field: &Field) -> Option<&'static [&'static str]> {
    match field {
        Field::Intrinsic(Intrinsic::Status) => Some(&["unset", "ok", "error"]),
        Field::Intrinsic(Intrinsic::Kind) => Some(&[
            "unspecified",
            "internal",
            "server",
            "client",
            "producer",
            "consumer",
        ]),
        _ => None,
    }
}

/// The name of a field that has one, and is neither attribute nor relatives.
pub(super) fn name_of(field: &Field) -> Option<&'static str> {
    if let Field::Intrinsic(intrinsic) = field
        && let Some((name, _)) = PLAIN.iter().find(|(_, plain)| plain == intrinsic)
    {
        return Some(name);
    }
    let named = SPECIAL.iter().find(|(_, special)| special == field);
    named.map(|(name, _)| *name)
}

pub(super) fn name_of_scope(scope: Scope) -> &'static str {
    let named = SCOPES.iter().find(|(_, other)| *other == scope);
    named.map_or("", |(name, _)| name)
}

pub(super) fn name_of_relation(relation: Relation) -> &'static str {
    let named = RELATIONS.iter().find(|(_, other)| *other == relation);
    named.map_or("", |(name, _)| name)
}

/// Whether the word, unquoted, is read as this attribute.
pub(super) fn is_read_as(word: &str, attribute: &Field) -> bool {
    let colon = word
        .split_once(':')
        .is_some_and(|(name, _)| plain(name).is_some());
    !KEYWORDS.contains(&word)
        && !word.starts_with(['-', '*', '.'])
        && !colon
        && field(word) == *attribute
}
