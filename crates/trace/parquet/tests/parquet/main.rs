//! The Parquet export and import.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends with the line that was wrong"
)]

mod damage;
mod duckdb;
mod round_trip;
mod schema;
mod support;
