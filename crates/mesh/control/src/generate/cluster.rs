//! CDS and EDS.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, UpstreamConnectionOptions,
};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    BindConfig, Http1ProtocolOptions, Http2ProtocolOptions,
    HttpProtocolOptions as HttpCommonOptions, KeepaliveSettings, Metadata, SocketAddress,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::Any;
use periplus_resources::{
    ConnectionPool, Host, HttpVersion, Labels, LoadBalancing, Port, Protocol, TcpKeepalive,
    TrafficPolicy,
};

use super::proto::{ads, any, duration, istio_service, load_assignment, uint32};
use super::{
    Generated, balancing, dynamic_dns, endpoints, locality, mutual_tls, origination, proxy_protocol,
};
use crate::index::{ConnectionRules, Index, Service};
use crate::names;
use crate::proxy::{Proxy, Role, is_subset};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The services that a proxy gets clusters for.
pub(super) struct Clusters<'a> {
    index: &'a Index,
    proxy: &'a Proxy,
    pub(super) hosts: BTreeSet<&'a Host>,
}

impl<'a> Clusters<'a> {
    pub(super) fn new(index: &'a Index, proxy: &'a Proxy) -> Self {
        Self {
            index,
            proxy,
            hosts: BTreeSet::new(),
        }
    }

    /// Adds the services that the proxy may know of and that are imported.
    pub(super) fn add_visible(&mut self, imported: impl Fn(&str, &Host) -> bool) {
        let services = self.index.seen_from(&self.proxy.namespace, imported);
        self.hosts.extend(services.map(|service| &service.host));
    }

    /// Adds a service, whether or not it is visible.
    pub(super) fn add(&mut self, host: &Host) {
        self.hosts
            .extend(self.index.service(host).map(|service| &service.host));
    }

    pub(super) fn finish(self, made: &mut Generated) {
        for host in self.hosts {
            let Some(service) = self.index.service_for(self.proxy, host) else {
                continue;
            };
            let rules = self.index.connection_rules(self.proxy.as_client(), service);
            for port in service.ports() {
                self::add((self.index, self.proxy), service, port, &rules, made);
            }
        }
    }
}

/// Adds the clusters of one port: that of all workloads, and one for each subset.
fn add(
    (index, proxy): (&Index, &Proxy),
    service: &Service,
    port: &Port,
    rules: &ConnectionRules,
    made: &mut Generated,
) {
    let host = service.host.as_str();
    let metadata = istio_service(rules.origin.as_deref(), service);
    // Gateway API's policies are for gateways; a DestinationRule goes before them.
    let by_api = match proxy.role {
        Role::Router => index.backend_tls(&service.host, port.number),
        Role::Sidecar => None,
    };
    let is_unsure = by_api.is_some_and(Option::is_none);
    let is_looked_up = service.is_looked_up();
    let by_api = TrafficPolicy {
        tls: by_api.cloned().flatten(),
        ..TrafficPolicy::default()
    };
    let mut push = |subset: &str, labels: &Labels, policy: &TrafficPolicy| {
        if is_unsure && policy.tls.is_none() {
            // Without a cluster, requests fail as they must.
            return;
        }
        let policy = &policy.or(&by_api);
        let name = names::outbound_cluster(port.number, subset, host);
        let balancer = policy.load_balancer.as_ref();
        let is_passed_on =
            !is_looked_up && balancer.is_some_and(|one| one.kind == LoadBalancing::Passthrough);
        if is_passed_on && proxy.interception.is_none() {
            let why = format!(
                "requests to {host} on port {} get 503: PASSTHROUGH is for intercepted connections, which alone say \
                 where they go",
                port.number
            );
            made.lacks.push((service.host.clone(), why));
            return;
        }
        let mut cluster = outbound(index, &name, port, policy, metadata.clone());
        endpoints::resolve(&mut cluster, (service, port, proxy), is_passed_on);
        let place = (service, port, subset);
        let secured = match is_looked_up {
            true => dynamic_dns::admit(index, policy),
            false => mutual_tls::secure((index, proxy), &mut cluster, place, policy, made)
                .and_then(|()| proxy_protocol::wrap(&mut cluster, port, policy)),
        };
        if let Err(reason) = secured {
            let why = format!(
                "requests to {host} on port {} get 503: {reason}",
                port.number
            );
            made.lacks.push((service.host.clone(), why));
            return;
        }
        let selected = service.endpoints.iter();
        let selected = selected.filter(|endpoint| {
            is_subset(labels, &endpoint.labels) && service.is_for(proxy, endpoint)
        });
        let selected: Vec<_> = selected.collect();
        let mut assigned =
            endpoints::of_workloads((index, proxy), &name, (service, port), &selected);
        let spread = |cluster: &mut Cluster, assigned: &mut _| {
            let says = (policy, service);
            locality::spread((index, proxy), says, &selected, cluster, assigned);
        };
        if cluster.eds_cluster_config.is_some() {
            spread(&mut cluster, &mut assigned);
            made.endpoints.push(assigned);
        } else if service.has_names() && !is_passed_on {
            if selected.is_empty() {
                // As in Istio: without an endpoint there would be nothing to look up.
                let of = match subset {
                    "" => String::new(),
                    subset => format!("subset {subset} of "),
                };
                let why = format!(
                    "requests to {of}{host} on port {} get 503: it has no endpoint",
                    port.number
                );
                made.lacks.push((service.host.clone(), why));
                return;
            }
            spread(&mut cluster, &mut assigned);
            cluster.load_assignment = Some(assigned);
        }
        made.clusters.push(cluster);
    };
    push("", &Labels::new(), &rules.policy_of(None, port.number));
    // Of names that nobody knows yet, none is in a subset: told with the problems.
    for subset in rules.subsets.iter().filter(|_| !is_looked_up) {
        let policy = rules.policy_of(Some(subset), port.number);
        push(&subset.name, &subset.labels, &policy);
    }
}

