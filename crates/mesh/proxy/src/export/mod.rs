//! Reporting spans: encoded into a bounded batch, sent by a task of its own.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
/// So large a batch is one for a report of its own: collectors of gRPC take 4 MiB unless they are told otherwise.
const MOST_REPORT: usize = 2 * 1024 * 1024;
/// How long after a failure a report is sent once more, the first time,
const BACKOFF: Duration = Duration::from_millis(250);
/// and at most.
const MOST_BACKOFF: Duration = Duration::from_secs(5);
/// How often a report is sent at least, unless it arrives.
const ATTEMPTS: u32 = 2;
/// How long a report is sent again to a collector that is not there.
const OUTAGE: Duration = Duration::from_secs(900);
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
    /// Batches that have become too large, the oldest first; each with its spans.
    whole: RefCell<VecDeque<(Vec<u8>, usize)>>,
    /// Spans that are being sent, or are in one of those,
    sending: Cell<usize>,
    /// and their bytes.
    sending_bytes: Cell<usize>,
    hurry: Cell<bool>,
    closed: Cell<bool>,
    /// What does not arrive soon is lost.
    ends: Cell<bool>,
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
    #[error("the collector cannot take it now: {0}")]
    Busy(Cow<'static, str>),
}

/// The statuses, and the codes of gRPC, after which a report may be sent again (OTLP, "Retryable Response Codes").
const PASSING: [u16; 4] = [429, 502, 503, 504];
const PASSING_CODES: [u32; 7] = [1, 4, 8, 10, 11, 14, 15];

impl Lost {
    /// Whether the collector may take later what it has not taken.
    fn may_pass(&self) -> bool {
        match self {
            Self::Trouble(Trouble::NoCluster) | Self::Refused(_) => false,
            Self::Trouble(_) | Self::Busy(_) => true,
        }
    }
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
            whole: RefCell::default(),
            sending: Cell::new(0),
            sending_bytes: Cell::new(0),
            hurry: Cell::new(false),
            closed: Cell::new(false),
            ends: Cell::new(false),
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
        if spans + 1 >= FULL_SPANS || batch.len() >= FULL_BYTES {
            self.send_full(&mut batch);
        } else if spans == 0 {
            self.changed.notify_one();
        }
    }

    /// Has a full batch sent; one that is as large as a report may be is put aside.
    #[cold]
    fn send_full(&self, batch: &mut Vec<u8>) {
        if batch.len() >= MOST_REPORT {
            let whole = (std::mem::take(batch), self.spans.replace(0));
            self.begins_to_send(whole.1, whole.0.len());
            self.whole.borrow_mut().push_back(whole);
        }
        if !self.hurry.replace(true) {
            self.changed.notify_one();
        }
    }

    fn begins_to_send(&self, spans: usize, bytes: usize) {
        self.sending.set(self.sending.get() + spans);
        self.sending_bytes.set(self.sending_bytes.get() + bytes);
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
        self.ends.set(true);
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
        self.ends.set(true);
        self.hurry.set(true);
        self.changed.notify_one();
    }

    async fn send_all(self: Rc<Self>, worker: Weak<Worker>) {
        let mut body = Vec::new();
        let mut head = Vec::new();
        let mut answer = Answer::default();
        loop {
            while self.spans.get() == 0 && self.whole.borrow().is_empty() {
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
            let (spans, bytes) = self.take(&mut head, &mut body);
            let Some(worker) = worker.upgrade() else {
                return;
            };
            self.report(&worker, [&head, &body], spans, &mut answer)
                .await;
            self.sending.set(self.sending.get() - spans);
            self.sending_bytes.set(self.sending_bytes.get() - bytes);
            self.sent.notify_waiters();
        }
    }

    /// Swaps the oldest batch out: `head` gets what comes before it in the request's body. Its spans, and their bytes.
    fn take(&self, head: &mut Vec<u8>, body: &mut Vec<u8>) -> (usize, usize) {
        body.clear();
        head.clear();
        if body.capacity() > KEPT_BYTES {
            // What an outage has taken is given back.
            *body = Vec::new();
        }
        let mut whole = self.whole.borrow_mut();
        let spans = match whole.pop_front() {
            Some((batch, spans)) => {
                *body = batch;
                spans
            }
            None => {
                std::mem::swap(&mut *self.batch.borrow_mut(), body);
                let spans = self.spans.replace(0);
                self.begins_to_send(spans, body.len());
                spans
            }
        };
        let bytes = body.len();
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
        self.hurry.set(self.closed.get() || !whole.is_empty());
        (spans, bytes)
    }

    async fn report(
        &self,
        worker: &Rc<Worker>,
        report: [&[u8]; 2],
        spans: usize,
        answer: &mut Answer,
    ) {
        let begin = Instant::now();
        let mut attempts = 0;
        let mut back_off = BACKOFF;
        let outcome = loop {
            let outcome = self.post(worker, report, answer).await;
            attempts += 1;
            let Err(lost) = &outcome else { break outcome };
            if attempts >= ATTEMPTS {
                if attempts == ATTEMPTS && lost.may_pass() {
                    self.stats.reports_failed.increment();
                }
                if !lost.may_pass() || self.ends.get() || begin.elapsed() >= OUTAGE {
                    break outcome;
                }
            }
            self.wait(back_off).await;
            back_off = (2 * back_off).min(MOST_BACKOFF);
        };
        let lost = match &outcome {
            Ok(refused) => {
                self.stats.reports_sent.increment();
                (*refused).min(spans)
            }
            Err(Lost::Trouble(Trouble::NoCluster)) => {
                self.stats.reports_skipped_no_cluster.increment();
                spans
            }
            Err(Lost::Refused(_) | Lost::Busy(_)) => {
                self.stats.reports_dropped.increment();
                spans
            }
            // It was counted when it began.
            Err(Lost::Trouble(_)) => spans,
        };
        self.stats.spans_sent.add((spans - lost) as u64);
        self.stats.spans_dropped.add(lost as u64);
        if let Err(error) = outcome {
            tracing::debug!(cluster = self.target.cluster, %error, spans, "spans were lost");
        }
    }

    /// Lets time pass, unless it comes to an end.
    async fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(BACKOFF)).await;
            if left <= BACKOFF || self.ends.get() {
                return;
            }
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
                let response = response.map_err(|reason| match answer.grpc_code() {
                    Some(code) if PASSING_CODES.contains(&code) => Lost::Busy(reason.into()),
                    _ => Lost::Refused(reason.into()),
                })?;
                Ok(rejected(&response))
            }
            _ if !(200..300).contains(&answer.status()) => {
                let reason = format!("the answer was {}", answer.status());
                Err(match PASSING.contains(&answer.status()) {
                    true => Lost::Busy(reason.into()),
                    false => Lost::Refused(reason.into()),
                })
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
