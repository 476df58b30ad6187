//! Pure functions over one trace: the tree, clock skew, the critical path, dependencies, a summary.
//!
//! A store keeps spans as they arrived. [`Trace::assemble`] makes a tree of them, mends what can be
//! mended (ids shared by client and server, clocks that disagree, parents that are missing or point
//! in a circle), says what it did, and loses nothing. Everything else here reads that tree.
//! [`jaeger`] holds the adjusters that Jaeger's own API applies instead, [`zipkin`] what Zipkin makes of a trace.
//!
//! No I/O, no clock, no recursion over the tree: a chain of a hundred thousand spans is fine.

mod assemble;
mod breakdown;
mod critical;
mod dependency;
mod failure;
pub mod jaeger;
mod summary;
mod text;
mod trace;
pub mod zipkin;

pub use breakdown::{Share, breakdown};
pub use critical::{Segment, critical_path};
pub use dependency::{Dependency, dependencies, dependencies_where};
pub use failure::is_error;
pub use summary::{RootSummary, SUMMARY_ATTRIBUTES, ServiceSummary, Summary, summary};
pub use text::{date, go_duration};
pub use trace::{Flags, Row, Trace};
