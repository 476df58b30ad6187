//! What all workers have counted, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};

use super::Metric;
use super::series::{HISTOGRAMS, MESSAGES, Series, SeriesList};
use super::tcp;
use crate::stats::BOUNDS;

/// The most bytes of the page: labels are long, and a histogram has twenty lines.
const MOST_BYTES: usize = 64 * 1024 * 1024;

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

/// The page as far as it goes: what no longer fits is counted.
pub(super) struct Page<'a> {
    out: &'a mut String,
    end: usize,
    left_out: usize,
}

impl Page<'_> {
    /// The lines of a series, unless the page is full.
    fn push(&mut self, write: impl FnOnce(&mut String)) {
        match self.out.len() < self.end {
            true => write(self.out),
            false => self.left_out += 1,
        }
    }

    /// A counter, if there is anything to be told of it.
    pub(super) fn push_counter(&mut self, metric: Metric, sums: &ByLabels<u64>) {
        let name = metric.name();
        self.push_type(name, "counter", sums.is_empty());
        for (labels, value) in sums {
            self.push(|out| {
                // Writing to a `String` cannot fail.
                let _ = writeln!(out, "{name}{{{labels}}} {value}");
            });
        }
    }

    fn push_histogram(&mut self, metric: Metric, sums: &ByLabels<Sum>) {
        let name = metric.name();
        self.push_type(name, "histogram", sums.is_empty());
        for (labels, sum) in sums {
            self.push(|out| sum.push(name, labels, out));
        }
    }

    fn push_type(&mut self, name: &str, kind: &str, is_empty: bool) {
        if !is_empty {
            let _ = writeln!(self.out, "# TYPE {name} {kind}");
        }
    }
}

impl Sum {
    fn push(&self, name: &str, labels: &str, out: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        let bounds = BOUNDS.iter().map(|(bound, _)| *bound).chain(["+Inf"]);
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            count += bucket;
            let _ = writeln!(
                out,
                "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"
            );
        }
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", self.sum);
        let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
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
    let mut page = Page {
        end: out.len() + MOST_BYTES,
        out,
        left_out: 0,
    };
    // Writing to a `String` cannot fail.
    let _ = writeln!(
        page.out,
        "# TYPE istio_build gauge\nistio_build{{component=\"proxy\",tag=\"periplus-{}\"}} 1",
        env!("CARGO_PKG_VERSION")
    );
    // What is longest comes last.
    tcp::exposition(&tcp_sums, &mut page);
    page.push_counter(Metric::Requests, &sums.requests);
    for (metric, sums) in MESSAGES.iter().zip(&sums.messages) {
        page.push_counter(*metric, sums);
    }
    for (metric, sums) in HISTOGRAMS.iter().zip(&sums.histograms) {
        page.push_histogram(*metric, sums);
    }
    let left_out = page.left_out;
    if left_out > 0 {
        let _ = writeln!(
            page.out,
            "# TYPE periplus_istio_series_left_out gauge\nperiplus_istio_series_left_out {left_out}"
        );
    }
}
