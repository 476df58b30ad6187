//! `load_balancing_policy`: the first of a list of policies that is known.

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3 as common;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::LocalityConfigSpecifier;
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use envoy_types::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use envoy_types::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::RingHash;
use envoy_types::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::ring_hash::HashFunction;
use envoy_types::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use envoy_types::pb::envoy::extensions::load_balancing_policies::subset::v3::Subset;
use envoy_types::pb::envoy::extensions::load_balancing_policies::wrr_locality::v3::WrrLocality;
use envoy_types::pb::google::protobuf::{Any, DoubleValue, Duration, UInt32Value};
use prost::Message;

use super::balancing::{least_request, ring_hash, slow_start, table_size};
use super::check::{At, Refused, decode, duration, flag, ignored, nothing_else, short_type};
use super::subset;
use crate::snapshot::{self, Balancing, RingHashFunction, Spread};

/// How deep policies may lie within each other.
const MAX_DEPTH: usize = 4;

/// `envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.PeakEwma`, of Envoy's contributions.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PeakEwma {
    #[prost(message, optional, tag = "1")]
    pub(super) decay_time: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub(super) aggregation_interval: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    pub(super) max_samples_per_host: Option<UInt32Value>,
    #[prost(message, optional, tag = "4")]
    pub(super) default_rtt: Option<Duration>,
    #[prost(message, optional, tag = "5")]
    pub(super) penalty_value: Option<DoubleValue>,
}

impl prost::Name for PeakEwma {
    const NAME: &'static str = "PeakEwma";
    const PACKAGE: &'static str = "envoy.extensions.load_balancing_policies.peak_ewma.v3alpha";

