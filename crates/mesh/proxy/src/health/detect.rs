//! Outlier detection: endpoints that fail too much are left out for a while.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::balance::{Host, HostFlag, Origin, Trouble, now};
use crate::health::watched::Watched;
use crate::snapshot::{Cluster, OutlierDetection};
use crate::stats::Count;

/// Looks after the endpoints of a cluster for as long as it is there.
pub(super) async fn run(watched: Rc<Watched>) {
    let mut last = Instant::now();
    loop {
        let cluster = watched.newest();
        let Some(rules) = cluster.outlier_detection.clone() else {
            return;
        };
        let trouble = cluster.members().trouble.clone();
        let next = last + rules.interval;
        let is_time = tokio::select! {
            () = sleep_until(next) => true,
            () = trouble.notified() => false,
        };
        // It may be another version by now.
        let cluster = watched.newest();
        let Some(rules) = cluster.outlier_detection.clone() else {
            return;
        };
        let detector = Detector::new(&cluster, &rules);
        let mut has_changed = detector.look_at_trouble();
        if is_time {
            last = Instant::now();
            has_changed |= detector.pass_interval();
        }
        detector.count_active();
        if has_changed {
            watched.refresh();
        }
    }
}

/// What an endpoint is suspected of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offence {
    Consecutive5xx,
    ConsecutiveGateway,
    ConsecutiveLocal,
    SuccessRate(Origin),
    FailurePercentage(Origin),
}

struct Detector<'a> {
    rules: &'a OutlierDetection,
    hosts: Vec<Arc<Host>>,
    stats: &'a crate::stats::HealthStats,
}

impl<'a> Detector<'a> {
    fn new(cluster: &'a Cluster, rules: &'a OutlierDetection) -> Self {
        let members = cluster.members();
        let mut hosts: Vec<Arc<Host>> = members.hosts().map(|(_, host)| host.clone()).collect();
        // An address may be there twice.
        hosts.dedup_by(|a, b| Arc::ptr_eq(a, b));
        Self {
            rules,
            hosts,
            stats: &members.stats,
        }
    }

    /// Ejects those who have failed too often in a row: whether anything has changed.
    fn look_at_trouble(&self) -> bool {
        let mut has_changed = false;
        for host in &self.hosts {
            for trouble in host.monitor.take_trouble() {
                let offence = match trouble {
                    Trouble::Consecutive5xx => Offence::Consecutive5xx,
                    Trouble::ConsecutiveGateway => Offence::ConsecutiveGateway,
                    Trouble::ConsecutiveLocal => Offence::ConsecutiveLocal,
                };
                if !host.has(HostFlag::Ejected) {
                    has_changed |= self.detect(host, offence);
                }
            }
        }
        has_changed
    }

    /// What is done once in an interval: whether anything has changed.
    fn pass_interval(&self) -> bool {
        let now = now();
        let mut has_changed = false;
        for host in &self.hosts {
            has_changed |= self.return_if_over(host, now);
        }
        for origin in [Origin::External, Origin::Local] {
            has_changed |= self.compare(origin);
        }
        for host in self
            .hosts
            .iter()
            .filter(|host| !host.has(HostFlag::Ejected))
        {
            let mut ejection = host.monitor.ejection();
            let behaves = |since: u64| now.saturating_sub(since) >= micros(self.rules.interval);
            if ejection.returned_at.is_some_and(behaves) {
                ejection.backoff = ejection.backoff.saturating_sub(1);
            }
        }
        has_changed
    }

    fn return_if_over(&self, host: &Host, now: u64) -> bool {
        if !host.has(HostFlag::Ejected) {
            return false;
        }
        let mut ejection = host.monitor.ejection();
        let time = self
            .rules
            .base_ejection_time
            .saturating_mul(ejection.backoff);
        let time = micros(time.min(self.rules.max_ejection_time)) + ejection.jitter;
        if now.saturating_sub(ejection.ejected_at) < time {
            return false;
        }
        ejection.returned_at = Some(now);
        drop(ejection);
        host.clear(HostFlag::Ejected);
        host.monitor.forgive();
        true
    }

    /// Compares the endpoints with each other, and with the threshold.
    fn compare(&self, origin: Origin) -> bool {
        let rules = self.rules;
        let rates: Vec<(&Arc<Host>, u64, f64)> = self
            .hosts
            .iter()
            .map(|host| (host, host.monitor.take_rate(origin)))
            .filter(|(host, (total, _))| *total > 0 && !host.has(HostFlag::Ejected))
            .map(|(host, (total, good))| (host, total, 100.0 * good as f64 / total as f64))
            .collect();
        let with_volume = |volume: u64| {
            let busy = rates.iter().filter(move |(_, total, _)| *total >= volume);
            busy.map(|(host, _, rate)| (*host, *rate))
                .collect::<Vec<_>>()
        };
        let mut has_changed = false;
        let busy = with_volume(rules.success_rate_request_volume);
        if !busy.is_empty() && busy.len() >= rules.success_rate_minimum_hosts {
            let factor = f64::from(rules.success_rate_stdev_factor) / 1000.0;
            let threshold = threshold(busy.iter().map(|(_, rate)| *rate), factor);
            for (host, _) in busy.iter().filter(|(_, rate)| *rate < threshold) {
                has_changed |= self.detect(host, Offence::SuccessRate(origin));
            }
        }
        let busy = with_volume(rules.failure_percentage_request_volume);
        if !busy.is_empty() && busy.len() >= rules.failure_percentage_minimum_hosts {
            let most = f64::from(rules.failure_percentage_threshold);
            for (host, _) in busy.iter().filter(|(_, rate)| 100.0 - *rate >= most) {
                has_changed |= self.detect(host, Offence::FailurePercentage(origin));
            }
        }
        has_changed
    }

