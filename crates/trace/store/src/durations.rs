//! How many spans took how long.

use std::ops::AddAssign;

/// Buckets that there are: those of all 64-bit durations.
const BUCKETS: usize = 1_920;

/// Counts are kept for so many neighbouring buckets at once: sums of several are wide anyway.
const WIDE: usize = 128;
const NARROW: usize = 16;

/// How many durations lie in which bucket ([`crate::red_bucket_bounds`]).
#[derive(Clone, Debug, Default)]
pub struct Durations {
    /// Of all buckets together: no count is larger.
    total: u64,
    counts: Counts,
}

#[derive(Clone, Debug)]
enum Counts {
    Small(Dense<u32, WIDE>),
    Large(Dense<u64, WIDE>),
}

impl Default for Counts {
    fn default() -> Self {
        Self::Small(Dense::default())
    }
}

impl Durations {
    /// Counts some, by ascending bucket. What is not a bucket of any duration is left out.
    pub fn add(&mut self, counted: &[(u16, u32)]) {
        let counted = known(counted);
        self.count(counted.iter().map(|(_, count)| u64::from(*count)).sum());
        match &mut self.counts {
            Counts::Small(dense) => dense.sum(counted),
            Counts::Large(dense) => dense.sum(counted),
        }
    }

    /// Counts those of others.
    pub(crate) fn add_all(&mut self, others: &Compact) {
        match others {
            Compact::Small(others) => self.add_dense(others),
            Compact::Medium(others) => self.add_dense(others),
            Compact::Large(others) => self.add_dense(others),
        }
    }

    fn add_dense<T: Copy + Default + Into<u32>>(&mut self, others: &Dense<T, NARROW>) {
        let counts = others.counts.iter().map(|count| (*count).into());
        self.count(counts.map(u64::from).sum());
        match &mut self.counts {
            Counts::Small(dense) => dense.sum_dense(others),
            Counts::Large(dense) => dense.sum_dense(others),
        }
    }

    /// Notes that so many come, so that no count becomes too large.
    fn count(&mut self, more: u64) {
        self.total = self.total.saturating_add(more);
        if let Counts::Small(dense) = &self.counts
            && self.total > u64::from(u32::MAX)
        {
            self.counts = Counts::Large(dense.widened());
        }
    }

    /// The buckets, ascending, each with how many durations lie in it; those with none are left out.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        let (small, large) = match &self.counts {
            Counts::Small(dense) => (Some(dense.iter()), None),
            Counts::Large(dense) => (None, Some(dense.iter())),
        };
        let small = small.into_iter().flatten();
        small.chain(large.into_iter().flatten())
    }

    /// The buckets of the durations of these ranks, from 1 for the shortest, ascending. Behind the longest
    /// there is nothing: its bucket stands for what would be there. `None` if there are no durations.
    pub(crate) fn buckets_of<const N: usize>(&self, ranks: [u64; N]) -> Option<[u16; N]> {
        match &self.counts {
            Counts::Small(dense) => dense.buckets_of(ranks),
            Counts::Large(dense) => dense.buckets_of(ranks),
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.counts {
            Counts::Small(dense) => dense.heap_bytes(),
            Counts::Large(dense) => dense.heap_bytes(),
        }
    }
}

impl PartialEq for Durations {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Durations {}

/// The same in little memory, as long as the counts are small.
#[derive(Clone, Debug)]
pub(crate) enum Compact {
    Small(Dense<u8, NARROW>),
    Medium(Dense<u16, NARROW>),
    /// A count stays at the most that it can be; no ten minutes have so many spans.
    Large(Dense<u32, NARROW>),
}

impl Default for Compact {
    fn default() -> Self {
        Self::Small(Dense::default())
    }
}

impl Compact {
    /// As [`Durations::add`].
    pub(crate) fn add(&mut self, counted: &[(u16, u32)]) {
        let counted = known(counted);
        if let Self::Small(dense) = self
            && !dense.holds(counted)
        {
            *self = Self::Medium(dense.widened());
        }
        if let Self::Medium(dense) = self
            && !dense.holds(counted)
        {
            *self = Self::Large(dense.widened());
        }
        match self {
            Self::Small(dense) => dense.add(counted),
            Self::Medium(dense) => dense.add(counted),
            Self::Large(dense) => dense.add(counted),
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Small(dense) => dense.heap_bytes(),
            Self::Medium(dense) => dense.heap_bytes(),
            Self::Large(dense) => dense.heap_bytes(),
        }
    }
}

/// The counts of buckets that there are.
fn known(counted: &[(u16, u32)]) -> &[(u16, u32)] {
    &counted[..counted.partition_point(|(bucket, _)| usize::from(*bucket) < BUCKETS)]
}

/// A count for each bucket from the shortest duration to the longest, which lie close together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dense<T, const STRIDE: usize> {
    /// The bucket of the first count, a multiple of the stride.
    first: usize,
    counts: Vec<T>,
}

