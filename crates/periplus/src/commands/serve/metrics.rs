//! The server's own metrics, in Prometheus' text format.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use periplus_collect::sampling::{AdaptiveSampling, RemoteSampling, ShareSampling, TailSampling};
use periplus_collect::{Collector, Reason, Receiver, Stats};
use periplus_store::embedded::{EmbeddedStore, EngineStats};
use periplus_store::{SpanStore, StoreStats};

use super::metrics_sampling;
use super::sampling::Sampling;
use super::storage::Storage;

#[derive(Clone)]
struct Sources {
    collector: Collector,
    store: Arc<dyn SpanStore>,
    embedded: Option<Arc<EmbeddedStore>>,
    remote: RemoteSampling,
    adaptive: Option<AdaptiveSampling>,
    tail: Option<TailSampling>,
    share: Option<ShareSampling>,
}

pub(super) fn router(collector: Collector, storage: &Storage, sampling: &Sampling) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(Sources {
            collector,
            store: Arc::clone(&storage.store),
            embedded: storage.embedded.clone(),
            remote: sampling.remote.clone(),
            adaptive: sampling.adaptive.clone(),
            tail: sampling.tail.clone(),
            share: sampling.share.clone(),
        })
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let text = text(&sources);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, kind)], text).into_response()
}

fn text(sources: &Sources) -> String {
    let stats = sources.collector.stats();
    let mut page = Page::default();
    page.info();
    receivers(&mut page, stats);
    collector_names(&mut page, stats);
    stored(&mut page, sources.store.stats());
    if let Some(store) = &sources.embedded {
        embedded(&mut page, store.engine_stats());
    }
    metrics_sampling::remote(&mut page, sources.remote.stats());
    if let Some(share) = &sources.share {
        page.family(
            "periplus_sample_rate_dropped_spans_total",
            "counter",
            "Spans of traces outside of the share that is kept.",
        );
        page.sample("", share.dropped_spans());
    }
    if let Some(adaptive) = &sources.adaptive {
        metrics_sampling::adaptive(&mut page, adaptive.stats());
    }
    if let Some(tail) = &sources.tail {
        metrics_sampling::tail(&mut page, tail);
    }
    page.text
}

fn receivers(page: &mut Page, stats: &Stats) {
    page.family(
        "periplus_receiver_accepted_requests_total",
        "counter",
        "Requests whose spans were stored, all or in part.",
    );
    for receiver in Receiver::ALL {
        page.sample(&labels(receiver), stats.accepted_requests(receiver));
    }
    page.family(
        "periplus_receiver_accepted_spans_total",
        "counter",
        "Spans stored.",
    );
    for receiver in Receiver::ALL {
        page.sample(&labels(receiver), stats.accepted_spans(receiver));
    }
    page.family(
        "periplus_receiver_body_bytes_total",
        "counter",
        "Bytes of bodies read, after decompression.",
    );
    for receiver in Receiver::ALL {
        page.sample(&labels(receiver), stats.body_bytes(receiver));
    }
    page.family(
        "periplus_receiver_refused_requests_total",
        "counter",
        "Requests refused as a whole, by reason.",
    );
    for (receiver, reason) in receivers_and_reasons() {
        let labels = format!("{},reason=\"{}\"", labels(receiver), reason.as_str());
        page.sample(&labels, stats.refused_requests(receiver, reason));
    }
    page.family(
        "periplus_receiver_refused_spans_total",
        "counter",
        "Spans refused, by reason; those of requests that could not be decoded are not known.",
    );
    for (receiver, reason) in receivers_and_reasons() {
        let labels = format!("{},reason=\"{}\"", labels(receiver), reason.as_str());
        page.sample(&labels, stats.refused_spans(receiver, reason));
    }
}

/// The names that an OpenTelemetry collector, and so Jaeger v2, has for the same: dashboards and
/// alerts made for them keep working.
fn collector_names(page: &mut Page, stats: &Stats) {
    page.family(
        "otelcol_receiver_accepted_spans_total",
        "counter",
        "Spans stored.",
    );
    for receiver in Receiver::ALL {
        page.sample(&labels(receiver), stats.accepted_spans(receiver));
    }
    page.family(
        "otelcol_receiver_refused_spans_total",
        "counter",
        "Spans refused.",
    );
    for receiver in Receiver::ALL {
        let refused = Reason::ALL
            .into_iter()
            .map(|reason| stats.refused_spans(receiver, reason))
            .sum();
        page.sample(&labels(receiver), refused);
    }
}

