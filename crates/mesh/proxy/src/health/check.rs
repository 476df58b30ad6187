//! The checks of one endpoint, one after the other.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::balance::HostFlag;
use crate::health::probe::{Kept, Probe};
use crate::health::watched::{Subject, Watched};
use crate::health::{grpc, http, http2, tcp};
use crate::snapshot::{HealthCheck, HealthCheckKind, Intervals};

/// What a check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Healthy,
    /// It serves, and asks to be spared.
    Degraded,
    /// It says itself that it does not serve.
    Unhealthy,
    /// It says so, but that may pass.
    Retriable,
    /// There was no answer,
    Unreachable,
    /// or not in time.
    TimedOut,
}

/// Results in a row.
#[derive(Debug, Default)]
struct Row {
    healthy: u32,
    unhealthy: u32,
}

/// What a result has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    /// More results of the same kind would change something.
    Pending,
    Done,
}

/// Checks an endpoint for as long as it is there.
pub(super) async fn run(watched: Rc<Watched>, address: SocketAddr) {
    let mut row = Row::default();
    let mut kept = Kept::default();
    let Some(check) = watched.newest().health_check.clone() else {
        return;
    };
    tokio::time::sleep(below(check.intervals.initial_jitter)).await;
    while let Some(subject) = watched.subject(address) {
        let found = examine(&subject, &check, &mut kept).await;
        let is_first = subject.host.has(HostFlag::Unchecked);
        let change = row.note(found, &subject, &check);
        count(found, &subject);
        if change == Change::Done || is_first {
            watched.refresh();
            subject.count_healthy();
        }
        if is_first {
            watched.note_first_check();
        }
        let was_used = subject.cluster.members().was_used();
        let is_healthy = matches!(found, Found::Healthy | Found::Degraded);
        let pause = check.intervals.next(is_healthy, change, was_used);
        drop(subject);
        tokio::time::sleep(pause).await;
    }
}

/// One check.
async fn examine(subject: &Subject, check: &HealthCheck, kept: &mut Kept) -> Found {
    let port = subject.endpoint.check_address.map(|at| at.port());
    let mut address = subject
        .endpoint
        .check_address
        .unwrap_or(subject.endpoint.address);
    // What the endpoint says about its port goes first.
    if let (None, Some(port)) = (port, check.port) {
        address.set_port(port);
    }
    subject.cluster.members().stats.check_attempt.increment();
    kept.fit(&subject.endpoint.transport);
    let probe = Probe {
        subject,
        check,
        address,
        kept,
    };
    let found = tokio::time::timeout(check.timeout, async {
        match &check.kind {
            HealthCheckKind::Http(rules) if rules.is_http2 => http2::check(probe, rules).await,
            HealthCheckKind::Http(rules) => http::check(probe, rules).await,
            HealthCheckKind::Grpc(rules) => grpc::check(probe, rules).await,
            HealthCheckKind::Tcp(rules) => tcp::check(probe, rules).await,
        }
    })
    .await;
    if found.is_err() || !check.reuses_connection {
        *kept = Kept::default();
    }
    match found {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            *kept = Kept::default();
            tracing::debug!(cluster = subject.cluster.name, %address, %error, "health check");
            Found::Unreachable
        }
        Err(_) => Found::TimedOut,
    }
}

fn count(found: Found, subject: &Subject) {
    let stats = &subject.cluster.members().stats;
    match found {
        Found::Healthy | Found::Degraded => stats.check_success.increment(),
        Found::Unhealthy | Found::Retriable => stats.check_failure.increment(),
        Found::Unreachable | Found::TimedOut => {
            stats.check_failure.increment();
            stats.check_network_failure.increment();
        }
    }
}

impl Subject {
    /// How many pass their checks.
    fn count_healthy(&self) {
        let members = self.cluster.members();
        let passing = members
            .hosts()
            .filter(|(_, host)| !host.has(HostFlag::FailedCheck));
        let (degraded, passing): (Vec<_>, Vec<_>) =
            passing.partition(|(_, host)| host.has(HostFlag::Degraded));
        members
            .stats
            .check_healthy
            .set((passing.len() + degraded.len()) as u64);
        members.stats.check_degraded.set(degraded.len() as u64);
    }
}

