//! What is known of the endpoints of a cluster, beside the configuration. All workers share it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::balance::{Monitor, Plan};
use crate::snapshot::{Cluster, Endpoint, HostStatus};
use crate::stats::HealthStats;

/// The endpoints of a cluster, in the order of its list.
#[derive(Debug)]
pub(crate) struct Members {
    hosts: Vec<(SocketAddr, Arc<Host>)>,
    plan: ArcSwap<Plan>,
    /// Counts the plans.
    generation: AtomicU64,
    pub(crate) stats: Arc<HealthStats>,
    /// A request was sent to the cluster.
    was_used: Arc<AtomicBool>,
    /// An endpoint fails: the detector must have a look.
    pub(crate) trouble: Arc<Notify>,
}

/// The state of one endpoint.
#[derive(Debug)]
pub(crate) struct Host {
    /// Bits of [`HostFlag`].
    flags: AtomicU32,
    /// Since when it has been healthy, by [`now`].
    healthy_since: AtomicU64,
    pub(crate) monitor: Monitor,
}

/// Why an endpoint is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostFlag {
    /// It fails its checks, or was not checked yet.
    FailedCheck = 1,
    /// It is an outlier.
    Ejected = 2,
    /// It was not checked yet.
    Unchecked = 4,
    /// It has left the configuration, and stays while it passes its checks.
    Leaving = 8,
    /// It passes its checks, and says that it is degraded.
    Degraded = 16,
    /// The last check ran into its time limit.
    TimedOut = 32,
}

/// How many endpoints there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) total: u64,
    pub(crate) healthy: u64,
    pub(crate) degraded: u64,
    pub(crate) excluded: u64,
}

/// What an endpoint is good for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Healthy,
    Degraded,
    Unhealthy,
    /// It does not count at all.
    Absent,
}

/// The members of one cluster; a copy of the cluster gets its own.
#[derive(Default)]
pub struct MembersCell(OnceLock<Arc<Members>>);

impl MembersCell {
    /// Those of the cluster that this cell is part of.
    pub(crate) fn get(&self, of: &Cluster) -> &Arc<Members> {
        self.0.get_or_init(|| Members::new(of, None))
    }

    /// Takes over what is known of endpoints that stay, before anybody has asked.
    pub(crate) fn adopt(&self, of: &Cluster, previous: &Members) {
        self.0.get_or_init(|| Members::new(of, Some(previous)));
    }
}

impl Clone for MembersCell {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for MembersCell {
    /// It is no part of the configuration.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for MembersCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MembersCell").finish_non_exhaustive()
    }
}

impl Members {
    fn new(cluster: &Cluster, previous: Option<&Self>) -> Arc<Self> {
        let mut hosts: Vec<(SocketAddr, Arc<Host>)> = Vec::with_capacity(cluster.endpoints.len());
        let mut known: std::collections::HashMap<SocketAddr, Arc<Host>> = previous
            .into_iter()
            .flat_map(|previous| previous.hosts.iter().cloned())
            .collect();
        for endpoint in &cluster.endpoints {
            let is_checked = cluster.health_check.is_some() && !endpoint.is_unchecked;
            let host = known
                .entry(endpoint.address)
                .or_insert_with(|| Arc::new(Host::new(is_checked)));
            if !is_checked {
                for flag in [
                    HostFlag::FailedCheck,
                    HostFlag::Unchecked,
                    HostFlag::Degraded,
                ] {
                    host.clear(flag);
                }
            }
            if cluster.outlier_detection.is_none() {
                host.clear(HostFlag::Ejected);
            }
            hosts.push((endpoint.address, host.clone()));
        }
        let plan = Plan::new(cluster, hosts.iter().map(|(_, host)| &**host));
        Arc::new(Self {
            plan: ArcSwap::from_pointee(plan),
            hosts,
            generation: AtomicU64::new(0),
            stats: previous
                .map(|known| known.stats.clone())
                .unwrap_or_default(),
            was_used: previous
                .map(|known| known.was_used.clone())
                .unwrap_or_default(),
            trouble: previous
                .map(|known| known.trouble.clone())
                .unwrap_or_default(),
        })
    }

    /// Works out anew what there is to choose from, after flags have changed.
    pub(crate) fn refresh(&self, cluster: &Cluster) {
        let plan = Plan::new(cluster, self.hosts.iter().map(|(_, host)| &**host));
        self.plan.store(Arc::new(plan));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Counts up whenever there is a new plan.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.plan.load().counts
    }

