//! `envoy.config.cluster.v3.Cluster`, without the endpoints that come from elsewhere.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, ClusterProtocolSelection, CommonLbConfig, DiscoveryType, DnsLookupFamily, LbConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3::{HttpProtocolOptions, RoutingPriority};
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;

use super::check::{At, Refused, decode, duration, ignored, nothing_else, timeout};
use super::endpoint::{self, Assignment};
use super::manager::{http1_options, over_ads};
use super::tls::Names;
use super::transport::Transports;
use super::{bind, http2, original_destination, transport};
use crate::snapshot::{
    Balancing, ClusterLimits, Http2Options, OriginalDestination, UpstreamProtocol,
};

/// A checked cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClusterSpec {
    pub(crate) name: String,
    pub(crate) observability_name: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) balancing: Balancing,
    pub(crate) limits: ClusterLimits,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) protocol: UpstreamProtocol,
    /// Below this share of healthy endpoints, in percent, all are used.
    pub(crate) panic_threshold: f64,
    pub(crate) discovery: Discovery,
    /// The addresses that connections are made from, at most one of a family.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) transports: Transports,
}

/// Where the endpoints come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Discovery {
    /// They are part of the cluster.
    Static(Assignment),
    /// By EDS over ADS, under this name.
    Eds {
        service_name: String,
        /// How long the cluster waits for them at first; `None` for ever.
        fetch_timeout: Option<Duration>,
    },
    /// By resolving the names in the cluster.
    Dns {
        assignment: Assignment,
        /// All addresses of a name (STRICT_DNS), or its first one (LOGICAL_DNS).
        all_addresses: bool,
        family: Family,
        refresh: Duration,
    },
    /// Where each client wanted to go.
    OriginalDestination(OriginalDestination),
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Family {
    /// IPv6, or IPv4 when there is none.
    Auto,
    V4Only,
    V6Only,
    V4Preferred,
    All,
}

const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const DEFAULT_LIMIT: u32 = 1024;
const DEFAULT_PANIC_THRESHOLD: f64 = 50.0;
const DEFAULT_DNS_REFRESH: Duration = Duration::from_secs(5);
const MIN_DNS_REFRESH: Duration = Duration::from_secs(1);
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(crate) fn compile(mut cluster: pb::Cluster, names: &Names<'_>) -> Result<ClusterSpec, Refused> {
    let at = &At::ROOT;
    let name = std::mem::take(&mut cluster.name);
    if name.is_empty() {
        return Err(at.field("name").refuse("it must not be empty"));
    }
    let (discovery, balancing) = if is_original_destination(&cluster) {
        let options = original_destination::compile(&mut cluster, at)?;
        // There is nothing to choose from.
        (
            Discovery::OriginalDestination(options),
            Balancing::RoundRobin,
        )
    } else {
        let balancing = balancing(&mut cluster, at)?;
        (discovery(&mut cluster, &name, at)?, balancing)
    };
    let sources = match cluster.upstream_bind_config.take() {
        Some(config) => bind::compile(config, &at.field("upstream_bind_config"))?,
        None => Vec::new(),
    };
    let (protocol, mut common) = http_options(&mut cluster, at)?;
    let at_common = at.field("common_http_protocol_options");
    let idle_timeout = timeout(
        common.idle_timeout.take(),
        Some(DEFAULT_IDLE_TIMEOUT),
        &at_common.field("idle_timeout"),
    )?;
    nothing_else(&common, &at_common)?;
    let connect_timeout = duration(cluster.connect_timeout.take(), &at.field("connect_timeout"))?;
    if connect_timeout == Some(Duration::ZERO) {
        return Err(at
            .field("connect_timeout")
            .refuse("it must be more than 0s"));
    }
    let breakers = cluster.circuit_breakers.take().unwrap_or_default();
    let limits = limits(breakers, &at.field("circuit_breakers"))?;
    let common = cluster.common_lb_config.take().unwrap_or_default();
    let panic_threshold = common_lb(common, &at.field("common_lb_config"))?;
    let matches = std::mem::take(&mut cluster.transport_socket_matches);
    let transports = transport::of_cluster(cluster.transport_socket.take(), matches, names, at)?;
    if transports.has_proxy_protocol() && protocol != UpstreamProtocol::Http1 {
        let reason =
            "the PROXY protocol is not supported with HTTP/2, whose connections clients share";
        return Err(at.field("transport_socket").refuse(reason));
    }
    let observability_name = match std::mem::take(&mut cluster.alt_stat_name) {
        unset if unset.is_empty() => name.clone(),
        given => given,
    };
    ignored!(cluster: metadata, stats_matcher, per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout, track_timeout_budgets, track_cluster_stats,
        wait_for_warm_on_init, ignore_health_on_host_removal, close_connections_on_host_health_failure,
        cleanup_interval);
    nothing_else(&cluster, at)?;
    Ok(ClusterSpec {
        name,
        observability_name,
        connect_timeout: connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
        balancing,
        limits,
        idle_timeout,
        protocol,
        panic_threshold,
        discovery,
        sources,
        transports,
    })
}

