//! The span store: its trait, the query AST behind every API, and the engines.

mod error;
mod query;
mod store;

pub use error::StoreError;
pub use query::{
    Comparison, Field, Intrinsic, Literal, Scope, SpanFilter, TimeRange, TraceFilter, TraceQuery,
};
pub use store::{
    BoxFuture, BoxStream, DependencyEdge, Operation, SpanStore, StoreStats, StoredTrace,
};
