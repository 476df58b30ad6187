//! CDS and EDS.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use envoy_types::pb::envoy::config::core::v3::{Http2ProtocolOptions, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
};
use envoy_types::pb::google::protobuf::Any;
use periplus_resources::{
    Host, HttpVersion, Labels, LoadBalancing, Port, Protocol, TrafficPolicy,
};

use super::Generated;
use super::proto::{ads, any, duration, istio_config, load_assignment, uint32};
use crate::index::{ConnectionRules, Index, Service};
use crate::names;
use crate::proxy::{Proxy, is_subset};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The services that a proxy gets clusters for.
pub(super) struct Clusters<'a> {
    index: &'a Index,
    proxy: &'a Proxy,
    hosts: BTreeSet<&'a Host>,
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
        let services = self.index.services().filter(|service| {
            service.is_visible_in(&self.proxy.namespace)
                && imported(&service.meta.namespace, &service.host)
        });
        self.hosts.extend(services.map(|service| &service.host));
    }

    /// Adds a service, whether or not it is visible.
    pub(super) fn add(&mut self, host: &Host) {
        self.hosts
            .extend(self.index.service(host).map(|service| &service.host));
    }

    pub(super) fn finish(self, made: &mut Generated) {
        for host in self.hosts {
            let Some(service) = self.index.service(host) else {
                continue;
            };
            let rules = self.index.connection_rules(&self.proxy.namespace, service);
            for port in service.ports() {
                self::add(self.index, service, port, &rules, made);
            }
        }
    }
}

/// Adds the clusters of one port: that of all workloads, and one for each subset.
fn add(
    index: &Index,
    service: &Service,
    port: &Port,
    rules: &ConnectionRules,
    made: &mut Generated,
) {
    let host = service.host.as_str();
    let metadata = rules.origin.as_deref().and_then(istio_config);
    let mut push = |subset: &str, labels: &Labels, policy: &TrafficPolicy| {
        let name = names::outbound_cluster(port.number, subset, host);
        made.endpoints.push(endpoints(&name, service, port, labels));
        made.clusters
            .push(outbound(index, &name, port, policy, metadata.clone()));
    };
    push("", &Labels::new(), &rules.policy);
    for subset in &rules.subsets {
        push(
            &subset.name,
            &subset.labels,
            &subset.policy.or(&rules.policy),
        );
    }
}

fn outbound(
    index: &Index,
    name: &str,
    port: &Port,
    policy: &TrafficPolicy,
    metadata: Option<Metadata>,
) -> Cluster {
    let balancing = match policy.load_balancing {
        None | Some(LoadBalancing::LeastRequest) => LbPolicy::LeastRequest,
        Some(LoadBalancing::RoundRobin) => LbPolicy::RoundRobin,
        Some(LoadBalancing::Random) => LbPolicy::Random,
    };
    Cluster {
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            service_name: name.to_owned(),
        }),
        lb_policy: balancing.into(),
        metadata,
        typed_extension_protocol_options: http_options(port.protocol, policy),
        ..base(index, name, DiscoveryType::Eds, policy)
    }
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

/// The options of HTTP/2, if it is spoken to a port of this protocol; of HTTP/1.1 there are none.
fn http_options(protocol: Protocol, policy: &TrafficPolicy) -> HashMap<String, Any> {
    let pool = policy.connection_pool.unwrap_or_default();
    let http2 = Http2ProtocolOptions {
        max_concurrent_streams: pool.max_concurrent_streams.and_then(uint32),
        ..Http2ProtocolOptions::default()
    };
    let explicit = |options| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(options)),
        })
    };
    let options = match (protocol, pool.http_version) {
        (Protocol::Http | Protocol::HttpProxy, HttpVersion::OfPort) => return HashMap::new(),
        (_, HttpVersion::OfClient) => {
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http2_protocol_options: Some(http2),
                ..UseDownstreamHttpConfig::default()
            })
        }
        (Protocol::Http2, _) | (_, HttpVersion::Http2) => explicit(http2),
    };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(options),
        ..HttpProtocolOptions::default()
    };
    HashMap::from([(HTTP_OPTIONS.to_owned(), any(&options))])
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
        max_retries: limit(None),
        ..Thresholds::default()
    };
    Cluster {
        name: name.to_owned(),
        alt_stat_name: names::alt_stat_name(name),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        connect_timeout: duration(connect_timeout),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds],
            ..CircuitBreakers::default()
        }),
        ..Cluster::default()
    }
}

fn endpoints(name: &str, service: &Service, port: &Port, labels: &Labels) -> ClusterLoadAssignment {
    let selected = service
        .endpoints
        .iter()
        .filter(|endpoint| is_subset(labels, &endpoint.labels));
    let target = |endpoint: &periplus_resources::WorkloadEntry| {
        let address = SocketAddr::new(endpoint.address, endpoint.target_port(port));
        (address, endpoint.weight)
    };
    load_assignment(name, selected.map(target))
}
