use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use periplus_model::Batch;
use periplus_store::SpanSink;
use periplus_wire::otlp::{Refused, count_spans};
use tokio::sync::Semaphore;

use crate::body::{self, Encoding};
use crate::limits::{Budget, Limits, Share};
use crate::{Reason, Receiver, Refusal, Stats};

/// Bodies up to this size are decoded where they arrive; larger ones on a thread of their own.
const INLINE_BYTES: usize = 64 << 10;

/// What all receivers share: where their spans go, their limits and their counters.
#[derive(Clone)]
pub struct Collector {
    inner: Arc<Inner>,
}

struct Inner {
    sink: Arc<dyn SpanSink>,
    limits: Limits,
    stats: Stats,
    budget: Arc<Budget>,
    /// Decoding blows bytes up into spans: at most as many at a time as there are cores.
    decoders: Arc<Semaphore>,
}

/// A body in memory, and its share of the budget.
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    encoding: Encoding,
    share: Share,
}

/// A body after decompression, and its share of the budget.
pub(crate) struct Inflated {
    bytes: Bytes,
    share: Share,
}

impl Collector {
    /// Receivers that write to `sink`.
    pub fn new(sink: Arc<dyn SpanSink>, limits: Limits) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            inner: Arc::new(Inner {
                sink,
                limits,
                stats: Stats::default(),
                budget: Budget::new(limits.max_inflight_bytes),
                decoders: Arc::new(Semaphore::new(cores)),
            }),
        }
    }

    /// Receivers that write to another sink within the same limits, with counters of their own.
    pub fn beside(&self, sink: Arc<dyn SpanSink>) -> Self {
        Self {
            inner: Arc::new(Inner {
                sink,
                limits: self.inner.limits,
                stats: Stats::default(),
                budget: Arc::clone(&self.inner.budget),
                decoders: Arc::clone(&self.inner.decoders),
            }),
        }
    }

    /// What was taken and refused.
    pub fn stats(&self) -> &Stats {
        &self.inner.stats
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// An empty share of the bytes that all bodies may hold.
    pub(crate) fn share(&self) -> Share {
        self.inner.budget.share()
    }

    /// Reads a request's body, still compressed.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Payload, Refusal> {
        let encoding = Encoding::of(headers)?;
        let mut share = self.share();
        let bytes = body::read(headers, body, &self.inner.limits, &mut share).await?;
        Ok(Payload {
            bytes,
            encoding,
            share,
        })
    }

    /// Takes a message that the transport has read and decompressed already.
    pub(crate) fn admit(&self, bytes: Bytes) -> Result<Payload, Refusal> {
        let mut share = self.share();
        if !share.grow(bytes.len()) {
            return Err(Refusal::new(
                Reason::Busy,
                "the receiver is busy with other requests; send again later",
            ));
        }
        Ok(Payload {
            bytes,
            encoding: Encoding::Identity,
            share,
        })
    }

    /// Decompresses and decodes a body, off the reactor when it is large.
    pub(crate) async fn decode<T: Send + 'static>(
        &self,
        receiver: Receiver,
        payload: Payload,
        decoder: impl FnOnce(&[u8]) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let limit = self.inner.limits.max_message_bytes;
        let small = payload.encoding == Encoding::Identity && payload.bytes.len() <= INLINE_BYTES;
        let work = move || -> (usize, Result<T, Refusal>) {
            let mut share = payload.share;
            if payload.encoding == Encoding::Identity {
                return (payload.bytes.len(), decoder(&payload.bytes));
            }
            match body::decompress(payload.encoding, &payload.bytes, limit, &mut share) {
                Ok(bytes) => (bytes.len(), decoder(&bytes)),
                Err(refusal) => (payload.bytes.len(), Err(refusal)),
            }
        };
        let (bytes, outcome) = if small {
            work()
        } else {
            let _turn = self.inner.decoders.acquire().await;
            tokio::task::spawn_blocking(work).await.map_err(|error| {
                tracing::error!(%error, "a decoder failed");
                Refusal::new(Reason::Malformed, "the body could not be decoded")
            })?
        };
        self.inner.stats.read(receiver, bytes);
        outcome
    }

    /// Decompresses a body, off the reactor.
    pub(crate) async fn inflate(
        &self,
        receiver: Receiver,
        payload: Payload,
    ) -> Result<Inflated, Refusal> {
        let mut share = payload.share;
        let (encoding, bytes) = (payload.encoding, payload.bytes);
        if encoding == Encoding::Identity {
            self.inner.stats.read(receiver, bytes.len());
            return Ok(Inflated { bytes, share });
        }
        let limit = self.inner.limits.max_message_bytes;
        let compressed = bytes.len();
        let work = move || {
            let bytes = body::decompress(encoding, &bytes, limit, &mut share)?;
            Ok(Inflated {
                bytes: bytes.into(),
                share,
            })
        };
        let _turn = self.inner.decoders.acquire().await;
        let outcome = tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "a decompressor failed");
            Refusal::new(Reason::Malformed, "the body could not be decompressed")
        })?;
        let bytes = outcome
            .as_ref()
            .map_or(compressed, |inflated: &Inflated| inflated.bytes.len());
        self.inner.stats.read(receiver, bytes);
        outcome
    }

    /// Stores an OTLP request as its protobuf bytes; the spans that it refused.
    pub(crate) async fn store_otlp(
        &self,
        receiver: Receiver,
        body: Inflated,
    ) -> Result<Refused, Refusal> {
        // The store gives up by itself. To do so here would be to refuse what may yet be stored, and
        // the sender would send it again.
        let outcome = self.inner.sink.append_otlp(body.bytes.clone()).await;
        drop(body.share);
        match outcome.map_err(Refusal::from) {
            Ok(taken) => {
                let spans = usize::try_from(taken.spans).unwrap_or(usize::MAX);
                self.inner.stats.accept(receiver, spans);
                Ok(taken.refused)
            }
            Err(refusal) => {
                // How many spans are in a body that cannot be decoded nobody knows.
                if refusal.reason != Reason::Malformed {
                    let spans = count_spans(&body.bytes);
                    self.inner
                        .stats
                        .refuse_spans(receiver, refusal.reason, spans);
                }
                Err(refusal)
            }
        }
    }

    /// Stores a batch.
    pub(crate) async fn store(&self, receiver: Receiver, batch: Batch) -> Result<(), Refusal> {
        let spans = batch.span_count();
        if let Err(refusal) = self.append(batch).await {
            self.inner
                .stats
                .refuse_spans(receiver, refusal.reason, spans);
            return Err(refusal);
        }
        self.inner.stats.accept(receiver, spans);
        Ok(())
    }

    /// Hands a batch to the store; counts nothing.
    pub(crate) async fn append(&self, batch: Batch) -> Result<(), Refusal> {
        if batch.span_count() == 0 {
            return Ok(());
        }
        self.inner.sink.append(batch).await.map_err(Refusal::from)
    }
}
