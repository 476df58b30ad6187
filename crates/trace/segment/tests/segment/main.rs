//! Spans into columns, into a segment, and back.

mod calls;
mod damage;
mod doors;
mod extremes;
mod golden;
mod red;
mod rollback;
mod round_trip;
mod search;
mod support;
mod tags;