fn is_original_destination(cluster: &pb::Cluster) -> bool {
    let kind = DiscoveryType::OriginalDst as i32;
    cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(kind))
}

fn balancing(cluster: &mut pb::Cluster, at: &At<'_>) -> Result<Balancing, Refused> {
    let at_policy = at.field("lb_policy");
    let balancing = match LbPolicy::try_from(std::mem::take(&mut cluster.lb_policy)) {
        Ok(LbPolicy::RoundRobin) => Balancing::RoundRobin,
        Ok(LbPolicy::LeastRequest) => Balancing::LeastRequest,
        Ok(LbPolicy::Random) => Balancing::Random,
        Ok(other) => {
            return Err(at_policy.refuse(format!("{} is not supported", other.as_str_name())));
        }
        Err(_) => return Err(at_policy.refuse("is not known")),
    };
    match cluster.lb_config.take() {
        None => {}
        Some(LbConfig::LeastRequestLbConfig(mut config)) => {
            let at = at.field("least_request_lb_config");
            if config
                .choice_count
                .take()
                .is_some_and(|count| count.value != 2)
            {
                return Err(at.field("choice_count").refuse("only 2 is supported"));
            }
            nothing_else(&config, &at)?;
        }
        Some(LbConfig::RoundRobinLbConfig(config)) => {
            nothing_else(&config, &at.field("round_robin_lb_config"))?;
        }
        Some(LbConfig::RingHashLbConfig(_) | LbConfig::MaglevLbConfig(_)) => {
            return Err(at.refuse("consistent hashing is not supported"));
        }
        Some(LbConfig::OriginalDstLbConfig(_)) => {
            return Err(at
                .field("original_dst_lb_config")
                .refuse("is not supported"));
        }
    }
    Ok(balancing)
}

fn discovery(cluster: &mut pb::Cluster, name: &str, at: &At<'_>) -> Result<Discovery, Refused> {
    let kind = match cluster.cluster_discovery_type.take() {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => {
            DiscoveryType::try_from(kind).map_err(|_| at.field("type").refuse("is not known"))?
        }
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            let reason = format!("{:?} is not supported", custom.name);
            return Err(at.field("cluster_type").refuse(reason));
        }
    };
    let refresh = duration(
        cluster.dns_refresh_rate.take(),
        &at.field("dns_refresh_rate"),
    )?;
    let family = DnsLookupFamily::try_from(std::mem::take(&mut cluster.dns_lookup_family))
        .map_err(|_| at.field("dns_lookup_family").refuse("is not known"))?;
    // Names are looked up by the system's resolver, which does not tell for how long an answer holds.
    ignored!(cluster: respect_dns_ttl, dns_jitter, dns_failure_refresh_rate);

    if kind == DiscoveryType::Eds {
        let mut eds = cluster.eds_cluster_config.take().unwrap_or_default();
        let at = at.field("eds_cluster_config");
        let fetch_timeout = over_ads(eds.eds_config.take(), &at.field("eds_config"))?;
        let service_name = match std::mem::take(&mut eds.service_name) {
            unset if unset.is_empty() => name.to_owned(),
            given => given,
        };
        return Ok(Discovery::Eds {
            service_name,
            fetch_timeout,
        });
    }
    let assignment = cluster.load_assignment.take().unwrap_or_default();
    let assignment = endpoint::compile(assignment, &at.field("load_assignment"))?;
    match kind {
        DiscoveryType::Static => {
            if let Some(name) = assignment.names().next() {
                let at = at.field("load_assignment");
                return Err(at.refuse(format!("{name:?} is not an IP address")));
            }
            Ok(Discovery::Static(assignment))
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
            let all_addresses = kind == DiscoveryType::StrictDns;
            if !all_addresses && assignment.endpoints.len() != 1 {
                let at = at.field("load_assignment");
                return Err(at.refuse("a LOGICAL_DNS cluster must have exactly one endpoint"));
            }
            Ok(Discovery::Dns {
                assignment,
                all_addresses,
                family: match family {
                    DnsLookupFamily::Auto => Family::Auto,
                    DnsLookupFamily::V4Only => Family::V4Only,
                    DnsLookupFamily::V6Only => Family::V6Only,
                    DnsLookupFamily::V4Preferred => Family::V4Preferred,
                    DnsLookupFamily::All => Family::All,
                },
                refresh: refresh.unwrap_or(DEFAULT_DNS_REFRESH).max(MIN_DNS_REFRESH),
            })
        }
        DiscoveryType::Eds | DiscoveryType::OriginalDst => Err(at
            .field("type")
            .refuse(format!("{} is not supported", kind.as_str_name()))),
    }
}

