//! Resolving the names of STRICT_DNS and LOGICAL_DNS clusters, again and again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Lookup, Shared};
use crate::config::{DnsRate, Family};

/// The longest that one resolution may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The least time between two look-ups that fail.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// Keeps one task for each name that the configuration has.
pub(super) async fn resolve(shared: Arc<Shared>) {
    let mut changes = shared.changes.subscribe();
    let mut tasks = JoinSet::new();
    let mut running = BTreeMap::new();
    loop {
        let wanted = shared.state().store.lookups();
        running.retain(|lookup, task: &mut tokio::task::AbortHandle| {
            let keep = wanted.contains(lookup);
            if !keep {
                task.abort();
            }
            keep
        });
        for lookup in wanted {
            if let Entry::Vacant(vacant) = running.entry(lookup) {
                let task = tasks.spawn(follow(Arc::clone(&shared), vacant.key().clone()));
                vacant.insert(task);
            }
        }
        while tasks.try_join_next().is_some() {}
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn follow(shared: Arc<Shared>, lookup: Lookup) {
    let mut failures = 0;
    loop {
        let addresses = addresses_of(&lookup).await;
        failures = if addresses.is_empty() {
            failures + 1
        } else {
            0
        };
        let changed = {
            let mut state = shared.state();
            state.store.resolved(lookup.clone(), addresses)
        };
        if changed {
            shared.advance();
        }
        sleep(pause(&lookup.rate, failures)).await;
    }
}

/// The time until the next look-up: after failures a random part of a limit that doubles.
fn pause(rate: &DnsRate, failures: u32) -> Duration {
    match rate.failure {
        Some((base, max)) if failures > 0 => {
            let limit = base.saturating_mul(1 << (failures - 1).min(16)).min(max);
            limit.mul_f64(fastrand::f64()).max(MIN_PAUSE)
        }
        _ => rate.refresh + rate.jitter.mul_f64(fastrand::f64()),
    }
}

async fn addresses_of(lookup: &Lookup) -> Vec<IpAddr> {
    let found = timeout(
        LOOKUP_TIMEOUT,
        tokio::net::lookup_host((lookup.name.as_str(), 0)),
    )
    .await;
    let found = match found {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        Ok(Err(error)) => {
            tracing::warn!(name = %lookup.name, %error, "cannot resolve the name of an endpoint");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(name = %lookup.name, "resolving the name of an endpoint takes too long");
            Vec::new()
        }
    };
    choose(found, lookup.family, lookup.all_addresses)
}

/// The addresses of the family, sorted, so that the same answer in another order is no change.
fn choose(mut found: Vec<IpAddr>, family: Family, all: bool) -> Vec<IpAddr> {
    let of_family = |v6: bool| -> Vec<IpAddr> {
        found
            .iter()
            .copied()
            .filter(|address| address.is_ipv6() == v6)
            .collect()
    };
    let first_that_has_any = |first: Vec<IpAddr>, second: Vec<IpAddr>| {
        if first.is_empty() { second } else { first }
    };
    let mut chosen = match family {
        Family::All => std::mem::take(&mut found),
        Family::V4Only => of_family(false),
        Family::V6Only => of_family(true),
        Family::Auto => first_that_has_any(of_family(true), of_family(false)),
        Family::V4Preferred => first_that_has_any(of_family(false), of_family(true)),
    };
    if all {
        chosen.sort_unstable();
        chosen.dedup();
    } else {
        chosen.truncate(1);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_a_rate_of_their_own() {
        let seconds = Duration::from_secs;
        let mut rate = DnsRate {
            refresh: seconds(5),
            jitter: seconds(1),
            failure: None,
        };
        for _ in 0..50 {
            assert!((seconds(5)..seconds(6)).contains(&pause(&rate, 0)));
            assert!((seconds(5)..seconds(6)).contains(&pause(&rate, 3)));
        }
        rate.failure = Some((seconds(1), seconds(3)));
        for (failures, most) in [(1, 1), (2, 2), (3, 3), (40, 3)] {
            let longest = (0..50).map(|_| pause(&rate, failures)).max();
            assert!(longest.is_some_and(|time| time <= seconds(most) && time > seconds(most) / 2));
        }
        assert!(pause(&rate, 0) >= seconds(5));
    }

    #[test]
    fn families() {
        let found = || -> Vec<IpAddr> {
            ["10.0.0.2", "::2", "10.0.0.1", "::1", "10.0.0.1"]
                .map(|text| text.parse().expect("an address"))
                .to_vec()
        };
        let chosen = |family, all| {
            let addresses = choose(found(), family, all);
            addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(chosen(Family::All, true), "10.0.0.1 10.0.0.2 ::1 ::2");
        assert_eq!(chosen(Family::V4Only, true), "10.0.0.1 10.0.0.2");
        assert_eq!(chosen(Family::V6Only, true), "::1 ::2");
        assert_eq!(chosen(Family::Auto, true), "::1 ::2");
        assert_eq!(chosen(Family::V4Preferred, true), "10.0.0.1 10.0.0.2");
        assert_eq!(chosen(Family::V4Preferred, false), "10.0.0.2");
        let only_v4 = vec![found()[0]];
        assert_eq!(choose(only_v4.clone(), Family::Auto, true), only_v4);
        assert_eq!(choose(only_v4, Family::V6Only, true), Vec::<IpAddr>::new());
    }
}
