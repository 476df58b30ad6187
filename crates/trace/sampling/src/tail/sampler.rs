use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use periplus_model::{SpanGroup, TraceId};
use thiserror::Error;

use super::arrivals::{Arrival, Arrivals};
use super::decisions::Remembered;
use super::{Cause, Decision, Judgement, Policies, TailConfig, TailStats, TraceView};

/// Holds traces until they are due, then keeps or drops them.
///
/// Spans of kept traces wait in a queue of their own ([`Self::take_kept`]) until whoever stores them
/// has done so ([`Self::stored`]); until then they count against `max_bytes`, so that a store that
/// is slow or full stops the senders instead of filling the memory.
#[derive(Debug)]
pub struct TailSampler {
    config: TailConfig,
    policies: Policies,
    pending: HashMap<TraceId, Pending>,
    due: BTreeSet<(u64, TraceId)>,
    /// By the order of their first spans.
    waiting: BTreeMap<u64, TraceId>,
    arrivals: u64,
    kept: VecDeque<Kept>,
    remembered_kept: Remembered,
    remembered_dropped: Remembered,
    recent: VecDeque<Decision>,
    stats: TailStats,
}

#[derive(Debug)]
struct Pending {
    groups: Vec<Arc<SpanGroup>>,
    spans: u64,
    bytes: u64,
    arrival: u64,
    first_unix_nano: u64,
    due_unix_nano: u64,
    /// Whether it is due because of its root.
    has_root: bool,
}

/// What decides a trace.
#[derive(Clone, Copy, Debug)]
enum Look {
    Policies,
    None,
}

/// Spans to be stored.
#[derive(Debug)]
pub struct Kept {
    /// Their trace.
    pub trace_id: TraceId,
    /// The spans.
    pub groups: Vec<Arc<SpanGroup>>,
    /// How many.
    pub spans: u64,
    /// The bytes that they take until they are stored.
    pub bytes: u64,
}

/// There is no room for what has arrived; nothing of it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Full {
    /// Later there will be.
    #[error("the tail sampler holds as many undecided traces as it may")]
    Now,
    /// There never will be.
    #[error("the batch takes {found_bytes} bytes, and max_bytes of tail sampling is {max_bytes}")]
    Ever {
        /// What it takes.
        found_bytes: u64,
        /// What there is.
        max_bytes: u64,
    },
}

/// Traces that are decided in one go.
const TRACES_AT_ONCE: usize = 500;

impl TailSampler {
    /// A sampler without traces.
    pub fn new(config: TailConfig, policies: Policies) -> Self {
        let cache = config.decision_cache;
        let or_traces = |size: usize| if size == 0 { config.num_traces } else { size };
        Self {
            stats: TailStats {
                policies: vec![super::PolicyCounts::default(); policies.count()],
                max_bytes: config.max_bytes,
                ..TailStats::default()
            },
            remembered_kept: Remembered::new(or_traces(cache.sampled_cache_size)),
            remembered_dropped: Remembered::new(or_traces(cache.non_sampled_cache_size)),
            policies,
            config,
            pending: HashMap::new(),
            due: BTreeSet::new(),
            waiting: BTreeMap::new(),
            arrivals: 0,
            kept: VecDeque::new(),
            recent: VecDeque::new(),
        }
    }

    /// Takes a batch, all of it or nothing.
    ///
    /// # Errors
    ///
    /// If there is no room: with `block_on_overflow` for another trace; without it only when deciding
    /// early makes none, because kept traces wait for their store.
    pub fn take(&mut self, arrivals: Arrivals, now_unix_nano: u64) -> Result<(), Full> {
        let Arrivals(arrivals) = arrivals;
        if let Err(full) = self.make_room(&arrivals, now_unix_nano) {
            self.stats.refused_requests += 1;
            return Err(full);
        }
        for arrival in arrivals {
            if !self.is_late(&arrival, now_unix_nano) {
                self.add(arrival, now_unix_nano);
            }
        }
        Ok(())
    }

