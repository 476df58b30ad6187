//! Dynamic forward proxies: clusters and filters whose endpoints are what requests and connections name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    CustomClusterType, DnsLookupFamily, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::ClusterConfig;
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::cluster_config::ClusterImplementationSpecifier;
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::filter_config::ImplementationSpecifier;
use envoy_types::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::FilterConfig as OfConnections;
use envoy_types::pb::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::filter_config::PortSpecifier;
use envoy_types::pb::google::protobuf::Any;
use prost::Name;

use super::check::{At, Refused, decode, duration, ignored, nothing_else};
use super::cluster::{failure_rate, family};
use super::filter_chain::port;
use super::listener::socket_address;
use crate::snapshot::{NameCache, OriginalDestination};

const DEFAULT_REFRESH: Duration = Duration::from_secs(60);
const DEFAULT_MIN_REFRESH: Duration = Duration::from_secs(5);
const MIN_REFRESH: Duration = Duration::from_secs(1);
const DEFAULT_HOST_TTL: Duration = Duration::from_secs(300);
const DEFAULT_TLS_PORT: u16 = 443;
const DEFAULT_MOST: u32 = 1024;
const DEFAULT_QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection to a host is kept that nobody uses, as those of ORIGINAL_DST.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(5);

/// Whether a cluster is one, whose endpoints are the hosts of requests.
pub(super) fn is_cluster(custom: &CustomClusterType) -> bool {
    let config = custom.typed_config.as_ref();
    config.is_some_and(|config| config.type_url == ClusterConfig::type_url())
}

pub(super) fn cluster(
    custom: CustomClusterType,
    cluster: &mut pb::Cluster,
    at: &At<'_>,
) -> Result<OriginalDestination, Refused> {
    if std::mem::take(&mut cluster.lb_policy) != LbPolicy::ClusterProvided as i32 {
        let reason = "a cluster of dynamic_forward_proxy must have CLUSTER_PROVIDED";
        return Err(at.field("lb_policy").refuse(reason));
    }
    if cluster.transport_socket.is_some() || !cluster.transport_socket_matches.is_empty() {
        let reason = "is not supported with dynamic_forward_proxy: each host would have to be checked by its own name";
        return Err(at.field("transport_socket").refuse(reason));
    }
    let at_type = at.field("cluster_type");
    let at = &at_type.field("typed_config");
    let mut config: ClusterConfig = decode(&custom.typed_config.unwrap_or_default(), at)?;
    match config.cluster_implementation_specifier.take() {
        // What the filter says counts: caches of one name are the same.
        Some(ClusterImplementationSpecifier::DnsCacheConfig(cache)) => {
            compile(cache, &at.field("dns_cache_config"))?;
        }
        Some(ClusterImplementationSpecifier::SubClustersConfig(_)) => {
            return Err(at.field("sub_clusters_config").refuse("is not supported"));
        }
        None => return Err(at.field("dns_cache_config").refuse("it must be given")),
    }
    // It is about TLS.
    ignored!(config: allow_insecure_cluster_options);
    nothing_else(&config, at)?;
    Ok(OriginalDestination {
        is_by_name: true,
        port: None,
        cleanup_interval: CLEANUP_INTERVAL,
    })
}

/// The filter of requests.
pub(super) fn filter(mut config: FilterConfig, at: &At<'_>) -> Result<Arc<NameCache>, Refused> {
    let cache = match config.implementation_specifier.take() {
        Some(ImplementationSpecifier::DnsCacheConfig(cache)) => {
            compile(cache, &at.field("dns_cache_config"))?
        }
        Some(ImplementationSpecifier::SubClusterConfig(_)) => {
            return Err(at.field("sub_cluster_config").refuse("is not supported"));
        }
        None => return Err(at.field("dns_cache_config").refuse("it must be given")),
    };
    nothing_else(&config, at)?;
    Ok(cache)
}

