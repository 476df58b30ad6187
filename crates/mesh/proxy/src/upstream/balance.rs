//! Which endpoint gets the next request. Each worker balances on its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::snapshot::Balancing;
use crate::upstream::EndpointState;

/// The state of a policy over a fixed list of endpoints.
#[derive(Debug)]
pub(crate) struct Balancer {
    policy: Balancing,
    weights: Vec<u32>,
    total: u64,
    equal: bool,
    next: Cell<usize>,
    /// Smooth weighted round robin: what each endpoint is owed.
    owed: RefCell<Vec<i64>>,
}

impl Balancer {
    /// `seed` is where round robin begins, so that workers do not walk in step.
    pub(crate) fn new(policy: Balancing, weights: Vec<u32>, seed: usize) -> Self {
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        Self {
            policy,
            total: weights.iter().map(|weight| u64::from(*weight)).sum(),
            equal,
            next: Cell::new(seed % weights.len().max(1)),
            owed: RefCell::new(vec![0; weights.len()]),
            weights,
        }
    }

    /// Chooses one of `endpoints`, the list that the weights belong to.
    #[inline]
    pub(crate) fn pick<'a>(
        &self,
        endpoints: &'a [Rc<EndpointState>],
        mut random: impl FnMut() -> u64,
    ) -> Option<&'a Rc<EndpointState>> {
        debug_assert_eq!(endpoints.len(), self.weights.len());
        let index = match (endpoints.len(), self.policy) {
            (0, _) => return None,
            (1, _) => 0,
            (n, Balancing::RoundRobin) if self.equal => {
                let index = self.next.get();
                self.next.set(if index + 1 == n { 0 } else { index + 1 });
                index
            }
            (_, Balancing::RoundRobin) => self.smooth(),
            (_, Balancing::Random) => self.at_random(random()),
            (_, Balancing::LeastRequest) => {
                let (a, b) = (self.at_random(random()), self.at_random(random()));
                if endpoints[b].active.get() < endpoints[a].active.get() {
                    b
                } else {
                    a
                }
            }
        };
        endpoints.get(index)
    }

    fn at_random(&self, random: u64) -> usize {
        if self.equal {
            return (random % self.weights.len() as u64) as usize;
        }
        let mut at = random % self.total.max(1);
        for (index, weight) in self.weights.iter().enumerate() {
            match at.checked_sub(u64::from(*weight)) {
                Some(rest) => at = rest,
                None => return index,
            }
        }
        0
    }

    /// Everybody is owed their weight; the one who is owed most pays all of it back.
    fn smooth(&self) -> usize {
        let mut owed = self.owed.borrow_mut();
        let mut best = 0;
        for (index, weight) in self.weights.iter().enumerate() {
            owed[index] += i64::from(*weight);
            if owed[index] > owed[best] {
                best = index;
            }
        }
        owed[best] -= self.total as i64;
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(n: u16) -> Vec<Rc<EndpointState>> {
        (1..=n)
            .map(|port| EndpointState::new(([127, 0, 0, 1], port).into(), None))
            .collect()
    }

    fn counts(policy: Balancing, weights: &[u32], picks: usize) -> Vec<usize> {
        let endpoints = endpoints(weights.len() as u16);
        let balancer = Balancer::new(policy, weights.to_vec(), 0);
        let mut rng = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; weights.len()];
        for _ in 0..picks {
            let picked = balancer.pick(&endpoints, || rng.u64(..)).unwrap();
            counts[usize::from(picked.address.port()) - 1] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_is_exact_with_and_without_weights() {
        assert_eq!(counts(Balancing::RoundRobin, &[1, 1, 1], 9), [3, 3, 3]);
        assert_eq!(counts(Balancing::RoundRobin, &[5, 1, 2], 16), [10, 2, 4]);
    }

    #[test]
    fn random_follows_the_weights() {
        let counts = counts(Balancing::Random, &[9, 1], 10_000);
        assert!((8_800..9_200).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn least_request_prefers_the_idle() {
        let endpoints = endpoints(2);
        endpoints[0].active.set(5);
        let balancer = Balancer::new(Balancing::LeastRequest, vec![1, 1], 0);
        let mut rng = fastrand::Rng::with_seed(7);
        let busy = (0..1000)
            .filter(|_| {
                balancer
                    .pick(&endpoints, || rng.u64(..))
                    .unwrap()
                    .address
                    .port()
                    == 1
            })
            .count();
        assert!(
            (180..320).contains(&busy),
            "both choices fall on it: {busy}"
        );
    }

    #[test]
    fn no_endpoint_is_none() {
        let balancer = Balancer::new(Balancing::RoundRobin, Vec::new(), 3);
        assert!(balancer.pick(&[], || 0).is_none());
    }
}
