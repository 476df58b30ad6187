//! Reporting spans: encoded into a bounded batch, sent by a task of its own.

mod client;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use periplus_wire::export::{FixedTags, SpanRef, otlp, zipkin};
use tokio::sync::Notify;

pub(crate) use crate::export::client::fetch;
use crate::export::client::{Client, PostError, Report};
use crate::snapshot::TracingProvider;
use crate::stats::TracerStats;
use crate::worker::Worker;

/// A batch is sent when it has this many spans,
const FULL_SPANS: usize = 256;
/// or this many bytes,
const FULL_BYTES: usize = 64 * 1024;
/// or when its first span has waited this long (Envoy: 5 spans or 5 s).
const INTERVAL: Duration = Duration::from_secs(1);
/// How long after a failure the batch is sent once more.
const BACKOFF: Duration = Duration::from_millis(250);
/// The time for a report where the provider gives none, as Envoy's.
const ZIPKIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the spans of a provider go from one worker.
#[derive(Debug)]
pub(crate) struct Exporter {
    encoding: Encoding,
    target: Target,
    stats: Arc<TracerStats>,
    most_pending: usize,
    batch: RefCell<Vec<u8>>,
    /// Spans in `batch`.
    spans: Cell<usize>,
    /// Spans that are being sent.
    sending: Cell<usize>,
    hurry: Cell<bool>,
    closed: Cell<bool>,
    changed: Notify,
    sent: Notify,
}

/// Who gets the reports.
#[derive(Debug)]
struct Target {
    cluster: String,
    host: String,
    path: String,
    content_type: &'static str,
    timeout: Duration,
}

#[derive(Debug)]
enum Encoding {
    Zipkin(zipkin::LocalEndpoint),
    Otlp(otlp::Envelope),
}

impl Exporter {
    /// An exporter with its sending task.
    pub(crate) fn new(provider: &TracingProvider, worker: &Worker) -> Rc<Self> {
        let (encoding, target, kind) = match provider {
            TracingProvider::Zipkin {
                cluster,
                path,
                host,
                ..
            } => (
                Encoding::Zipkin(zipkin::LocalEndpoint::new(
                    &worker.node.cluster,
                    worker.own_address,
                )),
                Target {
                    cluster: cluster.clone(),
                    host: host.clone(),
                    path: path.clone(),
                    content_type: "application/json",
                    timeout: ZIPKIN_TIMEOUT,
                },
                "zipkin",
            ),
            TracingProvider::OpenTelemetry {
                cluster,
                path,
                host,
                service_name,
                timeout,
            } => {
                let version = env!("CARGO_PKG_VERSION");
                (
                    Encoding::Otlp(otlp::Envelope::new(
                        &[
                            ("service.name", service_name),
                            ("telemetry.sdk.language", "rust"),
                            ("telemetry.sdk.name", "periplus"),
                            ("telemetry.sdk.version", version),
                        ],
                        "periplus",
                        version,
                    )),
                    Target {
                        cluster: cluster.clone(),
                        host: host.clone(),
                        path: path.clone(),
                        content_type: "application/x-protobuf",
                        timeout: *timeout,
                    },
                    "opentelemetry",
                )
            }
        };
        let exporter = Rc::new(Self {
            encoding,
            target,
            stats: worker.registry.tracer(kind),
            most_pending: worker.options.max_pending_spans,
            batch: RefCell::default(),
            spans: Cell::new(0),
            sending: Cell::new(0),
            hurry: Cell::new(false),
            closed: Cell::new(false),
            changed: Notify::new(),
            sent: Notify::new(),
        });
        tokio::task::spawn_local(exporter.clone().send_all(worker.weak()));
        exporter
    }

    /// Adds a span with these tags besides its own to the batch, or drops and counts it if too many wait.
    pub(crate) fn append(&self, fixed: &[&FixedTags], span: &SpanRef<'_>) {
        let spans = self.spans.get();
        if spans + self.sending.get() >= self.most_pending {
            self.stats.spans_dropped.increment();
            return;
        }
        let mut batch = self.batch.borrow_mut();
        match &self.encoding {
            Encoding::Zipkin(endpoint) => {
                if spans == 0 {
                    zipkin::begin_list(&mut batch);
                }
                zipkin::append_span_with(&mut batch, endpoint, fixed, span);
            }
            Encoding::Otlp(_) => otlp::append_span_with(&mut batch, fixed, span),
        }
        self.spans.set(spans + 1);
        let full = spans + 1 >= FULL_SPANS || batch.len() >= FULL_BYTES;
        if spans == 0 || full && !self.hurry.replace(true) {
            self.changed.notify_one();
        }
    }

    /// Sends what there is, and waits until it is done.
    pub(crate) async fn flush(&self) {
        while self.spans.get() + self.sending.get() > 0 {
            let sent = self.sent.notified();
            self.hurry.set(true);
            self.changed.notify_one();
            sent.await;
        }
    }

    /// No span will come any more: the task sends what is left and ends.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.hurry.set(true);
        self.changed.notify_one();
    }

    async fn send_all(self: Rc<Self>, worker: Weak<Worker>) {
        let mut body = Vec::new();
        let mut head = Vec::new();
        let mut client = Client::default();
        loop {
            while self.spans.get() == 0 {
                if self.closed.get() {
                    return;
                }
                self.changed.notified().await;
            }
            let full = async {
                while !self.hurry.get() {
                    self.changed.notified().await;
                }
            };
            if tokio::time::timeout(INTERVAL, full).await.is_err() {
                self.stats.timer_flushed.increment();
            }
            let spans = self.take(&mut head, &mut body);
            let Some(worker) = worker.upgrade() else {
                return;
            };
            let report = Report {
                head: &head,
                body: &body,
            };
            self.report(&worker, &mut client, report, spans).await;
            self.sending.set(0);
            self.sent.notify_waiters();
        }
    }

    /// Swaps the batch out: `head` gets what comes before it in the request's body.
    fn take(&self, head: &mut Vec<u8>, body: &mut Vec<u8>) -> usize {
        body.clear();
        head.clear();
        std::mem::swap(&mut *self.batch.borrow_mut(), body);
        match &self.encoding {
            Encoding::Zipkin(_) => zipkin::end_list(body),
            Encoding::Otlp(envelope) => envelope.append_head(head, body.len()),
        }
        let spans = self.spans.replace(0);
        self.sending.set(spans);
        self.hurry.set(self.closed.get());
        spans
    }

    async fn report(
        &self,
        worker: &Rc<Worker>,
        client: &mut Client,
        report: Report<'_>,
        spans: usize,
    ) {
        let mut outcome = Err(PostError::NoCluster);
        for attempt in 0..2 {
            if attempt > 0 {
                tokio::time::sleep(BACKOFF).await;
            }
            outcome = client.post(worker, &self.target, report).await;
            if outcome.is_ok() {
                break;
            }
        }
        match outcome {
            Ok(()) => {
                self.stats.reports_sent.increment();
                self.stats.spans_sent.add(spans as u64);
                return;
            }
            Err(PostError::NoCluster) => self.stats.reports_skipped_no_cluster.increment(),
            Err(PostError::Status { .. }) => self.stats.reports_dropped.increment(),
            Err(PostError::Failed { .. }) => self.stats.reports_failed.increment(),
        }
        self.stats.spans_dropped.add(spans as u64);
        if let Err(error) = outcome {
            tracing::debug!(cluster = self.target.cluster, %error, spans, "spans were lost");
        }
    }
}
