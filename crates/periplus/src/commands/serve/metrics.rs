//! The server's own metrics, in Prometheus' text format.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use periplus_collect::access::Access;
use periplus_collect::forward::{Counts, Forwards};
use periplus_collect::{Reason, Receiver, Stats};
use periplus_store::StoreStats;
use periplus_store::embedded::EngineStats;

use super::backend::{Backend, Backends};
use super::metrics_sampling;
use super::sampling::Sampling;

/// Where the numbers come from.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) backends: Arc<Backends>,
    pub(super) sampling: Sampling,
    pub(super) forwards: Option<Forwards>,
    pub(super) access: Arc<Access>,
}

/// A backend, and its label: empty where there are no tenants.
struct Labelled {
    label: String,
    backend: Arc<Backend>,
}

pub(super) fn router(sources: Sources) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(sources)
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let text = text(&sources);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, kind)], text).into_response()
}

fn text(sources: &Sources) -> String {
    let backends: Vec<Labelled> = (sources.backends.all().into_iter())
        .map(|(tenant, backend)| {
            // A tenant's name has no character that a label would have to escape.
            let label = tenant.map(|tenant| format!("tenant=\"{tenant}\""));
            Labelled {
                label: label.unwrap_or_default(),
                backend,
            }
        })
        .collect();
    let mut page = Page::default();
    page.info();
    receivers(&mut page, &backends);
    collector_names(&mut page, &backends);
    stored(&mut page, &backends);
    embedded(&mut page, &backends);
    metrics_sampling::remote(&mut page, sources.sampling.remote.stats());
    shares(&mut page, &backends);
    if let Some(adaptive) = &sources.sampling.adaptive {
        metrics_sampling::adaptive(&mut page, adaptive.stats());
    }
    // At most one has it.
    for tail in backends
        .iter()
        .filter_map(|Labelled { backend, .. }| backend.tail.as_ref())
    {
        metrics_sampling::tail(&mut page, tail);
    }
    if !sources.access.is_open() {
        denied(&mut page, sources);
    }
    quotas(&mut page, sources, &backends);
    if let Some(forwards) = &sources.forwards {
        forwarded(&mut page, forwards);
    }
    page.text
}

fn receivers(page: &mut Page, backends: &[Labelled]) {
    for (name, help, value) in [
        (
            "periplus_receiver_accepted_requests_total",
            "Requests whose spans were stored, all or in part.",
            Stats::accepted_requests as fn(&Stats, Receiver) -> u64,
        ),
        (
            "periplus_receiver_accepted_spans_total",
            "Spans stored.",
            Stats::accepted_spans,
        ),
        (
            "periplus_receiver_body_bytes_total",
            "Bytes of bodies read, after decompression.",
            Stats::body_bytes,
        ),
    ] {
        page.family(name, "counter", help);
        for Labelled { label, backend } in backends {
            for receiver in Receiver::ALL {
                let labels = join(label, &labels(receiver));
                page.sample(&labels, value(backend.collector.stats(), receiver));
            }
        }
    }
    for (name, help, value) in [
        (
            "periplus_receiver_refused_requests_total",
            "Requests refused as a whole, by reason.",
            Stats::refused_requests as fn(&Stats, Receiver, Reason) -> u64,
        ),
        (
            "periplus_receiver_refused_spans_total",
            "Spans refused, by reason; those of requests that could not be decoded are not known.",
            Stats::refused_spans,
        ),
    ] {
        page.family(name, "counter", help);
        for Labelled { label, backend } in backends {
            for (receiver, reason) in receivers_and_reasons() {
                let own = format!("{},reason=\"{}\"", labels(receiver), reason.as_str());
                let value = value(backend.collector.stats(), receiver, reason);
                page.sample(&join(label, &own), value);
            }
        }
    }
}

/// The names that an OpenTelemetry collector, and so Jaeger v2, has for the same: dashboards and
/// alerts made for them keep working.
fn collector_names(page: &mut Page, backends: &[Labelled]) {
    page.family(
        "otelcol_receiver_accepted_spans_total",
        "counter",
        "Spans stored.",
    );
    for Labelled { label, backend } in backends {
        for receiver in Receiver::ALL {
            let accepted = backend.collector.stats().accepted_spans(receiver);
            page.sample(&join(label, &labels(receiver)), accepted);
        }
    }
    page.family(
        "otelcol_receiver_refused_spans_total",
        "counter",
        "Spans refused.",
    );
    for Labelled { label, backend } in backends {
        let stats = backend.collector.stats();
        for receiver in Receiver::ALL {
            let refused = Reason::ALL
                .into_iter()
                .map(|reason| stats.refused_spans(receiver, reason))
                .sum();
            page.sample(&join(label, &labels(receiver)), refused);
        }
    }
}

