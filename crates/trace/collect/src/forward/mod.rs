//! Forwarding: what is stored also goes to another endpoint, OTLP or Zipkin.
//!
//! A [`Forwarding`] stands before each store. What the store has taken waits in a queue that is bounded
//! in bytes; [`Forwarder::run`] sends it, in order, and tries again while the endpoint is away. A
//! full queue and what is given up are counted, and never hold up who sends to us.

mod client;
mod config;
mod endpoint;
mod queue;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use periplus_model::Batch;
use periplus_store::{AppendOtlpError, BoxFuture, OtlpTaken, SpanSink, StoreError};
use periplus_wire::{otlp, zipkin};
use tokio::time::Instant;

use crate::TlsError;
use client::{Client, Failure};
use queue::{Item, Queue};

pub use config::EndpointConfig;
pub use endpoint::{Endpoint, InvalidEndpoint, Protocol};

/// Bytes that wait for one endpoint at the same time, as OTLP.
const QUEUE_BYTES: usize = 64 << 20;

/// The first wait after a failure; each further one is twice as long,
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The longest that an endpoint may ask us to wait.
const LONGEST_HINT: Duration = Duration::from_secs(60);
/// How long one request is tried.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the queue may be emptied when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// The endpoints that spans are forwarded to, and what waits for each.
#[derive(Clone)]
pub struct Forwards {
    targets: Arc<[Arc<Target>]>,
}

/// A sink that hands on what the sink behind it has taken.
pub struct Forwarding {
    sink: Arc<dyn SpanSink>,
    forwards: Forwards,
    header: Option<(HeaderName, HeaderValue)>,
}

/// Sends to one endpoint what waits for it.
pub struct Forwarder {
    target: Arc<Target>,
    client: Client,
}

struct Target {
    endpoint: Endpoint,
    queue: Queue,
    stats: Stats,
}

#[derive(Debug, Default)]
struct Stats {
    sent: AtomicU64,
    overflowed: AtomicU64,
    given_up: AtomicU64,
    failures: AtomicU64,
}

impl Forwards {
    /// Forwards to these endpoints, and what sends to each.
    ///
    /// # Errors
    ///
    /// The authorities of an endpoint cannot be read.
    pub fn new(endpoints: Vec<Endpoint>) -> Result<(Self, Vec<Forwarder>), TlsError> {
        let mut targets = Vec::with_capacity(endpoints.len());
        let mut forwarders = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let client = Client::new(&endpoint)?;
            let target = Arc::new(Target {
                endpoint,
                queue: Queue::new(QUEUE_BYTES),
                stats: Stats::default(),
            });
            targets.push(Arc::clone(&target));
            forwarders.push(Forwarder { target, client });
        }
        let targets = targets.into();
        Ok((Self { targets }, forwarders))
    }

    /// A sink before `sink`; `header`, such as that of a tenant, goes along with its spans.
    pub fn before(
        &self,
        sink: Arc<dyn SpanSink>,
        header: Option<(HeaderName, HeaderValue)>,
    ) -> Forwarding {
        Forwarding {
            sink,
            forwards: self.clone(),
            header,
        }
    }

    /// What became of the spans for each endpoint.
    pub fn counts(&self) -> impl Iterator<Item = (&Endpoint, Counts)> {
        self.targets
            .iter()
            .map(|target| (&target.endpoint, target.counts()))
    }
}

impl Target {
    fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            sent_spans: read(&self.stats.sent),
            overflowed_spans: read(&self.stats.overflowed),
            given_up_spans: read(&self.stats.given_up),
            failed_requests: read(&self.stats.failures),
            queued_bytes: self.queue.bytes() as u64,
        }
    }
}

impl Forwarding {
    fn hand_on(&self, body: &Bytes, spans: usize) {
        if spans == 0 {
            return;
        }
        for target in self.forwards.targets.iter() {
            let item = Item {
                body: body.clone(),
                header: self.header.clone(),
                spans,
            };
            if !target.queue.push(item) {
                let stats = &target.stats;
                stats.overflowed.fetch_add(spans as u64, Ordering::Relaxed);
            }
        }
    }
}

