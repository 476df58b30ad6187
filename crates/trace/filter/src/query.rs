//! One query AST: Jaeger's search, Zipkin's search, TraceQL and our query line all parse into it.
//!
//! A query selects *traces*. A [`TraceFilter`] is a formula over "some span of the trace matches
//! this [`SpanFilter`]"; all conditions inside one `SpanFilter` must hold on the same span.

use std::fmt;

/// A search: newest traces first (by the start of their earliest span), an exact limit.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceQuery {
    /// Spans count only if they start inside this range.
    pub range: TimeRange,
    /// What the trace must contain.
    pub filter: TraceFilter,
    /// How many traces at most.
    pub limit: usize,
}

/// A half-open range of span start times, nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// The first nanosecond inside.
    pub start_unix_nano: u64,
    /// The first nanosecond behind.
    pub end_unix_nano: u64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self {
        start_unix_nano: 0,
        end_unix_nano: u64::MAX,
    };

    /// Whether the instant lies inside.
    pub const fn contains(&self, unix_nano: u64) -> bool {
        self.start_unix_nano <= unix_nano && unix_nano < self.end_unix_nano
    }
}

/// A formula over the spans of a trace. Only spans that start inside the query's range count; a
/// trace without any such span never matches, not even `And(vec![])` or a `Not`.
#[derive(Clone, Debug, PartialEq)]
pub enum TraceFilter {
    /// Some span matches.
    AnySpan(SpanFilter),
    /// All hold.
    And(Vec<TraceFilter>),
    /// At least one holds.
    Or(Vec<TraceFilter>),
    /// It does not hold.
    Not(Box<TraceFilter>),
}

impl TraceFilter {
    /// A service of which every matching trace has a span, if the formula pins one: what an index
    /// by service can start from.
    pub fn pinned_service(&self) -> Option<&str> {
        match self {
            Self::AnySpan(filter) => filter.pinned_service(),
            Self::And(filters) => filters.iter().find_map(Self::pinned_service),
            Self::Or(_) | Self::Not(_) => None,
        }
    }
}

/// A formula over one span.
#[derive(Clone, Debug, PartialEq)]
pub enum SpanFilter {
    /// Every span matches.
    True,
    /// The field is there, whatever its value.
    Exists(Field),
    /// The field compares with the literal; a missing field or another type never matches. Where
    /// an attribute has several values (in several places, or several times in one), one that
    /// matches is enough, whatever the comparison.
    Compare {
        /// What is compared.
        field: Field,
        /// How.
        comparison: Comparison,
        /// With what.
        literal: Literal,
    },
    /// All hold on the same span.
    And(Vec<SpanFilter>),
    /// At least one holds.
    Or(Vec<SpanFilter>),
    /// It does not hold.
    Not(Box<SpanFilter>),
}

impl SpanFilter {
    /// The field equals the literal.
    pub fn equals(field: Field, literal: impl Into<Literal>) -> Self {
        Self::Compare {
            field,
            comparison: Comparison::Equal,
            literal: literal.into(),
        }
    }

    /// The service that every matching span has, if the formula pins one.
    pub fn pinned_service(&self) -> Option<&str> {
        match self {
            Self::Compare {
                field: Field::Intrinsic(Intrinsic::Service),
                comparison: Comparison::Equal,
                literal: Literal::String(name) | Literal::Untyped(name),
            } => Some(name),
            Self::And(filters) => filters.iter().find_map(Self::pinned_service),
            _ => None,
        }
    }
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// A property that every span has.
    Intrinsic(Intrinsic),
    /// An attribute.
    Attribute {
        /// Where it is looked for.
        scope: Scope,
        /// Its key.
        key: String,
    },
}

/// The properties that every span has.
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
}

/// Where an attribute is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
        })
    }
}
