//! Clusters of type ORIGINAL_DST.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy};

use super::check::{At, Refused, duration, nothing_else};
use crate::snapshot::OriginalDestination;

const DEFAULT_CLEANUP_INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn compile(
    cluster: &mut pb::Cluster,
    at: &At<'_>,
) -> Result<OriginalDestination, Refused> {
    cluster.cluster_discovery_type = None;
    if std::mem::take(&mut cluster.lb_policy) != LbPolicy::ClusterProvided as i32 {
        let reason = "an ORIGINAL_DST cluster must have CLUSTER_PROVIDED";
        return Err(at.field("lb_policy").refuse(reason));
    }
    if cluster.load_assignment.is_some() {
        let reason = "an ORIGINAL_DST cluster must have none";
        return Err(at.field("load_assignment").refuse(reason));
    }
    let mut port = None;
    match cluster.lb_config.take() {
        None => {}
        Some(LbConfig::OriginalDstLbConfig(mut config)) => {
            let at = &at.field("original_dst_lb_config");
            if let Some(number) = config.upstream_port_override.take() {
                let number = u16::try_from(number.value).map_err(|_| {
                    let reason = format!("{} is not a port", number.value);
                    at.field("upstream_port_override").refuse(reason)
                })?;
                port = (number > 0).then_some(number);
            }
            nothing_else(&config, at)?;
        }
        Some(_) => return Err(at.refuse("only original_dst_lb_config goes with ORIGINAL_DST")),
    }
    let at_interval = &at.field("cleanup_interval");
    let interval = duration(cluster.cleanup_interval.take(), at_interval)?;
    if interval == Some(Duration::ZERO) {
        return Err(at_interval.refuse("it must be more than 0s"));
    }
    Ok(OriginalDestination {
        is_by_name: false,
        port,
        cleanup_interval: interval.unwrap_or(DEFAULT_CLEANUP_INTERVAL),
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use envoy_types::pb::envoy::config::cluster::v3::cluster::{
        ClusterDiscoveryType, DiscoveryType, OriginalDstLbConfig, RoundRobinLbConfig,
    };
    use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
    use envoy_types::pb::envoy::config::core::v3::{BindConfig, ExtraSourceAddress, SocketAddress};
    use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use envoy_types::pb::google::protobuf;

    use super::super::cluster::{self, ClusterSpec, Discovery};
    use super::super::tls::Names;
    use super::*;

    fn config(edit: impl FnOnce(&mut pb::Cluster)) -> Result<ClusterSpec, String> {
        let mut config = pb::Cluster {
            name: "PassthroughCluster".to_owned(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(
                DiscoveryType::OriginalDst as i32,
            )),
            lb_policy: LbPolicy::ClusterProvided as i32,
            ..Default::default()
        };
        edit(&mut config);
        cluster::compile(config, &Names::NONE).map_err(|refused| refused.to_string())
    }

    fn number(value: u32) -> Option<protobuf::UInt32Value> {
        Some(protobuf::UInt32Value { value })
    }

    fn from(address: &str, port: u32) -> Option<SocketAddress> {
        Some(SocketAddress {
            address: address.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..Default::default()
        })
    }

    #[test]
    fn what_istio_sends_is_taken() {
        let spec = config(|_| ()).expect("valid");
        let Discovery::OriginalDestination(options) = spec.discovery else {
            panic!("another type");
        };
        assert_eq!(options.port, None);
        assert_eq!(options.cleanup_interval, Duration::from_secs(5));
        assert!(spec.sources.is_empty());

        let spec = config(|cluster| {
            cluster.lb_config = Some(LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
                upstream_port_override: number(15008),
                ..Default::default()
            }));
            cluster.upstream_bind_config = Some(BindConfig {
                source_address: from("127.0.0.6", 0),
                extra_source_addresses: vec![ExtraSourceAddress {
                    address: from("::6", 0),
                    socket_options: None,
                }],
                ..Default::default()
            });
        })
        .expect("valid");
        let Discovery::OriginalDestination(options) = spec.discovery else {
            panic!("another type");
        };
        assert_eq!(options.port, Some(15008));
        let sources: Vec<IpAddr> = ["127.0.0.6", "::6"]
            .map(|ip| ip.parse().expect("ip"))
            .into();
        assert_eq!(spec.sources, sources);
    }

    #[test]
    fn the_rest_is_refused_by_field() {
        type Change = fn(&mut pb::Cluster);
        let cases: Vec<(Change, &str)> = vec![
            (
                |c| c.lb_policy = LbPolicy::RoundRobin as i32,
                "lb_policy: an ORIGINAL_DST cluster must have CLUSTER_PROVIDED",
            ),
            (
                |c| c.load_assignment = Some(ClusterLoadAssignment::default()),
                "load_assignment: an ORIGINAL_DST cluster must have none",
            ),
            (
                |c| {
                    let config = RoundRobinLbConfig::default();
                    c.lb_config = Some(LbConfig::RoundRobinLbConfig(config));
                },
                "only original_dst_lb_config goes with ORIGINAL_DST",
            ),
            (
                |c| {
                    c.lb_config = Some(LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
                        use_http_header: true,
                        ..Default::default()
                    }));
                },
                "original_dst_lb_config.use_http_header: is not supported",
            ),
            (
                |c| c.cleanup_interval = Some(protobuf::Duration::default()),
                "cleanup_interval: it must be more than 0s",
            ),
            (
                |c| {
                    c.upstream_bind_config = Some(BindConfig {
                        source_address: from("127.0.0.6", 7),
                        ..Default::default()
                    });
                },
                "upstream_bind_config.source_address: a port is not supported",
            ),
            (
                |c| {
                    c.upstream_bind_config = Some(BindConfig {
                        freebind: Some(protobuf::BoolValue { value: true }),
                        ..Default::default()
                    });
                },
                "upstream_bind_config.freebind: is not supported",
            ),
        ];
        for (change, expected) in cases {
            assert_eq!(config(change).expect_err("refused"), expected);
        }
    }
}