fn stored(page: &mut Page, backends: &[Labelled]) {
    let stats: Vec<(&str, StoreStats)> = (backends.iter())
        .map(|Labelled { label, backend }| (label.as_str(), backend.storage.store.stats()))
        .collect();
    let families: [Family<StoreStats>; 7] = [
        ("periplus_store_traces", "gauge", "Traces held.", |store| {
            store.traces
        }),
        ("periplus_store_spans", "gauge", "Spans held.", |store| {
            store.spans
        }),
        (
            "periplus_store_bytes",
            "gauge",
            "Bytes that the spans take.",
            |store| store.bytes,
        ),
        (
            "periplus_store_max_bytes",
            "gauge",
            "Bytes that the spans may take.",
            |store| store.max_bytes,
        ),
        (
            "periplus_store_accepted_spans_total",
            "counter",
            "Spans accepted by the store.",
            |store| store.accepted_spans,
        ),
        (
            "periplus_store_evicted_traces_total",
            "counter",
            "Traces evicted to stay under the limit.",
            |store| store.evicted_traces,
        ),
        (
            "periplus_store_evicted_spans_total",
            "counter",
            "Spans evicted to stay under the limit.",
            |store| store.evicted_spans,
        ),
    ];
    page.families(&families, &stats);
}

/// What only the engine with a disk has.
fn embedded(page: &mut Page, backends: &[Labelled]) {
    let stats: Vec<(&str, EngineStats)> = (backends.iter())
        .filter_map(|Labelled { label, backend }| {
            let store = backend.storage.embedded.as_ref()?;
            Some((label.as_str(), store.engine_stats()))
        })
        .collect();
    if stats.is_empty() {
        return;
    }
    let families: [Family<EngineStats>; 16] = [
        (
            "periplus_store_segments",
            "gauge",
            "Segments on the disk.",
            |engine| engine.segments,
        ),
        (
            "periplus_store_segment_bytes",
            "gauge",
            "Bytes of the segments.",
            |engine| engine.segment_bytes,
        ),
        (
            "periplus_store_segment_spans",
            "gauge",
            "Spans in segments.",
            |engine| engine.segment_spans,
        ),
        (
            "periplus_store_table_bytes",
            "gauge",
            "Bytes of the tables in memory.",
            |engine| engine.table_bytes,
        ),
        (
            "periplus_store_flushes_total",
            "counter",
            "Tables that became segments.",
            |engine| engine.flushes,
        ),
        (
            "periplus_store_healthy",
            "gauge",
            "1 while spans are taken; 0 after a failure that only a restart mends.",
            |engine| u64::from(engine.healthy),
        ),
        (
            "periplus_store_log_bytes",
            "gauge",
            "Bytes of the log, what is reserved included.",
            |engine| engine.log_bytes,
        ),
        (
            "periplus_store_quarantine_bytes",
            "gauge",
            "Bytes of copies of what could not be read.",
            |engine| engine.quarantine_bytes,
        ),
        (
            "periplus_store_damaged_segments",
            "gauge",
            "Segments of which a part cannot be read.",
            |engine| engine.damaged_segments,
        ),
        (
            "periplus_store_flushed_spans_total",
            "counter",
            "Spans of the tables that became segments.",
            |engine| engine.flushed_spans,
        ),
        (
            "periplus_store_merged_spans_total",
            "counter",
            "Spans that merges wrote again: by flushed spans, the write amplification.",
            |engine| engine.merged_spans,
        ),
        (
            "periplus_store_abandoned_requests_total",
            "counter",
            "Requests that were not stored since nobody waited for them any more.",
            |engine| engine.abandoned_requests,
        ),
        (
            "periplus_store_merges_total",
            "counter",
            "Merges of segments.",
            |engine| engine.merges,
        ),
        (
            "periplus_store_dropped_segments_total",
            "counter",
            "Segments dropped for their age or to stay under the limit.",
            |engine| engine.dropped_segments,
        ),
        (
            "periplus_store_busy_requests_total",
            "counter",
            "Requests refused because a queue, the memory or the disk was full.",
            |engine| engine.busy_requests,
        ),
        (
            "periplus_store_damaged_reads_total",
            "counter",
            "Reads of segments that met damage: their answers lack spans.",
            |engine| engine.damages,
        ),
    ];
    page.families(&families, &stats);
}

