//! What is sampled: the strategies that clients are told, probabilities that adapt to traffic, and
//! tail sampling, which decides when a trace has been seen.
//!
//! * [`Strategies`] is Jaeger's file of sampling strategies.
//! * [`Adaptive`] computes probabilities from the traffic.
//! * [`tail`] is tail sampling.
//!
//! No I/O and no clock: files come as text, time as an argument.

mod adaptive;
mod error;
mod share;
mod strategies;

pub mod tail;

pub use adaptive::{Adaptive, AdaptiveOptions, AdaptiveState, AdaptiveStats, Sampler};
pub use error::{ConfigError, Warning};
pub use share::in_share;
pub use strategies::Strategies;
