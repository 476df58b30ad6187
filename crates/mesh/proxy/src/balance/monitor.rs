//! What requests tell about an endpoint: the counts behind outlier detection, shared by all workers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::snapshot::OutlierDetection;

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The endpoint answered with this status.
    Answered(u16),
    /// A TCP connection was made, and there is nothing more to know.
    Connected,
    /// The endpoint could not be reached, or left in the middle.
    Failed,
    /// It did not answer in time.
    TimedOut,
}

/// Where failures come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The endpoint answered so.
    External,
    /// This proxy could not get an answer.
    Local,
}

/// The counts of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    consecutive_5xx: AtomicU32,
    consecutive_gateway: AtomicU32,
    consecutive_local: AtomicU32,
    external: Rate,
    local: Rate,
    /// Bits of [`Trouble`].
    trouble: AtomicU32,
    /// Of the detector alone.
    ejection: Mutex<Ejection>,
}

/// Requests of the current interval.
#[derive(Debug, Default)]
struct Rate {
    total: AtomicU64,
    succeeded: AtomicU64,
}

/// Too many failures in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Consecutive5xx = 1,
    ConsecutiveGateway = 2,
    ConsecutiveLocal = 4,
}

/// How often, and when, an endpoint was left out. Times are those of [`crate::balance::members::now`].
#[derive(Debug, Default)]
pub(crate) struct Ejection {
    /// By how much the next one is longer than the first.
    pub(crate) backoff: u32,
    pub(crate) ejected_at: u64,
    pub(crate) jitter: u64,
    pub(crate) returned_at: Option<u64>,
}

impl Monitor {
    /// Counts an attempt: whether the detector must have a look.
    pub(crate) fn put(&self, verdict: Verdict, rules: &OutlierDetection) -> bool {
        match (verdict, rules.splits_origins) {
            (Verdict::Answered(status), splits) => {
                // The connection stood.
                let local = splits && self.local_success();
                self.answered(status, rules) || local
            }
            (Verdict::Connected, true) => self.local_success(),
            (Verdict::Connected, false) => self.answered(200, rules),
            (Verdict::Failed | Verdict::TimedOut, true) => self.local_failure(rules),
            (Verdict::Failed, false) => self.answered(503, rules),
            (Verdict::TimedOut, false) => self.answered(504, rules),
        }
    }

    fn answered(&self, status: u16, rules: &OutlierDetection) -> bool {
        self.external.count(status < 500);
        if status < 500 {
            reset(&self.consecutive_5xx);
            reset(&self.consecutive_gateway);
            return false;
        }
        let mut found = false;
        if matches!(status, 502..=504) {
            let most = rules.consecutive_gateway_failure;
            found |= self.one_more(&self.consecutive_gateway, most, Trouble::ConsecutiveGateway);
        } else {
            reset(&self.consecutive_gateway);
        }
        let most = rules.consecutive_5xx;
        found | self.one_more(&self.consecutive_5xx, most, Trouble::Consecutive5xx)
    }

    fn local_failure(&self, rules: &OutlierDetection) -> bool {
        self.local.count(false);
        let most = rules.consecutive_local_origin_failure;
        self.one_more(&self.consecutive_local, most, Trouble::ConsecutiveLocal)
    }

    fn local_success(&self) -> bool {
        self.local.count(true);
        reset(&self.consecutive_local);
        false
    }

    fn one_more(&self, count: &AtomicU32, most: u32, trouble: Trouble) -> bool {
        let now = count.fetch_add(1, Ordering::Relaxed) + 1;
        if now != most {
            return false;
        }
        self.trouble.fetch_or(trouble as u32, Ordering::Relaxed);
        true
    }

    /// What was found since the last time; its count begins anew.
    pub(crate) fn take_trouble(&self) -> impl Iterator<Item = Trouble> + use<> {
        let found = self.trouble.swap(0, Ordering::Relaxed);
        [
            (Trouble::Consecutive5xx, &self.consecutive_5xx),
            (Trouble::ConsecutiveGateway, &self.consecutive_gateway),
            (Trouble::ConsecutiveLocal, &self.consecutive_local),
        ]
        .map(|(trouble, count)| {
            let is_found = found & trouble as u32 != 0;
            if is_found {
                reset(count);
            }
            is_found.then_some(trouble)
        })
        .into_iter()
        .flatten()
    }

    /// The requests since the last time: how many, and how many of them went well.
    pub(crate) fn take_rate(&self, origin: Origin) -> (u64, u64) {
        let rate = match origin {
            Origin::External => &self.external,
            Origin::Local => &self.local,
        };
        let total = rate.total.swap(0, Ordering::Relaxed);
        (total, rate.succeeded.swap(0, Ordering::Relaxed).min(total))
    }

    /// The endpoint is back: it begins with a clean record.
    pub(crate) fn forgive(&self) {
        reset(&self.consecutive_5xx);
        reset(&self.consecutive_gateway);
        reset(&self.consecutive_local);
        self.trouble.store(0, Ordering::Relaxed);
    }

    /// For the detector, which is the only one to ask.
    pub(crate) fn ejection(&self) -> MutexGuard<'_, Ejection> {
        self.ejection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rate {
    fn count(&self, succeeded: bool) {
        self.total.fetch_add(1, Ordering::Relaxed);
        if succeeded {
            self.succeeded.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Does not write what is there already: the line stays with all cores.
fn reset(count: &AtomicU32) {
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(edit: impl FnOnce(&mut OutlierDetection)) -> OutlierDetection {
        let mut rules = OutlierDetection {
            consecutive_5xx: 3,
            consecutive_gateway_failure: 2,
            consecutive_local_origin_failure: 2,
            ..OutlierDetection::default()
        };
        edit(&mut rules);
        rules
    }

    fn found(monitor: &Monitor) -> Vec<Trouble> {
        monitor.take_trouble().collect()
    }

    #[test]
    fn failures_in_a_row_are_found_once() {
        let rules = rules(|_| ());
        let monitor = Monitor::default();
        let put = |status| monitor.put(Verdict::Answered(status), &rules);
        assert_eq!([500, 500, 200, 500, 500].map(put), [false; 5]);
        assert!(put(500));
        assert_eq!(found(&monitor), [Trouble::Consecutive5xx]);
        assert_eq!(found(&monitor), []);
        assert!(!put(503) && put(502), "gateway failures");
        assert_eq!(found(&monitor), [Trouble::ConsecutiveGateway]);
        assert!(put(504), "the third of the other kind");
        assert_eq!(monitor.take_rate(Origin::External), (9, 1));
        assert_eq!(monitor.take_rate(Origin::External), (0, 0));
    }

    #[test]
    fn failures_of_our_own_are_statuses_unless_they_are_split() {
        let joined = rules(|_| ());
        let monitor = Monitor::default();
        assert!(!monitor.put(Verdict::Failed, &joined));
        assert!(monitor.put(Verdict::TimedOut, &joined), "503 and 504");
        let split = rules(|rules| rules.splits_origins = true);
        let monitor = Monitor::default();
        assert!(!monitor.put(Verdict::Failed, &split));
        assert!(!monitor.put(Verdict::Answered(500), &split));
        assert!(
            !monitor.put(Verdict::Failed, &split),
            "a connection stood between"
        );
        assert!(monitor.put(Verdict::TimedOut, &split));
        assert_eq!(found(&monitor), [Trouble::ConsecutiveLocal]);
        assert_eq!(monitor.take_rate(Origin::Local), (4, 1));
    }
}
