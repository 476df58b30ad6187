//! `TcpProxy`.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::BackoffStrategy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;

use envoy_types::pb::envoy::r#type::v3::HashPolicy;
use envoy_types::pb::envoy::r#type::v3::hash_policy::PolicySpecifier;

use super::access_log;
use super::check::{At, Refused, duration, flag, ignored, nothing_else, timeout};
use super::route::total_weight;
use crate::snapshot::{Backoff, TcpProxy, WeightedCluster};

const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const MIN_DURATION: Duration = Duration::from_millis(1);
/// `max_interval`, in multiples of `base_interval`.
const DEFAULT_MAX_INTERVAL: u32 = 10;

pub(super) fn compile(mut proxy: pb::TcpProxy, at: &At<'_>) -> Result<TcpProxy, Refused> {
    let stat_prefix = std::mem::take(&mut proxy.stat_prefix);
    if stat_prefix.is_empty() {
        return Err(at.field("stat_prefix").refuse("it must not be empty"));
    }
    let clusters = clusters(proxy.cluster_specifier.take(), at)?;
    let total_weight = total_weight(&clusters, &at.field("weighted_clusters"))?;
    let idle_timeout = timeout(
        proxy.idle_timeout.take(),
        Some(DEFAULT_IDLE_TIMEOUT),
        &at.field("idle_timeout"),
    )?;
    let max_connect_attempts = proxy.max_connect_attempts.take().map_or(1, |n| n.value);
    if max_connect_attempts == 0 {
        let at = at.field("max_connect_attempts");
        return Err(at.refuse("it must be at least 1"));
    }
    let backoff = match proxy.backoff_options.take() {
        Some(strategy) => Some(backoff(strategy, &at.field("backoff_options"))?),
        None => None,
    };
    let at_duration = &at.field("max_downstream_connection_duration");
    let max_duration = duration(proxy.max_downstream_connection_duration.take(), at_duration)?;
    if max_duration.is_some_and(|duration| duration < MIN_DURATION) {
        return Err(at_duration.refuse("it must be at least 1ms"));
    }
    let jitter = proxy
        .max_downstream_connection_duration_jitter_percentage
        .take()
        .map_or(0.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&jitter) {
        let at = at.field("max_downstream_connection_duration_jitter_percentage");
        return Err(at.refuse("it must be between 0 and 100"));
    }
    let hashes_source = hashes_source(std::mem::take(&mut proxy.hash_policy), at)?;
    let check_drain_close = flag(proxy.check_drain_close.take(), false);
    let access_logs = std::mem::take(&mut proxy.access_log);
    let access_logs = access_log::compile(access_logs, &at.field("access_log"))?;
    ignored!(proxy: downstream_idle_timeout, upstream_idle_timeout);
    nothing_else(&proxy, at)?;
    Ok(TcpProxy {
        stat_prefix,
        clusters,
        total_weight,
        idle_timeout,
        max_connect_attempts,
        backoff,
        max_duration,
        max_duration_jitter: jitter,
        hashes_source,
        rules: Vec::new(),
        check_drain_close,
        access_logs,
        metrics: None,
        exchanges_peers: false,
        looks_up: None,
    })
}

fn clusters(
    specifier: Option<ClusterSpecifier>,
    at: &At<'_>,
) -> Result<Vec<WeightedCluster>, Refused> {
    match specifier {
        Some(ClusterSpecifier::Cluster(name)) if !name.is_empty() => {
            Ok(vec![WeightedCluster::new(name, 1)])
        }
        Some(ClusterSpecifier::Cluster(_)) => {
            Err(at.field("cluster").refuse("it must not be empty"))
        }
        Some(ClusterSpecifier::WeightedClusters(list)) => {
            let at = at.field("weighted_clusters");
            let at_clusters = &at.field("clusters");
            list.clusters
                .into_iter()
                .enumerate()
                .map(|(index, mut cluster)| {
                    let at = &at_clusters.index(index);
                    let name = std::mem::take(&mut cluster.name);
                    if name.is_empty() {
                        return Err(at.field("name").refuse("it must not be empty"));
                    }
                    let weight = std::mem::take(&mut cluster.weight);
                    if weight == 0 {
                        return Err(at.field("weight").refuse("it must be at least 1"));
                    }
                    nothing_else(&cluster, at)?;
                    Ok(WeightedCluster::new(name, weight))
                })
                .collect()
        }
        None => Err(at.refuse("one of cluster and weighted_clusters must be given")),
    }
}

/// Envoy takes one hash policy at most.
fn hashes_source(policies: Vec<HashPolicy>, at: &At<'_>) -> Result<bool, Refused> {
    let at = &at.field("hash_policy");
    let mut policies = policies.into_iter().map(|policy| policy.policy_specifier);
    match (policies.next(), policies.next()) {
        (None, _) => Ok(false),
        (Some(Some(PolicySpecifier::SourceIp(_))), None) => Ok(true),
        (Some(Some(PolicySpecifier::FilterState(_))), None) => {
            Err(at.index(0).field("filter_state").refuse("is not supported"))
        }
        (Some(None), None) => Err(at.index(0).refuse("its kind must be given")),
        (Some(_), Some(_)) => Err(at.refuse("there must be at most one")),
    }
}

