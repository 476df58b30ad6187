//! The query AST behind every API, and what a query means.
//!
//! [`matches()`] and [`span_matches`] are the definition: an engine may find what matches as it
//! likes, with indexes and dictionaries, as long as it answers the same.

mod eval;
mod query;
mod scalar;

pub use eval::{matches, span_matches};
pub use query::{
    Comparison, Field, Intrinsic, Literal, Scope, SpanFilter, TimeRange, TraceFilter, TraceQuery,
};
pub use scalar::Scalar;
