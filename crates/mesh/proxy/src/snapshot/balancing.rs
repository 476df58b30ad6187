//! How a cluster chooses among its endpoints.

use std::time::Duration;

/// The policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Balancing {
    /// In turn.
    RoundRobin,
    /// The least loaded of a few random choices or, if weights differ, in turn by weight and load.
    LeastRequest(LeastRequest),
    /// At random.
    Random,
    /// By a ring of hashes (ketama).
    RingHash(RingHash),
    /// By a Maglev table.
    Maglev {
        /// `table_size`, a prime.
        table_size: u32,
    },
    /// The one of two random choices that is expected to answer sooner.
    PeakEwma(PeakEwma),
}

impl Balancing {
    /// Whether the hash of a request decides.
    pub(crate) fn is_by_hash(&self) -> bool {
        matches!(self, Self::RingHash(_) | Self::Maglev { .. })
    }
}

/// Options of [`Balancing::LeastRequest`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastRequest {
    /// `choice_count`.
    pub choices: u32,
    /// `active_request_bias`: the exponent of the load where weights differ.
    pub bias: f64,
}

impl Default for LeastRequest {
    fn default() -> Self {
        Self {
            choices: 2,
            bias: 1.0,
        }
    }
}

/// Options of [`Balancing::RingHash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingHash {
    /// `minimum_ring_size`.
    pub min_size: u64,
    /// `maximum_ring_size`.
    pub max_size: u64,
    /// `hash_function`.
    pub function: RingHashFunction,
}

impl Default for RingHash {
    fn default() -> Self {
        Self {
            min_size: 1024,
            max_size: 8 * 1024 * 1024,
            function: RingHashFunction::XxHash,
        }
    }
}

/// What makes the ring's hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingHashFunction {
    /// `XX_HASH`.
    XxHash,
    /// `MURMUR_HASH_2`.
    Murmur2,
}

/// Options of [`Balancing::PeakEwma`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    /// `decay_time`.
    pub decay: Duration,
    /// `default_rtt`: of an endpoint that has answered nothing and works on nothing.
    pub default_rtt: Duration,
    /// `penalty_value`: the cost, in milliseconds, of one that works on something and has answered nothing.
    pub penalty: f64,
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self {
            decay: Duration::from_secs(10),
            default_rtt: Duration::from_millis(10),
            penalty: 1_000_000.0,
        }
    }
}

/// What all policies share.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// `healthy_panic_threshold` in percent: below this share of healthy endpoints, all are used.
    pub panic_threshold: u32,
    /// `fail_traffic_on_panic`: then none is used.
    pub fails_in_panic: bool,
    /// `locality_weighted_lb_config`: localities get their shares by their weights.
    pub by_locality: bool,
    /// `overprovisioning_factor` in percent.
    pub overprovisioning: u32,
    /// `weighted_priority_health`: the health of a priority counts weights, not endpoints.
    pub weighs_health: bool,
    /// `slow_start_config`.
    pub slow_start: Option<SlowStart>,
    /// `use_hostname_for_hashing`.
    pub hashes_hostnames: bool,
    /// `lb_subset_config`.
    pub subsets: Option<Subsets>,
    /// `drop_overloads`: how many of a million requests are refused.
    pub drops_per_million: u32,
    /// `ignore_new_hosts_until_first_hc`: what was not checked yet does not count as unhealthy either.
    pub ignores_unchecked: bool,
}

impl Default for Spread {
    fn default() -> Self {
        Self {
            panic_threshold: 50,
            fails_in_panic: false,
            by_locality: false,
            overprovisioning: 140,
            weighs_health: false,
            slow_start: None,
            hashes_hostnames: false,
            subsets: None,
            drops_per_million: 0,
            ignores_unchecked: false,
        }
    }
}

/// `SlowStartConfig`: an endpoint that has become healthy gets its share little by little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// `slow_start_window`.
    pub window: Duration,
    /// `aggression`.
    pub aggression: f64,
    /// `min_weight_percent`, as a fraction.
    pub min_weight: f64,
}

/// Names and values, sorted by name: metadata of `envoy.lb`. A value is the JSON of what was said.
pub type Labels = Vec<(String, String)>;

/// `LbSubsetConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subsets {
    /// `subset_selectors`.
    pub selectors: Vec<Selector>,
    /// `fallback_policy`.
    pub fallback: Fallback,
    /// `default_subset`.
    pub default_subset: Labels,
    /// `allow_redundant_keys`: labels that no selector names are passed over.
    pub allows_redundant_keys: bool,
    /// `locality_weight_aware`: the weights of localities count within subsets.
    pub by_locality: bool,
    /// `panic_mode_any`: an empty fallback gives way to all endpoints.
    pub any_in_panic: bool,
}

/// `LbSubsetSelector`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// `keys`, sorted.
    pub keys: Vec<String>,
    /// Its own `fallback_policy`; none leaves it to the cluster.
    pub fallback: Option<Fallback>,
}

/// What serves a request whose subset has no endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Nothing.
    #[default]
    None,
    /// Any endpoint.
    Any,
    /// The endpoints of the default subset.
    DefaultSubset,
}
