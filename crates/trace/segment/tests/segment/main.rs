//! Spans into columns, into a segment, and back.

mod damage;
mod doors;
mod extremes;
mod red;
mod rollback;
mod round_trip;
mod search;
mod support;
mod tags;
