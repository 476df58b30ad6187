//! Turns by weight: earliest deadline first. Each time that somebody is chosen, his next turn is put off by
//! the reciprocal of his weight of now.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// How long the turn of weight 1 takes.
const TURN: f64 = (1_u64 << 32) as f64;
/// When all deadlines are moved back to where they began.
const TOO_LATE: u64 = 1 << 62;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Edf {
    heap: BinaryHeap<Entry>,
    /// Counts the turns: of equal deadlines, the one goes first that was set first.
    turns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    deadline: u64,
    turn: u64,
    index: u32,
}

impl Ord for Entry {
    /// The greatest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.deadline, other.turn).cmp(&(self.deadline, self.turn))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Edf {
    /// `skip` turns have been taken already, so that workers do not walk in step.
    pub(super) fn new(count: usize, skip: usize, weight_of: impl Fn(usize) -> f64) -> Self {
        let entries = (0..count).map(|index| Entry {
            deadline: wait(weight_of(index)),
            turn: index as u64,
            index: index as u32,
        });
        let mut edf = Self {
            heap: entries.collect(),
            turns: count as u64,
        };
        for _ in 0..skip {
            edf.next(&weight_of);
        }
        edf
    }

    /// Whose turn it is.
    #[inline]
    pub(super) fn next(&mut self, weight_of: impl Fn(usize) -> f64) -> Option<usize> {
        let mut first = self.heap.peek_mut()?;
        let index = first.index as usize;
        first.deadline = first.deadline.saturating_add(wait(weight_of(index)));
        first.turn = self.turns;
        self.turns += 1;
        let is_late = first.deadline > TOO_LATE;
        drop(first);
        if is_late {
            self.rebase();
        }
        Some(index)
    }

    #[cold]
    fn rebase(&mut self) {
        let now = self.heap.peek().map_or(0, |first| first.deadline);
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        for entry in &mut entries {
            entry.deadline = (entry.deadline - now).min(TOO_LATE / 2);
        }
        self.heap = entries.into();
    }
}

fn wait(weight: f64) -> u64 {
    // The conversion saturates.
    ((TURN / weight.max(1e-6)) as u64).min(TOO_LATE / 4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// After any number of turns nobody is more than one turn away from his share.
        #[test]
        fn everybody_has_his_share_at_any_time(
            weights in proptest::collection::vec(1_u32..50, 2..12),
            turns in 1_usize..500,
        ) {
            let mut edf = Edf::new(weights.len(), 0, |index| f64::from(weights[index]));
            let mut counts = vec![0_f64; weights.len()];
            for _ in 0..turns {
                counts[edf.next(|index| f64::from(weights[index])).unwrap()] += 1.0;
            }
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let share = turns as f64 * f64::from(*weight) / total;
                let slack = 1.0 + weights.len() as f64 * f64::from(*weight) / total;
                prop_assert!((count - share).abs() <= slack, "{counts:?} of {weights:?}");
            }
        }
    }

    #[test]
    fn deadlines_are_moved_back_before_they_overflow() {
        let mut edf = Edf::new(2, 0, |_| 1e-6);
        let mut counts = [0; 2];
        for _ in 0..100_000 {
            counts[edf.next(|_| 1e-6).unwrap()] += 1;
        }
        assert_eq!(counts, [50_000; 2]);
    }
}
