//! How a cluster chooses among its endpoints: `lb_policy` with its options, and the same policies in the form
//! of `load_balancing_policy`.

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::cluster::SlowStartConfig;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    ConsistentHashingLbConfig, LocalityConfigSpecifier,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::ring_hash_lb_config::HashFunction;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{CommonLbConfig, LbConfig, LbPolicy};
use envoy_types::pb::google::protobuf::{UInt32Value, UInt64Value};

use super::check::{At, Refused, duration, ignored, nothing_else};
use super::{policy, subset};
use crate::snapshot::{Balancing, LeastRequest, RingHash, RingHashFunction, SlowStart, Spread};

const DEFAULT_TABLE_SIZE: u32 = 65_537;
const MAX_TABLE_SIZE: u64 = 5_000_011;
const MAX_RING_SIZE: u64 = 8 * 1024 * 1024;
/// More choices than this are a scan of all.
const MAX_CHOICES: u32 = 16;

/// A policy and what all policies share.
pub(super) fn compile(
    cluster: &mut pb::Cluster,
    at: &At<'_>,
) -> Result<(Balancing, Spread), Refused> {
    let mut spread = Spread::default();
    let common = cluster.common_lb_config.take().unwrap_or_default();
    common_lb(common, &mut spread, &at.field("common_lb_config"))?;
    if let Some(subsets) = cluster.lb_subset_config.take() {
        spread.subsets = subset::compile(subsets, &at.field("lb_subset_config"))?;
    }
    let at_policy = at.field("lb_policy");
    let balancing = match LbPolicy::try_from(std::mem::take(&mut cluster.lb_policy)) {
        Ok(LbPolicy::RoundRobin) => Balancing::RoundRobin,
        Ok(LbPolicy::LeastRequest) => Balancing::LeastRequest(LeastRequest::default()),
        Ok(LbPolicy::Random) => Balancing::Random,
        Ok(LbPolicy::RingHash) => Balancing::RingHash(RingHash::default()),
        Ok(LbPolicy::Maglev) => Balancing::Maglev {
            table_size: DEFAULT_TABLE_SIZE,
        },
        Ok(LbPolicy::LoadBalancingPolicyConfig) if cluster.load_balancing_policy.is_none() => {
            let at = at.field("load_balancing_policy");
            return Err(at.refuse("it must be given"));
        }
        // What follows replaces it.
        Ok(LbPolicy::LoadBalancingPolicyConfig) => Balancing::RoundRobin,
        Ok(LbPolicy::ClusterProvided) => {
            return Err(at_policy.refuse("CLUSTER_PROVIDED is not supported"));
        }
        Err(_) => return Err(at_policy.refuse("is not known")),
    };
    let balancing = options(balancing, cluster.lb_config.take(), &mut spread, at)?;
    match cluster.load_balancing_policy.take() {
        None => Ok((balancing, spread)),
        Some(list) => {
            let at = &at.field("load_balancing_policy");
            let balancing = policy::compile(list, &mut spread, at)?;
            Ok((balancing, spread))
        }
    }
}

/// The options of the policy; those of another policy mean nothing, as for Envoy.
fn options(
    balancing: Balancing,
    config: Option<LbConfig>,
    spread: &mut Spread,
    at: &At<'_>,
) -> Result<Balancing, Refused> {
    match (balancing, config) {
        (Balancing::LeastRequest(_), Some(LbConfig::LeastRequestLbConfig(mut config))) => {
            let at = &at.field("least_request_lb_config");
            let bias = config.active_request_bias.take();
            let bias = bias.map_or(1.0, |bias| bias.default_value);
            let choices = config.choice_count.take();
            let options = least_request(choices, bias, at)?;
            spread.slow_start = slow_start(config.slow_start_config.take(), at)?;
            nothing_else(&config, at)?;
            Ok(Balancing::LeastRequest(options))
        }
        (Balancing::RoundRobin, Some(LbConfig::RoundRobinLbConfig(mut config))) => {
            let at = &at.field("round_robin_lb_config");
            spread.slow_start = slow_start(config.slow_start_config.take(), at)?;
            nothing_else(&config, at)?;
            Ok(Balancing::RoundRobin)
        }
        (Balancing::RingHash(_), Some(LbConfig::RingHashLbConfig(mut config))) => {
            let at = &at.field("ring_hash_lb_config");
            let function = match HashFunction::try_from(std::mem::take(&mut config.hash_function)) {
                Ok(HashFunction::XxHash) => RingHashFunction::XxHash,
                Ok(HashFunction::MurmurHash2) => RingHashFunction::Murmur2,
                Err(_) => return Err(at.field("hash_function").refuse("is not known")),
            };
            let sizes = (
                config.minimum_ring_size.take(),
                config.maximum_ring_size.take(),
            );
            nothing_else(&config, at)?;
            Ok(Balancing::RingHash(ring_hash(sizes, function, at)?))
        }
        (Balancing::Maglev { .. }, Some(LbConfig::MaglevLbConfig(mut config))) => {
            let at = &at.field("maglev_lb_config");
            let table_size = table_size(config.table_size.take(), &at.field("table_size"))?;
            nothing_else(&config, at)?;
            Ok(Balancing::Maglev { table_size })
        }
        (balancing, _) => Ok(balancing),
    }
}

