//! Requests to this workload that are under way: one of them is why the workload itself sends a request, and if
//! that has no trace context, nothing else tells which.
//!
//! Each worker keeps those that it serves; a request without context looks at those of all workers.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use periplus_model::propagation::SpanContext;
use periplus_model::propagation::request_id::LENGTH;
use periplus_model::{SpanId, TraceId};

/// The most that a worker keeps; more are only counted.
const MOST: usize = 256;
/// The most that are told of.
const MOST_TOLD: usize = 8;

/// A request that is under way.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    trace_id: TraceId,
    span_id: SpanId,
    /// None if there is none of the usual form.
    request_id: Option<[u8; LENGTH]>,
    start_unix_micros: u64,
}

/// Those of one worker.
#[derive(Debug, Default)]
struct Slots {
    kept: Vec<Option<Candidate>>,
    free: Vec<u32>,
    /// Those that are not kept too.
    count: usize,
}

/// Those of one worker, which others look at.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<Slots>);

/// A request's place; it is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<InFlight>,
    /// None if there was no room.
    at: Option<u32>,
}

impl InFlight {
    /// One more request with this context.
    pub(crate) fn enter(
        self: &Arc<Self>,
        span: &SpanContext,
        request_id: Option<&[u8]>,
        start_unix_micros: u64,
    ) -> Place {
        let candidate = Some(Candidate {
            trace_id: span.trace_id,
            span_id: span.span_id,
            request_id: request_id.and_then(|id| id.try_into().ok()),
            start_unix_micros,
        });
        let mut slots = self.slots();
        slots.count += 1;
        let at = match slots.free.pop() {
            Some(at) => {
                slots.kept[at as usize] = candidate;
                Some(at)
            }
            None if slots.kept.len() < MOST => {
                slots.kept.push(candidate);
                Some(slots.kept.len() as u32 - 1)
            }
            None => None,
        };
        drop(slots);
        Place {
            of: self.clone(),
            at,
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut slots = self.of.slots();
        slots.count -= 1;
        if let Some(at) = self.at {
            slots.kept[at as usize] = None;
            slots.free.push(at);
        }
    }
}

/// How many requests are under way in all these workers, and the newest of them as a list in JSON; none if there
/// are none.
pub(crate) fn candidates<'a>(
    workers: impl Iterator<Item = &'a Arc<InFlight>>,
) -> Option<(usize, String)> {
    let mut all: Vec<Candidate> = Vec::new();
    let mut count = 0;
    for worker in workers {
        let slots = worker.slots();
        count += slots.count;
        all.extend(slots.kept.iter().flatten());
    }
    if count == 0 {
        return None;
    }
    all.sort_unstable_by_key(|one| std::cmp::Reverse(one.start_unix_micros));
    let mut text = String::from("[");
    for (index, one) in all.iter().take(MOST_TOLD).enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a `String` cannot fail. A request id is letters and digits, or it is not told.
        let _ = write!(
            text,
            "{comma}{{\"trace_id\":\"{}\",\"span_id\":\"{}\"",
            one.trace_id, one.span_id
        );
        let id = one.request_id.as_ref().map(|id| std::str::from_utf8(id));
        if let Some(Ok(id)) = id
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            let _ = write!(text, ",\"request_id\":\"{id}\"");
        }
        let _ = write!(text, ",\"start_us\":{}}}", one.start_unix_micros);
    }
    text.push(']');
    Some((count, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(number: u8) -> SpanContext {
        SpanContext {
            trace_id: TraceId::from_bytes([number; 16]),
            span_id: SpanId::from_bytes([number; 8]),
            parent_span_id: None,
            sampled: true,
            shared: false,
            parent_is_remote: false,
        }
    }

    #[test]
    fn the_newest_are_told_and_all_are_counted() {
        let workers = [Arc::<InFlight>::default(), Arc::default()];
        assert_eq!(candidates(workers.iter()), None);
        let id = b"fbd46b43-c075-9a0d-9a54-97ff56b88bfa";
        let first = workers[0].enter(&span(1), Some(id), 10);
        let quoted = [b'"'; LENGTH];
        let second = workers[1].enter(&span(2), Some(&quoted), 20);
        let (count, text) = candidates(workers.iter()).expect("two");
        let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(count, 2);
        assert_eq!(
            told,
            serde_json::json!([
                {"trace_id": "02".repeat(16), "span_id": "02".repeat(8), "start_us": 20},
                {
                    "trace_id": "01".repeat(16),
                    "span_id": "01".repeat(8),
                    "request_id": "fbd46b43-c075-9a0d-9a54-97ff56b88bfa",
                    "start_us": 10,
                },
            ])
        );
        drop(second);
        let places: Vec<_> = (0..MOST + 5)
            .map(|_| workers[0].enter(&span(3), None, 5))
            .collect();
        let (count, text) = candidates(workers.iter()).expect("many");
        assert_eq!(count, MOST + 6);
        assert_eq!(text.matches("trace_id").count(), MOST_TOLD);
        drop((first, places));
        assert_eq!(candidates(workers.iter()), None);
    }
}
