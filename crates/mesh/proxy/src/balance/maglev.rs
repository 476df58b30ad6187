//! Consistent hashing with a table (Maglev, Eisenbud et al. 2016): a prime number of places, each filled with
//! the endpoint that wants it most.

use crate::balance::hash::xxh64;

/// By place: whose it is.
#[derive(Debug, PartialEq)]
pub(super) struct Maglev(Box<[u32]>);

struct Candidate {
    index: u32,
    offset: u64,
    skip: u64,
    share: f64,
    target: f64,
    next: u64,
}

const FREE: u32 = u32::MAX;

impl Maglev {
    /// `shares` are the names of the endpoints and their shares, which add up to 1.
    pub(super) fn new(shares: &[(&str, f64)], size: u32) -> Self {
        let size = u64::from(size);
        let greatest = shares.iter().map(|(_, share)| *share).fold(0.0, f64::max);
        if greatest <= 0.0 {
            return Self(Box::default());
        }
        let mut sorted: Vec<(&str, usize)> = shares
            .iter()
            .enumerate()
            .map(|(index, (name, _))| (*name, index))
            .collect();
        sorted.sort_unstable();
        let mut candidates: Vec<Candidate> = sorted
            .into_iter()
            .map(|(name, index)| Candidate {
                index: index as u32,
                offset: xxh64(name.as_bytes(), 0) % size,
                skip: xxh64(name.as_bytes(), 1) % (size - 1) + 1,
                share: shares[index].1,
                target: 0.0,
                next: 0,
            })
            .collect();
        let mut table = vec![FREE; size as usize];
        let mut filled = 0;
        let mut round = 0.0;
        while filled < size {
            round += 1.0;
            for candidate in &mut candidates {
                if filled == size {
                    break;
                }
                // Whoever weighs a third of the heaviest is asked each third time.
                if round * candidate.share < candidate.target {
                    continue;
                }
                candidate.target += greatest;
                while table[candidate.place(size)] != FREE {
                    candidate.next += 1;
                }
                table[candidate.place(size)] = candidate.index;
                candidate.next += 1;
                filled += 1;
            }
        }
        Self(table.into())
    }

    /// The endpoint for a hash.
    #[inline]
    pub(super) fn choose(&self, hash: u64) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.0[(hash % self.0.len() as u64) as usize] as usize)
    }
}

impl Candidate {
    /// The place that it wants most of those that it was not refused yet.
    fn place(&self, size: u64) -> usize {
        ((self.offset + self.skip * self.next) % size) as usize
    }
}
