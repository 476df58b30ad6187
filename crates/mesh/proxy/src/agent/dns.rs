//! Names: those of STRICT_DNS and LOGICAL_DNS clusters are resolved, again and again, and those that an application
//! asks for are answered.

mod message;
mod question;
mod resolver;
mod server;
mod system;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use self::resolver::{Found, Problem};
pub(crate) use self::server::Names;
pub(super) use self::server::serve;
use self::system::System;
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
    let mut system = Asked::default();
    loop {
        let Found { addresses, ttl } = find(&lookup, &mut system).await;
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
        sleep(pause(&lookup.rate, failures, ttl)).await;
    }
}

/// The time until the next look-up: that for which the answer holds, if it says so; after failures a random
/// part of a limit that doubles.
fn pause(rate: &DnsRate, failures: u32, ttl: Option<Duration>) -> Duration {
    match rate.failure {
        Some((base, max)) if failures > 0 => back_off((base, max), failures),
        // Zero is no time at all, as for Envoy.
        _ => {
            let holds = ttl.filter(|ttl| !ttl.is_zero());
            holds.unwrap_or(rate.refresh) + rate.jitter.mul_f64(fastrand::f64())
        }
    }
}

/// A random part of a limit that doubles with each failure, of which there is one at least, up to another limit.
pub(crate) fn back_off((base, max): (Duration, Duration), failures: u32) -> Duration {
    let limit = base.saturating_mul(1 << (failures - 1).min(16)).min(max);
    limit.mul_f64(fastrand::f64()).max(MIN_PAUSE)
}

/// The addresses of a name that are used; none if there are none, which is logged.
async fn find(lookup: &Lookup, system: &mut Asked) -> Found {
    let asked = async {
        if lookup.rate.respects_ttl {
            ask(lookup).await
        } else {
            system.ask(&lookup.name).await
        }
    };
    let mut found = match timeout(LOOKUP_TIMEOUT, asked).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(name = %lookup.name, %error, "cannot resolve the name of an endpoint");
            Found::default()
        }
        Err(_) => {
            tracing::warn!(name = %lookup.name, "resolving the name of an endpoint takes too long");
            Found::default()
        }
    };
    found.addresses = choose(found.addresses, lookup.family, lookup.all_addresses);
    found
}

/// Asks the servers of this host, which tell for how long the answer holds.
async fn ask(lookup: &Lookup) -> Result<Found, String> {
    let system = system_within(LOOKUP_TIMEOUT, &[]);
    let found = resolver::resolve(&system, &lookup.name, lookup.family).await;
    found.map_err(|problem| problem.to_string())
}

/// How names are looked up at these servers or, if there are none, at those of this host: each try has its part of the
/// time.
fn system_within(time: Duration, servers: &[SocketAddr]) -> System {
    let mut system = System::read();
    if !servers.is_empty() {
        system.servers = servers.to_vec();
    }
    let tries = system.attempts * u32::try_from(system.servers.len()).unwrap_or(1);
    system.timeout = system.timeout.min(time / tries.max(1));
    system
}

/// What came of looking a name up once.
#[derive(Debug)]
pub(crate) enum Looked {
    /// Its address, and for how long that holds, if somebody says so.
    Up(IpAddr, Option<Duration>),
    /// There is no such name, or it has no address.
    Empty(String),
    /// Nobody could say.
    Failed(String),
    /// Nobody has said in time.
    TooLong,
}

/// Looks a name up once, at these servers or, if there are none, at those of this host.
pub(crate) async fn look_up(
    name: &str,
    family: Family,
    servers: &[SocketAddr],
    time: Duration,
) -> Looked {
    let system = system_within(time, servers);
    match timeout(time, resolver::resolve(&system, name, family)).await {
        Ok(Ok(found)) => match choose(found.addresses, family, false).first() {
            Some(address) => Looked::Up(*address, found.ttl),
            None => Looked::Empty(Problem::NoAddresses.to_string()),
        },
        Ok(Err(problem @ (Problem::NoName | Problem::NoAddresses | Problem::NotAName))) => {
            Looked::Empty(problem.to_string())
        }
        Ok(Err(problem @ Problem::Server(..))) => Looked::Failed(problem.to_string()),
        Err(_) => Looked::TooLong,
    }
}

/// The system's own resolver, which is asked on another thread and cannot be told to stop: while it does not answer it
/// is not asked again, since a thread for each try would leave none for anything else.
#[derive(Default)]
struct Asked(Option<JoinHandle<std::io::Result<Vec<IpAddr>>>>);

impl Asked {
    async fn ask(&mut self, name: &str) -> Result<Found, String> {
        let asked = self.0.get_or_insert_with(|| {
            let name = name.to_owned();
            tokio::task::spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs()?;
                Ok(found.map(|address| address.ip()).collect())
            })
        });
        let found = asked.await;
        self.0 = None;
        let found = found.map_err(|error| error.to_string())?;
        Ok(Found {
            addresses: found.map_err(|error| error.to_string())?,
            ttl: None,
        })
    }
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
