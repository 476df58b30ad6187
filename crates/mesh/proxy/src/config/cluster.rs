//! `envoy.config.cluster.v3.Cluster`, without the endpoints that come from elsewhere.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, ClusterProtocolSelection, CustomClusterType, DiscoveryType, DnsLookupFamily, RefreshRate,
};
use envoy_types::pb::envoy::config::core::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;

use super::check::{At, Refused, decode, duration, ignored, nothing_else, timeout};
use super::endpoint::{self, Assignment};
use super::manager::{http1_options, over_ads};
use super::tls::Names;
use super::transport::Transports;
use super::{
    balancing, bind, breakers, health_check, http2, istio, keepalive, names, original_destination,
    outlier, transport,
};
use crate::http1::head::{Limits, MOST_FIELDS};
use crate::snapshot::{
    Balancing, Cluster, ClusterLimits, HealthCheck, Http2Options, OriginalDestination,
    OutlierDetection, ServiceName, Spread, TcpKeepalive, UpstreamProtocol,
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
    pub(crate) max_connection_duration: Option<Duration>,
    pub(crate) max_stream_duration: Option<Duration>,
    /// Of the heads of responses.
    pub(crate) response_limits: Limits,
    pub(crate) max_requests_per_connection: Option<u32>,
    pub(crate) spread: Spread,
    pub(crate) health_check: Option<Arc<HealthCheck>>,
    pub(crate) outlier_detection: Option<Arc<OutlierDetection>>,
    pub(crate) ignores_health_on_removal: bool,
    pub(crate) closes_on_failure: bool,
    pub(crate) discovery: Discovery,
    /// The addresses that connections are made from, at most one of a family.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) keepalive: Option<TcpKeepalive>,
    pub(crate) transports: Transports,
    pub(crate) service: Option<ServiceName>,
    pub(crate) exchanges_peers: bool,
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
        rate: DnsRate,
    },
    /// Where each client wanted to go.
    OriginalDestination(OriginalDestination),
}

