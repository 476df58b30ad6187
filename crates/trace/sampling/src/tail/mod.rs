//! Tail sampling: a trace is held until it has been seen, then kept or dropped as a whole.
//!
//! The configuration has the shape of the OpenTelemetry collector's `tail_sampling` processor
//! ([`TailConfig`]); [`Policies`] judge a trace; [`TailSampler`] holds traces, knows when they are
//! due, and remembers what became of them; [`DryRun`] says what would become of traces that are
//! stored already.
//!
//! Time is an argument everywhere: nanoseconds since 1970 that never go back.

mod arrivals;
mod compile;
mod condition;
mod config;
mod decisions;
mod dry_run;
mod duration;
mod hash;
mod limit;
mod policies;
mod sampler;
mod stats;

mod view;

pub use arrivals::Arrivals;
pub use config::{DecisionCache, PolicyConfig, TailConfig};
pub use decisions::{Cause, Decision, Verdict};
pub use dry_run::{DryRun, DryRunReport, Example, PolicyReport, Sum};
pub use policies::{Judgement, Policies};
pub use sampler::{Full, Kept, TailSampler};
pub use stats::{Histogram, PolicyCounts, TailStats};
pub use view::TraceView;

#[cfg(test)]
mod tests;
