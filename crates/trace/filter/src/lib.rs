//! One query AST: Jaeger's search, Zipkin's search, TraceQL and our query line all parse into it.
//!
//! A query selects *traces*. A [`TraceFilter`] is a formula over "some span of the trace matches
//! this [`SpanFilter`]"; all conditions inside one `SpanFilter` must hold on the same span.
//!
//! TraceQL's spansets are `SpanFilter`s as well, since a condition may count the span's relatives:
//! `{A} >> {B}` (the `B` below an `A`) is `B` and [`Relation::Ancestor`] `A`; `{A} !>> {B}` is `B`
//! and not such an ancestor; `{A} &>> {B}` is that or `A` with a [`Relation::Descendant`] `B`;
//! `{A} && {B}` is `A` or `B`, and both somewhere in the [`Relation::Trace`].
//!
//! [`matches()`] is the definition: an engine may find what matches as it likes, with indexes and
//! dictionaries, as long as it answers the same. An engine that looks at spans one by one starts
//! from [`TraceFilter::local_bound`] and asks [`matches()`] about what is left.
//!
//! A filter has a text form ([`std::fmt::Display`]), and [`parse`] reads it: the query line.

mod bound;
mod budget;
mod check;
mod cursor;
mod eval;
mod field;
mod pattern;
mod query;
mod scalar;
mod text;
mod tree;

pub use budget::Budget;
pub use check::{InvalidFilter, MAX_CONDITIONS, MAX_DEPTH};
pub use cursor::{Cursor, ParseCursorError};
pub use eval::{matches, span_matches};
pub use field::{Comparison, Field, Intrinsic, Literal, Relation, Scope, TraceField};
pub use pattern::{Pattern, PatternError};
pub use query::{Detail, SpanFilter, TimeRange, TraceFilter, TraceQuery};
pub use scalar::Scalar;
pub use text::{ParseError, parse};