/// How often a name is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DnsRate {
    /// `dns_refresh_rate`.
    pub(crate) refresh: Duration,
    /// `dns_jitter`: up to so much is added.
    pub(crate) jitter: Duration,
    /// `dns_failure_refresh_rate`: the limit of the wait after a first failure, and of all.
    pub(crate) failure: Option<(Duration, Duration)>,
    /// `respect_dns_ttl`: the time for which an answer holds goes before `refresh`.
    pub(crate) respects_ttl: bool,
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
const DEFAULT_DNS_REFRESH: Duration = Duration::from_secs(5);
const MIN_DNS_REFRESH: Duration = Duration::from_secs(1);
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(crate) fn compile(mut cluster: pb::Cluster, names: &Names<'_>) -> Result<ClusterSpec, Refused> {
    let at = &At::ROOT;
    let name = std::mem::take(&mut cluster.name);
    if name.is_empty() {
        return Err(at.field("name").refuse("it must not be empty"));
    }
    let unlisted = if is_original_destination(&cluster) {
        Some(original_destination::compile(&mut cluster, at)?)
    } else if let Some(custom) = by_name(&mut cluster) {
        Some(names::cluster(custom, &mut cluster, at)?)
    } else {
        None
    };
    let (discovery, balancing, spread) = if let Some(options) = unlisted {
        // There is nothing to choose from.
        (
            Discovery::OriginalDestination(options),
            Balancing::RoundRobin,
            Spread::default(),
        )
    } else {
        let (balancing, spread) = balancing::compile(&mut cluster, at)?;
        (discovery(&mut cluster, &name, at)?, balancing, spread)
    };
    let sources = match cluster.upstream_bind_config.take() {
        Some(config) => bind::compile(config, &at.field("upstream_bind_config"))?,
        None => Vec::new(),
    };
    let mut exchanges_peers = false;
    for (index, filter) in std::mem::take(&mut cluster.filters).iter().enumerate() {
        let at = &at.field("filters");
        exchanges_peers |= istio::of_cluster(filter, &at.index(index))?;
    }
    let keepalive = tcp_keepalive(&mut cluster, at)?;
    let (protocol, mut common) = http_options(&mut cluster, at)?;
    let at_common = at.field("common_http_protocol_options");
    let idle_timeout = timeout(
        common.idle_timeout.take(),
        Some(DEFAULT_IDLE_TIMEOUT),
        &at_common.field("idle_timeout"),
    )?;
    let max_connection_duration = timeout(
        common.max_connection_duration.take(),
        None,
        &at_common.field("max_connection_duration"),
    )?;
    let max_stream_duration = timeout(
        common.max_stream_duration.take(),
        None,
        &at_common.field("max_stream_duration"),
    )?;
    let response_limits = response_limits(&mut common, protocol, &at_common)?;
    let of_cluster = cluster.max_requests_per_connection.take();
    let max_requests = common.max_requests_per_connection.take().or(of_cluster);
    nothing_else(&common, &at_common)?;
    let connect_timeout = duration(cluster.connect_timeout.take(), &at.field("connect_timeout"))?;
    if connect_timeout == Some(Duration::ZERO) {
        return Err(at
            .field("connect_timeout")
            .refuse("it must be more than 0s"));
    }
    let breakers = cluster.circuit_breakers.take().unwrap_or_default();
    let limits = breakers::compile(breakers, &at.field("circuit_breakers"))?;
    let health_check = health_check(&mut cluster, at)?;
    let outlier_detection = match cluster.outlier_detection.take() {
        Some(config) => Some(outlier::compile(config, &at.field("outlier_detection"))?),
        None => None,
    };
    let ignores_health_on_removal = std::mem::take(&mut cluster.ignore_health_on_host_removal);
    let closes_on_failure = std::mem::take(&mut cluster.close_connections_on_host_health_failure);
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
    let service = istio::service(cluster.metadata.take().as_ref());
    ignored!(cluster: stats_matcher, per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout, track_timeout_budgets, track_cluster_stats,
        wait_for_warm_on_init, cleanup_interval);
    nothing_else(&cluster, at)?;
    Ok(ClusterSpec {
        name,
        observability_name,
        connect_timeout: connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
        balancing,
        limits,
        idle_timeout,
        protocol,
        max_connection_duration,
        max_stream_duration,
        response_limits,
        // Zero is no limit.
        max_requests_per_connection: max_requests.map(|most| most.value).filter(|most| *most > 0),
        spread,
        health_check: health_check.map(Arc::new),
        outlier_detection: outlier_detection.map(Arc::new),
        ignores_health_on_removal,
        closes_on_failure,
        discovery,
        sources,
        keepalive,
        transports,
        service,
        exchanges_peers,
    })
}

fn tcp_keepalive(cluster: &mut pb::Cluster, at: &At<'_>) -> Result<Option<TcpKeepalive>, Refused> {
    let Some(mut options) = cluster.upstream_connection_options.take() else {
        return Ok(Some(TcpKeepalive::UNLESS_TOLD));
    };
    let at = &at.field("upstream_connection_options");
    let keepalive = match options.tcp_keepalive.take() {
        Some(given) => keepalive::compile(given, &at.field("tcp_keepalive"))?,
        None => Some(TcpKeepalive::UNLESS_TOLD),
    };
    nothing_else(&options, at)?;
    Ok(keepalive)
}

fn health_check(cluster: &mut pb::Cluster, at: &At<'_>) -> Result<Option<HealthCheck>, Refused> {
    let at = &at.field("health_checks");
    let mut checks = std::mem::take(&mut cluster.health_checks).into_iter();
    let first = checks.next();
    if checks.next().is_some() {
        return Err(at.refuse("only one is supported"));
    }
    first
        .map(|check| health_check::compile(check, &at.index(0)))
        .transpose()
}

fn is_original_destination(cluster: &pb::Cluster) -> bool {
    let kind = DiscoveryType::OriginalDst as i32;
    cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(kind))
}

