//! Metrics of sampling; those of tail sampling have the names of the collector's processor.

use std::fmt::Write as _;

use periplus_collect::sampling::{RemoteStats, TailSampling};
use periplus_sampling::AdaptiveStats;
use periplus_sampling::tail::Histogram;

use super::metrics::Page;

pub(super) fn remote(page: &mut Page, stats: &RemoteStats) {
    for (name, help, value) in [
        (
            "periplus_remote_sampling_answers_total",
            "Clients that were told what to sample.",
            stats.answered(),
        ),
        (
            "periplus_remote_sampling_refusals_total",
            "Questions that named no service.",
            stats.refused(),
        ),
        (
            "periplus_remote_sampling_reloads_total",
            "Changed files of strategies that were taken.",
            stats.loaded(),
        ),
        (
            "periplus_remote_sampling_reload_errors_total",
            "Files of strategies that could not be used.",
            stats.failed(),
        ),
    ] {
        page.family(name, "counter", help);
        page.sample("", value);
    }
}

pub(super) fn adaptive(page: &mut Page, stats: AdaptiveStats) {
    for (name, kind, help, value) in [
        (
            "periplus_adaptive_sampling_roots_total",
            "counter",
            "Roots of traces that were sampled as we told.",
            stats.roots,
        ),
        (
            "periplus_adaptive_sampling_foreign_roots_total",
            "counter",
            "Roots of traces that were sampled otherwise.",
            stats.foreign_roots,
        ),
        (
            "periplus_adaptive_sampling_overflow_roots_total",
            "counter",
            "Roots that were not counted because there are too many services or operations.",
            stats.overflow_roots,
        ),
        (
            "periplus_adaptive_sampling_calculations_total",
            "counter",
            "How often probabilities were computed.",
            stats.calculations,
        ),
        (
            "periplus_adaptive_sampling_services",
            "gauge",
            "Services with a probability.",
            stats.services,
        ),
        (
            "periplus_adaptive_sampling_operations",
            "gauge",
            "Operations with a probability.",
            stats.operations,
        ),
    ] {
        page.family(name, kind, help);
        page.sample("", value);
    }
}

pub(super) fn tail(page: &mut Page, tail: &TailSampling) {
    let stats = tail.stats();
    let policies = tail.policies();
    page.family(
        "otelcol_processor_tail_sampling_count_traces_sampled_total",
        "counter",
        "Traces by what each policy said.",
    );
    for ((name, _), counts) in policies.iter().zip(&stats.policies) {
        for (decision, value) in [
            ("sampled", counts.sampled),
            ("not_sampled", counts.not_sampled),
            ("dropped", counts.dropped),
        ] {
            let policy = escape(name);
            let labels = format!("policy=\"{policy}\",decision=\"{decision}\"");
            page.sample(&labels, value);
        }
    }
    page.family(
        "otelcol_processor_tail_sampling_global_count_traces_sampled_total",
        "counter",
        "Traces by whether they were kept.",
    );
    page.sample("sampled=\"true\"", stats.kept_traces);
    page.sample("sampled=\"false\"", stats.dropped_traces);
    for (name, kind, help, value) in [
        (
            "otelcol_processor_tail_sampling_new_trace_id_received_total",
            "counter",
            "Traces seen for the first time.",
            stats.new_traces,
        ),
        (
            "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early_total",
            "counter",
            "Traces decided before they were due because there was no room.",
            stats.early_traces,
        ),
        (
            "otelcol_processor_tail_sampling_sampling_traces_on_memory",
            "gauge",
            "Undecided traces.",
            stats.pending_traces,
        ),
        (
            "periplus_tail_sampling_bytes",
            "gauge",
            "Bytes of undecided traces and of kept ones on the way to the store.",
            stats.bytes,
        ),
        (
            "periplus_tail_sampling_max_bytes",
            "gauge",
            "The most bytes.",
            stats.max_bytes,
        ),
        (
            "periplus_tail_sampling_kept_spans_total",
            "counter",
            "Spans of kept traces.",
            stats.kept_spans,
        ),
        (
            "periplus_tail_sampling_dropped_spans_total",
            "counter",
            "Spans of dropped traces.",
            stats.dropped_spans,
        ),
        (
            "periplus_tail_sampling_late_kept_spans_total",
            "counter",
            "Spans that came after the decision to keep their trace.",
            stats.late_kept_spans,
        ),
        (
            "periplus_tail_sampling_late_dropped_spans_total",
            "counter",
            "Spans that came after the decision to drop their trace.",
            stats.late_dropped_spans,
        ),
        (
            "periplus_tail_sampling_too_large_traces_total",
            "counter",
            "Traces dropped because they were larger than maximum_trace_size_bytes.",
            stats.too_large_traces,
        ),
        (
            "periplus_tail_sampling_refused_requests_total",
            "counter",
            "Requests refused because there was no room.",
            stats.refused_requests,
        ),
        (
            "periplus_tail_sampling_store_retries_total",
            "counter",
            "How often the store was asked again to take kept spans.",
            tail.retries(),
        ),
        (
            "periplus_tail_sampling_lost_spans_total",
            "counter",
            "Spans of kept traces that the store refused for good.",
            tail.lost_spans(),
        ),
    ] {
        page.family(name, kind, help);
        page.sample("", value);
    }
    histogram(
        page,
        "otelcol_processor_tail_sampling_sampling_trace_removal_age_seconds",
        "How long decided traces had been in memory.",
        &stats.removal_age,
    );
    histogram(
        page,
        "otelcol_processor_tail_sampling_sampling_late_span_age_seconds",
        "How long after the decision late spans came.",
        &stats.late_age,
    );
}

fn histogram(page: &mut Page, name: &'static str, help: &str, histogram: &Histogram) {
    page.family(name, "histogram", help);
    let mut count = 0;
    for (bound, bucket) in Histogram::BOUNDS.iter().zip(&histogram.buckets) {
        count += bucket;
        // Writing to a string cannot fail.
        let _ = writeln!(page.text, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let count = histogram.count();
    let sum = histogram.sum;
    let _ = writeln!(
        page.text,
        "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}"
    );
}

/// A label's value, as Prometheus' text format wants it.
pub(super) fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
