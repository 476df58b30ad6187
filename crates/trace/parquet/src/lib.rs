//! Spans as Parquet files: an export for users' own tools, and the way back.
//!
//! One row is one span, with every field of the model; the columns are described in
//! `docs/parquet.md`. [`export()`] writes traces as they stream out of a store, [`Import`] reads a
//! file as batches for a store: what comes back is what went out, bit for bit, in the same groups
//! and in the same order. Both keep a bounded part of the file in memory.
//!
//! [`Import`] also takes what another tool made of an export (DuckDB's `COPY … TO`, say), as long as
//! the columns are there. It never ends early without an error.

mod assemble;
mod buffer;
mod cursor;
mod error;
mod export;
mod import;
mod layout;
mod open;
mod same;
mod schema;
mod shred;
mod value;

pub use error::{ImportError, ImportProblem};
pub use export::{ExportCounts, ExportError, ExportOptions, Exporter, export, export_range};
pub use import::{Import, ImportCounts};
pub use schema::{VERSION, VERSION_KEY, schema_text};
