use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use periplus_model::SpanGroup;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::memory::size;
use crate::{
    BoxStream, Cursor, Detail, Incomplete, SpanStore, StoreError, StoredTrace, TimeRange,
    TraceFilter, TraceQuery, matches,
};

/// How many spans of traces that are left out are looked at before others get a turn.
const SPANS_AT_ONCE: u64 = 20_000;

/// Why an answer is partial when something cannot be read.
const DAMAGED: &str = "a part of the store is damaged and could not be read, so traces may be missing; \
                       `periplus store check` says what it is";

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that matches was answered.
    Complete,
    /// As many traces as were asked for were answered; there may be more.
    Limit,
    /// The budget ended the search: these are the newest ones that match, and there may be more. Or a
    /// part of the store could not be read: others may match, too.
    Partial {
        /// What there was too much of, or what is wrong, and what to do.
        reason: &'static str,
    },
}

/// The traces that a search finds, and, at its end, whether these are all.
///
/// It looks at the clock of [`TraceQuery::budget`] itself, so it is to be polled on a tokio runtime
/// with time if that has one. Dropping it ends the search.
pub struct TraceSearch<'a> {
    found: BoxStream<'a, Result<StoredTrace, StoreError>>,
    /// What the engine did not look at.
    rest: Option<TraceFilter>,
    range: TimeRange,
    after: Option<Cursor>,
    limit: usize,
    scanned_spans: u64,
    answer_bytes: u64,
    /// Whether there was a trace already.
    answered: bool,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Whether something could not be read.
    damaged: bool,
    outcome: Option<Outcome>,
}

impl<'a> TraceSearch<'a> {
    /// Searches the store: every part of the query that an engine may leave out is done here.
    pub(crate) fn new<S: SpanStore + ?Sized>(
        store: &'a S,
        query: TraceQuery,
    ) -> Result<Self, StoreError> {
        query.filter.check()?;
        let local = query.filter.local_bound().into_owned();
        let deadline = query
            .budget
            .time
            .and_then(|time| Instant::now().checked_add(time));
        let rest = (!query.filter.is_local()).then_some(query.filter);
        let (limit, detail) = match rest {
            None => (query.limit, query.detail),
            // Some of what it finds will be left out here.
            Some(_) => (usize::MAX, Detail::Full),
        };
        let found = store.find_traces(TraceQuery {
            range: query.range,
            filter: local,
            limit,
            after: query.after,
            budget: query.budget,
            detail,
        });
        Ok(Self {
            found,
            rest,
            range: query.range,
            after: query.after,
            limit: query.limit,
            scanned_spans: query.budget.scanned_spans,
            answer_bytes: query.budget.answer_bytes,
            answered: false,
            deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
            damaged: false,
            outcome: None,
        })
    }

    /// How it ended; `None` as long as it has not, and after an error.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether a part of the store that may belong to the answer could not be read.
    pub fn met_damage(&self) -> bool {
        self.damaged
    }

    fn end(&mut self, outcome: Outcome) -> Poll<Option<Result<StoredTrace, StoreError>>> {
        self.outcome = Some(match outcome {
            Outcome::Complete | Outcome::Limit if self.damaged => {
                Outcome::Partial { reason: DAMAGED }
            }
            outcome => outcome,
        });
        self.limit = 0;
        // What the engine holds for it is given back now.
        self.found = Box::pin(futures_util::stream::empty());
        Poll::Ready(None)
    }

    fn is_wanted(&self, trace: &StoredTrace) -> bool {
        self.after.is_none_or(|after| trace.cursor() < after)
            && (matches!(trace.incomplete, Some(Incomplete::TooLarge { .. }))
                || (self.rest.as_ref())
                    .is_none_or(|filter| matches(filter, &trace.groups, self.range)))
    }
}

impl Stream for TraceSearch<'_> {
    type Item = Result<StoredTrace, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.outcome.is_some() {
            return Poll::Ready(None);
        }
        if this.limit == 0 {
            return this.end(Outcome::Limit);
        }
        if let Some(deadline) = &mut this.deadline
            && (deadline.deadline() <= Instant::now() || deadline.as_mut().poll(cx).is_ready())
        {
            return this.end(Outcome::Partial {
                reason: "it took too long; ask for a shorter time or more precisely",
            });
        }
        let mut spans = 0;
        let trace = loop {
            let trace = match ready!(this.found.as_mut().poll_next(cx)) {
                None => return this.end(Outcome::Complete),
                Some(Err(StoreError::QueryLimit { reason })) => {
                    return this.end(Outcome::Partial { reason });
                }
                Some(Err(StoreError::Damaged { .. })) => {
                    this.damaged = true;
                    continue;
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(trace)) => trace,
            };
            spans += trace.span_count() as u64;
            match this.scanned_spans.checked_sub(trace.span_count() as u64) {
                Some(left) => this.scanned_spans = left,
                None => {
                    return this.end(Outcome::Partial {
                        reason: "it looks at too many spans; ask for a shorter time or for one service",
                    });
                }
            }
            if this.is_wanted(&trace) {
                break trace;
            }
            if spans >= SPANS_AT_ONCE {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        };
        let bytes = trace.groups.iter().map(|group| bytes_of(group)).sum();
        match this.answer_bytes.checked_sub(bytes) {
            Some(left) => this.answer_bytes = left,
            // Where nothing was answered yet it is: else what is behind it could never be reached.
            None if !this.answered => this.answer_bytes = 0,
            None => {
                return this.end(Outcome::Partial {
                    reason: "what it finds takes too much memory; ask for fewer traces at once",
                });
            }
        }
        this.limit -= 1;
        this.answered = true;
        Poll::Ready(Some(Ok(trace)))
    }
}

impl fmt::Debug for TraceSearch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceSearch")
            .field("limit", &self.limit)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

/// Without its resource and scope, which many share.
fn bytes_of(group: &SpanGroup) -> u64 {
    size::group(&group.spans, group.spans.capacity()) as u64
}