fn outbound(
    index: &Index,
    name: &str,
    port: &Port,
    policy: &TrafficPolicy,
    metadata: Metadata,
) -> Cluster {
    let mut cluster = Cluster {
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            service_name: name.to_owned(),
        }),
        metadata: Some(metadata),
        typed_extension_protocol_options: http_options(port.protocol, policy),
        ..base(index, name, DiscoveryType::Eds, policy)
    };
    balancing::set(&mut cluster, policy);
    cluster
}

/// The cluster of an application behind its own sidecar.
pub(super) fn application(
    index: &Index,
    name: &str,
    protocol: Protocol,
    target: SocketAddr,
) -> Cluster {
    let policy = TrafficPolicy::default();
    Cluster {
        typed_extension_protocol_options: http_options(protocol, &policy),
        load_assignment: Some(load_assignment(name, [(target, 1)])),
        lb_policy: LbPolicy::RoundRobin.into(),
        ..base(index, name, DiscoveryType::Static, &policy)
    }
}

/// A cluster of connections that go where their clients wanted to go, from this address if it is given.
pub(super) fn original_destination(
    index: &Index,
    name: &str,
    protocol: Protocol,
    source: Option<IpAddr>,
) -> Cluster {
    let policy = TrafficPolicy::default();
    Cluster {
        lb_policy: LbPolicy::ClusterProvided.into(),
        upstream_bind_config: source.map(|source| BindConfig {
            source_address: Some(SocketAddress {
                address: source.to_string(),
                port_specifier: Some(PortSpecifier::PortValue(0)),
                ..SocketAddress::default()
            }),
            ..BindConfig::default()
        }),
        typed_extension_protocol_options: http_options(protocol, &policy),
        ..base(index, name, DiscoveryType::OriginalDst, &policy)
    }
}

/// The cluster without endpoints.
pub(super) fn black_hole(index: &Index) -> Cluster {
    let policy = TrafficPolicy::default();
    base(index, names::BLACK_HOLE, DiscoveryType::Static, &policy)
}

/// The options of HTTP, if there are some to a port of this protocol.
fn http_options(protocol: Protocol, policy: &TrafficPolicy) -> HashMap<String, Any> {
    let pool = policy.connection_pool.unwrap_or_default();
    let http2 = Http2ProtocolOptions {
        max_concurrent_streams: pool.max_concurrent_streams.and_then(uint32),
        connection_keepalive: pool
            .keep_alive
            .map(|(interval, timeout)| KeepaliveSettings {
                interval: duration(interval),
                timeout: duration(timeout),
                ..KeepaliveSettings::default()
            }),
        ..Http2ProtocolOptions::default()
    };
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })
    };
    if !protocol.is_http() && protocol != Protocol::Detected {
        return HashMap::new();
    }
    let common = common_options(&pool);
    let options = match (protocol, pool.http_version) {
        (Protocol::Http | Protocol::HttpProxy, HttpVersion::OfPort) => {
            if common.is_none() {
                return HashMap::new();
            }
            explicit(ProtocolConfig::HttpProtocolOptions(
                Http1ProtocolOptions::default(),
            ))
        }
        (Protocol::Detected, HttpVersion::OfPort) | (_, HttpVersion::OfClient) => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http2_protocol_options: Some(http2),
                ..UseDownstreamHttpConfig::default()
            })
        }
        // Of other protocols there are none by now.
        (_, HttpVersion::Http2) | (_, HttpVersion::OfPort) => {
            explicit(ProtocolConfig::Http2ProtocolOptions(http2))
        }
    };
    let options = HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_protocol_options: Some(options),
        ..HttpProtocolOptions::default()
    };
    HashMap::from([(HTTP_OPTIONS.to_owned(), any(&options))])
}

