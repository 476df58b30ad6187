//! What a condition looks at, and what it compares with.

use std::fmt;

use crate::{Pattern, SpanFilter};

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Field {
    /// A property of the span.
    Intrinsic(Intrinsic),
    /// An attribute.
    Attribute {
        /// Where it is looked for.
        scope: Scope,
        /// Its key.
        key: String,
    },
    /// A property of the whole trace: the same for each of its spans. All spans count for it, also
    /// those outside of the query's range.
    Trace(TraceField),
    /// How many spans stand in this relation to the span, start inside the query's range and match.
    /// The number compares, also when it is zero; the field is there if it is not zero.
    Relatives {
        /// What they are to the span.
        relation: Relation,
        /// What they match.
        filter: Box<SpanFilter>,
    },
}

impl Field {
    /// The spans that stand in this relation to the span and match.
    pub fn relatives(relation: Relation, filter: SpanFilter) -> Self {
        Self::Relatives {
            relation,
            filter: Box::new(filter),
        }
    }

    /// Whether its values are nanoseconds.
    pub const fn is_duration(&self) -> bool {
        matches!(
            self,
            Self::Intrinsic(Intrinsic::Duration | Intrinsic::EventTime)
                | Self::Trace(TraceField::Duration)
        )
    }
}

/// The properties of a trace: what a list of traces shows of it (`periplus_insight::summary`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TraceField {
    /// From the start of the first span to the end of the last one, in nanoseconds, after the
    /// adjustment of clocks.
    Duration,
    /// The service of the root, text. Missing as long as the root has not arrived.
    RootService,
    /// The name of the root, text. Missing as long as the root has not arrived.
    RootName,
    /// How many spans it has, a number; identical copies count once.
    Spans,
}

/// What one span, or a part of a span, is to a span, in the tree that `periplus_insight::Trace::assemble` makes of the
/// whole trace, also of what lies outside of the query's range. So the two halves of a span that
/// Zipkin shares are parent and child, a circle is cut at its earliest span, and a span whose parent
/// has not arrived has neither parent nor siblings, but it has children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Relation {
    /// The span's parent.
    Parent,
    /// A child of the span.
    Child,
    /// The parent, its parent, and so on.
    Ancestor,
    /// A child, a child of it, and so on.
    Descendant,
    /// Another child of the same parent.
    Sibling,
    /// Any span of the trace, the span itself too.
    Trace,
    /// An event of the span: the span as if it had that event alone. So several conditions hold on
    /// the same event. It counts whenever the span does.
    Event,
    /// A link of the span: the span as if it had that link alone.
    Link,
}

impl Relation {
    /// Whether it is a part of the span, and no other span.
    pub(crate) const fn is_part(self) -> bool {
        matches!(self, Self::Event | Self::Link)
    }
}

/// The properties of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Intrinsic {
    /// `service.name` of the resource, text.
    Service,
    /// The span's name, text.
    Name,
    /// The kind: Jaeger's lower-case word, text.
    Kind,
    /// The status: `unset`, `ok` or `error`, text.
    Status,
    /// The status message, text.
    StatusMessage,
    /// The duration in nanoseconds, a number; zero if the span ends before it starts.
    Duration,
    /// The name of the instrumentation scope, text.
    ScopeName,
    /// The version of the instrumentation scope, text.
    ScopeVersion,
    /// The trace's id: 32 lower-case hex digits, text.
    TraceId,
    /// The span's id: 16 lower-case hex digits, text.
    SpanId,
    /// The parent's id: 16 lower-case hex digits, text. Roots have none.
    ParentId,
    /// The names of the span's events, text.
    EventName,
    /// How long after the start of the span its events happened, in nanoseconds, a number; below
    /// zero for an event before the start.
    EventTime,
    /// The ids of the traces that the span's links name, as [`Self::TraceId`].
    LinkTraceId,
    /// The ids of the spans that the span's links name, as [`Self::SpanId`].
    LinkSpanId,
}

/// Where an attribute is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Span, resource, scope, events and links: Jaeger's tag search.
    Any,
    /// The span's own attributes.
    Span,
    /// The resource's attributes.
    Resource,
    /// The instrumentation scope's attributes.
    Instrumentation,
    /// An event's attributes.
    Event,
    /// A link's attributes.
    Link,
}

/// How a field compares with a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Comparison {
    /// Equal.
    Equal,
    /// The field is there and differs.
    NotEqual,
    /// Less than.
    Less,
    /// Less than or equal.
    LessOrEqual,
    /// Greater than.
    Greater,
    /// Greater than or equal.
    GreaterOrEqual,
    /// Text contains the literal text; text values only.
    Contains,
    /// All of the text matches a [`Literal::Pattern`]; text values only.
    Matches,
    /// The field is there, is text, and does not match a [`Literal::Pattern`].
    NotMatches,
}

/// The value that a field is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// Text: equal to a text value only.
    String(String),
    /// Text that equals any scalar written the same way: Jaeger's and Zipkin's untyped tags
    /// (`http.status_code=500` finds the integer, the double and the text). It takes the type of
    /// what it is compared with: a number's order is that of numbers, a text's that of texts.
    Untyped(String),
    /// An integer; compares with doubles by value.
    Int(i64),
    /// A double; compares with integers by value.
    Double(f64),
    /// True or false.
    Bool(bool),
    /// A regular expression, for [`Comparison::Matches`] and [`Comparison::NotMatches`] only.
    Pattern(Pattern),
}

impl From<&str> for Literal {
    fn from(v: &str) -> Self {
        Self::String(v.to_owned())
    }
}

impl From<i64> for Literal {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Contains => "contains",
            Self::Matches => "=~",
            Self::NotMatches => "!~",
        })
    }
}
