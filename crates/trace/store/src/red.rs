use std::collections::BTreeMap;

use periplus_model::SpanKind;

/// The length of a window of a [`RedSeries`], nanoseconds.
pub use periplus_segment::WINDOW_NANO as RED_WINDOW_NANO;
/// The durations, in nanoseconds, that a bucket of a [`RedPoint`] stands for.
pub use periplus_segment::bucket_bounds as red_bucket_bounds;

/// The rates, errors and durations of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedSeries {
    /// The service; empty for spans without one.
    pub service: String,
    /// The name of its spans.
    pub name: String,
    /// Their kind.
    pub kind: SpanKind,
    /// By time; windows without spans are left out.
    pub points: Vec<RedPoint>,
}

/// The spans of a series that start within one window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedPoint {
    /// When the window begins: a multiple of [`RED_WINDOW_NANO`].
    pub start_unix_nano: u64,
    /// How many spans there are.
    pub spans: u64,
    /// How many of them failed.
    pub errors: u64,
    /// How many durations lie in which bucket ([`red_bucket_bounds`]).
    pub durations: BTreeMap<u16, u64>,
}
