//! The span store: its trait, the query AST behind every API, and the engines.
//!
//! [`SpanStore`] is the contract, [`SpanSink`] the part of it that takes spans. [`MemoryStore`] is the engine without a disk: bounded, the oldest
//! traces go first. [`matches()`] is what a query means; an engine may find its candidates as it
//! likes, and the suite in `tests/suite` holds every engine to the same answers.

mod attributes;
mod durations;
pub mod embedded;
mod error;
mod memory;
pub mod priority;
mod red;
mod scan;
mod search;
mod store;

pub use attributes::AttributeKey;
pub use durations::Durations;
pub use error::{AppendOtlpError, StoreError};
pub use memory::MemoryStore;
pub use periplus_filter::{
    Budget, Comparison, Cursor, Detail, Field, Intrinsic, InvalidFilter, Literal, ParseCursorError,
    ParseError, Pattern, PatternError, Relation, Scope, SpanFilter, TimeRange, TraceField,
    TraceFilter, TraceQuery, matches, parse, span_matches,
};
pub use red::{RED_WINDOW_NANO, RedPoint, RedQuery, RedSeries, red_bucket_bounds};
pub use scan::ScanQuery;
pub use search::{Outcome, TraceSearch};
pub use store::{
    BoxFuture, BoxStream, DependencyEdge, Incomplete, Operation, OtlpTaken, SpanSink, SpanStore,
    StoreStats, StoredTrace,
};
