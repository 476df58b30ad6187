//! Spans into columns, into a segment, and back.

mod calls;
mod damage;
mod doors;
mod extremes;
mod golden;
mod golden_of_columns;
mod independent;
mod merge;
mod red;
mod rollback;
mod round_trip;
mod search;
mod support;
mod tags;