    /// Decides traces that are due, the first first; some hundred at most, so that others get a turn:
    /// the next one is then due already.
    pub fn tick(&mut self, now_unix_nano: u64) {
        for _ in 0..TRACES_AT_ONCE {
            let Some(&(due, id)) = self.due.first() else {
                return;
            };
            if due > now_unix_nano {
                return;
            }
            let has_root = self.pending.get(&id).is_some_and(|trace| trace.has_root);
            let cause = if has_root { Cause::Root } else { Cause::Wait };
            self.decide(id, cause, Look::Policies, now_unix_nano);
        }
    }

    /// When the next trace is due.
    pub fn next_due_unix_nano(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Decides all that is undecided, or drops it, as configured: the end.
    pub fn drain(&mut self, now_unix_nano: u64) {
        let look = if self.config.drop_pending_traces_on_shutdown {
            self.stats.abandoned_traces += self.pending.len() as u64;
            Look::None
        } else {
            Look::Policies
        };
        while let Some((_, &id)) = self.waiting.first_key_value() {
            self.decide(id, Cause::Shutdown, look, now_unix_nano);
        }
    }

    /// Takes traces to be stored out of the queue, up to about so many spans; empty if there are
    /// none.
    pub fn take_kept(&mut self, max_spans: u64) -> Vec<Kept> {
        let mut taken = Vec::new();
        let mut spans = 0;
        while spans < max_spans
            && let Some(kept) = self.kept.pop_front()
        {
            spans += kept.spans;
            taken.push(kept);
        }
        taken
    }

    /// Whether there are traces to be stored.
    pub fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Gives back the bytes of traces that were stored (or given up).
    pub fn stored(&mut self, bytes: u64) {
        self.stats.bytes = self.stats.bytes.saturating_sub(bytes);
    }

    /// What it has done.
    pub fn stats(&self) -> TailStats {
        TailStats {
            pending_traces: self.pending.len() as u64,
            ..self.stats.clone()
        }
    }

    /// The policies.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The last decisions, the newest first.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.recent.iter().rev()
    }

    /// When an undecided trace will be decided, and how many spans of it are there.
    pub fn pending(&self, id: TraceId) -> Option<(u64, u64)> {
        let trace = self.pending.get(&id)?;
        Some((trace.due_unix_nano, trace.spans))
    }

    fn make_room(&mut self, arrivals: &[Arrival], now_unix_nano: u64) -> Result<(), Full> {
        let found_bytes = arrivals.iter().map(|arrival| arrival.bytes).sum::<u64>();
        let max_bytes = self.config.max_bytes;
        if found_bytes > max_bytes {
            return Err(Full::Ever {
                found_bytes,
                max_bytes,
            });
        }
        let unknown = |arrival: &&Arrival| !self.pending.contains_key(&arrival.id);
        let new = arrivals.iter().filter(unknown).count();
        let fits = |sampler: &Self| {
            let traces = sampler.pending.len() + new;
            // A batch of more traces than may be held is taken when nothing else is.
            (traces <= sampler.config.num_traces || sampler.pending.is_empty())
                && sampler.stats.bytes + found_bytes <= max_bytes
        };
        while !fits(self) {
            if self.config.block_on_overflow {
                return Err(Full::Now);
            }
            let Some((_, &oldest)) = self.waiting.first_key_value() else {
                return Err(Full::Now);
            };
            self.stats.early_traces += 1;
            self.decide(oldest, Cause::Overflow, Look::Policies, now_unix_nano);
        }
        Ok(())
    }

    /// Late spans follow the decision about their trace.
    fn is_late(&mut self, arrival: &Arrival, now_unix_nano: u64) -> bool {
        if self.pending.contains_key(&arrival.id) {
            return false;
        }
        if let Some(decided) = self.remembered_kept.look_up(arrival.id) {
            self.stats
                .late_age
                .record(now_unix_nano.saturating_sub(decided));
            self.stats.late_kept_spans += arrival.spans;
            self.keep(Kept {
                trace_id: arrival.id,
                groups: arrival.groups.clone(),
                spans: arrival.spans,
                bytes: arrival.bytes,
            });
            self.stats.bytes += arrival.bytes;
            return true;
        }
        if let Some(decided) = self.remembered_dropped.look_up(arrival.id) {
            self.stats
                .late_age
                .record(now_unix_nano.saturating_sub(decided));
            self.stats.late_dropped_spans += arrival.spans;
            self.stats.dropped_spans += arrival.spans;
            return true;
        }
        false
    }

