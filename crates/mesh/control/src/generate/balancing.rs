//! How endpoints are chosen, and which are left alone: what a DestinationRule says, in Istio's shape.

use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
    RoundRobinLbConfig, SlowStartConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, OutlierDetection};
use envoy_types::pb::envoy::config::core::v3::RuntimeDouble;
use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::UInt64Value;
use periplus_resources::{
    HashKey, HashTable, LoadBalancing, OutlierDetection as Outliers, TrafficPolicy, Warmup,
};

use super::proto::{duration, uint32};

/// Sets how the endpoints of a cluster are chosen, and when one is left alone.
pub(super) fn set(cluster: &mut Cluster, policy: &TrafficPolicy) {
    let balancer = policy.load_balancer.as_ref();
    let kind = balancer.map_or(&LoadBalancing::LeastRequest, |balancer| &balancer.kind);
    let warmup = balancer
        .and_then(|balancer| balancer.warmup)
        .map(slow_start);
    let size = |size: u64| Some(UInt64Value { value: size });
    let (lb_policy, config) = match kind {
        LoadBalancing::LeastRequest => {
            let config = warmup.map(|warmup| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(warmup),
                    ..LeastRequestLbConfig::default()
                })
            });
            (LbPolicy::LeastRequest, config)
        }
        LoadBalancing::RoundRobin => {
            let config = warmup.map(|warmup| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig {
                    slow_start_config: Some(warmup),
                })
            });
            (LbPolicy::RoundRobin, config)
        }
        LoadBalancing::Random => (LbPolicy::Random, None),
        LoadBalancing::Passthrough => (LbPolicy::ClusterProvided, None),
        LoadBalancing::Hash(_, HashTable::Ring(least)) => {
            let config = RingHashLbConfig {
                minimum_ring_size: size(*least),
                ..RingHashLbConfig::default()
            };
            (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(config)))
        }
        LoadBalancing::Hash(_, HashTable::Maglev(places)) => {
            let config = places.map(|places| {
                LbConfig::MaglevLbConfig(MaglevLbConfig {
                    table_size: size(places),
                })
            });
            (LbPolicy::Maglev, config)
        }
    };
    cluster.lb_policy = lb_policy.into();
    cluster.lb_config = config;
    if let Some(outliers) = policy.outlier_detection {
        cluster.outlier_detection = Some(detection(outliers));
        cluster.common_lb_config = Some(CommonLbConfig {
            healthy_panic_threshold: Some(Percent {
                value: outliers.min_health_percent.into(),
            }),
            ..CommonLbConfig::default()
        });
    }
}

fn slow_start(warmup: Warmup) -> SlowStartConfig {
    SlowStartConfig {
        slow_start_window: duration(warmup.duration),
        aggression: Some(RuntimeDouble {
            default_value: warmup.aggression,
            // Envoy wants a key, which nothing sets.
            runtime_key: "slow_start.aggression".into(),
        }),
        min_weight_percent: Some(Percent {
            value: warmup.minimum_percent,
        }),
    }
}

/// Rates of success do not count, as in Istio.
fn detection(outliers: Outliers) -> OutlierDetection {
    let enforcing =
        |count: Option<u32>| count.and_then(|count| uint32(if count > 0 { 100 } else { 0 }));
    let local = outliers
        .local_failures
        .filter(|count| outliers.splits_local && *count > 0);
    OutlierDetection {
        consecutive_5xx: outliers.errors.and_then(uint32),
        enforcing_consecutive_5xx: enforcing(outliers.errors),
        consecutive_gateway_failure: outliers.gateway_errors.and_then(uint32),
        enforcing_consecutive_gateway_failure: enforcing(outliers.gateway_errors),
        interval: outliers.interval.and_then(duration),
        base_ejection_time: outliers.base_ejection_time.and_then(duration),
        max_ejection_percent: outliers.max_ejection_percent.and_then(uint32),
        enforcing_success_rate: uint32(0),
        split_external_local_origin_errors: outliers.splits_local,
        consecutive_local_origin_failure: local.and_then(uint32),
        enforcing_consecutive_local_origin_failure: enforcing(local),
        enforcing_local_origin_success_rate: outliers.splits_local.then(|| uint32(0)).flatten(),
        ..OutlierDetection::default()
    }
}

/// What requests to a destination are hashed by, if its policy wants that.
pub(super) fn hash_policy(policy: &TrafficPolicy) -> Option<HashPolicy> {
    let LoadBalancing::Hash(key, _) = &policy.load_balancer.as_ref()?.kind else {
        return None;
    };
    let specifier = match key {
        HashKey::Header(name) => PolicySpecifier::Header(Header {
            header_name: name.clone(),
            ..Header::default()
        }),
        HashKey::Cookie {
            name,
            path,
            ttl,
            attributes,
        } => PolicySpecifier::Cookie(Cookie {
            name: name.clone(),
            path: path.clone(),
            ttl: ttl.and_then(duration),
            attributes: attributes
                .iter()
                .map(|(name, value)| CookieAttribute {
                    name: name.clone(),
                    value: value.clone(),
                })
                .collect(),
        }),
        HashKey::SourceIp => {
            PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })
        }
        HashKey::QueryParameter(name) => {
            PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() })
        }
    };
    Some(HashPolicy {
        policy_specifier: Some(specifier),
        ..HashPolicy::default()
    })
}
