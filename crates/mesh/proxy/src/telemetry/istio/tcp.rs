//! Istio's metrics of TCP connections.

use std::sync::Arc;

use super::exposition::{ByLabels, Page};
use super::series::Labels;
use super::{Custom, Metric};
use crate::stats::Count;

const METRICS: [Metric; 4] = [
    Metric::Opened,
    Metric::Closed,
    Metric::Received,
    Metric::Sent,
];

/// The values of all workers, as [`METRICS`] has them.
pub(super) type Sums = [ByLabels<u64>; 4];

/// The metrics of the connections of one set of labels, written by one worker.
#[derive(Debug)]
pub(crate) struct TcpSeries {
    /// As [`METRICS`] has them; none of a metric that is left out.
    labels: [Option<Arc<str>>; 4],
    pub(crate) opened: Count,
    pub(crate) closed: Count,
    /// Bytes from the client.
    pub(crate) received: Count,
    /// Bytes to the client.
    pub(crate) sent: Count,
}

impl TcpSeries {
    pub(super) fn new(labels: &Labels, custom: Option<&Custom<'_>>) -> Self {
        let all = labels.of_metric(Metric::Opened, custom);
        Self {
            labels: match custom {
                Some(_) => METRICS.map(|metric| labels.of_metric(metric, custom)),
                None => METRICS.map(|_| all.clone()),
            },
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
pub(super) fn add_to(series: &TcpSeries, sums: &mut Sums) {
    let told = series.labels.iter().zip(series.values());
    for (sums, (labels, value)) in sums.iter_mut().zip(told) {
        if let Some(labels) = labels {
            *sums.entry(labels.clone()).or_default() += value;
        }
    }
}

/// The text format of Prometheus.
pub(super) fn exposition(sums: &Sums, page: &mut Page<'_>) {
    for (metric, sums) in METRICS.iter().zip(sums) {
        page.push_counter(*metric, sums);
    }
}