/// What a cluster says whose endpoints are the hosts of requests.
fn by_name(cluster: &mut pb::Cluster) -> Option<CustomClusterType> {
    let is_one = |custom: &mut ClusterDiscoveryType| match custom {
        ClusterDiscoveryType::ClusterType(custom) => names::is_cluster(custom),
        ClusterDiscoveryType::Type(_) => false,
    };
    match cluster.cluster_discovery_type.take_if(is_one)? {
        ClusterDiscoveryType::ClusterType(custom) => Some(custom),
        ClusterDiscoveryType::Type(_) => None,
    }
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
    let rate = dns_rate(cluster, at)?;
    let of_cluster = DnsLookupFamily::try_from(std::mem::take(&mut cluster.dns_lookup_family))
        .map_err(|_| at.field("dns_lookup_family").refuse("is not known"))?;

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
                family: family(of_cluster),
                rate,
            })
        }
        DiscoveryType::Eds | DiscoveryType::OriginalDst => Err(at
            .field("type")
            .refuse(format!("{} is not supported", kind.as_str_name()))),
    }
}

fn dns_rate(cluster: &mut pb::Cluster, at: &At<'_>) -> Result<DnsRate, Refused> {
    let refresh = cluster.dns_refresh_rate.take();
    let refresh = duration(refresh, &at.field("dns_refresh_rate"))?;
    let jitter = duration(cluster.dns_jitter.take(), &at.field("dns_jitter"))?;
    let failure = match cluster.dns_failure_refresh_rate.take() {
        None => None,
        Some(rate) => Some(failure_rate(rate, &at.field("dns_failure_refresh_rate"))?),
    };
    Ok(DnsRate {
        refresh: refresh.unwrap_or(DEFAULT_DNS_REFRESH).max(MIN_DNS_REFRESH),
        jitter: jitter.unwrap_or_default(),
        failure,
        respects_ttl: std::mem::take(&mut cluster.respect_dns_ttl),
    })
}

/// The limit of the wait after a first failure, and of all.
pub(super) fn failure_rate(
    rate: RefreshRate,
    at: &At<'_>,
) -> Result<(Duration, Duration), Refused> {
    let base = duration(rate.base_interval, &at.field("base_interval"))?;
    let Some(base) = base.filter(|base| !base.is_zero()) else {
        let at = at.field("base_interval");
        return Err(at.refuse("it must be given, and more than 0s"));
    };
    let max = duration(rate.max_interval, &at.field("max_interval"))?;
    let max = max.unwrap_or(base * 10);
    if max < base {
        let at = at.field("max_interval");
        return Err(at.refuse("it must not be less than base_interval"));
    }
    Ok((base, max))
}

pub(super) fn family(given: DnsLookupFamily) -> Family {
    match given {
        DnsLookupFamily::Auto => Family::Auto,
        DnsLookupFamily::V4Only => Family::V4Only,
        DnsLookupFamily::V6Only => Family::V6Only,
        DnsLookupFamily::V4Preferred => Family::V4Preferred,
        DnsLookupFamily::All => Family::All,
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

/// The limits of the heads of responses.
fn response_limits(
    common: &mut HttpProtocolOptions,
    protocol: UpstreamProtocol,
    at: &At<'_>,
) -> Result<Limits, Refused> {
    let mut limits = Cluster::RESPONSE_LIMITS;
    if let Some(most) = common.max_response_headers_kb.take() {
        let at = at.field("max_response_headers_kb");
        // HTTP/2 has its own for lists of headers.
        let (longest, of) = match protocol {
            UpstreamProtocol::Http1 => (8192, "HTTP/1.1"),
            _ => (60, "HTTP/2"),
        };
        if !(1..=longest).contains(&most.value) {
            return Err(at.refuse(format!("of {of} it must be 1 to {longest}")));
        }
        limits.bytes = most.value as usize * 1024;
    }
    if let Some(most) = common.max_headers_count.take() {
        let at = at.field("max_headers_count");
        if !(1..=MOST_FIELDS).contains(&(most.value as usize)) {
            return Err(at.refuse(format!("it must be 1 to {MOST_FIELDS}")));
        }
        limits.fields = most.value as usize;
    }
    Ok(limits)
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
