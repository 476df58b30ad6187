//! Filters on columns: a filter becomes conditions on codes and numbers, and the rows that match are
//! found without making spans of them.

mod bits;
mod in_builder;
mod in_segment;
mod prepare;
mod run;
mod test;

use periplus_model::TraceId;

pub(crate) use in_builder::Window;
pub use in_segment::Search;

/// A trace of which a span matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// The start of the earliest span that the place that was searched has of the trace; zero if
    /// none is known.
    pub start_unix_nano: u64,
    /// The trace.
    pub id: TraceId,
    /// The number of the trace in its row group; in a builder, its number there.
    pub trace: usize,
}