/// Whether a filter is that of connections, which looks up what their handshakes name.
pub(super) fn is_of_connections(config: &Any) -> bool {
    config.type_url == OfConnections::type_url()
}

/// The filter of connections, with the port that they go to.
pub(super) fn of_connections(
    mut config: OfConnections,
    at: &At<'_>,
) -> Result<(Arc<NameCache>, u16), Refused> {
    let Some(cache) = config.dns_cache_config.take() else {
        return Err(at.field("dns_cache_config").refuse("it must be given"));
    };
    let cache = compile(cache, &at.field("dns_cache_config"))?;
    let port = match config.port_specifier.take() {
        None => DEFAULT_TLS_PORT,
        Some(PortSpecifier::PortValue(number)) => port(number, &at.field("port_value"))?,
    };
    nothing_else(&config, at)?;
    Ok((cache, port))
}

pub(super) fn compile(mut cache: DnsCacheConfig, at: &At<'_>) -> Result<Arc<NameCache>, Refused> {
    let name = std::mem::take(&mut cache.name);
    if name.is_empty() {
        return Err(at.field("name").refuse("it must not be empty"));
    }
    let of_cache = DnsLookupFamily::try_from(std::mem::take(&mut cache.dns_lookup_family))
        .map_err(|_| at.field("dns_lookup_family").refuse("is not known"))?;
    let time = |given, field: &str, least: Duration| {
        let at = &at.field(field);
        match duration(given, at)? {
            Some(time) if time < least => Err(at.refuse(format!("it must be at least {least:?}"))),
            time => Ok(time),
        }
    };
    let refresh = time(
        cache.dns_refresh_rate.take(),
        "dns_refresh_rate",
        MIN_REFRESH,
    )?;
    let min_refresh = time(
        cache.dns_min_refresh_rate.take(),
        "dns_min_refresh_rate",
        MIN_REFRESH,
    )?;
    let host_ttl = time(cache.host_ttl.take(), "host_ttl", Duration::from_millis(1))?;
    let query_timeout = time(
        cache.dns_query_timeout.take(),
        "dns_query_timeout",
        Duration::from_millis(1),
    )?;
    let failure = match cache.dns_failure_refresh_rate.take() {
        Some(rate) => Some(failure_rate(rate, &at.field("dns_failure_refresh_rate"))?),
        None => None,
    };
    let max_hosts = cache
        .max_hosts
        .take()
        .map_or(DEFAULT_MOST, |most| most.value);
    if max_hosts == 0 {
        return Err(at.field("max_hosts").refuse("it must be more than 0"));
    }
    let mut breakers = cache.dns_cache_circuit_breaker.take().unwrap_or_default();
    let max_waiting = breakers.max_pending_requests.take();
    nothing_else(&breakers, &at.field("dns_cache_circuit_breaker"))?;
    let servers = match cache.typed_dns_resolver_config.take() {
        Some(config) => resolvers(config, &at.field("typed_dns_resolver_config"))?,
        None => Vec::new(),
    };
    let cache_of = NameCache {
        name,
        family: family(of_cache),
        refresh: refresh.unwrap_or(DEFAULT_REFRESH),
        min_refresh: min_refresh.unwrap_or(DEFAULT_MIN_REFRESH),
        failure,
        forgets_failures: std::mem::take(&mut cache.disable_dns_refresh_on_failure),
        host_ttl: host_ttl.unwrap_or(DEFAULT_HOST_TTL),
        max_hosts: max_hosts as usize,
        max_waiting: max_waiting.map_or(DEFAULT_MOST, |most| most.value),
        query_timeout: query_timeout.unwrap_or(DEFAULT_QUERY_TIMEOUT),
        servers,
    };
    nothing_else(&cache, at)?;
    Ok(Arc::new(cache_of))
}

