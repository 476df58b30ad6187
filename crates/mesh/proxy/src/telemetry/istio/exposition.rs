//! What all workers have counted, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::AddAssign;
use std::sync::Arc;

use super::series::{HISTOGRAMS, MESSAGES, Series, SeriesList};
use super::tcp::TcpSeries;
use super::{Metric, tcp};
use crate::stats::{Bounds, USUAL};

/// The most bytes of the page: labels are long, and a histogram has twenty lines.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// The values of all workers, by labels.
pub(super) type ByLabels<T> = BTreeMap<Arc<str>, T>;

/// What was counted, by labels.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    /// How many series it is of.
    series: usize,
    requests: ByLabels<u64>,
    histograms: [ByLabels<Sum>; 3],
    messages: [ByLabels<u64>; 2],
    tcp: tcp::Sums,
}

#[derive(Clone, Debug)]
struct Sum {
    bounds: Arc<Bounds>,
    /// By bound, the last one without; not cumulative. All workers have the same.
    buckets: Vec<u64>,
    sum: u64,
}

impl Sum {
    fn new(bounds: Option<&Arc<Bounds>>) -> Self {
        let bounds = bounds.unwrap_or(&USUAL).clone();
        Self {
            buckets: vec![0; bounds.len() + 1],
            bounds,
            sum: 0,
        }
    }
}

impl AddAssign<&Self> for Sum {
    fn add_assign(&mut self, more: &Self) {
        for (bucket, count) in self.buckets.iter_mut().zip(&more.buckets) {
            *bucket += count;
        }
        self.sum += more.sum;
    }
}

impl Sums {
    pub(super) fn add(&mut self, series: &Series) {
        self.series += 1;
        if let Some(labels) = &series.requests_labels {
            *self.requests.entry(labels.clone()).or_default() += series.requests.get();
        }
        let told = series.histograms_labels.iter().zip(&series.histograms);
        let told = self.histograms.iter_mut().zip(told).enumerate();
        for (which, (sums, (labels, histogram))) in told {
            let Some(labels) = labels else { continue };
            let (bounds, buckets) = series.buckets(which);
            let new = || Sum::new(bounds);
            let sum = sums.entry(labels.clone()).or_insert_with(new);
            for (bucket, count) in sum.buckets.iter_mut().zip(buckets) {
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

    pub(super) fn add_tcp(&mut self, series: &TcpSeries) {
        self.series += 1;
        tcp::add_to(series, &mut self.tcp);
    }

    /// Adds what series that have gone had counted, as far as others with their labels are still there.
    fn add_retired(&mut self, retired: &Self) {
        add_known(&mut self.requests, &retired.requests);
        for (sums, retired) in self.histograms.iter_mut().zip(&retired.histograms) {
            add_known(sums, retired);
        }
        for (sums, retired) in self.messages.iter_mut().zip(&retired.messages) {
            add_known(sums, retired);
        }
        for (sums, retired) in self.tcp.iter_mut().zip(&retired.tcp) {
            add_known(sums, retired);
        }
    }

    /// Forgets what is of labels that nobody has any more.
    pub(super) fn retain_known(&mut self, known: &Self) {
        retain_known(&mut self.requests, &known.requests);
        for (sums, known) in self.histograms.iter_mut().zip(&known.histograms) {
            retain_known(sums, known);
        }
        for (sums, known) in self.messages.iter_mut().zip(&known.messages) {
            retain_known(sums, known);
        }
        for (sums, known) in self.tcp.iter_mut().zip(&known.tcp) {
            retain_known(sums, known);
        }
        let requests = [&self.requests].into_iter().chain(&self.messages);
        let requests = requests.map(BTreeMap::len).max();
        let histograms = self.histograms.iter().map(BTreeMap::len).max();
        let connections = self.tcp.iter().map(BTreeMap::len).max();
        self.series = requests.max(histograms).unwrap_or(0) + connections.unwrap_or(0);
    }

    /// How many series it is of, or at the least sets of labels, where some have been forgotten.
    pub(super) fn series(&self) -> usize {
        self.series
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
            && self.histograms.iter().all(BTreeMap::is_empty)
            && self.messages.iter().all(BTreeMap::is_empty)
            && self.tcp.iter().all(BTreeMap::is_empty)
    }
}

fn add_known<T: for<'a> AddAssign<&'a T>>(sums: &mut ByLabels<T>, retired: &ByLabels<T>) {
    for (labels, value) in retired {
        if let Some(sum) = sums.get_mut(labels) {
            *sum += value;
        }
    }
}

fn retain_known<T>(sums: &mut ByLabels<T>, known: &ByLabels<T>) {
    sums.retain(|labels, _| known.contains_key(labels));
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
        let bounds = self.bounds.iter().map(|bound| &*bound.text);
        let bounds = bounds.chain(["+Inf"]);
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
    let workers: Vec<_> = workers.collect();
    let all_retired: Vec<_> = workers
        .iter()
        .map(|worker| worker.add_to(&mut sums))
        .collect();
    if !workers.iter().any(|worker| worker.is_on()) {
        return;
    }
    for (worker, retired) in workers.iter().zip(&all_retired) {
        if let Some(retired) = retired {
            sums.add_retired(retired);
            worker.forget_retired(&sums);
        }
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
    tcp::exposition(&sums.tcp, &mut page);
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
