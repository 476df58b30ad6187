use thiserror::Error;

use crate::{Comparison, Field, Literal, SpanFilter, TraceFilter};

/// How deep formulas may be nested.
pub const MAX_DEPTH: usize = 64;

/// How many parts a filter may have.
pub const MAX_CONDITIONS: usize = 2_000;

/// A filter that no engine answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidFilter {
    /// It has too many levels.
    #[error("it is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// It has too many parts.
    #[error("it has more than {MAX_CONDITIONS} parts: ask for less at once")]
    TooLarge,
    /// A comparison and its literal do not go together.
    #[error("'=~' and '!~' compare with a regular expression, and nothing else does")]
    NotAPattern,
    /// An event has no relatives.
    #[error("event{{…}} and link{{…}} take no conditions on other spans or the trace inside")]
    NotAPart,
}

impl TraceFilter {
    /// Whether it can be answered: an engine may walk it without a look at its size.
    pub fn check(&self) -> Result<(), InvalidFilter> {
        let mut parts = MAX_CONDITIONS;
        self.walk(MAX_DEPTH, &mut parts)
    }

    fn walk(&self, depth: usize, parts: &mut usize) -> Result<(), InvalidFilter> {
        let depth = count(depth, parts)?;
        match self {
            Self::AnySpan(filter) => filter.walk(depth, parts),
            Self::And(filters) | Self::Or(filters) => filters
                .iter()
                .try_for_each(|filter| filter.walk(depth, parts)),
            Self::Not(filter) => filter.walk(depth, parts),
        }
    }
}

impl SpanFilter {
    fn walk(&self, depth: usize, parts: &mut usize) -> Result<(), InvalidFilter> {
        let depth = count(depth, parts)?;
        match self {
            Self::True => Ok(()),
            Self::Exists(field) => field.walk(depth, parts),
            Self::Compare {
                field,
                comparison,
                literal,
            } => {
                let wants = matches!(comparison, Comparison::Matches | Comparison::NotMatches);
                if wants != matches!(literal, Literal::Pattern(_)) {
                    return Err(InvalidFilter::NotAPattern);
                }
                field.walk(depth, parts)
            }
            Self::And(filters) | Self::Or(filters) => filters
                .iter()
                .try_for_each(|filter| filter.walk(depth, parts)),
            Self::Not(filter) => filter.walk(depth, parts),
        }
    }
}

impl Field {
    fn walk(&self, depth: usize, parts: &mut usize) -> Result<(), InvalidFilter> {
        match self {
            Self::Relatives { relation, filter } if relation.is_part() && !filter.is_local() => {
                Err(InvalidFilter::NotAPart)
            }
            Self::Relatives { filter, .. } => filter.walk(depth, parts),
            Self::Intrinsic(_) | Self::Attribute { .. } | Self::Trace(_) => Ok(()),
        }
    }
}

/// Takes one part from what is left, and returns the levels that are left.
fn count(depth: usize, parts: &mut usize) -> Result<usize, InvalidFilter> {
    *parts = parts.checked_sub(1).ok_or(InvalidFilter::TooLarge)?;
    depth.checked_sub(1).ok_or(InvalidFilter::TooDeep)
}