    fn full_name() -> String {
        format!("{}.{}", Self::PACKAGE, Self::NAME)
    }

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

pub(super) fn compile(
    list: LoadBalancingPolicy,
    spread: &mut Spread,
    at: &At<'_>,
) -> Result<Balancing, Refused> {
    of_list(list, spread, at, MAX_DEPTH)
}

fn of_list(
    list: LoadBalancingPolicy,
    spread: &mut Spread,
    at: &At<'_>,
    depth: usize,
) -> Result<Balancing, Refused> {
    if depth == 0 {
        return Err(at.refuse("policies lie too deep within each other"));
    }
    let at_policies = &at.field("policies");
    let mut unknown = Vec::new();
    for (index, policy) in list.policies.into_iter().enumerate() {
        let Some(extension) = policy.typed_extension_config else {
            continue;
        };
        let at = &at_policies.index(index);
        let at = &at.field("typed_extension_config");
        let Some(config) = extension.typed_config else {
            return Err(at.field("typed_config").refuse("it must be given"));
        };
        match of_type(&config, spread, at, depth)? {
            Some(balancing) => return Ok(balancing),
            None => unknown.push(short_type(&config.type_url).to_owned()),
        }
    }
    if unknown.is_empty() {
        return Err(at.refuse("there must be at least one policy"));
    }
    Err(at.refuse(format!("none of {} is supported", unknown.join(", "))))
}

/// The policy, if its type is known.
fn of_type(
    config: &Any,
    spread: &mut Spread,
    at: &At<'_>,
    depth: usize,
) -> Result<Option<Balancing>, Refused> {
    let name = short_type(&config.type_url).rsplit('.').next();
    let at = &at.field("typed_config");
    Ok(Some(match name.unwrap_or_default() {
        "RoundRobin" => round_robin(decode(config, at)?, spread, at)?,
        "LeastRequest" => least(decode(config, at)?, spread, at)?,
        "Random" => {
            let mut config: Random = decode(config, at)?;
            localities(config.locality_lb_config.take(), spread, at)?;
            nothing_else(&config, at)?;
            Balancing::Random
        }
        "RingHash" => ring(decode(config, at)?, spread, at)?,
        "Maglev" => maglev(decode(config, at)?, spread, at)?,
        "PeakEwma" => peak_ewma(decode(config, at)?, at)?,
        "Subset" => {
            let mut config: Subset = decode(config, at)?;
            let inner = config.subset_lb_policy.take().unwrap_or_default();
            spread.subsets = subset::of_extension(config, at)?;
            of_list(inner, spread, &at.field("subset_lb_policy"), depth - 1)?
        }
        "WrrLocality" => {
            let config: WrrLocality = decode(config, at)?;
            let inner = config.endpoint_picking_policy.unwrap_or_default();
            spread.by_locality = true;
            of_list(
                inner,
                spread,
                &at.field("endpoint_picking_policy"),
                depth - 1,
            )?
        }
        _ => return Ok(None),
    }))
}

fn round_robin(
    mut config: RoundRobin,
    spread: &mut Spread,
    at: &At<'_>,
) -> Result<Balancing, Refused> {
    spread.slow_start = slow_start(same(config.slow_start_config.take()), at)?;
    localities(config.locality_lb_config.take(), spread, at)?;
    nothing_else(&config, at)?;
    Ok(Balancing::RoundRobin)
}

fn least(mut config: LeastRequest, spread: &mut Spread, at: &At<'_>) -> Result<Balancing, Refused> {
    let bias = config.active_request_bias.take();
    let bias = bias.map_or(1.0, |bias| bias.default_value);
    let options = least_request(config.choice_count.take(), bias, at)?;
    spread.slow_start = slow_start(same(config.slow_start_config.take()), at)?;
    localities(config.locality_lb_config.take(), spread, at)?;
    if flag(config.enable_full_scan.take(), false) {
        let at = at.field("enable_full_scan");
        return Err(at.refuse("true is not supported"));
    }
    nothing_else(&config, at)?;
    Ok(Balancing::LeastRequest(options))
}

fn ring(mut config: RingHash, spread: &mut Spread, at: &At<'_>) -> Result<Balancing, Refused> {
    let function = match HashFunction::try_from(std::mem::take(&mut config.hash_function)) {
        Ok(HashFunction::DefaultHash | HashFunction::XxHash) => RingHashFunction::XxHash,
        Ok(HashFunction::MurmurHash2) => RingHashFunction::Murmur2,
        Err(_) => return Err(at.field("hash_function").refuse("is not known")),
    };
    let sizes = (
        config.minimum_ring_size.take(),
        config.maximum_ring_size.take(),
    );
    let options = ring_hash(sizes, function, at)?;
    spread.hashes_hostnames |= std::mem::take(&mut config.use_hostname_for_hashing);
    hashing(config.consistent_hashing_lb_config.take(), spread, at)?;
    spread.by_locality |= config.locality_weighted_lb_config.take().is_some();
    nothing_else(&config, at)?;
    Ok(Balancing::RingHash(options))
}

fn maglev(mut config: Maglev, spread: &mut Spread, at: &At<'_>) -> Result<Balancing, Refused> {
    let table_size = table_size(config.table_size.take(), &at.field("table_size"))?;
    hashing(config.consistent_hashing_lb_config.take(), spread, at)?;
    spread.by_locality |= config.locality_weighted_lb_config.take().is_some();
    nothing_else(&config, at)?;
    Ok(Balancing::Maglev { table_size })
}

fn peak_ewma(mut config: PeakEwma, at: &At<'_>) -> Result<Balancing, Refused> {
    let unset = snapshot::PeakEwma::default();
    let time = |value, name| match duration(value, &at.field(name))? {
        Some(time) if time.is_zero() => Err(at.field(name).refuse("it must be more than 0s")),
        time => Ok(time),
    };
    let options = snapshot::PeakEwma {
        decay: time(config.decay_time.take(), "decay_time")?.unwrap_or(unset.decay),
        default_rtt: time(config.default_rtt.take(), "default_rtt")?.unwrap_or(unset.default_rtt),
        penalty: config
            .penalty_value
            .take()
            .map_or(unset.penalty, |value| value.value),
    };
    // Each worker keeps its means as answers come; nothing is gathered and added up later.
    ignored!(config: aggregation_interval, max_samples_per_host);
    nothing_else(&config, at)?;
    Ok(Balancing::PeakEwma(options))
}

fn hashing(
    config: Option<common::ConsistentHashingLbConfig>,
    spread: &mut Spread,
    at: &At<'_>,
) -> Result<(), Refused> {
    let Some(mut config) = config else {
        return Ok(());
    };
    spread.hashes_hostnames |= std::mem::take(&mut config.use_hostname_for_hashing);
    nothing_else(&config, &at.field("consistent_hashing_lb_config"))
}

fn localities(
    config: Option<common::LocalityLbConfig>,
    spread: &mut Spread,
    at: &At<'_>,
) -> Result<(), Refused> {
    let at = &at.field("locality_lb_config");
    match config.and_then(|config| config.locality_config_specifier) {
        None => Ok(()),
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => {
            spread.by_locality = true;
            Ok(())
        }
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(mut zones)) => {
            spread.fails_in_panic = std::mem::take(&mut zones.fail_traffic_on_panic);
            // Zones need a local cluster, which no bootstrap file that is taken names.
            ignored!(zones: routing_enabled, min_cluster_size);
            nothing_else(&zones, &at.field("zone_aware_lb_config"))
        }
    }
}

/// The older message has the same fields.
fn same(config: Option<common::SlowStartConfig>) -> Option<cluster::cluster::SlowStartConfig> {
    let bytes = config?.encode_to_vec();
    cluster::cluster::SlowStartConfig::decode(bytes.as_slice()).ok()
}