fn backoff(mut strategy: BackoffStrategy, at: &At<'_>) -> Result<Backoff, Refused> {
    let base = duration(strategy.base_interval.take(), &at.field("base_interval"))?;
    let base = base
        .filter(|base| *base >= MIN_DURATION)
        .ok_or_else(|| at.field("base_interval").refuse("it must be at least 1ms"))?;
    let max = duration(strategy.max_interval.take(), &at.field("max_interval"))?;
    let max = max.unwrap_or(base * DEFAULT_MAX_INTERVAL);
    if max < base {
        let at = at.field("max_interval");
        return Err(at.refuse("it must not be less than base_interval"));
    }
    nothing_else(&strategy, at)?;
    Ok(Backoff { base, max })
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::Metadata;
    use envoy_types::pb::envoy::r#type::v3::{HashPolicy, Percent};
    use envoy_types::pb::google::protobuf;
    use pb::tcp_proxy::weighted_cluster::ClusterWeight;
    use pb::tcp_proxy::{OnDemand, TunnelingConfig, WeightedCluster as WeightedClusters};

    use super::*;

    fn config(edit: impl FnOnce(&mut pb::TcpProxy)) -> Result<TcpProxy, String> {
        let mut proxy = pb::TcpProxy {
            stat_prefix: "test".to_owned(),
            cluster_specifier: Some(ClusterSpecifier::Cluster("c".to_owned())),
            ..Default::default()
        };
        edit(&mut proxy);
        compile(proxy, &At::ROOT).map_err(|refused| refused.to_string())
    }

    fn millis(millis: i32) -> Option<protobuf::Duration> {
        Some(protobuf::Duration {
            seconds: 0,
            nanos: millis * 1_000_000,
        })
    }

    fn number(value: u32) -> Option<protobuf::UInt32Value> {
        Some(protobuf::UInt32Value { value })
    }

    fn weighted(name: &str, weight: u32) -> ClusterWeight {
        ClusterWeight {
            name: name.to_owned(),
            weight,
            metadata_match: None,
        }
    }

    #[test]
    fn defaults_are_those_of_envoy() {
        let proxy = config(|_| ()).expect("valid");
        assert_eq!(proxy.clusters[0].name, "c");
        assert_eq!(proxy.idle_timeout, Some(Duration::from_secs(3600)));
        assert_eq!(proxy.max_connect_attempts, 1);
        assert_eq!((proxy.backoff, proxy.max_duration), (None, None));
        assert!(!proxy.check_drain_close);
    }

    #[test]
    fn everything_that_is_supported_is_taken() {
        let proxy = config(|p| {
            p.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(WeightedClusters {
                clusters: vec![weighted("a", 1), weighted("b", 3)],
            }));
            p.idle_timeout = millis(0);
            p.max_connect_attempts = number(3);
            p.backoff_options = Some(BackoffStrategy {
                base_interval: millis(5),
                max_interval: None,
            });
            p.max_downstream_connection_duration = millis(900);
            p.max_downstream_connection_duration_jitter_percentage = Some(Percent { value: 10.0 });
            p.check_drain_close = Some(protobuf::BoolValue { value: true });
            p.hash_policy = vec![HashPolicy {
                policy_specifier: Some(PolicySpecifier::SourceIp(Default::default())),
            }];
        })
        .expect("valid");
        assert_eq!(proxy.total_weight, 4);
        assert_eq!(proxy.idle_timeout, None);
        assert_eq!(proxy.max_connect_attempts, 3);
        let backoff = proxy.backoff.expect("backoff");
        assert_eq!(backoff.max, 10 * backoff.base);
        assert_eq!(proxy.max_duration, Some(Duration::from_millis(900)));
        assert_eq!(proxy.max_duration_jitter, 10.0);
        assert!(proxy.check_drain_close && proxy.hashes_source);
    }

    #[test]
    fn the_rest_is_refused_by_field() {
        type Change = fn(&mut pb::TcpProxy);
        let cases: Vec<(Change, &str)> = vec![
            (
                |p| p.stat_prefix.clear(),
                "stat_prefix: it must not be empty",
            ),
            (
                |p| p.cluster_specifier = None,
                "one of cluster and weighted_clusters must be given",
            ),
            (
                |p| p.cluster_specifier = Some(ClusterSpecifier::Cluster(String::new())),
                "cluster: it must not be empty",
            ),
            (
                |p| {
                    let clusters = vec![weighted("a", 1), weighted("b", 0)];
                    let clusters = WeightedClusters { clusters };
                    p.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(clusters));
                },
                "weighted_clusters.clusters[1].weight: it must be at least 1",
            ),
            (
                |p| {
                    let clusters = WeightedClusters::default();
                    p.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(clusters));
                },
                "weighted_clusters: the weights add up to 0",
            ),
            (
                |p| p.max_connect_attempts = number(0),
                "max_connect_attempts: it must be at least 1",
            ),
            (
                |p| p.backoff_options = Some(BackoffStrategy::default()),
                "backoff_options.base_interval: it must be at least 1ms",
            ),
            (
                |p| p.max_downstream_connection_duration = millis(0),
                "max_downstream_connection_duration: it must be at least 1ms",
            ),
            (
                |p| p.tunneling_config = Some(TunnelingConfig::default()),
                "tunneling_config: is not supported",
            ),
            (
                |p| p.on_demand = Some(OnDemand::default()),
                "on_demand: is not supported",
            ),
            (
                |p| p.metadata_match = Some(Metadata::default()),
                "metadata_match: is not supported",
            ),
            (
                |p| p.upstream_connect_mode = pb::UpstreamConnectMode::OnDownstreamData as i32,
                "upstream_connect_mode: is not supported",
            ),
            (
                |p| p.max_early_data_bytes = number(1),
                "max_early_data_bytes: is not supported",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(config(change).expect_err("refused"), expected);
        }
    }
}
