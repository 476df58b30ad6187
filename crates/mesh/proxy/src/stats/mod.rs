//! Counters, gauges and histograms, by Envoy's names: one set per worker, summed when somebody asks.

mod bounds;
mod groups;
mod histogram;
mod registry;
mod sums;
mod value;

use std::fmt::Write as _;

pub(crate) use self::bounds::{Bound, Bounds, USUAL};
pub(crate) use self::groups::*;
pub(crate) use self::histogram::{BOUNDS, Distribution, Histogram, QUANTILES};
pub(crate) use self::registry::Registry;
pub(crate) use self::sums::{Name, Scope, Sums};
pub(crate) use self::value::{Classes, Codes, Count, Gauge};

/// Takes the names and values of what is counted.
pub(crate) type Show<'a> = &'a mut dyn FnMut(&str, Value);

/// What is counted under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Counter(u64),
    Gauge(u64),
    Histogram(Distribution),
}

/// Something that is counted.
pub(crate) trait Shown {
    /// Shows it, or all that it consists of.
    fn show(&self, name: &str, show: Show<'_>);
}

/// A group of counts under one prefix.
pub(crate) trait Group: Default + Send + Sync {
    /// Shows each count with its name.
    fn visit(&self, show: Show<'_>);
}

/// Adds a label to those of a metric, in the text format of Prometheus.
pub(crate) fn push_label(labels: &mut String, name: &str, value: &str) {
    let value = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    let comma = if labels.is_empty() { "" } else { "," };
    // Writing to a `String` cannot fail.
    let _ = write!(labels, "{comma}{name}=\"{value}\"");
}
