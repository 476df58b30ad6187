//! Other priorities for another attempt: Envoy's `previous_priorities`, which Istio's `retryRemoteLocalities` asks for.

use std::num::NonZeroU32;

use crate::balance::levels::Loads;
use crate::balance::plan::{Choice, Priority};

/// Which priorities have had a request.
#[derive(Debug)]
pub(crate) struct Elsewhere<'a> {
    /// That of the endpoint of each attempt before.
    pub(crate) had: &'a [u32],
    /// After how many attempts those are left out that have had the request.
    pub(crate) every: NonZeroU32,
}

/// What is left of the load without some priorities.
#[derive(Debug)]
pub(super) struct Left {
    healthy: Vec<u32>,
    degraded: Vec<u32>,
    total: u32,
}

impl Elsewhere<'_> {
    /// What is left without the priorities that have had the request; none if it is not time yet, or nothing is. Once
    /// all of them have had it, it begins anew.
    pub(super) fn avoided(&self, priorities: &[Priority]) -> Option<Left> {
        let mut avoided = vec![false; priorities.len()];
        let mut left = None;
        let mut count = 0;
        for priority in self.had {
            if let Some(avoided) = avoided.get_mut(*priority as usize) {
                *avoided = true;
            }
            count += 1;
            if count % self.every == 0 {
                left = Left::of(priorities, &avoided);
                if left.is_none() {
                    avoided.fill(false);
                    count = 0;
                }
            }
        }
        left
    }
}

impl Left {
    fn of(priorities: &[Priority], avoided: &[bool]) -> Option<Self> {
        let available = |side: usize| {
            let all = priorities.iter().zip(avoided);
            all.map(|(one, avoided)| if *avoided { 0 } else { one.available[side] })
                .collect::<Vec<u32>>()
        };
        let (healthy, degraded) = (available(0), available(1));
        let total = healthy.iter().chain(&degraded).sum::<u32>().min(100);
        (total > 0).then_some(Self {
            healthy,
            degraded,
            total,
        })
    }

    /// Where the load goes, by chance.
    pub(super) fn choice<'a>(&self, priorities: &'a [Priority], drawn: u64) -> Option<&'a Choice> {
        let loads = Loads::distribute(&self.healthy, &self.degraded, self.total);
        let mut percent = (drawn % 100) as u32;
        for (side, loads) in [loads.healthy, loads.degraded].iter().enumerate() {
            for (priority, load) in priorities.iter().zip(loads) {
                match percent.checked_sub(*load) {
                    Some(rest) => percent = rest,
                    None => return Some(&priority.choices[side]),
                }
            }
        }
        None
    }
}
