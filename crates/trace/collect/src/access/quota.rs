use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use periplus_model::Batch;
use periplus_store::{AppendOtlpError, BoxFuture, OtlpTaken, SpanSink, StoreError};
use periplus_wire::otlp::count_spans;
use tokio::time::Instant;

/// A sink that takes so many spans a second: a token bucket that holds two seconds' worth.
///
/// What is over it is refused so that the sender comes again. A batch that is larger than the
/// bucket passes when the bucket is full, and empties it below zero.
pub struct WithQuota {
    sink: Arc<dyn SpanSink>,
    spans_per_second: u64,
    bucket: Mutex<Bucket>,
    stats: Arc<QuotaStats>,
}

/// What a quota has refused.
#[derive(Debug, Default)]
pub struct QuotaStats {
    refused_spans: AtomicU64,
}

impl QuotaStats {
    /// Spans refused; those that came again count again.
    pub fn refused_spans(&self) -> u64 {
        self.refused_spans.load(Ordering::Relaxed)
    }
}

struct Bucket {
    /// Spans that may come; less than none after a batch that was larger than the bucket.
    spans: f64,
    filled: Instant,
}

impl WithQuota {
    /// A sink before `sink`.
    pub fn new(sink: Arc<dyn SpanSink>, spans_per_second: u64) -> Self {
        let bucket = Bucket {
            spans: 2.0 * spans_per_second as f64,
            filled: Instant::now(),
        };
        Self {
            sink,
            spans_per_second,
            bucket: Mutex::new(bucket),
            stats: Arc::default(),
        }
    }

    /// What it has refused.
    pub fn stats(&self) -> Arc<QuotaStats> {
        Arc::clone(&self.stats)
    }

    fn take(&self, spans: usize) -> Result<(), StoreError> {
        let rate = self.spans_per_second as f64;
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = now.duration_since(bucket.filled).as_secs_f64();
        bucket.filled = now;
        bucket.spans = (bucket.spans + since * rate).min(2.0 * rate);
        let wanted = spans as f64;
        if bucket.spans < wanted.min(2.0 * rate) {
            drop(bucket);
            self.stats
                .refused_spans
                .fetch_add(spans as u64, Ordering::Relaxed);
            return Err(StoreError::Busy {
                reason: format!(
                    "the quota of {} spans per second is used up",
                    self.spans_per_second
                ),
            });
        }
        bucket.spans -= wanted;
        Ok(())
    }
}

impl SpanSink for WithQuota {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.take(batch.span_count())?;
            self.sink.append(batch).await
        })
    }

    fn append_otlp(&self, body: Bytes) -> BoxFuture<'_, Result<OtlpTaken, AppendOtlpError>> {
        Box::pin(async move {
            self.take(count_spans(&body))?;
            self.sink.append_otlp(body).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use periplus_store::MemoryStore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_holds_two_seconds_and_fills_with_time() {
        let quota = WithQuota::new(Arc::new(MemoryStore::default()), 10);
        assert!(quota.take(15).is_ok());
        assert!(quota.take(6).is_err());
        assert!(quota.take(5).is_ok());
        assert_eq!(quota.stats().refused_spans(), 6);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(quota.take(6).is_err());
        assert!(quota.take(5).is_ok());
        tokio::time::advance(Duration::from_secs(60)).await;
        // Larger than the bucket: it passes once, then its debt is paid off first.
        assert!(quota.take(40).is_ok());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(quota.take(1).is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(quota.take(1).is_ok());
    }
}
