//! What a query means: the evaluation of the AST against spans.

use std::cmp::Ordering;
use std::sync::Arc;

use periplus_model::{Attribute, Span, SpanGroup, StatusCode, Value};

use crate::{Comparison, Field, Intrinsic, Literal, Scope, SpanFilter, TimeRange, TraceFilter};

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

/// A value that compares with literals.
#[derive(Clone, Copy)]
enum Scalar<'a> {
    Text(&'a str),
    Int(i64),
    Double(f64),
    Bool(bool),
}

impl<'a> Scalar<'a> {
    /// Bytes, lists and maps compare with nothing.
    fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::String(v) => Some(Self::Text(v)),
            Value::Int(v) => Some(Self::Int(*v)),
            Value::Double(v) => Some(Self::Double(*v)),
            Value::Bool(v) => Some(Self::Bool(*v)),
            Value::Empty | Value::Bytes(_) | Value::Array(_) | Value::Map(_) => None,
        }
    }

    fn compares(self, comparison: Comparison, literal: &Literal) -> bool {
        match (comparison, self, literal) {
            (
                Comparison::Contains,
                Self::Text(text),
                Literal::String(part) | Literal::Untyped(part),
            ) => text.contains(part.as_str()),
            (Comparison::Contains, ..) => false,
            (Comparison::Equal, _, Literal::Untyped(text)) => self.is_written(text),
            (Comparison::NotEqual, _, Literal::Untyped(text)) => !self.is_written(text),
            // Booleans have no order.
            (Comparison::Equal, Self::Bool(value), Literal::Bool(literal)) => value == *literal,
            (Comparison::NotEqual, Self::Bool(value), Literal::Bool(literal)) => value != *literal,
            _ => self
                .order(literal)
                .is_some_and(|order| satisfies(order, comparison)),
        }
    }

    /// Whether this is what the text says, if the text is taken for a value of this type.
    fn is_written(self, text: &str) -> bool {
        match self {
            Self::Text(value) => value == text,
            Self::Int(value) => text.parse() == Ok(value),
            Self::Double(value) => text.parse() == Ok(value),
            Self::Bool(value) => text == if value { "true" } else { "false" },
        }
    }

    fn order(self, literal: &Literal) -> Option<Ordering> {
        match (self, literal) {
            (Self::Text(value), Literal::String(text) | Literal::Untyped(text)) => {
                Some(value.cmp(text))
            }
            (Self::Int(value), Literal::Int(number)) => Some(value.cmp(number)),
            (Self::Int(value), Literal::Double(number)) => order_int_double(value, *number),
            (Self::Double(value), Literal::Int(number)) => {
                order_int_double(*number, value).map(Ordering::reverse)
            }
            (Self::Double(value), Literal::Double(number)) => value.partial_cmp(number),
            (Self::Int(_) | Self::Double(_), Literal::Untyped(text)) => {
                let number = match text.parse() {
                    Ok(number) => Literal::Int(number),
                    Err(_) => Literal::Double(text.parse().ok()?),
                };
                self.order(&number)
            }
            _ => None,
        }
    }
}

fn satisfies(order: Ordering, comparison: Comparison) -> bool {
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
        Comparison::Contains => false,
    }
}

/// Exact, also where the integer has more digits than a double can hold.
fn order_int_double(int: i64, double: f64) -> Option<Ordering> {
    // 2^63: the first double above every i64.
    const ABOVE: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        return None;
    }
    if double >= ABOVE {
        return Some(Ordering::Less);
    }
    if double < -ABOVE {
        return Some(Ordering::Greater);
    }
    let whole = double.trunc();
    let by_whole = int.cmp(&(whole as i64));
    Some(by_whole.then(0.0_f64.partial_cmp(&(double - whole))?))
}
