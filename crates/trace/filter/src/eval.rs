//! What a query means: the evaluation of the AST against spans.

use std::sync::Arc;

use periplus_model::{Attribute, Span, SpanGroup, StatusCode, Value};

use crate::{
    Comparison, Field, Intrinsic, Literal, Scalar, Scope, SpanFilter, TimeRange, TraceFilter,
};

/// Whether a trace of these groups matches. Only spans that start inside the range count, and at
/// least one of them must.
pub fn matches(filter: &TraceFilter, groups: &[Arc<SpanGroup>], range: TimeRange) -> bool {
    in_range(groups, range).next().is_some() && holds(filter, groups, range)
}

/// Whether one span of a group matches.
pub fn span_matches(filter: &SpanFilter, group: &SpanGroup, span: &Span) -> bool {
    match filter {
        SpanFilter::True => true,
        SpanFilter::Exists(Field::Intrinsic(_)) => true,
        SpanFilter::Exists(Field::Attribute { scope, key }) => {
            any_attribute(*scope, key, group, span, |_| true)
        }
        SpanFilter::Compare {
            field,
            comparison,
            literal,
        } => match field {
            Field::Intrinsic(intrinsic) => {
                intrinsic_compares(*intrinsic, *comparison, literal, group, span)
            }
            Field::Attribute { scope, key } => any_attribute(*scope, key, group, span, |value| {
                Scalar::of(value).is_some_and(|value| value.compares(*comparison, literal))
            }),
        },
        SpanFilter::And(filters) => filters.iter().all(|f| span_matches(f, group, span)),
        SpanFilter::Or(filters) => filters.iter().any(|f| span_matches(f, group, span)),
        SpanFilter::Not(filter) => !span_matches(filter, group, span),
    }
}

fn holds(filter: &TraceFilter, groups: &[Arc<SpanGroup>], range: TimeRange) -> bool {
    match filter {
        TraceFilter::AnySpan(filter) => {
            in_range(groups, range).any(|(group, span)| span_matches(filter, group, span))
        }
        TraceFilter::And(filters) => filters.iter().all(|f| holds(f, groups, range)),
        TraceFilter::Or(filters) => filters.iter().any(|f| holds(f, groups, range)),
        TraceFilter::Not(filter) => !holds(filter, groups, range),
    }
}

fn in_range(
    groups: &[Arc<SpanGroup>],
    range: TimeRange,
) -> impl Iterator<Item = (&SpanGroup, &Span)> {
    groups
        .iter()
        .flat_map(|group| group.spans.iter().map(move |span| (&**group, span)))
        .filter(move |(_, span)| range.contains(span.start_unix_nano))
}

fn intrinsic_compares(
    intrinsic: Intrinsic,
    comparison: Comparison,
    literal: &Literal,
    group: &SpanGroup,
    span: &Span,
) -> bool {
    let text = match intrinsic {
        Intrinsic::Service => group.resource.service_name(),
        Intrinsic::Name => &span.name,
        Intrinsic::Kind => span.kind.as_str(),
        Intrinsic::Status => match span.status.code {
            StatusCode::Unset => "unset",
            StatusCode::Ok => "ok",
            StatusCode::Error => "error",
        },
        Intrinsic::StatusMessage => &span.status.message,
        Intrinsic::ScopeName => &group.scope.name,
        Intrinsic::ScopeVersion => &group.scope.version,
        Intrinsic::Duration => {
            let nano = i64::try_from(span.duration_nano()).unwrap_or(i64::MAX);
            return Scalar::Int(nano).compares(comparison, literal);
        }
    };
    Scalar::Text(text).compares(comparison, literal)
}

/// Whether some attribute with this key, in any of the places that the scope names, passes.
fn any_attribute(
    scope: Scope,
    key: &str,
    group: &SpanGroup,
    span: &Span,
    passes: impl Fn(&Value) -> bool,
) -> bool {
    let among = |attributes: &[Attribute]| {
        attributes
            .iter()
            .any(|attribute| attribute.key == key && passes(&attribute.value))
    };
    let here = |place| scope == place || scope == Scope::Any;
    (here(Scope::Span) && among(&span.attributes))
        || (here(Scope::Resource) && among(&group.resource.attributes))
        || (here(Scope::Instrumentation) && among(&group.scope.attributes))
        || (here(Scope::Event) && span.events.iter().any(|event| among(&event.attributes)))
        || (here(Scope::Link) && span.links.iter().any(|link| among(&link.attributes)))
}
