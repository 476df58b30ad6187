//! Istio's metrics of TCP connections.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::series::Labels;
use crate::stats::Count;

const NAMES: [&str; 4] = [
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
    "istio_tcp_received_bytes_total",
    "istio_tcp_sent_bytes_total",
];

/// The metrics of the connections of one set of labels, written by one worker.
#[derive(Debug)]
pub(crate) struct TcpSeries {
    labels: String,
    pub(crate) opened: Count,
    pub(crate) closed: Count,
    /// Bytes from the client.
    pub(crate) received: Count,
    /// Bytes to the client.
    pub(crate) sent: Count,
}

impl TcpSeries {
    pub(super) fn new(labels: Labels) -> Self {
        Self {
            labels: labels.into_text(),
            opened: Count::default(),
            closed: Count::default(),
            received: Count::default(),
            sent: Count::default(),
        }
    }

    fn values(&self) -> [u64; 4] {
        [&self.opened, &self.closed, &self.received, &self.sent].map(Count::get)
    }
}

/// Adds the values of a series to the sums by labels.
pub(super) fn add_to(series: &TcpSeries, sums: &mut BTreeMap<String, [u64; 4]>) {
    let sum = sums.entry(series.labels.clone()).or_default();
    for (sum, value) in sum.iter_mut().zip(series.values()) {
        *sum += value;
    }
}

/// The text format of Prometheus.
pub(super) fn exposition(sums: &BTreeMap<String, [u64; 4]>, out: &mut String) {
    if sums.is_empty() {
        return;
    }
    for (index, name) in NAMES.iter().enumerate() {
        // Writing to a `String` cannot fail.
        let _ = writeln!(out, "# TYPE {name} counter");
        for (labels, values) in sums {
            let _ = writeln!(out, "{name}{{{labels}}} {}", values[index]);
        }
    }
}
