//! Spans into columns, into a segment, and back.

mod doors;
mod round_trip;
mod search;
mod support;