/// The protocol, and the options that do not depend on it.
fn http_options(
    cluster: &mut pb::Cluster,
    at: &At<'_>,
) -> Result<(UpstreamProtocol, HttpProtocolOptions), Refused> {
    if let Some(options) = cluster.http_protocol_options.take() {
        http1_options(options, &at.field("http_protocol_options"))?;
    }
    let mut protocol = UpstreamProtocol::Http1;
    if let Some(options) = cluster.http2_protocol_options.take() {
        let options = http2::compile(options, &at.field("http2_protocol_options"))?;
        protocol = UpstreamProtocol::Http2(options);
    }
    let selection = std::mem::take(&mut cluster.protocol_selection);
    match ClusterProtocolSelection::try_from(selection) {
        Ok(ClusterProtocolSelection::UseConfiguredProtocol) => {}
        Ok(ClusterProtocolSelection::UseDownstreamProtocol) => {
            protocol = UpstreamProtocol::Downstream(match protocol {
                UpstreamProtocol::Http2(options) => options,
                _ => Http2Options::default(),
            });
        }
        Err(_) => return Err(at.field("protocol_selection").refuse("is not known")),
    }
    let mut common = cluster.common_http_protocol_options.take();
    let at_all = at.field("typed_extension_protocol_options");
    for (key, value) in std::mem::take(&mut cluster.typed_extension_protocol_options) {
        let at = at_all.field(&key);
        if key != HTTP_OPTIONS {
            return Err(at.refuse("is not supported"));
        }
        let mut options: upstream::HttpProtocolOptions = decode(&value, &at)?;
        common = options.common_http_protocol_options.take().or(common);
        protocol = upstream_protocol(options.upstream_protocol_options.take(), &at)?;
        nothing_else(&options, &at)?;
    }
    Ok((protocol, common.unwrap_or_default()))
}

fn upstream_protocol(
    options: Option<UpstreamProtocolOptions>,
    at: &At<'_>,
) -> Result<UpstreamProtocol, Refused> {
    match options {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            let at = at.field("explicit_http_config");
            match explicit.protocol_config {
                Some(ProtocolConfig::HttpProtocolOptions(options)) => {
                    http1_options(options, &at.field("http_protocol_options"))?;
                    Ok(UpstreamProtocol::Http1)
                }
                Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
                    let options = http2::compile(options, &at.field("http2_protocol_options"))?;
                    Ok(UpstreamProtocol::Http2(options))
                }
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    let reason = "HTTP/3 to the endpoints is not supported";
                    Err(at.field("http3_protocol_options").refuse(reason))
                }
                None => Err(at.refuse("the protocol must be given")),
            }
        }
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(mut options)) => {
            let at = at.field("use_downstream_protocol_config");
            if let Some(options) = options.http_protocol_options.take() {
                http1_options(options, &at.field("http_protocol_options"))?;
            }
            let options = match options.http2_protocol_options.take() {
                Some(options) => http2::compile(options, &at.field("http2_protocol_options"))?,
                None => Http2Options::default(),
            };
            Ok(UpstreamProtocol::Downstream(options))
        }
        Some(UpstreamProtocolOptions::AutoConfig(_)) => {
            Err(at.field("auto_config").refuse("is not supported"))
        }
        None => Err(at.refuse("the protocol must be given")),
    }
}

fn limits(mut breakers: pb::CircuitBreakers, at: &At<'_>) -> Result<ClusterLimits, Refused> {
    let mut limits = ClusterLimits {
        max_connections: DEFAULT_LIMIT,
        max_pending_requests: DEFAULT_LIMIT,
        max_requests: DEFAULT_LIMIT,
    };
    let at_thresholds = &at.field("thresholds");
    for (index, mut threshold) in std::mem::take(&mut breakers.thresholds)
        .into_iter()
        .enumerate()
    {
        // No route can be of another priority, and nothing is retried.
        ignored!(threshold: max_retries, retry_budget, track_remaining);
        if threshold.priority != RoutingPriority::Default as i32 {
            continue;
        }
        let value = |value: Option<_>| {
            value.map_or(
                DEFAULT_LIMIT,
                |v: envoy_types::pb::google::protobuf::UInt32Value| v.value,
            )
        };
        limits.max_connections = value(threshold.max_connections.take());
        limits.max_pending_requests = value(threshold.max_pending_requests.take());
        limits.max_requests = value(threshold.max_requests.take());
        nothing_else(&threshold, &at_thresholds.index(index))?;
    }
    nothing_else(&breakers, at)?;
    Ok(limits)
}

fn common_lb(mut common: CommonLbConfig, at: &At<'_>) -> Result<f64, Refused> {
    let threshold = common.healthy_panic_threshold.take();
    ignored!(common: update_merge_window, ignore_new_hosts_until_first_hc);
    nothing_else(&common, at)?;
    Ok(threshold.map_or(DEFAULT_PANIC_THRESHOLD, |percent| percent.value))
}