impl<T: Copy + Default, const STRIDE: usize> Dense<T, STRIDE> {
    fn make_room(&mut self, counted: &[(u16, u32)]) {
        if let (Some((least, _)), Some((most, _))) = (counted.first(), counted.last()) {
            self.make_room_for(usize::from(*least), usize::from(*most));
        }
    }

    fn make_room_for(&mut self, least: usize, most: usize) {
        if self.counts.is_empty() {
            self.first = least / STRIDE * STRIDE;
        }
        let before = self.first.saturating_sub(least / STRIDE * STRIDE);
        let end = (most / STRIDE + 1) * STRIDE - (self.first - before);
        let behind = end.saturating_sub(before + self.counts.len());
        if before == 0 {
            self.counts.reserve_exact(behind);
            self.counts.resize(self.counts.len() + behind, T::default());
        } else {
            let mut counts = Vec::with_capacity(before + self.counts.len() + behind);
            counts.resize(before, T::default());
            counts.extend_from_slice(&self.counts);
            counts.resize(counts.len() + behind, T::default());
            self.counts = counts;
            self.first -= before;
        }
    }

    fn heap_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<T>()
    }

    fn widened<U: From<T>>(&self) -> Dense<U, STRIDE> {
        Dense {
            first: self.first,
            counts: self.counts.iter().copied().map(U::from).collect(),
        }
    }
}

impl<T: Copy + Default + Into<u32> + TryFrom<u32>> Dense<T, NARROW> {
    /// A count and some more, if that is not too large.
    fn sum(&self, bucket: u16, more: u32) -> Option<T> {
        let at = usize::from(bucket).checked_sub(self.first);
        let before = at.and_then(|at| self.counts.get(at)).copied();
        T::try_from(before.unwrap_or_default().into().saturating_add(more)).ok()
    }

    /// Whether no count becomes too large.
    fn holds(&self, more: &[(u16, u32)]) -> bool {
        more.iter()
            .all(|(bucket, count)| self.sum(*bucket, *count).is_some())
    }

    fn add(&mut self, counted: &[(u16, u32)]) {
        self.make_room(counted);
        for (bucket, count) in counted {
            if let Some(sum) = self.sum(*bucket, *count) {
                self.counts[usize::from(*bucket) - self.first] = sum;
            }
        }
    }
}

