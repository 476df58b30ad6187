//! The supervisor with real processes: this test program itself, started in another role.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod crash;
mod helper;
mod orphans;
mod start;
mod stop;
