//! Reporting spans: encoded into a bounded batch, sent by a task of its own.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use periplus_wire::export::{FixedTags, SpanRef, otlp, zipkin, zipkin_proto};
use prost::Message as _;
use tokio::sync::Notify;

use crate::errand::{self, Answer, Errand, Trouble, prefix};
use crate::snapshot::TracingProvider;
use crate::stats::{Count, TracerStats};
use crate::worker::Worker;

/// A batch is sent when it has this many spans,
const FULL_SPANS: usize = 256;
/// or this many bytes,
const FULL_BYTES: usize = 64 * 1024;
/// or when its first span has waited this long (Envoy: 5 spans or 5 s).
const INTERVAL: Duration = Duration::from_secs(1);
/// Buffers that have become larger than this are not kept.
const KEPT_BYTES: usize = 8 * FULL_BYTES;
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
    most_bytes: usize,
    batch: RefCell<Vec<u8>>,
    /// Spans in `batch`.
    spans: Cell<usize>,
    /// Spans that are being sent,
    sending: Cell<usize>,
    /// and their bytes.
    sending_bytes: Cell<usize>,
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
    /// The lines of the fields of a report.
    fields: Vec<u8>,
    timeout: Duration,
}

fn with_more(fields: &str, more: &[u8]) -> Vec<u8> {
    [fields.as_bytes(), more].concat()
}

/// The fields of a report, which end with the content type.
macro_rules! fields {
    ($content_type:literal) => {
        concat!(
            "user-agent: periplus-proxy\r\ncontent-type: ",
            $content_type,
            "\r\n"
        )
    };
}

/// The most bytes of an answer to a report.
const MOST_ANSWER: usize = 64 * 1024;

/// What a collector of OTLP answers: `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// Why spans did not arrive.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Trouble(#[from] Trouble),
    #[error("the collector refused: {0}")]
    Refused(Cow<'static, str>),
}

#[derive(Debug)]
enum Encoding {
    Zipkin {
        endpoint: zipkin::LocalEndpoint,
        is_proto: bool,
    },
    Otlp {
        envelope: otlp::Envelope,
        is_grpc: bool,
    },
}

