use std::ops::{BitOr, BitOrAssign};
use std::sync::Arc;

use periplus_model::{Resource, Scope, Span, SpanGroup, SpanId};

/// A trace as a tree: one row per span that arrived, in depth-first order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The spans, as they were stored.
    pub groups: Vec<Arc<SpanGroup>>,
    /// The tree: every span of the groups exactly once, parents before children, siblings by
    /// adjusted start, then in the order of arrival.
    pub rows: Vec<Row>,
    /// The row that stands for the whole trace: the earliest span without a parent. If there is
    /// none, the earliest of those whose parent is missing. `None` only if there are no spans.
    pub root: Option<usize>,
    /// The ids of parents that have not arrived, each once, in the order of the rows that miss them.
    pub missing: Vec<SpanId>,
    /// When the first row starts, after adjustment; zero without rows.
    pub start_unix_nano: u64,
    /// When the last row ends, after adjustment; zero without rows.
    pub end_unix_nano: u64,
}

/// One span's place in the tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Its group: an index into [`Trace::groups`].
    pub group: usize,
    /// The span: an index into the group's spans.
    pub span: usize,
    /// How many ancestors it has.
    pub depth: usize,
    /// The row of its parent; always smaller than its own.
    pub parent: Option<usize>,
    /// When it starts, after adjustment.
    pub start_unix_nano: u64,
    /// How long it took; zero if it says nothing useful.
    pub duration_nano: u64,
    /// The part of the duration in which no child ran.
    pub self_nano: u64,
    /// What is noteworthy about it.
    pub flags: Flags,
    /// What was added to its times to undo the difference of two clocks; to be added to the times
    /// of its events too.
    pub skew_nano: i64,
    /// What is wrong with it, in words. Without an allocation when nothing is.
    pub warnings: Vec<String>,
}

impl Row {
    /// When it ends, after adjustment.
    pub fn end_unix_nano(&self) -> u64 {
        self.start_unix_nano.saturating_add(self.duration_nano)
    }
}

impl Trace {
    /// Makes a tree of the spans of one trace, in `O(n log n)`.
    ///
    /// * A server span that shares its id with a client span (Zipkin, B3) becomes its child, and
    ///   children of that id go to the half that ran in their own service.
    /// * An identical copy of a span is kept as a row of its own, flagged, next to the original.
    /// * A span whose parent has not arrived becomes a root and is flagged. A span that is its own
    ///   parent, and the earliest span of a circle, becomes a root with a warning.
    /// * Where two neighbours ran on different hosts and the child does not fit into the parent,
    ///   the clocks disagree: the child and what ran beside it are moved, by Jaeger's rule, except
    ///   that a consumer may outlive its producer. Up to a millisecond may be noise as well: such a
    ///   child is pushed inside by what it sticks out, with neither flag nor warning.
    /// * A span without a start is drawn at the start of its parent.
    pub fn assemble(groups: &[Arc<SpanGroup>]) -> Self {
        crate::assemble::assemble(groups)
    }

    /// The row's span, as it arrived (times not adjusted).
    pub fn span(&self, row: &Row) -> &Span {
        &self.groups[row.group].spans[row.span]
    }

    /// Who made the row's span.
    pub fn resource(&self, row: &Row) -> &Resource {
        &self.groups[row.group].resource
    }

    /// The instrumentation that made the row's span.
    pub fn scope(&self, row: &Row) -> &Scope {
        &self.groups[row.group].scope
    }

    /// The name of the row's service; empty when it has none.
    pub fn service(&self, row: &Row) -> &str {
        self.resource(row).service_name()
    }

    /// From the first start to the last end.
    pub fn duration_nano(&self) -> u64 {
        self.end_unix_nano.saturating_sub(self.start_unix_nano)
    }
}

/// What is noteworthy about a row: the bits of `flags` in Periplus' own API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The span failed ([`crate::is_error`]).
    pub const ERROR: Self = Self(1);
    /// It names a parent that has not arrived.
    pub const PARENT_MISSING: Self = Self(2);
    /// Its times were moved, by more than noise, because two clocks disagree.
    pub const SKEW_ADJUSTED: Self = Self(4);
    /// Another, different span has the same id (Zipkin's shared span).
    pub const SHARED_ID: Self = Self(8);
    /// An identical copy of an earlier span.
    pub const DUPLICATE: Self = Self(16);
    /// It has a warning.
    pub const WARNING: Self = Self(32);
    /// It has events.
    pub const EVENTS: Self = Self(64);
    /// It has links.
    pub const LINKS: Self = Self(128);

    /// The bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of these are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags if the condition holds, else none.
    pub(crate) const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
