//! Routes that came by RDS: the newest ones, and those in use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::snapshot::RouteTable;

/// How long new routes wait for the clusters that they lead to.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Route tables by name.
#[derive(Debug, Default)]
pub(crate) struct Tables(BTreeMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    in_use: Option<Arc<RouteTable>>,
    newest: Arc<RouteTable>,
    hash: u64,
    /// When the newest are used in any case.
    give_up: Instant,
}

impl Tables {
    /// Whether the newest are those of this hash.
    pub(super) fn has(&self, name: &str, hash: u64) -> bool {
        self.0.get(name).is_some_and(|entry| entry.hash == hash)
    }

    /// Takes new routes, which wait beside those in use.
    pub(super) fn put(&mut self, name: String, newest: Arc<RouteTable>, hash: u64, now: Instant) {
        let before = self.0.remove(&name);
        let entry = Entry {
            in_use: before.and_then(|before| before.in_use),
            newest,
            hash,
            give_up: now + PATIENCE,
        };
        self.0.insert(name, entry);
    }

    /// Takes those into use that lead to usable clusters only, that have nothing before them, or that have
    /// waited for long enough.
    pub(super) fn advance(&mut self, now: Instant, is_usable: impl Fn(&str) -> bool) {
        for entry in self.0.values_mut().filter(|entry| entry.waits()) {
            let mut clusters = entry.newest.clusters();
            let may_go = entry.in_use.is_none() || entry.give_up <= now || clusters.all(&is_usable);
            if may_go {
                entry.in_use = Some(Arc::clone(&entry.newest));
            }
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<RouteTable>> {
        self.0.get(name)?.in_use.as_ref()
    }

    /// When some are used in any case.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.0.values().filter(|entry| entry.waits());
        waiting.map(|entry| entry.give_up).min()
    }

    pub(super) fn retain(&mut self, is_wanted: impl Fn(&String) -> bool) {
        self.0.retain(|name, _| is_wanted(name));
    }
}

impl Entry {
    fn waits(&self) -> bool {
        let in_use = self.in_use.as_ref();
        in_use.is_none_or(|in_use| !Arc::ptr_eq(in_use, &self.newest))
    }
}