fn stored(page: &mut Page, store: StoreStats) {
    for (name, kind, help, value) in [
        (
            "periplus_store_traces",
            "gauge",
            "Traces held.",
            store.traces,
        ),
        ("periplus_store_spans", "gauge", "Spans held.", store.spans),
        (
            "periplus_store_bytes",
            "gauge",
            "Bytes that the spans take.",
            store.bytes,
        ),
        (
            "periplus_store_max_bytes",
            "gauge",
            "Bytes that the spans may take.",
            store.max_bytes,
        ),
        (
            "periplus_store_accepted_spans_total",
            "counter",
            "Spans accepted by the store.",
            store.accepted_spans,
        ),
        (
            "periplus_store_evicted_traces_total",
            "counter",
            "Traces evicted to stay under the limit.",
            store.evicted_traces,
        ),
        (
            "periplus_store_evicted_spans_total",
            "counter",
            "Spans evicted to stay under the limit.",
            store.evicted_spans,
        ),
    ] {
        page.family(name, kind, help);
        page.sample("", value);
    }
}

/// What only the engine with a disk has.
fn embedded(page: &mut Page, engine: EngineStats) {
    for (name, kind, help, value) in [
        (
            "periplus_store_segments",
            "gauge",
            "Segments on the disk.",
            engine.segments,
        ),
        (
            "periplus_store_segment_bytes",
            "gauge",
            "Bytes of the segments.",
            engine.segment_bytes,
        ),
        (
            "periplus_store_segment_spans",
            "gauge",
            "Spans in segments.",
            engine.segment_spans,
        ),
        (
            "periplus_store_table_bytes",
            "gauge",
            "Bytes of the tables in memory.",
            engine.table_bytes,
        ),
        (
            "periplus_store_flushes_total",
            "counter",
            "Tables that became segments.",
            engine.flushes,
        ),
        (
            "periplus_store_healthy",
            "gauge",
            "1 while spans are taken; 0 after a failure that only a restart mends.",
            u64::from(engine.healthy),
        ),
        (
            "periplus_store_log_bytes",
            "gauge",
            "Bytes of the log, what is reserved included.",
            engine.log_bytes,
        ),
        (
            "periplus_store_quarantine_bytes",
            "gauge",
            "Bytes of copies of what could not be read.",
            engine.quarantine_bytes,
        ),
        (
            "periplus_store_damaged_segments",
            "gauge",
            "Segments of which a part cannot be read.",
            engine.damaged_segments,
        ),
        (
            "periplus_store_flushed_spans_total",
            "counter",
            "Spans of the tables that became segments.",
            engine.flushed_spans,
        ),
        (
            "periplus_store_merged_spans_total",
            "counter",
            "Spans that merges wrote again: by flushed spans, the write amplification.",
            engine.merged_spans,
        ),
        (
            "periplus_store_abandoned_requests_total",
            "counter",
            "Requests that were not stored since nobody waited for them any more.",
            engine.abandoned_requests,
        ),
        (
            "periplus_store_merges_total",
            "counter",
            "Merges of segments.",
            engine.merges,
        ),
        (
            "periplus_store_dropped_segments_total",
            "counter",
            "Segments dropped for their age or to stay under the limit.",
            engine.dropped_segments,
        ),
        (
            "periplus_store_busy_requests_total",
            "counter",
            "Requests refused because a queue, the memory or the disk was full.",
            engine.busy_requests,
        ),
        (
            "periplus_store_damaged_reads_total",
            "counter",
            "Reads of segments that met damage: their answers lack spans.",
            engine.damages,
        ),
    ] {
        page.family(name, kind, help);
        page.sample("", value);
    }
}

fn receivers_and_reasons() -> impl Iterator<Item = (Receiver, Reason)> {
    Receiver::ALL.into_iter().flat_map(|receiver| {
        Reason::ALL
            .into_iter()
            .map(move |reason| (receiver, reason))
    })
}

fn labels(receiver: Receiver) -> String {
    format!(
        "receiver=\"{}\",transport=\"{}\"",
        receiver.protocol(),
        receiver.transport()
    )
}

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

    pub(super) fn sample(&mut self, labels: &str, value: u64) {
        let name = self.name;
        let _ = if labels.is_empty() {
            writeln!(self.text, "{name} {value}")
        } else {
            writeln!(self.text, "{name}{{{labels}}} {value}")
        };
    }
}
