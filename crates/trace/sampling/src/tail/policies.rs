use super::condition::Condition;
use super::{TraceView, Verdict};

/// What decides, ready to judge.
#[derive(Debug)]
pub struct Policies {
    pub(super) list: Vec<Policy>,
    pub(super) stop_at_first_match: bool,
}

/// One policy.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) kind: &'static str,
    /// Empty: all.
    pub(super) services: Vec<String>,
    pub(super) condition: Condition,
}

/// What became of a trace, and what each policy said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it is kept.
    pub kept: bool,
    /// The first policy whose verdict it is; `None` if none had one.
    pub by: Option<usize>,
    /// What each policy said.
    pub verdicts: Box<[Verdict]>,
}

impl Policies {
    /// The names and types of the policies.
    pub fn names(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.list
            .iter()
            .map(|policy| (policy.name.as_str(), policy.kind))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Asks the policies; the strongest verdict counts: dropped, then "not sampled" of an inverted
    /// condition, then sampled, then "sampled" of an inverted condition. Rates are used up by this.
    pub fn judge(&mut self, trace: &TraceView<'_>, now_unix_nano: u64) -> Judgement {
        let mut verdicts = vec![Verdict::Skipped; self.list.len()].into_boxed_slice();
        let mut strongest = (Verdict::NotSampled, None);
        for (at, policy) in self.list.iter_mut().enumerate() {
            let verdict = policy.judge(trace, now_unix_nano);
            verdicts[at] = verdict;
            if verdict > strongest.0 {
                strongest = (verdict, Some(at));
            }
            let decided = verdict == Verdict::Sampled || verdict == Verdict::Dropped;
            if self.stop_at_first_match && decided {
                break;
            }
        }
        Judgement {
            kept: strongest.0.samples(),
            by: strongest.1,
            verdicts,
        }
    }
}

impl Policy {
    pub(super) fn judge(&mut self, trace: &TraceView<'_>, now_unix_nano: u64) -> Verdict {
        if !self.services.is_empty() && !trace.has_service(&self.services) {
            return Verdict::Skipped;
        }
        self.condition.judge(trace, now_unix_nano)
    }
}
