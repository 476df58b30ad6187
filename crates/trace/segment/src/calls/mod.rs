//! Who called whom, every minute.

mod collect;
mod format;

use periplus_model::TraceId;

pub(crate) use collect::Collector;

/// The length of a window.
pub const MINUTE_NANO: u64 = 60_000_000_000;

/// The calls between services that a segment's traces tell of, as `periplus_insight::dependencies`
/// finds them in what the segment has of each trace.
///
/// Traces that cannot be judged by their parents alone (a span id that occurs twice, a parent that
/// is not here, a span below itself) are not counted: they are named, to be looked at whole. A trace
/// of which another segment has spans too must be looked at whole as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// The calls, sorted by minute, caller and called.
    pub edges: Vec<CallEdge>,
    /// The traces that are not counted, in the order of their starts.
    pub unsettled: Vec<TraceId>,
}

/// Calls from one service to another within a minute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallEdge {
    /// When the minute begins, in which the span of the call starts: a multiple of [`MINUTE_NANO`].
    pub start_unix_nano: u64,
    /// The calling service.
    pub parent: String,
    /// The called service.
    pub child: String,
    /// How many calls.
    pub calls: u64,
    /// How many of them failed.
    pub errors: u64,
}

impl Calls {
    pub(crate) fn heap_bytes(&self) -> usize {
        let texts = self.edges.iter().map(|it| it.parent.len() + it.child.len());
        texts.sum::<usize>()
            + self.edges.capacity() * size_of::<CallEdge>()
            + self.unsettled.capacity() * size_of::<TraceId>()
    }
}