fn shares(page: &mut Page, backends: &[Labelled]) {
    let shares = backends.iter().filter_map(|Labelled { label, backend }| {
        let share = backend.share.as_ref()?;
        Some((label, share.dropped_spans()))
    });
    let shares: Vec<_> = shares.collect();
    if shares.is_empty() {
        return;
    }
    page.family(
        "periplus_sample_rate_dropped_spans_total",
        "counter",
        "Spans of traces outside of the share that is kept.",
    );
    for (label, dropped) in shares {
        page.sample(label, dropped);
    }
}

fn denied(page: &mut Page, sources: &Sources) {
    page.family(
        "periplus_denied_requests_total",
        "counter",
        "Requests that went no further for want of a token or a tenant, by reason.",
    );
    for (reason, count) in sources.access.denied() {
        page.sample(&format!("reason=\"{reason}\""), count);
    }
}

fn quotas(page: &mut Page, sources: &Sources, backends: &[Labelled]) {
    let is_limited = |one: &Labelled| one.backend.quota.is_some();
    if !sources.access.has_tenants() && !backends.iter().any(is_limited) {
        return;
    }
    page.family(
        "periplus_quota_refused_spans_total",
        "counter",
        "Spans over the quota; those that come again count again.",
    );
    for Labelled { label, backend } in backends {
        if let Some(quota) = &backend.quota {
            page.sample(label, quota.refused_spans());
        }
    }
}

fn forwarded(page: &mut Page, forwards: &Forwards) {
    let counts: Vec<_> = (forwards.counts())
        .map(|(endpoint, counts)| {
            let endpoint = metrics_sampling::escape(&endpoint.to_string());
            (format!("endpoint=\"{endpoint}\""), counts)
        })
        .collect();
    let families: [Family<Counts>; 5] = [
        (
            "periplus_forward_sent_spans_total",
            "counter",
            "Spans that the endpoint has taken.",
            |counts| counts.sent_spans,
        ),
        (
            "periplus_forward_overflowed_spans_total",
            "counter",
            "Spans dropped because too many waited for the endpoint.",
            |counts| counts.overflowed_spans,
        ),
        (
            "periplus_forward_given_up_spans_total",
            "counter",
            "Spans dropped because the endpoint refused them, or stayed away.",
            |counts| counts.given_up_spans,
        ),
        (
            "periplus_forward_failed_requests_total",
            "counter",
            "Requests that failed and were tried again.",
            |counts| counts.failed_requests,
        ),
        (
            "periplus_forward_queued_bytes",
            "gauge",
            "Bytes that wait for the endpoint.",
            |counts| counts.queued_bytes,
        ),
    ];
    page.families(&families, &counts);
}

fn receivers_and_reasons() -> impl Iterator<Item = (Receiver, Reason)> {
    Receiver::ALL.into_iter().flat_map(|receiver| {
        Reason::ALL
            .into_iter()
            .map(move |reason| (receiver, reason))
    })
}

/// Labels, of which there may be none.
fn join(label: &str, labels: &str) -> String {
    match label {
        "" => labels.to_owned(),
        label => format!("{label},{labels}"),
    }
}

fn labels(receiver: Receiver) -> String {
    format!(
        "receiver=\"{}\",transport=\"{}\"",
        receiver.protocol(),
        receiver.transport()
    )
}

/// A name, a kind, a help text, and a number of each thing that is counted.
type Family<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

/// A page of metrics. Writing to a string cannot fail, so the results of `write!` say nothing.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
    name: &'static str,
}

impl Page {
    fn info(&mut self) {
        self.family("periplus_info", "gauge", "The version of this process.");
        self.sample(concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
    }

    pub(super) fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Families with a sample of each of these, by its labels.
    fn families<L: AsRef<str>, T>(&mut self, families: &[Family<T>], of: &[(L, T)]) {
        for (name, kind, help, value) in families {
            self.family(name, kind, help);
            for (labels, counted) in of {
                self.sample(labels.as_ref(), value(counted));
            }
        }
    }

    pub(super) fn sample(&mut self, labels: &str, value: u64) {
        let name = self.name;
        let _ = if labels.is_empty() {
            writeln!(self.text, "{name} {value}")
        } else {
            writeln!(self.text, "{name}{{{labels}}} {value}")
        };
    }
}
