//! The names that requests and connections bring along.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Family;

/// `DnsCacheConfig`: how the names are looked up that only requests and connections say, and for how long answers are
/// kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameCache {
    /// `name`: the prefix of its counts.
    pub(crate) name: String,
    /// `dns_lookup_family`.
    pub(crate) family: Family,
    /// `dns_refresh_rate`: when a name is looked up again of which nobody says for how long its answer holds.
    pub(crate) refresh: Duration,
    /// `dns_min_refresh_rate`: the least time that an answer is taken to hold.
    pub(crate) min_refresh: Duration,
    /// `dns_failure_refresh_rate`: the limit of the wait after a first failure, and of all.
    pub(crate) failure: Option<(Duration, Duration)>,
    /// `disable_dns_refresh_on_failure`: a name without an address is forgotten when looking it up fails.
    pub(crate) forgets_failures: bool,
    /// `host_ttl`: how long a name is kept that nobody uses.
    pub(crate) host_ttl: Duration,
    /// `max_hosts`: the most names.
    pub(crate) max_hosts: usize,
    /// `dns_cache_circuit_breaker.max_pending_requests`: the most that wait for an answer.
    pub(crate) max_waiting: u32,
    /// `dns_query_timeout`.
    pub(crate) query_timeout: Duration,
    /// The resolvers of `typed_dns_resolver_config`; those of this host, if there are none.
    pub(crate) servers: Vec<SocketAddr>,
}
