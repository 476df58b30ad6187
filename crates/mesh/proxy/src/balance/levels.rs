//! How the load is spread over priorities: failover, and panic.

/// The endpoints of one priority, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    /// All of them,
    pub(super) hosts: u64,
    /// those that count,
    pub(super) counted: u64,
    pub(super) healthy: u64,
    pub(super) degraded: u64,
    /// and the same by weight, or by number if weights do not count.
    pub(super) weight: u64,
    pub(super) healthy_weight: u64,
    pub(super) degraded_weight: u64,
}

/// What each priority gets, in percent; all of it adds up to 100.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Loads {
    pub(super) healthy: Vec<u32>,
    pub(super) degraded: Vec<u32>,
    /// So few are healthy that all are used.
    pub(super) panics: Vec<bool>,
}

impl Loads {
    /// `overprovisioning` and `panic_threshold` are in percent.
    pub(super) fn new(levels: &[Level], overprovisioning: u32, panic_threshold: u32) -> Self {
        let available = levels.iter().map(|level| level.available(overprovisioning));
        let (healthy, degraded): (Vec<u32>, Vec<u32>) = available.map(<(u32, u32)>::from).unzip();
        let total = healthy.iter().chain(&degraded).sum::<u32>().min(100);
        let mut loads = Self::distribute(&healthy, &degraded, total);
        if levels.is_empty() {
            return loads;
        }
        if panic_threshold == 0 && total == 0 {
            loads.healthy[0] = 100;
            return loads;
        }
        for (level, panics) in levels.iter().zip(&mut loads.panics) {
            *panics = total < 100 && level.panics(panic_threshold);
        }
        if loads.panics.iter().all(|panics| *panics) {
            loads.spread_by_number(levels);
        }
        loads
    }

    /// As much as possible goes to the first priorities, and to healthy endpoints.
    pub(super) fn distribute(healthy: &[u32], degraded: &[u32], total: u32) -> Self {
        let mut loads = Self {
            healthy: vec![0; healthy.len()],
            degraded: vec![0; degraded.len()],
            panics: vec![false; healthy.len()],
        };
        if total == 0 {
            return loads;
        }
        let mut rest = 100;
        let sides = [
            (healthy, &mut loads.healthy),
            (degraded, &mut loads.degraded),
        ];
        for (available, loads) in sides {
            for (available, load) in available.iter().zip(loads) {
                *load = (available * 100 / total).min(rest);
                rest -= *load;
            }
        }
        // What is left comes from rounding.
        let is_available = |available: &u32| *available > 0;
        if let Some(first) = healthy.iter().position(is_available) {
            loads.healthy[first] += rest;
        } else if let Some(first) = degraded.iter().position(is_available) {
            loads.degraded[first] += rest;
        }
        loads
    }

    /// All priorities panic: each gets its share by the number of its endpoints.
    fn spread_by_number(&mut self, levels: &[Level]) {
        let all: u64 = levels.iter().map(|level| level.hosts).sum();
        let mut rest = 100;
        for (index, level) in levels.iter().enumerate() {
            let load = (100 * level.hosts).checked_div(all).unwrap_or(0) as u32;
            self.healthy[index] = load;
            self.degraded[index] = 0;
            rest -= load;
        }
        let first = levels.iter().position(|level| level.hosts > 0);
        self.healthy[first.unwrap_or(0)] += rest;
    }
}

impl Level {
    /// What its healthy endpoints can take, and its degraded ones, in percent of all load.
    pub(super) fn available(&self, overprovisioning: u32) -> [u32; 2] {
        [self.healthy_weight, self.degraded_weight].map(|weight| {
            let share = u64::from(overprovisioning) * weight;
            share.checked_div(self.weight).unwrap_or(0).min(100) as u32
        })
    }

    fn panics(&self, threshold: u32) -> bool {
        let available = 100 * (self.healthy + self.degraded);
        self.counted == 0 && threshold > 0 || available < u64::from(threshold) * self.counted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn level(healthy: u64, degraded: u64, hosts: u64) -> Level {
        Level {
            hosts,
            counted: hosts,
            healthy,
            degraded,
            weight: hosts,
            healthy_weight: healthy,
            degraded_weight: degraded,
        }
    }

    /// The tables of Envoy's documentation on priority levels and the panic threshold.
    #[test]
    fn the_documented_loads() {
        type Case<'a> = (&'a [(u64, u64)], &'a [u32], &'a [bool]);
        let cases: [Case<'_>; 11] = [
            (&[(100, 0), (100, 0)], &[100, 0], &[false, false]),
            (&[(72, 0), (72, 0)], &[100, 0], &[false, false]),
            (&[(71, 0), (71, 0)], &[99, 1], &[false, false]),
            (&[(50, 0), (50, 0)], &[70, 30], &[false, false]),
            (&[(25, 0), (100, 0)], &[35, 65], &[false, false]),
            (&[(25, 0), (25, 0)], &[50, 50], &[true, true]),
            (&[(100, 0), (0, 0), (0, 0)], &[100, 0, 0], &[false; 3]),
            (&[(72, 0), (72, 0), (100, 0)], &[100, 0, 0], &[false; 3]),
            (&[(50, 0), (50, 0), (50, 0)], &[70, 30, 0], &[false; 3]),
            (&[(5, 0), (65, 0)], &[8, 92], &[true, false]),
            (&[(0, 0), (0, 0)], &[50, 50], &[true, true]),
        ];
        for (percents, healthy, panics) in cases {
            let levels: Vec<_> = percents
                .iter()
                .map(|(healthy, degraded)| level(*healthy, *degraded, 100))
                .collect();
            let loads = Loads::new(&levels, 140, 50);
            assert_eq!(loads.healthy, healthy, "{percents:?}");
            assert_eq!(loads.panics, panics, "{percents:?}");
        }
    }

    #[test]
    fn degraded_endpoints_come_after_the_healthy_ones() {
        let levels = [level(10, 20, 140), level(20, 10, 140), level(10, 0, 140)];
        let loads = Loads::new(&levels, 140, 0);
        // 10, 20 and 10 percent healthy, 20, 10 and none degraded: 70 in all.
        assert_eq!(loads.healthy, [16, 28, 14]);
        assert_eq!(loads.degraded, [28, 14, 0]);
    }

    #[test]
    fn without_panic_nobody_serves() {
        let loads = Loads::new(&[level(0, 0, 3), level(0, 0, 3)], 140, 0);
        assert_eq!(loads.healthy, [100, 0]);
        assert_eq!(loads.panics, [false, false]);
    }

    proptest! {
        #[test]
        fn the_loads_always_add_up_to_100(
            counts in proptest::collection::vec((0_u64..20, 0_u64..20, 0_u64..20), 1..6),
            overprovisioning in 100_u32..300,
            threshold in 0_u32..=100,
        ) {
            let levels: Vec<_> = counts
                .iter()
                .map(|(healthy, degraded, other)| level(*healthy, *degraded, healthy + degraded + other))
                .collect();
            let loads = Loads::new(&levels, overprovisioning, threshold);
            let sum: u32 = loads.healthy.iter().chain(&loads.degraded).sum();
            prop_assert_eq!(sum, 100);
        }
    }
}
