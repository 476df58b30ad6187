//! Where the workloads of a cluster are: EDS, what the cluster itself says, or DNS.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::google::protobuf::Struct;
use periplus_resources::{Port, Resolution, WorkloadEntry};

use super::proto::{address, duration, map_in_order, one_text, uint32};
use super::{dynamic_dns, mutual_tls};
use crate::index::{Index, Service};
use crate::proxy::{Proxy, canonical_revision, canonical_service};

/// How often names are looked up whose answers do not say for how long they hold, and how much may be added.
const DNS_REFRESH: Duration = Duration::from_secs(60);
const DNS_JITTER: Duration = Duration::from_millis(100);

/// Makes a cluster one whose addresses are not among the endpoints, if the service says so.
pub(super) fn resolve(
    cluster: &mut Cluster,
    (service, port, proxy): (&Service, &Port, &Proxy),
    is_passed_on: bool,
) {
    if service.is_looked_up() {
        dynamic_dns::resolve(cluster, proxy);
        return;
    }
    let is_of_client = is_passed_on || service.spec.resolution == Resolution::OfClient;
    let by_dns = match service.spec.resolution {
        Resolution::DnsRoundRobin => DiscoveryType::LogicalDns,
        _ => DiscoveryType::StrictDns,
    };
    let discovery = match service.spec.resolution {
        _ if is_of_client && proxy.interception.is_some() => {
            leave_choice(cluster);
            DiscoveryType::OriginalDst
        }
        Resolution::Dns | Resolution::DnsRoundRobin if service.endpoints.is_empty() => {
            cluster.load_assignment = Some(named_endpoint(&cluster.name, service, port));
            look_up(cluster, proxy);
            by_dns
        }
        _ if service.has_names() => {
            look_up(cluster, proxy);
            by_dns
        }
        _ => return,
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(discovery.into()));
    cluster.eds_cluster_config = None;
}

/// Leaves it to the client where its connections go: nothing of how endpoints are chosen holds.
pub(super) fn leave_choice(cluster: &mut Cluster) {
    cluster.lb_policy = LbPolicy::ClusterProvided.into();
    cluster.lb_config = None;
    cluster.common_lb_config = None;
}

/// How names of endpoints are looked up, as in Istio: the time for which an answer holds goes before these.
#[expect(deprecated, reason = "this is the form that Istio sends")]
pub(super) fn look_up(cluster: &mut Cluster, proxy: &Proxy) {
    cluster.respect_dns_ttl = true;
    cluster.dns_refresh_rate = duration(DNS_REFRESH);
    cluster.dns_jitter = duration(DNS_JITTER);
    cluster.dns_lookup_family = lookup_family(proxy).into();
}

/// The family of addresses that a proxy looks up: that of its own.
pub(super) fn lookup_family(proxy: &Proxy) -> DnsLookupFamily {
    match proxy.ip {
        IpAddr::V4(_) => DnsLookupFamily::V4Only,
        IpAddr::V6(_) => DnsLookupFamily::V6Only,
    }
}

/// The service's own name for an endpoint.
fn named_endpoint(name: &str, service: &Service, port: &Port) -> ClusterLoadAssignment {
    let number = port.target_port.unwrap_or(port.number);
    let host = service.spec.alias.as_ref().unwrap_or(&service.host);
    at_name(name, host.as_str(), number)
}

/// An endpoint whose address is looked up by its name.
pub(super) fn at_name(name: &str, host: &str, port: u16) -> ClusterLoadAssignment {
    let endpoint = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: address(host, port),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![endpoint],
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

/// The workloads of a port with their weights.
pub(super) fn assignment<'a>(
    name: &str,
    workloads: impl Iterator<Item = (&'a WorkloadEntry, &'a Port)>,
) -> ClusterLoadAssignment {
    let endpoint = |(one, port): (&WorkloadEntry, &Port)| LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: address(&one.address, one.target_port(port)),
            ..Endpoint::default()
        })),
        load_balancing_weight: uint32(one.weight),
        ..LbEndpoint::default()
    };
    let lb_endpoints: Vec<_> = workloads.map(endpoint).collect();
    let localities = (!lb_endpoints.is_empty()).then(|| LocalityLbEndpoints {
        lb_endpoints,
        ..LocalityLbEndpoints::default()
    });
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: localities.into_iter().collect(),
        ..ClusterLoadAssignment::default()
    }
}

/// The same, with what is known of each workload.
pub(super) fn of_workloads(
    (index, proxy): (&Index, &Proxy),
    name: &str,
    (service, port): (&Service, &Port),
    selected: &[&WorkloadEntry],
) -> ClusterLoadAssignment {
    let workloads = selected.iter().map(|one| (*one, port));
    let mut made = assignment(name, workloads);
    let assigned = made.endpoints.iter_mut();
    let assigned = assigned.flat_map(|it| &mut it.lb_endpoints);
    for (endpoint, one) in assigned.zip(selected) {
        let socket = mutual_tls::transport_match(index, service, one, port);
        let workload = workload(proxy, service, one);
        let all: Vec<_> = socket.into_iter().chain(workload).collect();
        endpoint.metadata = (!all.is_empty()).then(|| Metadata {
            filter_metadata: map_in_order(&all),
            ..Metadata::default()
        });
    }
    made
}

/// Who an endpoint is, in Istio's form, for telemetry about those that do not say it themselves. All workloads are of the
/// proxy's own cluster.
fn workload(
    proxy: &Proxy,
    service: &Service,
    one: &WorkloadEntry,
) -> Option<(&'static str, Struct)> {
    let canonical = canonical_service(&one.labels, &one.name);
    if canonical.is_empty() {
        return None;
    }
    let said: [&str; 5] = [
        &one.name,
        &service.meta.namespace,
        canonical,
        canonical_revision(&one.labels).unwrap_or_default(),
        &proxy.cluster_id,
    ];
    Some(("istio", one_text("workload", said.join(";"))))
}