/// When connections end, if anything is said about that.
fn common_options(pool: &ConnectionPool) -> Option<HttpCommonOptions> {
    let options = HttpCommonOptions {
        idle_timeout: pool.idle_timeout.and_then(duration),
        max_connection_duration: pool.max_connection_duration.and_then(duration),
        max_requests_per_connection: pool.max_requests_per_connection.and_then(uint32),
        ..HttpCommonOptions::default()
    };
    (options != HttpCommonOptions::default()).then_some(options)
}

fn base(index: &Index, name: &str, discovery: DiscoveryType, policy: &TrafficPolicy) -> Cluster {
    let pool = policy.connection_pool.unwrap_or_default();
    let connect_timeout = pool.connect_timeout.unwrap_or(index.mesh().connect_timeout);
    // Istio's defaults: no limits, where Envoy's own are 1024 of each and 3 retries.
    let limit = |limit: Option<u32>| uint32(limit.unwrap_or(u32::MAX));
    let thresholds = Thresholds {
        max_connections: limit(pool.max_connections),
        max_pending_requests: limit(pool.max_pending_requests),
        max_requests: limit(pool.max_requests),
        max_retries: limit(pool.max_retries),
        retry_budget: policy.retry_budget.map(|budget| RetryBudget {
            budget_percent: Some(Percent {
                value: f64::from(budget.per_million) / 10_000.0,
            }),
            min_retry_concurrency: uint32(budget.least),
            ..RetryBudget::default()
        }),
        ..Thresholds::default()
    };
    let of_mesh = index.mesh().keepalive;
    let keepalive = match (pool.tcp_keepalive, of_mesh) {
        (Some(own), Some(of_mesh)) => Some(own.or(of_mesh)),
        (own, of_mesh) => own.or(of_mesh),
    };
    Cluster {
        name: name.to_owned(),
        alt_stat_name: names::alt_stat_name(name),
        upstream_connection_options: keepalive.map(probed),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        connect_timeout: duration(connect_timeout),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds],
            ..CircuitBreakers::default()
        }),
        ..Cluster::default()
    }
}

/// How the other side of connections is probed.
fn probed(keepalive: TcpKeepalive) -> UpstreamConnectionOptions {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).ok().and_then(uint32);
    UpstreamConnectionOptions {
        tcp_keepalive: Some(core::TcpKeepalive {
            keepalive_probes: keepalive.probes.and_then(uint32),
            keepalive_time: keepalive.time.and_then(seconds),
            keepalive_interval: keepalive.interval.and_then(seconds),
        }),
        ..UpstreamConnectionOptions::default()
    }
}

/// The cluster of a server of HTTP over TLS that the system's authorities vouch for: at the endpoints of the mesh's
/// service of this name, else where DNS says.
pub(super) fn over_tls(
    (index, proxy): (&Index, &Proxy),
    name: &str,
    (host, number): (&str, u16),
) -> Cluster {
    let policy = TrafficPolicy::default();
    let service = Host::parse(host).ok();
    let service = service.and_then(|host| index.service_for(proxy, &host));
    let port = service.and_then(|service| Some((service, service.port(number)?)));
    let known = port.filter(|(service, _)| !service.endpoints.is_empty());
    let (discovery, assignment) = match known {
        None => (
            DiscoveryType::StrictDns,
            endpoints::at_name(name, host, number),
        ),
        Some((service, port)) => {
            let has_name = (service.endpoints.iter()).any(|one| one.address.ip().is_none());
            let discovery = match has_name {
                true => DiscoveryType::StrictDns,
                false => DiscoveryType::Static,
            };
            let all = service.endpoints.iter().map(|one| (one, port));
            (discovery, endpoints::assignment(name, all))
        }
    };
    let mut cluster = Cluster {
        load_assignment: Some(assignment),
        transport_socket: Some(origination::by_system(host)),
        ..base(index, name, discovery, &policy)
    };
    if discovery == DiscoveryType::StrictDns {
        endpoints::look_up(&mut cluster, proxy);
    }
    cluster
}
