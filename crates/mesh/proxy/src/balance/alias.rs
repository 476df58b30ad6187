//! Choosing at random by weight in constant time (Vose's alias method).

/// Where each random number leads to.
#[derive(Debug, PartialEq)]
pub(super) struct Alias {
    /// For each column: how much of it is its own, in parts of 2^32, and whose the rest is.
    columns: Box<[(u32, u32)]>,
}

impl Alias {
    /// `weights` are at least one, and not all of them zero.
    pub(super) fn new(weights: &[u32]) -> Self {
        let n = weights.len() as u64;
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        // In units in which a full column is `total`.
        let mut rest: Vec<u128> = weights
            .iter()
            .map(|weight| u128::from(*weight) * u128::from(n))
            .collect();
        let full = u128::from(total.max(1));
        let mut columns: Vec<(u32, u32)> = (0..n as u32).map(|own| (u32::MAX, own)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..rest.len()).partition(|index| rest[*index] < full);
        while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
            let own = (rest[poor] << 32) / full;
            columns[poor] = (own as u32, rich as u32);
            rest[rich] -= full - rest[poor];
            if rest[rich] < full {
                large.pop();
                small.push(rich);
            }
        }
        Self {
            columns: columns.into(),
        }
    }

    /// The index that a random number leads to.
    #[inline]
    pub(super) fn choose(&self, random: u64) -> usize {
        let column = ((random >> 32) * self.columns.len() as u64) >> 32;
        let (own, other) = self.columns[column as usize];
        if (random as u32) < own {
            column as usize
        } else {
            other as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_follow_the_weights(weights in proptest::collection::vec(1_u32..1000, 1..20)) {
            let alias = Alias::new(&weights);
            let mut rng = fastrand::Rng::with_seed(1);
            let picks = 40_000;
            let mut counts = vec![0_f64; weights.len()];
            for _ in 0..picks {
                counts[alias.choose(rng.u64(..))] += 1.0;
            }
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let expected = f64::from(picks) * f64::from(*weight) / total;
                // Six standard deviations.
                prop_assert!((count - expected).abs() < 6.0 * expected.sqrt() + 6.0);
            }
        }
    }
}