impl<T> Dense<T, WIDE>
where
    T: Copy + Default + AddAssign<T> + From<u32> + Into<u64>,
{
    fn sum(&mut self, counted: &[(u16, u32)]) {
        self.make_room(counted);
        for (bucket, count) in counted {
            self.counts[usize::from(*bucket) - self.first] += T::from(*count);
        }
    }

    fn sum_dense<O: Copy + Into<u32>>(&mut self, others: &Dense<O, NARROW>) {
        if others.counts.is_empty() {
            return;
        }
        self.make_room_for(others.first, others.first + others.counts.len() - 1);
        let sums = &mut self.counts[others.first - self.first..];
        for (sum, count) in sums.iter_mut().zip(&others.counts) {
            *sum += T::from((*count).into());
        }
    }

    /// Goes over many buckets at once: most of them are far from those that are wanted.
    fn buckets_of<const N: usize>(&self, ranks: [u64; N]) -> Option<[u16; N]> {
        let last = (self.counts.iter()).rposition(|count| (*count).into() > 0)?;
        let counts = &self.counts[..=last];
        let sum = |counts: &[T]| counts.iter().map(|count| (*count).into()).sum::<u64>();
        let (mut at, mut before) = (0, 0);
        Some(ranks.map(|rank| {
            while let Some(many) = counts.get(at..at + WIDE / 4)
                && before + sum(many) < rank
            {
                before += sum(many);
                at += many.len();
            }
            let mut count = before;
            let inside = counts[at..].iter().position(|more| {
                count += (*more).into();
                count >= rank
            });
            (self.first + inside.map_or(last, |inside| at + inside)) as u16
        }))
    }

    fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = (self.first as u16..).zip(&self.counts);
        counts
            .map(|(bucket, count)| (bucket, (*count).into()))
            .filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_counted_in_whatever_order_they_come() {
        let mut durations = Durations::default();
        durations.add(&[(700, 2), (703, 1)]);
        durations.add(&[(5, 4), (700, 1), (1_919, 1)]);
        durations.add(&[(1_920, 9), (u16::MAX, 9)]);
        let counted: Vec<(u16, u64)> = durations.iter().collect();
        assert_eq!(counted, [(5, 4), (700, 3), (703, 1), (1_919, 1)]);
        assert_eq!(durations.heap_bytes(), BUCKETS * 4);
        durations.add(&[(700, u32::MAX)]);
        let counted: Vec<(u16, u64)> = durations.iter().collect();
        let sum = u64::from(u32::MAX) + 3;
        assert_eq!(counted, [(5, 4), (700, sum), (703, 1), (1_919, 1)]);
    }

    #[test]
    fn ranks_lie_in_the_buckets_that_counting_them_one_by_one_finds() {
        let mut durations = Durations::default();
        assert_eq!(durations.buckets_of([1]), None);
        let counted: Vec<(u16, u32)> = (3..1_900_u16)
            .filter(|bucket| bucket % 7 < 3 || bucket % 300 > 250)
            .map(|bucket| (bucket, u32::from(bucket % 5)))
            .collect();
        for scale in [1, u32::MAX / 8] {
            let scaled = counted
                .iter()
                .map(|(bucket, count)| (*bucket, count * scale));
            durations.add(&scaled.collect::<Vec<_>>());
            let mut below = 0;
            for (bucket, count) in durations.iter().collect::<Vec<_>>() {
                let ranks = [below + 1, below + count.div_ceil(2), below + count];
                assert_eq!(durations.buckets_of(ranks), Some([bucket; 3]));
                below += count;
            }
            let of_all = durations.buckets_of([1, below, below + 1, u64::MAX]);
            assert_eq!(of_all, Some([7, 1_899, 1_899, 1_899]));
        }
        assert!(matches!(durations.counts, Counts::Large(_)));
    }

    #[test]
    fn small_counts_become_large_ones() {
        let all: [&[(u16, u32)]; 6] = [
            &[(700, 254), (703, 1)],
            &[(690, 3), (700, 1)],
            &[(5, 4), (700, 65_279), (1_919, 256)],
            &[(700, 1), (1_919, 65_536)],
            &[(700, u32::MAX)],
            &[(1_920, 9)],
        ];
        let sizes = [1, 1, 2, 4, 4, 4];
        let mut compact = Compact::default();
        let mut expected = Durations::default();
        for (number, (counted, size)) in all.into_iter().zip(sizes).enumerate() {
            compact.add(counted);
            let counts = match &compact {
                Compact::Small(_) => 1,
                Compact::Medium(_) => 2,
                Compact::Large(_) => 4,
            };
            assert_eq!(counts, size, "{number}");
            let mut found = Durations::default();
            found.add_all(&compact);
            if number < 4 {
                expected.add(counted);
                assert_eq!(found, expected, "{number}");
            } else {
                // The most that there can be.
                let most = found.iter().find(|(bucket, _)| *bucket == 700);
                assert_eq!(most, Some((700, u64::from(u32::MAX))));
            }
        }
    }
}