    /// Ejects the endpoint, unless too many are already: whether it did.
    fn detect(&self, host: &Host, offence: Offence) -> bool {
        let (detected, enforced, share) = self.of_offence(offence);
        detected.increment();
        let active = self.active();
        let share_of_hosts = 100.0 * (active + 1) as f64 / self.hosts.len() as f64;
        let is_first = self.rules.always_ejects_one && active == 0;
        if !is_first && share_of_hosts > f64::from(self.rules.max_ejection_percent) {
            self.stats.ejections_overflow.increment();
            return false;
        }
        if fastrand::u32(0..100) >= share || !host.set(HostFlag::Ejected) {
            return false;
        }
        self.stats.ejections_enforced_total.increment();
        enforced.increment();
        let mut ejection = host.monitor.ejection();
        ejection.ejected_at = now();
        let jitter = micros(self.rules.max_ejection_time_jitter);
        ejection.jitter = fastrand::u64(0..=jitter);
        let time = self
            .rules
            .base_ejection_time
            .saturating_mul(ejection.backoff);
        if time < self.rules.max_ejection_time + self.rules.base_ejection_time {
            ejection.backoff += 1;
        }
        true
    }

    /// How many are ejected.
    fn active(&self) -> usize {
        let ejected = self.hosts.iter().filter(|host| host.has(HostFlag::Ejected));
        ejected.count()
    }

    fn count_active(&self) {
        self.stats.ejections_active.set(self.active() as u64);
    }

    /// What counts the detections and the ejections, and how many detections are to be ejections.
    fn of_offence(&self, offence: Offence) -> (&Count, &Count, u32) {
        let (stats, enforcing) = (self.stats, &self.rules.enforcing);
        match offence {
            Offence::Consecutive5xx => (
                &stats.detected_consecutive_5xx,
                &stats.enforced_consecutive_5xx,
                enforcing.consecutive_5xx,
            ),
            Offence::ConsecutiveGateway => (
                &stats.detected_gateway,
                &stats.enforced_gateway,
                enforcing.consecutive_gateway_failure,
            ),
            Offence::ConsecutiveLocal => (
                &stats.detected_local,
                &stats.enforced_local,
                enforcing.consecutive_local_origin_failure,
            ),
            Offence::SuccessRate(Origin::External) => (
                &stats.detected_success_rate,
                &stats.enforced_success_rate,
                enforcing.success_rate,
            ),
            Offence::SuccessRate(Origin::Local) => (
                &stats.detected_local_success_rate,
                &stats.enforced_local_success_rate,
                enforcing.local_origin_success_rate,
            ),
            Offence::FailurePercentage(Origin::External) => (
                &stats.detected_failure_percentage,
                &stats.enforced_failure_percentage,
                enforcing.failure_percentage,
            ),
            Offence::FailurePercentage(Origin::Local) => (
                &stats.detected_local_failure_percentage,
                &stats.enforced_local_failure_percentage,
                enforcing.failure_percentage_local_origin,
            ),
        }
    }
}

