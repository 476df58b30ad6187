//! Spans in columns: the builder that takes them, the segment that keeps them, its reader.
//!
//! Pure: bytes in, bytes out, no files, no clock. The format is described in
//! `docs/segment-format.md`.

mod build;
mod bytes;
mod calls;
mod codec;
mod encode;
mod error;
mod facts;
mod hash;
mod layout;
pub mod limits;
mod merge;
mod numbers;
mod read;
mod red;
mod schema;
mod search;
mod trace_filter;
mod value;
mod zone;

pub use build::{Builder, Mark, Turns};
pub use calls::{CallEdge, Calls, MINUTE_NANO};
pub use encode::EncodeOptions;
pub use error::{BuildError, OtlpError, ReadError};
pub use merge::{MergeError, merge};
pub use read::{Group, Info, Segment, Source, TracePlace};
pub use red::{Red, RedPoint, ServiceOperation, WINDOW_NANO, bucket_bounds, bucket_of};
pub use schema::{AttributeKey, AttributeType};
pub use search::{Hit, Search};
