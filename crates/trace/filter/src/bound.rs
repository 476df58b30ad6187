//! What can be said of a filter by looking at one span at a time.

use std::borrow::Cow;

use crate::{Field, SpanFilter, TraceFilter};

/// On which side of a filter a bound lies.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    /// It holds wherever the filter holds.
    Above,
    /// It holds only where the filter holds.
    Below,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Above => Self::Below,
            Self::Below => Self::Above,
        }
    }
}

impl TraceFilter {
    /// Whether it speaks of single spans only, not of their relatives or the trace.
    pub fn is_local(&self) -> bool {
        match self {
            Self::AnySpan(filter) => filter.is_local(),
            Self::And(filters) | Self::Or(filters) => filters.iter().all(Self::is_local),
            Self::Not(filter) => filter.is_local(),
        }
    }

    /// A local filter that every trace matches which matches this one: itself, if it is local.
    pub fn local_bound(&self) -> Cow<'_, Self> {
        if self.is_local() {
            Cow::Borrowed(self)
        } else {
            Cow::Owned(self.bound(Side::Above))
        }
    }

    fn bound(&self, side: Side) -> Self {
        let all = |filters: &[Self]| filters.iter().map(|filter| filter.bound(side)).collect();
        match self {
            Self::AnySpan(filter) => Self::AnySpan(filter.bound(side)),
            Self::And(filters) => Self::And(all(filters)),
            Self::Or(filters) => Self::Or(all(filters)),
            Self::Not(filter) => Self::Not(Box::new(filter.bound(side.other()))),
        }
    }
}

impl SpanFilter {
    /// Whether it speaks of the span alone, not of its relatives or its trace.
    pub fn is_local(&self) -> bool {
        match self {
            Self::True => true,
            Self::Exists(field) | Self::Compare { field, .. } => field.is_local(),
            Self::And(filters) | Self::Or(filters) => filters.iter().all(Self::is_local),
            Self::Not(filter) => filter.is_local(),
        }
    }

    /// A local filter that every span matches which matches this one: itself, if it is local.
    pub fn local_bound(&self) -> Cow<'_, Self> {
        if self.is_local() {
            Cow::Borrowed(self)
        } else {
            Cow::Owned(self.bound(Side::Above))
        }
    }

    fn bound(&self, side: Side) -> Self {
        let all = |filters: &[Self]| filters.iter().map(|filter| filter.bound(side)).collect();
        match self {
            // Where a part matches alone, its span does with all of them.
            Self::Exists(Field::Relatives { relation, filter })
                if relation.is_part() && side == Side::Above =>
            {
                filter.of_all_parts()
            }
            Self::Exists(field) | Self::Compare { field, .. } if !field.is_local() => match side {
                Side::Above => Self::True,
                Side::Below => Self::Or(Vec::new()),
            },
            Self::True | Self::Exists(_) | Self::Compare { .. } => self.clone(),
            Self::And(filters) => Self::And(all(filters)),
            Self::Or(filters) => Self::Or(all(filters)),
            Self::Not(filter) => Self::Not(Box::new(filter.bound(side.other()))),
        }
    }
}

impl SpanFilter {
    /// What holds on a span wherever this holds on the span with fewer events or links: what is
    /// there stays there, what is not may come.
    fn of_all_parts(&self) -> Self {
        let all = |filters: &[Self]| filters.iter().map(Self::of_all_parts).collect();
        match self {
            Self::True | Self::Not(_) => Self::True,
            Self::Exists(_) | Self::Compare { .. } => self.clone(),
            Self::And(filters) => Self::And(all(filters)),
            Self::Or(filters) => Self::Or(all(filters)),
        }
    }
}

impl Field {
    /// Whether the span alone says what its values are, and one look at its columns is enough.
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Intrinsic(_) | Self::Attribute { .. } => true,
            Self::Trace(_) | Self::Relatives { .. } => false,
        }
    }
}
