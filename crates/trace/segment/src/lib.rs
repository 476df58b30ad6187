//! Spans in columns: the builder that takes them, the segment that keeps them, its reader.
//!
//! Pure: bytes in, bytes out, no files, no clock. The format is described in
//! `docs/segment-format.md`.

mod build;
mod bytes;
mod error;
mod hash;
pub mod limits;
mod schema;
mod value;

pub use build::{Builder, Mark};
pub use error::{BuildError, OtlpError, ReadError};
