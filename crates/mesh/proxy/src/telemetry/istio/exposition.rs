//! What all workers have counted, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};

use super::Metric;
use super::series::{HISTOGRAMS, MESSAGES, Series, SeriesList};
use super::tcp;
use crate::stats::BOUNDS;

/// The values of all workers, by labels.
pub(super) type ByLabels<T> = BTreeMap<Arc<str>, T>;

#[derive(Default)]
struct Sums {
    requests: ByLabels<u64>,
    histograms: [ByLabels<Sum>; 3],
    messages: [ByLabels<u64>; 2],
}

#[derive(Default)]
struct Sum {
    buckets: [u64; 20],
    sum: u64,
}

impl Sums {
    fn add(&mut self, series: &Series) {
        if let Some(labels) = &series.requests_labels {
            *self.requests.entry(labels.clone()).or_default() += series.requests.get();
        }
        let told = series.histograms_labels.iter().zip(&series.histograms);
        for (sums, (labels, histogram)) in self.histograms.iter_mut().zip(told) {
            let Some(labels) = labels else { continue };
            let sum = sums.entry(labels.clone()).or_default();
            for (bucket, count) in sum.buckets.iter_mut().zip(&histogram.buckets) {
                *bucket += count.get();
            }
            sum.sum += histogram.sum.get();
        }
        let told = series.messages_labels.iter().zip(&series.messages);
        for (sums, (labels, count)) in self.messages.iter_mut().zip(told) {
            let Some(labels) = labels else { continue };
            *sums.entry(labels.clone()).or_default() += count.get();
        }
    }
}

/// A counter, if there is anything to be told of it.
pub(super) fn push_counter(name: &str, sums: &ByLabels<u64>, out: &mut String) {
    if sums.is_empty() {
        return;
    }
    // Writing to a `String` cannot fail.
    let _ = writeln!(out, "# TYPE {name} counter");
    for (labels, value) in sums {
        let _ = writeln!(out, "{name}{{{labels}}} {value}");
    }
}

/// The metrics of all workers in the text format of Prometheus.
pub(crate) fn exposition<'a>(workers: impl Iterator<Item = &'a SeriesList>, out: &mut String) {
    let mut sums = Sums::default();
    let mut tcp_sums = tcp::Sums::default();
    let mut is_used = false;
    for worker in workers {
        for series in &*worker.tcp.lock().unwrap_or_else(PoisonError::into_inner) {
            is_used = true;
            tcp::add_to(series, &mut tcp_sums);
        }
        for series in &*worker.all.lock().unwrap_or_else(PoisonError::into_inner) {
            is_used = true;
            sums.add(series);
        }
    }
    if !is_used {
        return;
    }
    // Writing to a `String` cannot fail.
    let _ = writeln!(
        out,
        "# TYPE istio_build gauge\nistio_build{{component=\"proxy\",tag=\"periplus-{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    tcp::exposition(&tcp_sums, out);
    push_counter(Metric::Requests.name(), &sums.requests, out);
    for (metric, sums) in MESSAGES.iter().zip(&sums.messages) {
        push_counter(metric.name(), sums, out);
    }
    for (metric, sums) in HISTOGRAMS.iter().zip(&sums.histograms) {
        let name = metric.name();
        if !sums.is_empty() {
            let _ = writeln!(out, "# TYPE {name} histogram");
        }
        for (labels, Sum { buckets, sum }) in sums {
            let comma = if labels.is_empty() { "" } else { "," };
            let mut count = 0;
            let bounds = BOUNDS.iter().map(|(bound, _)| *bound).chain(["+Inf"]);
            for (bucket, bound) in buckets.iter().zip(bounds) {
                count += bucket;
                let _ = writeln!(
                    out,
                    "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"
                );
            }
            let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}");
            let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
        }
    }
}
