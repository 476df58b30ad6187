//! From the bytes of a segment to spans.

mod bytes;
mod catalog;
mod footer;
mod group;
mod index;
mod schema;
mod segment;
mod spans;
mod tags;
mod traces;
mod values;

pub(crate) use bytes::Bytes;
pub use bytes::Source;
pub use group::Group;
pub(crate) use group::{Column, at_or_zero};
pub(crate) use segment::Inner;
pub use segment::{Info, Segment};
pub use traces::TracePlace;
pub(crate) use values::Rows;
