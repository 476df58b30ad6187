//! What is asked: a filter, a range of time, and how much of the answer.

use crate::{Budget, Comparison, Cursor, Field, Intrinsic, Literal};

/// A search: newest traces first (by the start of their earliest span, then by id), an exact limit.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceQuery {
    /// Spans count only if they start inside this range.
    pub range: TimeRange,
    /// What the trace must contain.
    pub filter: TraceFilter,
    /// How many traces at most.
    pub limit: usize,
    /// Only traces that stand behind this place: the next page.
    pub after: Option<Cursor>,
    /// What the query may take.
    pub budget: Budget,
    /// How much of the traces is wanted.
    pub detail: Detail,
}

/// How much of a trace is wanted. An engine may give more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// All of it.
    #[default]
    Full,
    /// Its spans without events and links, and of their attributes those with these keys; resources
    /// and scopes as they are. A trace in which ids of spans come twice is whole.
    Outline(&'static [&'static str]),
}

impl TraceQuery {
    /// A query from the newest trace on, that may take as much as it needs.
    pub fn new(range: TimeRange, filter: TraceFilter, limit: usize) -> Self {
        Self {
            range,
            filter,
            limit,
            after: None,
            budget: Budget::UNLIMITED,
            detail: Detail::Full,
        }
    }
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

/// A formula over one span. Through [`Field::Relatives`] it may speak of other spans of the trace
/// and through [`Field::Trace`] of all of it: such a filter is not local, and only
/// [`crate::matches()`] knows its answer.
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