impl Exporter {
    /// An exporter with its sending task.
    pub(crate) fn new(provider: &TracingProvider, worker: &Worker) -> Rc<Self> {
        let (encoding, target, kind) = match provider {
            TracingProvider::Zipkin {
                cluster,
                path,
                host,
                is_proto,
                fields,
                ..
            } => (
                Encoding::Zipkin {
                    endpoint: zipkin::LocalEndpoint::new(&worker.node.cluster, worker.own_address),
                    is_proto: *is_proto,
                },
                Target {
                    cluster: cluster.clone(),
                    host: host.clone(),
                    path: path.clone(),
                    fields: with_more(
                        match is_proto {
                            true => fields!("application/x-protobuf"),
                            false => fields!("application/json"),
                        },
                        fields,
                    ),
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
                is_grpc,
                fields,
                resource,
                ..
            } => {
                let version = env!("CARGO_PKG_VERSION");
                let own = [
                    ("service.name", service_name.as_str()),
                    ("telemetry.sdk.language", "rust"),
                    ("telemetry.sdk.name", "periplus"),
                    ("telemetry.sdk.version", version),
                ];
                let is_own = |name: &str| own.iter().any(|(known, _)| *known == name);
                let found = resource.iter().filter(|(name, _)| !is_own(name));
                let found = found.map(|(name, value)| (name.as_str(), value.as_str()));
                let all: Vec<_> = own.into_iter().chain(found).collect();
                let envelope = otlp::Envelope::new(&all, "periplus", version);
                let target = Target {
                    cluster: cluster.clone(),
                    host: host.clone(),
                    path: path.clone(),
                    fields: with_more(
                        match is_grpc {
                            true => concat!("te: trailers\r\n", fields!("application/grpc")),
                            false => fields!("application/x-protobuf"),
                        },
                        fields,
                    ),
                    timeout: *timeout,
                };
                let encoding = Encoding::Otlp {
                    envelope,
                    is_grpc: *is_grpc,
                };
                (encoding, target, "opentelemetry")
            }
        };
        let exporter = Rc::new(Self {
            encoding,
            target,
            stats: worker.registry.tracer(kind),
            most_pending: worker.options.max_pending_spans,
            most_bytes: worker.options.max_pending_span_bytes,
            batch: RefCell::default(),
            spans: Cell::new(0),
            sending: Cell::new(0),
            sending_bytes: Cell::new(0),
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
            self.drop_for(&self.stats.spans_dropped_most_spans, 1);
            return;
        }
        let mut batch = self.batch.borrow_mut();
        if batch.len() + self.sending_bytes.get() >= self.most_bytes {
            self.drop_for(&self.stats.spans_dropped_most_bytes, 1);
            return;
        }
        match &self.encoding {
            Encoding::Zipkin {
                endpoint,
                is_proto: true,
            } => zipkin_proto::append_span_with(&mut batch, endpoint, fixed, span),
            Encoding::Zipkin { endpoint, .. } => {
                if spans == 0 {
                    zipkin::begin_list(&mut batch);
                }
                zipkin::append_span_with(&mut batch, endpoint, fixed, span);
            }
            Encoding::Otlp { .. } => otlp::append_span_with(&mut batch, fixed, span),
        }
        self.spans.set(spans + 1);
        let full = spans + 1 >= FULL_SPANS || batch.len() >= FULL_BYTES;
        if spans == 0 || full && !self.hurry.replace(true) {
            self.changed.notify_one();
        }
    }

    #[cold]
    fn drop_for(&self, reason: &Count, spans: usize) {
        reason.add(spans as u64);
        self.stats.spans_dropped.add(spans as u64);
    }

    /// There is no more time: what waits is lost.
    pub(crate) fn give_up(&self) {
        let left = self.spans.get() + self.sending.get();
        if left > 0 {
            self.drop_for(&self.stats.spans_dropped_shutdown, left);
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
        let mut answer = Answer::default();
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
            self.report(&worker, [&head, &body], spans, &mut answer)
                .await;
            self.sending.set(0);
            self.sending_bytes.set(0);
            self.sent.notify_waiters();
        }
    }

    /// Swaps the batch out: `head` gets what comes before it in the request's body.
    fn take(&self, head: &mut Vec<u8>, body: &mut Vec<u8>) -> usize {
        body.clear();
        head.clear();
        if body.capacity() > KEPT_BYTES {
            // What an outage has taken is given back.
            *body = Vec::new();
        }
        std::mem::swap(&mut *self.batch.borrow_mut(), body);
        match &self.encoding {
            Encoding::Zipkin { is_proto: true, .. } => {}
            Encoding::Zipkin { .. } => zipkin::end_list(body),
            Encoding::Otlp { envelope, is_grpc } => {
                let before = if *is_grpc { prefix(0).len() } else { 0 };
                head.resize(before, 0);
                envelope.append_head(head, body.len());
                if *is_grpc {
                    let length = head.len() - before + body.len();
                    head[..before].copy_from_slice(&prefix(length));
                }
            }
        }
        let spans = self.spans.replace(0);
        self.sending.set(spans);
        self.sending_bytes.set(body.len());
        self.hurry.set(self.closed.get());
        spans
    }

    async fn report(
        &self,
        worker: &Rc<Worker>,
        report: [&[u8]; 2],
        spans: usize,
        answer: &mut Answer,
    ) {
        let mut outcome = Err(Trouble::NoCluster.into());
        for attempt in 0..2 {
            if attempt > 0 {
                tokio::time::sleep(BACKOFF).await;
            }
            outcome = self.post(worker, report, answer).await;
            if outcome.is_ok() {
                break;
            }
        }
        let lost = match &outcome {
            Ok(refused) => {
                self.stats.reports_sent.increment();
                (*refused).min(spans)
            }
            Err(Lost::Trouble(Trouble::NoCluster)) => {
                self.stats.reports_skipped_no_cluster.increment();
                spans
            }
            Err(Lost::Refused(_)) => {
                self.stats.reports_dropped.increment();
                spans
            }
            Err(Lost::Trouble(_)) => {
                self.stats.reports_failed.increment();
                spans
            }
        };
        self.stats.spans_sent.add((spans - lost) as u64);
        self.stats.spans_dropped.add(lost as u64);
        if let Err(error) = outcome {
            tracing::debug!(cluster = self.target.cluster, %error, spans, "spans were lost");
        }
    }

    /// Sends a report: how many of its spans the collector did not want.
    async fn post(
        &self,
        worker: &Rc<Worker>,
        report: [&[u8]; 2],
        answer: &mut Answer,
    ) -> Result<usize, Lost> {
        let Target {
            cluster,
            host,
            path,
            fields,
            timeout,
        } = &self.target;
        let errand = Errand {
            cluster,
            method: "POST",
            host,
            path,
            fields,
            body: Some(report),
            timeout: Some(*timeout),
            most_bytes: MOST_ANSWER,
        };
        errand::run(worker, errand, answer).await?;
        match &self.encoding {
            Encoding::Otlp { is_grpc: true, .. } => {
                let response = answer.message::<ExportResponse>();
                let response = response.map_err(|reason| Lost::Refused(reason.into()))?;
                Ok(rejected(&response))
            }
            _ if !(200..300).contains(&answer.status()) => {
                let reason = format!("the answer was {}", answer.status());
                Err(Lost::Refused(reason.into()))
            }
            Encoding::Otlp { .. } => Ok(rejected_over_http(answer)),
            Encoding::Zipkin { .. } => Ok(0),
        }
    }
}

/// How many spans a collector says that it has rejected.
fn rejected(response: &ExportResponse) -> usize {
    let partial = response.partial_success.as_ref();
    let rejected = partial.map_or(0, |partial| partial.rejected_spans);
    usize::try_from(rejected).unwrap_or(0)
}

/// The same; a collector that answers in another form than the one of the request says nothing of it.
fn rejected_over_http(answer: &Answer) -> usize {
    let is_protobuf = answer.field("content-type") == Some(b"application/x-protobuf");
    match ExportResponse::decode(&*answer.body) {
        Ok(response) if is_protobuf => rejected(&response),
        _ => 0,
    }
}