/// The servers that are asked in place of those of this host.
fn resolvers(config: TypedExtensionConfig, at: &At<'_>) -> Result<Vec<SocketAddr>, Refused> {
    let at = &at.field("typed_config");
    let config = config.typed_config.unwrap_or_default();
    if config.type_url != CaresDnsResolverConfig::type_url() {
        return Err(at.refuse(format!(
            "{:?} is not supported, CaresDnsResolverConfig is",
            config.type_url
        )));
    }
    let mut config: CaresDnsResolverConfig = decode(&config, at)?;
    let at_resolvers = &at.field("resolvers");
    let servers = std::mem::take(&mut config.resolvers)
        .into_iter()
        .enumerate()
        .map(|(index, one)| socket_address(Some(one), &at_resolvers.index(index)))
        .collect::<Result<_, _>>()?;
    nothing_else(&config, at)?;
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::SocketAddress;
    use envoy_types::pb::google::protobuf;

    use super::*;

    fn cache() -> DnsCacheConfig {
        DnsCacheConfig {
            name: "c".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn defaults_are_envoys() {
        let compiled = compile(cache(), &At::ROOT).expect("valid");
        let seconds = Duration::from_secs;
        assert_eq!(
            [compiled.refresh, compiled.min_refresh, compiled.host_ttl],
            [seconds(60), seconds(5), seconds(300)]
        );
        assert_eq!((compiled.max_hosts, compiled.max_waiting), (1024, 1024));
        assert_eq!(compiled.query_timeout, seconds(5));
        assert_eq!(compiled.failure, None);
        assert!(compiled.servers.is_empty() && !compiled.forgets_failures);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let second = |nanos| Some(protobuf::Duration { seconds: 0, nanos });
        type Edit = fn(&mut DnsCacheConfig);
        let cases: [(&str, Edit); 4] = [
            ("name: it must not be empty", |cache| cache.name.clear()),
            ("preresolve_hostnames: is not supported", |cache| {
                cache.preresolve_hostnames = vec![SocketAddress::default()];
            }),
            ("max_hosts: it must be more than 0", |cache| {
                cache.max_hosts = Some(protobuf::UInt32Value { value: 0 });
            }),
            (
                "typed_dns_resolver_config.typed_config: \"\" is not supported, CaresDnsResolverConfig is",
                |cache| cache.typed_dns_resolver_config = Some(TypedExtensionConfig::default()),
            ),
        ];
        for (expected, edit) in cases {
            let mut given = cache();
            edit(&mut given);
            let refused = compile(given, &At::ROOT).expect_err(expected);
            assert_eq!(refused.to_string(), expected);
        }
        let mut often = cache();
        often.dns_refresh_rate = second(5_000_000);
        let refused = compile(often, &At::ROOT).expect_err("too often");
        assert_eq!(
            refused.to_string(),
            "dns_refresh_rate: it must be at least 1s"
        );
    }

    #[test]
    fn clusters_have_neither_a_policy_nor_tls() {
        let custom = || CustomClusterType {
            name: "envoy.clusters.dynamic_forward_proxy".to_owned(),
            typed_config: Some(envoy_types::util::pack_any(ClusterConfig {
                cluster_implementation_specifier: Some(
                    ClusterImplementationSpecifier::DnsCacheConfig(cache()),
                ),
                ..Default::default()
            })),
        };
        assert!(is_cluster(&custom()));
        let mut provided = pb::Cluster {
            lb_policy: LbPolicy::ClusterProvided as i32,
            ..Default::default()
        };
        let options = cluster(custom(), &mut provided.clone(), &At::ROOT).expect("valid");
        assert!(options.is_by_name);
        let refused = cluster(custom(), &mut pb::Cluster::default(), &At::ROOT);
        assert!(
            refused
                .expect_err("a policy")
                .to_string()
                .starts_with("lb_policy: ")
        );
        provided.transport_socket = Some(Default::default());
        let refused = cluster(custom(), &mut provided, &At::ROOT).expect_err("TLS");
        assert!(refused.to_string().starts_with("transport_socket: "));
    }
}
