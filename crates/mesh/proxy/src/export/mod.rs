//! Reporting spans, and records of access logs: encoded into a bounded batch, sent by a task of its own.

mod answer;
mod form;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_wire::export::{FixedTags, SpanRef, otlp, zipkin, zipkin_proto};
use tokio::sync::Notify;

use self::answer::Lost;
use self::form::{Encoding, Form, Full, Target};
use crate::errand::{self, Answer, Errand, Trouble, prefix};
use crate::snapshot::TracingProvider;
use crate::stats::{Count, ExportStats};
use crate::telemetry::LogCollector;
use crate::worker::Worker;

/// Buffers that have become larger than this are not kept.
const KEPT_BYTES: usize = 512 * 1024;
/// So large a batch is one for a report of its own: collectors of gRPC take 4 MiB unless they are told otherwise.
const MOST_REPORT: usize = 2 * 1024 * 1024;
/// How long after a failure a report is sent once more, the first time,
const BACKOFF: Duration = Duration::from_millis(250);
/// and at most.
const MOST_BACKOFF: Duration = Duration::from_secs(5);
/// How often a report is sent at least, unless it arrives.
const ATTEMPTS: u32 = 2;
/// How long a report is sent again to a collector that is not there,
const OUTAGE: Duration = Duration::from_secs(900);
/// and once the proxy is to end, at most.
const LAST: Duration = Duration::from_secs(5);

/// What is reported, and who gets it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reported {
    Spans(TracingProvider),
    /// Records of access logs.
    Records(Arc<LogCollector>),
}

/// Where the items of a provider, which are spans or records, go from one worker.
#[derive(Debug)]
pub(crate) struct Exporter {
    encoding: Encoding,
    target: Target,
    full: Full,
    stats: Arc<ExportStats>,
    most_pending: usize,
    most_bytes: usize,
    batch: RefCell<Vec<u8>>,
    /// Items in `batch`.
    items: Cell<usize>,
    /// Batches that have become too large, the oldest first; each with its items.
    whole: RefCell<VecDeque<(Vec<u8>, usize)>>,
    /// Items that are being sent, or are in one of those,
    sending: Cell<usize>,
    /// and their bytes.
    sending_bytes: Cell<usize>,
    hurry: Cell<bool>,
    closed: Cell<bool>,
    /// What has not arrived by then is lost.
    until: Cell<Option<Instant>>,
    changed: Notify,
    sent: Notify,
}

/// The most bytes of an answer to a report.
const MOST_ANSWER: usize = 64 * 1024;

impl Exporter {
    /// An exporter with its sending task.
    pub(crate) fn new(reported: &Reported, worker: &Worker) -> Rc<Self> {
        let Form {
            encoding,
            target,
            full,
            stats,
        } = match reported {
            Reported::Spans(provider) => form::of_spans(provider, worker),
            Reported::Records(collector) => form::of_records(collector, worker),
        };
        let exporter = Rc::new(Self {
            encoding,
            target,
            full,
            stats,
            most_pending: worker.options.max_pending_spans,
            most_bytes: worker.options.max_pending_span_bytes,
            batch: RefCell::default(),
            items: Cell::new(0),
            whole: RefCell::default(),
            sending: Cell::new(0),
            sending_bytes: Cell::new(0),
            hurry: Cell::new(false),
            closed: Cell::new(false),
            until: Cell::new(None),
            changed: Notify::new(),
            sent: Notify::new(),
        });
        tokio::task::spawn_local(exporter.clone().send_all(worker.weak()));
        exporter
    }

    /// Adds a span with these tags besides its own to the batch, or drops and counts it if too many wait.
    pub(crate) fn append(&self, fixed: &[&FixedTags], span: &SpanRef<'_>) {
        self.add(|batch, is_first| match &self.encoding {
            Encoding::Zipkin {
                endpoint,
                is_proto: true,
            } => zipkin_proto::append_span_with(batch, endpoint, fixed, span),
            Encoding::Zipkin { endpoint, .. } => {
                if is_first {
                    zipkin::begin_list(batch);
                }
                zipkin::append_span_with(batch, endpoint, fixed, span);
            }
            Encoding::Otlp { .. } => otlp::append_span_with(batch, fixed, span),
        });
    }

    /// Adds what `write` appends, which is a whole record.
    pub(crate) fn append_record(&self, write: impl FnOnce(&mut Vec<u8>)) {
        self.add(|batch, _| write(batch));
    }

    /// Adds an item, of which `write` is told whether it is the first of its batch.
    #[inline(always)]
    fn add(&self, write: impl FnOnce(&mut Vec<u8>, bool)) {
        let items = self.items.get();
        if items + self.sending.get() >= self.most_pending {
            self.drop_for(&self.stats.dropped_most_items, 1);
            return;
        }
        let mut batch = self.batch.borrow_mut();
        if batch.len() + self.sending_bytes.get() >= self.most_bytes {
            self.drop_for(&self.stats.dropped_most_bytes, 1);
            return;
        }
        write(&mut batch, items == 0);
        self.items.set(items + 1);
        if items + 1 >= self.full.items || batch.len() >= self.full.bytes {
            self.send_full(&mut batch);
        } else if items == 0 {
            self.changed.notify_one();
        }
    }

    /// Has a full batch sent; one that is as large as a report may be is put aside.
    #[cold]
    fn send_full(&self, batch: &mut Vec<u8>) {
        if batch.len() >= MOST_REPORT {
            let whole = (std::mem::take(batch), self.items.replace(0));
            self.begins_to_send(whole.1, whole.0.len());
            self.whole.borrow_mut().push_back(whole);
        }
        if !self.hurry.replace(true) {
            self.changed.notify_one();
        }
    }