pub(super) fn least_request(
    choices: Option<UInt32Value>,
    bias: f64,
    at: &At<'_>,
) -> Result<LeastRequest, Refused> {
    let choices = choices.map_or(2, |count| count.value);
    if !(2..=MAX_CHOICES).contains(&choices) {
        let reason = format!("it must be 2 to {MAX_CHOICES}");
        return Err(at.field("choice_count").refuse(reason));
    }
    if !bias.is_finite() || bias < 0.0 {
        let at = at.field("active_request_bias");
        return Err(at.refuse("it must not be negative"));
    }
    Ok(LeastRequest { choices, bias })
}

pub(super) fn ring_hash(
    (min, max): (Option<UInt64Value>, Option<UInt64Value>),
    function: RingHashFunction,
    at: &At<'_>,
) -> Result<RingHash, Refused> {
    let min_size = min.map_or(1024, |size| size.value);
    let max_size = max.map_or(MAX_RING_SIZE, |size| size.value);
    for (name, size) in [
        ("minimum_ring_size", min_size),
        ("maximum_ring_size", max_size),
    ] {
        if size > MAX_RING_SIZE {
            let reason = format!("it must not be more than {MAX_RING_SIZE}");
            return Err(at.field(name).refuse(reason));
        }
    }
    if min_size > max_size {
        let at = at.field("minimum_ring_size");
        return Err(at.refuse("it must not be more than maximum_ring_size"));
    }
    Ok(RingHash {
        min_size: min_size.max(1),
        max_size: max_size.max(1),
        function,
    })
}

pub(super) fn table_size(size: Option<UInt64Value>, at: &At<'_>) -> Result<u32, Refused> {
    let Some(size) = size else {
        return Ok(DEFAULT_TABLE_SIZE);
    };
    let is_prime = |n: u64| {
        n > 2
            && (2..)
                .take_while(|d| d * d <= n)
                .all(|d| !n.is_multiple_of(d))
    };
    match u32::try_from(size.value) {
        Ok(small) if size.value <= MAX_TABLE_SIZE && is_prime(size.value) => Ok(small),
        _ => Err(at.refuse(format!("it must be a prime number up to {MAX_TABLE_SIZE}"))),
    }
}

pub(super) fn slow_start(
    config: Option<SlowStartConfig>,
    at: &At<'_>,
) -> Result<Option<SlowStart>, Refused> {
    let Some(mut config) = config else {
        return Ok(None);
    };
    let at = &at.field("slow_start_config");
    let at_window = &at.field("slow_start_window");
    let window = duration(config.slow_start_window.take(), at_window)?.unwrap_or_default();
    let aggression = config.aggression.take();
    let aggression = aggression.map_or(1.0, |value| value.default_value);
    if !aggression.is_finite() || aggression <= 0.0 {
        return Err(at.field("aggression").refuse("it must be more than 0"));
    }
    let min_weight = config.min_weight_percent.take();
    let min_weight = min_weight.map_or(10.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&min_weight) {
        let at = at.field("min_weight_percent");
        return Err(at.refuse("it must be between 0 and 100"));
    }
    nothing_else(&config, at)?;
    Ok((!window.is_zero()).then_some(SlowStart {
        window,
        aggression,
        min_weight: min_weight / 100.0,
    }))
}

fn common_lb(mut common: CommonLbConfig, spread: &mut Spread, at: &At<'_>) -> Result<(), Refused> {
    if let Some(percent) = common.healthy_panic_threshold.take() {
        if !(0.0..=100.0).contains(&percent.value) {
            let at = at.field("healthy_panic_threshold");
            return Err(at.refuse("it must be between 0 and 100"));
        }
        // Envoy rounds it too.
        spread.panic_threshold = percent.value.round() as u32;
    }
    match common.locality_config_specifier.take() {
        None => {}
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => spread.by_locality = true,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(mut zones)) => {
            spread.fails_in_panic = std::mem::take(&mut zones.fail_traffic_on_panic);
            // Zones need a local cluster, which no bootstrap file that is taken names.
            ignored!(zones: routing_enabled, min_cluster_size);
            nothing_else(&zones, &at.field("zone_aware_lb_config"))?;
        }
    }
    if let Some(hashing) = common.consistent_hashing_lb_config.take() {
        hashing_lb(hashing, spread, &at.field("consistent_hashing_lb_config"))?;
    }
    spread.ignores_unchecked = std::mem::take(&mut common.ignore_new_hosts_until_first_hc);
    ignored!(common: update_merge_window);
    nothing_else(&common, at)
}

fn hashing_lb(
    mut hashing: ConsistentHashingLbConfig,
    spread: &mut Spread,
    at: &At<'_>,
) -> Result<(), Refused> {
    spread.hashes_hostnames = std::mem::take(&mut hashing.use_hostname_for_hashing);
    nothing_else(&hashing, at)
}
