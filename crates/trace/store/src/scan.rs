use crate::{Budget, SpanFilter, TimeRange};

/// Which spans are wanted, each by itself: nothing is put together to traces.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanQuery {
    /// Spans that start inside.
    pub range: TimeRange,
    /// What they match: a local filter ([`SpanFilter::is_local`]).
    pub filter: SpanFilter,
    /// What the query may take.
    pub budget: Budget,
}

impl ScanQuery {
    /// One that may take as much as it needs.
    pub const fn new(range: TimeRange, filter: SpanFilter) -> Self {
        Self {
            range,
            filter,
            budget: Budget::UNLIMITED,
        }
    }
}