    fn begins_to_send(&self, items: usize, bytes: usize) {
        self.sending.set(self.sending.get() + items);
        self.sending_bytes.set(self.sending_bytes.get() + bytes);
    }

    #[cold]
    fn drop_for(&self, reason: &Count, items: usize) {
        reason.add(items as u64);
        self.stats.dropped.add(items as u64);
    }

    /// There is no more time: what waits is lost.
    pub(crate) fn give_up(&self) {
        let left = self.items.get() + self.sending.get();
        if left > 0 {
            self.drop_for(&self.stats.dropped_shutdown, left);
        }
    }

    /// Has what there is sent at once; what has not arrived by then is lost.
    pub(crate) fn end_by(&self, deadline: Instant) {
        self.until.set(Some(deadline.min(Instant::now() + LAST)));
        self.hurry.set(true);
        self.changed.notify_one();
    }

    /// Waits until everything is sent or lost.
    pub(crate) async fn flush(&self) {
        while self.items.get() + self.sending.get() > 0 {
            let sent = self.sent.notified();
            self.hurry.set(true);
            self.changed.notify_one();
            sent.await;
        }
    }

    /// Nothing will come any more: the task sends what is left and ends.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.end_by(Instant::now() + LAST);
    }

    async fn send_all(self: Rc<Self>, worker: Weak<Worker>) {
        let mut body = Vec::new();
        let mut head = Vec::new();
        let mut answer = Answer::default();
        loop {
            while self.items.get() == 0 && self.whole.borrow().is_empty() {
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
            if tokio::time::timeout(self.full.after, full).await.is_err() {
                self.stats.timer_flushed.increment();
            }
            let (items, bytes) = self.take(&mut head, &mut body);
            let Some(worker) = worker.upgrade() else {
                return;
            };
            self.report(&worker, [&head, &body], items, &mut answer)
                .await;
            self.sending.set(self.sending.get() - items);
            self.sending_bytes.set(self.sending_bytes.get() - bytes);
            self.sent.notify_waiters();
        }
    }

    /// Swaps the oldest batch out: `head` gets what comes before it in the request's body. Its items, and their bytes.
    fn take(&self, head: &mut Vec<u8>, body: &mut Vec<u8>) -> (usize, usize) {
        body.clear();
        head.clear();
        if body.capacity() > KEPT_BYTES {
            // What an outage has taken is given back.
            *body = Vec::new();
        }
        let mut whole = self.whole.borrow_mut();
        let items = match whole.pop_front() {
            Some((batch, items)) => {
                *body = batch;
                items
            }
            None => {
                std::mem::swap(&mut *self.batch.borrow_mut(), body);
                let items = self.items.replace(0);
                self.begins_to_send(items, body.len());
                items
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
        (items, bytes)
    }

    async fn report(
        &self,
        worker: &Rc<Worker>,
        report: [&[u8]; 2],
        items: usize,
        answer: &mut Answer,
    ) {
        let begin = Instant::now();
        let mut attempts = 0;
        let mut back_off = BACKOFF;
        let outcome = loop {
            let outcome = self.post(worker, report, answer).await;
            let lost = match &outcome {
                Err(lost) if lost.may_pass() => lost,
                _ => break outcome,
            };
            attempts += 1;
            if attempts == ATTEMPTS {
                self.stats.reports_failed.increment();
            }
            if self.until.get().is_some() {
                back_off = BACKOFF;
            }
            let pause = lost.after().unwrap_or_default().max(back_off);
            let has_tried = attempts >= ATTEMPTS;
            let is_over = match self.until.get() {
                // Whoever is to come again later than that need not wait for it.
                Some(until) => {
                    (has_tried || lost.after().is_some()) && Instant::now() + pause > until
                }
                None => has_tried && begin.elapsed() >= OUTAGE,
            };
            if is_over {
                break outcome;
            }
            self.wait(pause).await;
            back_off = (2 * back_off).min(MOST_BACKOFF);
        };
        let lost = match &outcome {
            Ok(refused) => {
                self.stats.reports_sent.increment();
                (*refused).min(items)
            }
            Err(Lost::Trouble(Trouble::NoCluster)) => {
                self.stats.reports_skipped_no_cluster.increment();
                items
            }
            Err(Lost::Refused(_) | Lost::Busy { .. } | Lost::Trouble(Trouble::Senseless(_))) => {
                self.stats.reports_dropped.increment();
                items
            }
            // It was counted when it began.
            Err(Lost::Trouble(_)) => items,
        };
        self.stats.sent.add((items - lost) as u64);
        self.stats.dropped.add(lost as u64);
        if let Err(error) = outcome {
            tracing::debug!(cluster = self.target.cluster, %error, items, "spans or records were lost");
        }
    }

    /// Lets time pass; the news that the proxy is to end cuts it short.
    async fn wait(&self, time: Duration) {
        if self.until.get().is_some() {
            return tokio::time::sleep(time).await;
        }
        let told = async {
            while self.until.get().is_none() {
                self.changed.notified().await;
            }
        };
        // Either will do.
        let _ = tokio::time::timeout(time, told).await;
    }

    /// Sends a report: how many of its items the collector did not want.
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
            Encoding::Otlp { is_grpc: true, .. } => answer::of_call(answer),
            Encoding::Otlp { .. } => answer::of_http(answer).map(|()| answer::rejected(answer)),
            Encoding::Zipkin { .. } => answer::of_http(answer).map(|()| 0),
        }
    }
}