/// So many standard deviations below the mean.
fn threshold(rates: impl Iterator<Item = f64> + Clone, factor: f64) -> f64 {
    let count = rates.clone().count() as f64;
    let mean = rates.clone().sum::<f64>() / count;
    let variance = rates.map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - factor * variance.sqrt()
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::balance::Verdict;
    use crate::snapshot::{Endpoint, Enforcing};

    fn world(hosts: u16, edit: impl FnOnce(&mut OutlierDetection)) -> (Cluster, OutlierDetection) {
        let mut rules = OutlierDetection {
            max_ejection_percent: 100,
            ..OutlierDetection::default()
        };
        edit(&mut rules);
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let cluster = Cluster {
            endpoints: (1..=hosts)
                .map(|port| Endpoint::new(address(port)))
                .collect(),
            outlier_detection: Some(Arc::new(rules.clone())),
            ..Cluster::default()
        };
        (cluster, rules)
    }

    fn put(cluster: &Cluster, host: usize, verdict: Verdict, times: usize) {
        let rules = cluster.outlier_detection.as_ref().unwrap();
        for _ in 0..times {
            cluster.members().host(host).monitor.put(verdict, rules);
        }
    }

    fn ejected(cluster: &Cluster) -> Vec<usize> {
        let members = cluster.members();
        let is_ejected = |index: &usize| members.host(*index).has(HostFlag::Ejected);
        (0..cluster.endpoints.len()).filter(is_ejected).collect()
    }

    /// The numbers of Envoy's own comment.
    #[test]
    fn the_threshold_is_some_deviations_below_the_mean() {
        let rates = [50.0, 100.0, 100.0, 100.0, 100.0];
        assert!((threshold(rates.into_iter(), 1.9) - 52.0).abs() < 1e-9);
    }

    #[test]
    fn failures_in_a_row_eject_until_the_time_is_over() {
        let (cluster, rules) = world(3, |rules| {
            rules.base_ejection_time = Duration::from_micros(1);
            rules.max_ejection_time = Duration::from_secs(300);
        });
        let detector = Detector::new(&cluster, &rules);
        put(&cluster, 1, Verdict::Answered(500), 4);
        assert!(!detector.look_at_trouble());
        put(&cluster, 1, Verdict::Answered(500), 1);
        assert!(detector.look_at_trouble());
        assert_eq!(ejected(&cluster), [1]);
        assert_eq!(detector.stats.enforced_consecutive_5xx.get(), 1);
        let host = cluster.members().host(1).clone();
        assert_eq!(host.monitor.ejection().backoff, 1);
        host.monitor.ejection().ejected_at -= 10;
        assert!(detector.pass_interval());
        assert_eq!(ejected(&cluster), [0; 0]);
        // The next time is longer.
        put(&cluster, 1, Verdict::Answered(500), 5);
        assert!(detector.look_at_trouble());
        assert_eq!(host.monitor.ejection().backoff, 2);
        // Those who behave for an interval get shorter times again.
        host.clear(HostFlag::Ejected);
        host.monitor.ejection().returned_at = Some(now() - micros(rules.interval));
        detector.pass_interval();
        assert_eq!(host.monitor.ejection().backoff, 1);
    }

    #[test]
    fn not_more_than_the_share_is_ejected() {
        for (percent, always, expected) in [(10, false, 0), (10, true, 1), (50, false, 2)] {
            let (cluster, rules) = world(4, |rules| {
                rules.max_ejection_percent = percent;
                rules.always_ejects_one = always;
            });
            let detector = Detector::new(&cluster, &rules);
            for host in 0..4 {
                put(&cluster, host, Verdict::Answered(500), 5);
            }
            detector.look_at_trouble();
            assert_eq!(ejected(&cluster).len(), expected, "{percent} %");
            assert_eq!(
                detector.stats.ejections_overflow.get() as usize,
                4 - expected
            );
            assert_eq!(detector.stats.detected_consecutive_5xx.get(), 4);
        }
    }

    #[test]
    fn gateway_failures_are_detected_but_not_enforced_by_default() {
        let (cluster, rules) = world(1, |rules| rules.consecutive_5xx = 0);
        let detector = Detector::new(&cluster, &rules);
        put(&cluster, 0, Verdict::Answered(503), 5);
        detector.look_at_trouble();
        assert_eq!(detector.stats.detected_gateway.get(), 1);
        assert_eq!(ejected(&cluster), [0; 0]);
    }

    #[test]
    fn those_who_are_worse_than_the_others_are_ejected() {
        let (cluster, rules) = world(5, |rules| rules.consecutive_5xx = 0);
        let detector = Detector::new(&cluster, &rules);
        for host in 0..5 {
            put(&cluster, host, Verdict::Answered(200), 100);
        }
        put(&cluster, 2, Verdict::Answered(500), 100);
        assert!(detector.pass_interval());
        assert_eq!(ejected(&cluster), [2]);
        assert_eq!(detector.stats.enforced_success_rate.get(), 1);
        // The counts begin anew.
        cluster.members().host(2).clear(HostFlag::Ejected);
        assert!(!detector.pass_interval());
    }

    #[test]
    fn those_who_fail_above_the_threshold_are_ejected() {
        let (cluster, rules) = world(6, |rules| {
            rules.consecutive_5xx = 0;
            rules.consecutive_local_origin_failure = 0;
            rules.splits_origins = true;
            rules.enforcing = Enforcing {
                success_rate: 0,
                local_origin_success_rate: 0,
                failure_percentage: 100,
                failure_percentage_local_origin: 100,
                ..rules.enforcing
            };
        });
        let detector = Detector::new(&cluster, &rules);
        for host in 0..6 {
            let failures = [0, 10, 43, 0, 0, 0][host];
            put(&cluster, host, Verdict::Answered(500), failures);
            put(&cluster, host, Verdict::Answered(200), 50 - failures);
        }
        put(&cluster, 4, Verdict::Failed, 400);
        assert!(detector.pass_interval());
        assert_eq!(ejected(&cluster), [2, 4]);
        assert_eq!(detector.stats.enforced_failure_percentage.get(), 1);
        assert_eq!(detector.stats.enforced_local_failure_percentage.get(), 1);
    }
}
