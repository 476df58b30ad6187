//! Spans as they are stored, to those who watch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use periplus_insight::is_error;
use periplus_model::{Batch, Span, SpanGroup};
use periplus_store::{
    AppendOtlpError, BoxFuture, OtlpTaken, SpanFilter, SpanSink, StoreError, span_matches,
};
use periplus_wire::otlp::decode_protobuf;
use serde::Serialize;
use tokio::sync::mpsc;

/// Those who may watch at the same time.
pub(crate) const MAX_WATCHERS: usize = 32;

/// Spans that wait for one who reads slowly; he is told how many more there were.
const MAX_WAITING: usize = 1_000;

/// A span that was stored, as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    trace_id: String,
    span_id: String,
    parent_span_id: Option<String>,
    service: &'a str,
    operation: &'a str,
    kind: &'static str,
    start_us: u64,
    duration_us: u64,
    error: bool,
}

/// Where stored spans pass by.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    watchers: RwLock<Vec<Watcher>>,
    /// So that nobody who stores spans takes the lock while nobody watches.
    is_watched: AtomicBool,
}

#[derive(Debug)]
struct Watcher {
    filter: SpanFilter,
    events: mpsc::Sender<String>,
    lost: Arc<AtomicU64>,
}

/// One who watches.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Spans that match, as JSON; ends when the feed is closed.
    pub(crate) events: mpsc::Receiver<String>,
    lost: Arc<AtomicU64>,
}

impl Watch {
    /// How many spans were not kept for this reader since he was last told.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

impl Feed {
    /// Watches for spans that match a local filter; `None` if too many do.
    pub(crate) fn watch(&self, filter: SpanFilter) -> Option<Watch> {
        let mut watchers = self
            .watchers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| !watcher.events.is_closed());
        if watchers.len() >= MAX_WATCHERS {
            return None;
        }
        let (events, receiver) = mpsc::channel(MAX_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        watchers.push(Watcher {
            filter,
            events,
            lost: Arc::clone(&lost),
        });
        self.is_watched.store(true, Ordering::Relaxed);
        Some(Watch {
            events: receiver,
            lost,
        })
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        let mut watchers = self
            .watchers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        watchers.clear();
        self.is_watched.store(false, Ordering::Relaxed);
    }

    fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    fn publish(&self, batch: &Batch) {
        let gone = {
            let watchers = self.watchers.read().unwrap_or_else(PoisonError::into_inner);
            for group in &batch.groups {
                for span in &group.spans {
                    show(&watchers, group, span);
                }
            }
            watchers.iter().any(|watcher| watcher.events.is_closed())
        };
        if gone {
            let mut watchers = self
                .watchers
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            watchers.retain(|watcher| !watcher.events.is_closed());
            self.is_watched
                .store(!watchers.is_empty(), Ordering::Relaxed);
        }
    }
}

fn show(watchers: &[Watcher], group: &SpanGroup, span: &Span) {
    let mut event = None;
    for watcher in watchers {
        if !span_matches(&watcher.filter, group, span) {
            continue;
        }
        let event = event.get_or_insert_with(|| json(group, span));
        if watcher.events.try_send(event.clone()).is_err() {
            watcher.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn json(group: &SpanGroup, span: &Span) -> String {
    let start_us = span.start_unix_nano / 1_000;
    let event = Event {
        trace_id: span.trace_id.to_string(),
        span_id: span.span_id.to_string(),
        parent_span_id: span.parent_span_id.map(|id| id.to_string()),
        service: group.resource.service_name(),
        operation: &span.name,
        kind: span.kind.as_str(),
        start_us,
        duration_us: (span.end_unix_nano / 1_000).saturating_sub(start_us),
        error: is_error(span),
    };
    serde_json::to_string(&event).unwrap_or_default()
}

/// A sink that shows the feed what it has stored.
pub(crate) struct Tap {
    pub(crate) sink: Arc<dyn SpanSink>,
    pub(crate) feed: Arc<Feed>,
}

impl SpanSink for Tap {
    fn append(&self, batch: Batch) -> BoxFuture<'_, Result<(), StoreError>> {
        if !self.feed.is_watched() {
            return self.sink.append(batch);
        }
        Box::pin(async move {
            let shown = batch.clone();
            self.sink.append(batch).await?;
            self.feed.publish(&shown);
            Ok(())
        })
    }

    fn append_otlp(&self, body: Bytes) -> BoxFuture<'_, Result<OtlpTaken, AppendOtlpError>> {
        if !self.feed.is_watched() {
            return self.sink.append_otlp(body);
        }
        Box::pin(async move {
            let taken = self.sink.append_otlp(body.clone()).await?;
            // The store has read it, so it can be read.
            if let Ok(decoded) = decode_protobuf(&body) {
                self.feed.publish(&decoded.batch);
            }
            Ok(taken)
        })
    }
}

#[cfg(test)]
mod tests {
    use periplus_model::Resource;

    use super::*;

    fn batch(spans: usize) -> Batch {
        let group = SpanGroup {
            resource: Arc::new(Resource::of_service("shop")),
            spans: vec![Span::default(); spans],
            ..SpanGroup::default()
        };
        Batch {
            groups: vec![group],
        }
    }

    #[test]
    fn a_slow_reader_is_told_what_he_lost() {
        let feed = Feed::default();
        assert!(!feed.is_watched());
        let mut watch = feed.watch(SpanFilter::True).unwrap();
        feed.publish(&batch(MAX_WAITING + 7));
        assert_eq!(watch.lost(), 7);
        assert_eq!(watch.lost(), 0, "once");
        let mut waiting = 0;
        while watch.events.try_recv().is_ok() {
            waiting += 1;
        }
        assert_eq!(waiting, MAX_WAITING);
        drop(watch);
        feed.publish(&batch(1));
        assert!(!feed.is_watched(), "who is gone is forgotten");
    }

    #[test]
    fn watchers_are_limited_and_end_with_the_feed() {
        let feed = Feed::default();
        let mut watches: Vec<_> = (0..MAX_WATCHERS)
            .map(|_| feed.watch(SpanFilter::True).unwrap())
            .collect();
        assert!(feed.watch(SpanFilter::True).is_none());
        watches.pop();
        let mut watch = feed.watch(SpanFilter::True).unwrap();
        feed.close();
        assert_eq!(
            watch.events.try_recv(),
            Err(mpsc::error::TryRecvError::Disconnected)
        );
    }
}