impl SpanSink for Forwarding {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let (body, spans) = (otlp::encode_protobuf(&batch), batch.span_count());
            self.sink.append(batch).await?;
            self.hand_on(&Bytes::from(body), spans);
            Ok(())
        })
    }

    fn append_otlp(&self, body: Bytes) -> BoxFuture<'_, Result<OtlpTaken, AppendOtlpError>> {
        Box::pin(async move {
            let taken = self.sink.append_otlp(body.clone()).await?;
            if taken.refused.is_empty() {
                self.hand_on(&body, otlp::count_spans(&body));
            } else if let Ok(decoded) = otlp::decode_protobuf(&body) {
                // Without those that break a rule: the endpoint may refuse the whole request.
                let spans = decoded.batch.span_count();
                self.hand_on(&Bytes::from(otlp::encode_protobuf(&decoded.batch)), spans);
            }
            Ok(taken)
        })
    }
}

impl Forwarder {
    /// What it sends to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.target.endpoint
    }

    /// Sends until `stop` resolves, then what still waits, for a few seconds.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let item = tokio::select! {
                item = self.target.queue.front() => item,
                () = &mut stop => break,
            };
            tokio::select! {
                () = self.deliver(&item, PATIENCE) => self.target.queue.pop(),
                // The item is still in front.
                () = &mut stop => break,
            }
        }
        let deadline = Instant::now() + GRACE;
        while let Some(item) = self.target.queue.try_front() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.deliver(&item, left).await;
            self.target.queue.pop();
        }
        let spans = self.target.queue.clear();
        if spans > 0 {
            self.give_up(spans as u64, "the server stops");
        }
    }

    /// Sends one request until it is taken, refused for good, or time is up.
    async fn deliver(&self, item: &Item, patience: Duration) {
        let body = match self.target.endpoint.protocol {
            Protocol::OtlpHttp | Protocol::OtlpGrpc => item.body.clone(),
            Protocol::Zipkin => match to_zipkin(item.body.clone()).await {
                Ok(body) => body,
                Err(reason) => return self.give_up(item.spans as u64, &reason),
            },
        };
        let deadline = Instant::now() + patience;
        let mut wait = FIRST_WAIT;
        loop {
            let (reason, after) = match self.client.send(body.clone(), item.header.as_ref()).await {
                Ok(rejected) => {
                    let lost = rejected.spans.min(item.spans as u64);
                    let sent = &self.target.stats.sent;
                    sent.fetch_add(item.spans as u64 - lost, Ordering::Relaxed);
                    if lost > 0 {
                        self.give_up(lost, &rejected.reason);
                    }
                    return;
                }
                Err(Failure::Final(reason)) => {
                    return self.give_up(item.spans as u64, &reason);
                }
                Err(Failure::Passing { reason, after }) => (reason, after),
            };
            // Never sooner than we would ourselves.
            let pause = after.map_or(wait, |after| after.clamp(wait, LONGEST_HINT));
            self.target.stats.failures.fetch_add(1, Ordering::Relaxed);
            if Instant::now() + pause >= deadline {
                return self.give_up(item.spans as u64, &reason);
            }
            let endpoint = &self.target.endpoint;
            match wait {
                FIRST_WAIT => tracing::warn!(%endpoint, reason, "forwarding failed; trying again"),
                _ => tracing::debug!(%endpoint, reason, "forwarding failed again"),
            }
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn give_up(&self, spans: u64, reason: &str) {
        let given_up = &self.target.stats.given_up;
        given_up.fetch_add(spans, Ordering::Relaxed);
        tracing::warn!(
            endpoint = %self.target.endpoint,
            spans,
            reason,
            "spans were not forwarded"
        );
    }
}

/// OTLP in protobuf as Zipkin's JSON, made where it disturbs nobody.
async fn to_zipkin(body: Bytes) -> Result<Bytes, String> {
    let convert = move || match otlp::decode_protobuf(&body) {
        Ok(decoded) => Ok(Bytes::from(zipkin::encode_json(&decoded.batch))),
        Err(error) => Err(error.to_string()),
    };
    let converted = tokio::task::spawn_blocking(convert).await;
    converted.unwrap_or_else(|error| Err(error.to_string()))
}

/// What became of the spans for one endpoint, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Spans that the endpoint has taken.
    pub sent_spans: u64,
    /// Spans dropped because the queue was full.
    pub overflowed_spans: u64,
    /// Spans dropped because the endpoint refused them, or stayed away.
    pub given_up_spans: u64,
    /// Requests that failed and were tried again.
    pub failed_requests: u64,
    /// Bytes that wait.
    pub queued_bytes: u64,
}
