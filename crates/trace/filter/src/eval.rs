//! What a query means: the evaluation of the AST against spans.

use std::sync::Arc;

use periplus_model::{Attribute, Span, SpanGroup, StatusCode, Value};

use crate::tree::Tree;
use crate::{Field, Intrinsic, Scalar, Scope, SpanFilter, TimeRange, TraceFilter};

/// Whether a trace of these groups matches. Only spans that start inside the range count, and at
/// least one of them must.
pub fn matches(filter: &TraceFilter, groups: &[Arc<SpanGroup>], range: TimeRange) -> bool {
    if in_range(groups, range).next().is_none() {
        return false;
    }
    let any_span = |filter: &SpanFilter| {
        in_range(groups, range).any(|(group, span)| span_holds(filter, group, span))
    };
    let bound = filter.local_bound();
    let possible = holds(&bound, &any_span);
    // Most traces fail here, and need no tree.
    if !possible || filter.is_local() {
        return possible;
    }
    let tree = Tree::new(groups, range);
    holds(filter, &|filter: &SpanFilter| tree.any(filter))
}

/// Whether one span of a group matches, as far as the span itself says: a filter that is not local
/// is taken for its [`SpanFilter::local_bound`].
pub fn span_matches(filter: &SpanFilter, group: &SpanGroup, span: &Span) -> bool {
    span_holds(&filter.local_bound(), group, span)
}

pub(crate) fn span_holds(filter: &SpanFilter, group: &SpanGroup, span: &Span) -> bool {
    match filter {
        SpanFilter::True => true,
        SpanFilter::Exists(field) => any_value(field, group, span, |_| true),
        SpanFilter::Compare {
            field,
            comparison,
            literal,
        } => any_value(field, group, span, |value| {
            value.is_some_and(|value| value.compares(*comparison, literal))
        }),
        SpanFilter::And(filters) => filters.iter().all(|f| span_holds(f, group, span)),
        SpanFilter::Or(filters) => filters.iter().any(|f| span_holds(f, group, span)),
        SpanFilter::Not(filter) => !span_holds(filter, group, span),
    }
}

fn holds(filter: &TraceFilter, any_span: &impl Fn(&SpanFilter) -> bool) -> bool {
    match filter {
        TraceFilter::AnySpan(filter) => any_span(filter),
        TraceFilter::And(filters) => filters.iter().all(|f| holds(f, any_span)),
        TraceFilter::Or(filters) => filters.iter().any(|f| holds(f, any_span)),
        TraceFilter::Not(filter) => !holds(filter, any_span),
    }
}

/// Whether one of the values that the field has on the span passes; `None` is a value that compares
/// with nothing.
fn any_value(
    field: &Field,
    group: &SpanGroup,
    span: &Span,
    passes: impl Fn(Option<Scalar<'_>>) -> bool,
) -> bool {
    match field {
        Field::Intrinsic(intrinsic) => {
            any_intrinsic(*intrinsic, group, span, |value| passes(Some(value)))
        }
        Field::Attribute { scope, key } => {
            any_attribute(*scope, key, group, span, |value| passes(Scalar::of(value)))
        }
        // Not local.
        Field::Trace(_) | Field::Relatives { .. } => false,
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

fn any_intrinsic(
    intrinsic: Intrinsic,
    group: &SpanGroup,
    span: &Span,
    passes: impl Fn(Scalar<'_>) -> bool,
) -> bool {
    let hex = |digits: &[u8]| {
        passes(Scalar::Text(
            std::str::from_utf8(digits).unwrap_or_default(),
        ))
    };
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
            return passes(Scalar::Int(nano));
        }
        Intrinsic::TraceId => return hex(&span.trace_id.to_hex()),
        Intrinsic::SpanId => return hex(&span.span_id.to_hex()),
        Intrinsic::ParentId => return span.parent_span_id.is_some_and(|id| hex(&id.to_hex())),
        Intrinsic::EventName => {
            return (span.events.iter()).any(|event| passes(Scalar::Text(&event.name)));
        }
        Intrinsic::EventTime => {
            return span.events.iter().any(|event| {
                let after = i128::from(event.time_unix_nano) - i128::from(span.start_unix_nano);
                let limit = if after < 0 { i64::MIN } else { i64::MAX };
                passes(Scalar::Int(i64::try_from(after).unwrap_or(limit)))
            });
        }
        Intrinsic::LinkTraceId => {
            return span.links.iter().any(|link| hex(&link.trace_id.to_hex()));
        }
        Intrinsic::LinkSpanId => {
            return span.links.iter().any(|link| hex(&link.span_id.to_hex()));
        }
    };
    passes(Scalar::Text(text))
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