impl Row {
    /// Takes a result into account.
    fn note(&mut self, found: Found, subject: &Subject, check: &HealthCheck) -> Change {
        let host = &subject.host;
        let change = match found {
            Found::Healthy | Found::Degraded => {
                let change = self.succeed(subject, check);
                let is_other = if found == Found::Degraded {
                    host.set(HostFlag::Degraded)
                } else {
                    host.clear(HostFlag::Degraded)
                };
                if is_other { Change::Done } else { change }
            }
            _ => self.fail(found, subject, check),
        };
        host.clear(HostFlag::Unchecked);
        change
    }

    fn succeed(&mut self, subject: &Subject, check: &HealthCheck) -> Change {
        let host = &subject.host;
        self.unhealthy = 0;
        let mut change = Change::None;
        if host.has(HostFlag::FailedCheck) {
            self.healthy += 1;
            // The first check decides alone.
            let is_first = host.has(HostFlag::Unchecked);
            if !is_first && self.healthy < check.healthy_threshold {
                return Change::Pending;
            }
            host.clear(HostFlag::FailedCheck);
            host.clear(HostFlag::TimedOut);
            host.begins_healthy();
            change = Change::Done;
        }
        let rules = subject.cluster.outlier_detection.as_ref();
        if rules.is_some_and(|rules| rules.check_unejects) && host.clear(HostFlag::Ejected) {
            host.monitor.forgive();
            host.monitor.ejection().returned_at = Some(crate::balance::now());
            change = Change::Done;
        }
        change
    }

    fn fail(&mut self, found: Found, subject: &Subject, check: &HealthCheck) -> Change {
        let host = &subject.host;
        self.healthy = 0;
        if found == Found::TimedOut {
            host.set(HostFlag::TimedOut);
        } else {
            host.clear(HostFlag::TimedOut);
        }
        if host.has(HostFlag::FailedCheck) {
            return Change::None;
        }
        self.unhealthy += 1;
        if found != Found::Unhealthy && self.unhealthy < check.unhealthy_threshold {
            return Change::Pending;
        }
        host.set(HostFlag::FailedCheck);
        Change::Done
    }
}

impl Intervals {
    /// The time until the next check.
    fn next(&self, is_healthy: bool, change: Change, was_used: bool) -> Duration {
        let is_pending = change == Change::Pending;
        let base = match (was_used, is_healthy, is_pending) {
            (false, true, false) => self.no_traffic_healthy,
            (false, ..) => self.no_traffic,
            (true, true, false) => self.usual,
            (true, true, true) => self.healthy_edge,
            (true, false, false) => self.unhealthy,
            (true, false, true) => self.unhealthy_edge,
        };
        let share = base.mul_f64(f64::from(self.jitter_percent) / 100.0);
        base + below(share) + below(self.jitter)
    }
}

/// A random time below a limit.
fn below(limit: Duration) -> Duration {
    limit.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_follow_what_was_found() {
        let seconds = Duration::from_secs;
        let intervals = Intervals {
            usual: seconds(1),
            no_traffic: seconds(2),
            no_traffic_healthy: seconds(3),
            unhealthy: seconds(4),
            unhealthy_edge: seconds(5),
            healthy_edge: seconds(6),
            ..Intervals::default()
        };
        let next = |healthy, change, used| intervals.next(healthy, change, used).as_secs();
        assert_eq!(next(true, Change::None, true), 1);
        assert_eq!(next(true, Change::Done, true), 1);
        assert_eq!(next(true, Change::Pending, true), 6);
        assert_eq!(next(false, Change::Done, true), 4);
        assert_eq!(next(false, Change::Pending, true), 5);
        assert_eq!(next(true, Change::None, false), 3);
        assert_eq!(next(false, Change::None, false), 2);
        let jittered = Intervals {
            jitter: seconds(1),
            jitter_percent: 50,
            ..intervals
        };
        for _ in 0..100 {
            let time = jittered.next(false, Change::Done, true);
            assert!((seconds(4)..seconds(7)).contains(&time), "{time:?}");
        }
    }
}
