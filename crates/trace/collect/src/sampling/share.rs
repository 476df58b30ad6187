use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use periplus_model::{Batch, Span, Value};
use periplus_sampling::in_share;
use periplus_store::{BoxFuture, SpanSink, StoreError};
use periplus_wire::zipkin::DEBUG;

/// Hands on a share of all traces, chosen by their ids, and drops the rest: Zipkin's
/// `COLLECTOR_SAMPLE_RATE`. Spans that Zipkin marks for debugging always pass. Copies share it.
#[derive(Clone)]
pub struct ShareSampling {
    share: f64,
    next: Arc<dyn SpanSink>,
    dropped_spans: Arc<AtomicU64>,
}

impl ShareSampling {
    /// This share, 0 to 1, goes to `next`.
    pub fn new(share: f64, next: Arc<dyn SpanSink>) -> Self {
        Self {
            share,
            next,
            dropped_spans: Arc::default(),
        }
    }

    /// Spans dropped since the start.
    pub fn dropped_spans(&self) -> u64 {
        self.dropped_spans.load(Ordering::Relaxed)
    }

    fn keeps(&self, span: &Span) -> bool {
        span.attribute(DEBUG) == Some(&Value::Bool(true)) || in_share(span.trace_id, self.share)
    }
}

impl SpanSink for ShareSampling {
    fn append(&self, mut batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        let before = batch.span_count();
        for group in &mut batch.groups {
            group.spans.retain(|span| self.keeps(span));
        }
        batch.groups.retain(|group| !group.spans.is_empty());
        let dropped = before - batch.span_count();
        Box::pin(async move {
            if !batch.groups.is_empty() {
                self.next.append(batch).await?;
            }
            // Not before: what was refused comes again.
            self.dropped_spans
                .fetch_add(dropped as u64, Ordering::Relaxed);
            Ok(())
        })
    }
}