    fn add(&mut self, arrival: Arrival, now_unix_nano: u64) {
        let id = arrival.id;
        let wait = nanos(self.config.decision_wait);
        let trace = self.pending.entry(id).or_insert_with(|| {
            self.arrivals += 1;
            self.stats.new_traces += 1;
            self.waiting.insert(self.arrivals, id);
            let due_unix_nano = now_unix_nano.saturating_add(wait);
            self.due.insert((due_unix_nano, id));
            Pending {
                groups: Vec::new(),
                spans: 0,
                bytes: 0,
                arrival: self.arrivals,
                first_unix_nano: now_unix_nano,
                due_unix_nano,
                has_root: false,
            }
        });
        trace.groups.extend(arrival.groups);
        trace.spans += arrival.spans;
        trace.bytes += arrival.bytes;
        self.stats.bytes += arrival.bytes;
        let after_root = nanos(self.config.decision_wait_after_root_received);
        if arrival.has_root && after_root > 0 {
            let due = now_unix_nano.saturating_add(after_root);
            if due < trace.due_unix_nano {
                self.due.remove(&(trace.due_unix_nano, id));
                trace.due_unix_nano = due;
                trace.has_root = true;
                self.due.insert((due, id));
            }
        }
        let max = self.config.maximum_trace_size_bytes;
        if max > 0 && trace.bytes > max {
            self.stats.too_large_traces += 1;
            self.decide(id, Cause::TooLarge, Look::None, now_unix_nano);
        }
    }

    /// Decides a trace; without a look at the policies it is dropped.
    fn decide(&mut self, id: TraceId, cause: Cause, look: Look, now_unix_nano: u64) {
        let Some(trace) = self.remove(id, now_unix_nano) else {
            return;
        };
        let view = TraceView {
            id,
            groups: &trace.groups,
            spans: trace.spans,
            bytes: trace.bytes,
        };
        let judgement = match look {
            Look::Policies => self.policies.judge(&view, now_unix_nano),
            Look::None => Judgement {
                kept: false,
                by: None,
                verdicts: Box::default(),
            },
        };
        self.stats.judged(&judgement);
        self.remember(&view, cause, judgement, now_unix_nano);
    }

    /// Takes a trace out of all tables; its bytes still count.
    fn remove(&mut self, id: TraceId, now_unix_nano: u64) -> Option<Pending> {
        let trace = self.pending.remove(&id)?;
        self.due.remove(&(trace.due_unix_nano, id));
        self.waiting.remove(&trace.arrival);
        let age = now_unix_nano.saturating_sub(trace.first_unix_nano);
        self.stats.removal_age.record(age);
        Some(trace)
    }

    fn remember(
        &mut self,
        trace: &TraceView<'_>,
        cause: Cause,
        judgement: Judgement,
        now_unix_nano: u64,
    ) {
        let (service, operation) = trace.root().unwrap_or_default();
        let decision = Decision {
            trace_id: trace.id,
            unix_nano: now_unix_nano,
            kept: judgement.kept,
            cause,
            by: judgement.by,
            verdicts: judgement.verdicts,
            spans: trace.spans,
            bytes: trace.bytes,
            duration_ms: trace.duration_ms(),
            service: service.to_owned(),
            operation: operation.to_owned(),
        };
        if self.config.recent_decisions > 0 {
            if self.recent.len() >= self.config.recent_decisions {
                self.recent.pop_front();
            }
            self.recent.push_back(decision);
        }
        if judgement.kept {
            self.remembered_kept.insert(trace.id, now_unix_nano);
            self.stats.kept_traces += 1;
            self.keep(Kept {
                trace_id: trace.id,
                groups: trace.groups.to_vec(),
                spans: trace.spans,
                bytes: trace.bytes,
            });
        } else {
            self.remembered_dropped.insert(trace.id, now_unix_nano);
            self.stats.dropped_traces += 1;
            self.stats.dropped_spans += trace.spans;
            self.stats.bytes = self.stats.bytes.saturating_sub(trace.bytes);
        }
    }

    fn keep(&mut self, kept: Kept) {
        self.stats.kept_spans += kept.spans;
        self.kept.push_back(kept);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
