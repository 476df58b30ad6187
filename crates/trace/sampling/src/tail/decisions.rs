use std::collections::{BTreeMap, HashMap};

use periplus_model::TraceId;

/// What a policy says of a trace. The strongest of all policies counts: they are in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It was not asked: the trace has none of its services, or an earlier policy decided.
    Skipped,
    /// It does not want the trace.
    NotSampled,
    /// It wants the trace because an attribute is not there (`invert_match`).
    InvertSampled,
    /// It wants the trace.
    Sampled,
    /// It keeps the trace out because an attribute is there (`invert_match`).
    InvertNotSampled,
    /// It keeps the trace out, whatever others say.
    Dropped,
}

impl Verdict {
    /// Whether the trace is wanted.
    pub const fn samples(self) -> bool {
        matches!(self, Self::Sampled | Self::InvertSampled)
    }

    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::NotSampled => "not_sampled",
            Self::InvertSampled => "inverted_sampled",
            Self::Sampled => "sampled",
            Self::InvertNotSampled => "inverted_not_sampled",
            Self::Dropped => "dropped",
        }
    }
}

/// Why a trace was decided when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It had waited for `decision_wait`.
    Wait,
    /// Its root had been there for `decision_wait_after_root_received`.
    Root,
    /// There was no room for others.
    Overflow,
    /// It was larger than `maximum_trace_size_bytes`.
    TooLarge,
    /// The sampler ended.
    Shutdown,
}

impl Cause {
    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "decision_wait",
            Self::Root => "decision_wait_after_root_received",
            Self::Overflow => "overflow",
            Self::TooLarge => "maximum_trace_size_bytes",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What became of a trace, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The trace.
    pub trace_id: TraceId,
    /// When it was decided.
    pub unix_nano: u64,
    /// Whether it was kept.
    pub kept: bool,
    /// Why then.
    pub cause: Cause,
    /// The policy whose verdict it was, by its place in the configuration; `None` if no policy
    /// wanted the trace, or none was asked.
    pub by: Option<usize>,
    /// What each policy said, in the order of the configuration; empty if none was asked.
    pub verdicts: Box<[Verdict]>,
    /// Spans that were there.
    pub spans: u64,
    /// Bytes of memory that they took.
    pub bytes: u64,
    /// From the earliest start to the latest end, in whole milliseconds.
    pub duration_ms: u64,
    /// The service of its root, or of its earliest span.
    pub service: String,
    /// The name of that span.
    pub operation: String,
}

/// The traces that were decided last, each as kept or dropped; those asked for least recently go.
#[derive(Debug)]
pub(super) struct Remembered {
    capacity: usize,
    stamps: HashMap<TraceId, Entry>,
    by_age: BTreeMap<u64, TraceId>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    stamp: u64,
    decided_unix_nano: u64,
}

impl Remembered {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            stamps: HashMap::new(),
            by_age: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn insert(&mut self, id: TraceId, decided_unix_nano: u64) {
        self.touch(id, decided_unix_nano);
        if self.stamps.len() > self.capacity
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.stamps.remove(&oldest);
        }
    }

    /// When it was decided, if it is still known; it is then known for longer.
    pub(super) fn look_up(&mut self, id: TraceId) -> Option<u64> {
        let entry = *self.stamps.get(&id)?;
        self.touch(id, entry.decided_unix_nano);
        Some(entry.decided_unix_nano)
    }

    fn touch(&mut self, id: TraceId, decided_unix_nano: u64) {
        self.next += 1;
        let entry = Entry {
            stamp: self.next,
            decided_unix_nano,
        };
        if let Some(before) = self.stamps.insert(id, entry) {
            self.by_age.remove(&before.stamp);
        }
        self.by_age.insert(self.next, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_asked_is_forgotten() {
        let mut remembered = Remembered::new(2);
        let id = |n| TraceId::from_halves(0, n);
        remembered.insert(id(1), 10);
        remembered.insert(id(2), 20);
        assert_eq!(remembered.look_up(id(1)), Some(10));
        remembered.insert(id(3), 30);
        assert_eq!(remembered.look_up(id(2)), None);
        assert_eq!(remembered.look_up(id(1)), Some(10));
        assert_eq!(remembered.look_up(id(3)), Some(30));
        assert_eq!(remembered.by_age.len(), 2);
    }

    #[test]
    fn verdicts_are_in_order_of_strength() {
        use Verdict::*;
        let order = [
            Skipped,
            NotSampled,
            InvertSampled,
            Sampled,
            InvertNotSampled,
            Dropped,
        ];
        assert!(order.is_sorted());
    }
}