    /// The state of an endpoint, by its place in the cluster's list.
    pub(crate) fn host(&self, index: usize) -> &Arc<Host> {
        &self.hosts[index].1
    }

    /// The state of the endpoint at an address, if there is one.
    pub(crate) fn host_at(&self, address: SocketAddr) -> Option<&Arc<Host>> {
        let mut hosts = self.hosts.iter();
        let found = hosts.find(|(known, _)| *known == address);
        found.map(|(_, host)| host)
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = (SocketAddr, &Arc<Host>)> {
        self.hosts.iter().map(|(address, host)| (*address, host))
    }

    /// Whether each endpoint that is to be checked has been.
    pub(crate) fn are_checked(&self) -> bool {
        let mut hosts = self.hosts.iter();
        hosts.all(|(_, host)| !host.has(HostFlag::Unchecked))
    }

    /// Notes that the cluster is used.
    #[inline]
    pub(crate) fn note_use(&self) {
        if !self.was_used.load(Ordering::Relaxed) {
            self.was_used.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn was_used(&self) -> bool {
        self.was_used.load(Ordering::Relaxed)
    }
}

impl Host {
    fn new(is_checked: bool) -> Self {
        let flags = if is_checked {
            HostFlag::FailedCheck as u32 | HostFlag::Unchecked as u32
        } else {
            0
        };
        Self {
            flags: AtomicU32::new(flags),
            healthy_since: AtomicU64::new(now()),
            monitor: Monitor::default(),
        }
    }

    pub(crate) fn has(&self, flag: HostFlag) -> bool {
        self.flags.load(Ordering::Relaxed) & flag as u32 != 0
    }

    /// Sets a flag: whether that changed anything.
    pub(crate) fn set(&self, flag: HostFlag) -> bool {
        self.flags.fetch_or(flag as u32, Ordering::Relaxed) & flag as u32 == 0
    }

    /// Takes a flag away: whether that changed anything.
    pub(crate) fn clear(&self, flag: HostFlag) -> bool {
        self.flags.fetch_and(!(flag as u32), Ordering::Relaxed) & flag as u32 != 0
    }

    /// It has passed its checks just now.
    pub(crate) fn begins_healthy(&self) {
        self.healthy_since.store(now(), Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn set_healthy_since(&self, since: u64) {
        self.healthy_since.store(since, Ordering::Relaxed);
    }

    pub(crate) fn healthy_since(&self) -> u64 {
        self.healthy_since.load(Ordering::Relaxed)
    }

    /// What the endpoint is good for.
    pub(crate) fn condition(&self, endpoint: &Endpoint) -> Condition {
        let failed = self.has(HostFlag::FailedCheck);
        if failed && self.has(HostFlag::Leaving) {
            return Condition::Absent;
        }
        match endpoint.status {
            _ if failed || self.has(HostFlag::Ejected) => Condition::Unhealthy,
            HostStatus::Unhealthy | HostStatus::Draining => Condition::Unhealthy,
            HostStatus::Degraded => Condition::Degraded,
            HostStatus::Healthy if self.has(HostFlag::Degraded) => Condition::Degraded,
            HostStatus::Healthy => Condition::Healthy,
        }
    }

    /// Envoy's words for it, as on `/clusters`.
    pub(crate) fn flags_text(&self, endpoint: &Endpoint) -> String {
        let of_status = match endpoint.status {
            HostStatus::Healthy => None,
            HostStatus::Degraded => Some("/degraded_eds_health"),
            HostStatus::Unhealthy => Some("/failed_eds_health"),
            HostStatus::Draining => Some("/eds_status_draining"),
        };
        let flags = [
            (HostFlag::FailedCheck, "/failed_active_hc"),
            (HostFlag::Ejected, "/failed_outlier_check"),
            (HostFlag::Degraded, "/degraded_active_hc"),
            (HostFlag::Leaving, "/pending_dynamic_removal"),
            (HostFlag::Unchecked, "/pending_active_hc"),
            (HostFlag::TimedOut, "/active_hc_timeout"),
        ];
        let flags = flags.iter().filter(|(flag, _)| self.has(*flag));
        let words: String = flags.map(|(_, word)| *word).chain(of_status).collect();
        if words.is_empty() {
            "healthy".to_owned()
        } else {
            words
        }
    }
}

/// Microseconds since a day before this process first asked: long ago is no special case.
pub(crate) fn now() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    const DAY: u64 = 86_400_000_000;
    DAY + BEGIN.get_or_init(Instant::now).elapsed().as_micros() as u64
}
