//! What applications get that speak xDS themselves, without a proxy: gRPC's `xds:///HOST:PORT`, in Istio's names.
//!
//! gRPC takes less than Envoy does, and refuses what it does not know: so it gets listeners for clients, one for each
//! name of a service's port, routes without what only proxies do, and clusters that it can balance.

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::LbPolicy;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::core::v3::{Locality, TransportSocket};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Listener};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, Rds,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext,
    UpstreamTlsContext,
};
use periplus_identity::agent::{OWN, ROOTS};
use periplus_resources::{Port, Protocol};
use prost::Message;

use super::cluster::Clusters;
use super::listener::http_filter;
use super::mutual_tls;
use super::outbound::{service_names, service_routes};
use super::policy;
use super::proto::{ads, any, uint32};
use super::route::virtual_host;
use super::{Generated, Imports};
use crate::index::{Index, Service};
use crate::names;
use crate::proxy::Proxy;

/// The provider of certificates in the bootstrap file that Istio's agent writes for gRPC.
const PROVIDER: &str = "default";

pub(super) fn generate(index: &Index, proxy: &Proxy) -> Generated {
    let mut made = Generated::default();
    let imports = Imports(index.sidecar_for(proxy).map(|sidecar| &sidecar.spec));
    let mut listeners: BTreeMap<String, Listener> = BTreeMap::new();
    let known = index.seen_from(&proxy.namespace, |namespace, host| {
        imports.covers(namespace, host)
    });
    for service in known.filter(|service| !service.host.is_wildcard()) {
        for port in service.ports().iter().filter(|port| speaks(port)) {
            let routes = names::outbound_cluster(port.number, "", service.host.as_str());
            for name in service_names(service, &proxy.namespace) {
                let name = names::host_port(&name, port.number);
                let made = listener(&name, &routes);
                listeners.entry(name).or_insert(made);
            }
            made.routes
                .push(route_configuration((index, proxy), (service, port), routes));
        }
    }
    made.listeners.extend(listeners.into_values());
    let mut clusters = Clusters::new(index, proxy);
    clusters.add_visible(|namespace, host| imports.covers(namespace, host));
    clusters.finish(&mut made);
    made.secrets.clear();
    restrict(&mut made);
    made
}

/// Whether gRPC may be spoken there.
fn speaks(port: &Port) -> bool {
    matches!(port.protocol, Protocol::Http2 | Protocol::Detected)
}

fn listener(name: &str, routes: &str) -> Listener {
    let manager = HttpConnectionManager {
        http_filters: vec![
            http_filter(policy::FAULT, any(&HttpFault::default())),
            http_filter("envoy.filters.http.router", any(&Router::default())),
        ],
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: ads(),
            route_config_name: routes.to_owned(),
        })),
        ..HttpConnectionManager::default()
    };
    Listener {
        name: name.to_owned(),
        api_listener: Some(ApiListener {
            api_listener: Some(any(&manager)),
        }),
        ..Listener::default()
    }
}

fn route_configuration(
    (index, proxy): (&Index, &Proxy),
    (service, port): (&Service, &Port),
    name: String,
) -> RouteConfiguration {
    let mut routes = service_routes(index, proxy, service, port);
    for route in &mut routes {
        // Of the filters of routes gRPC has that for faults alone.
        route
            .typed_per_filter_config
            .retain(|name, _| name == policy::FAULT);
    }
    let host = names::host_port(service.host.as_str(), port.number);
    RouteConfiguration {
        name,
        // Whoever asks for the listener means this service.
        virtual_hosts: vec![virtual_host(host, vec!["*".to_owned()], routes)],
        ..RouteConfiguration::default()
    }
}

/// Leaves what gRPC takes.
fn restrict(made: &mut Generated) {
    let mut refused = Vec::new();
    made.clusters.retain_mut(|cluster| {
        let socket = cluster.transport_socket.take();
        let is_plain = socket.is_none();
        cluster.transport_socket = socket.as_ref().and_then(of_provider);
        let is_secured = is_plain || cluster.transport_socket.is_some();
        let is_taken = cluster.eds_cluster_config.is_some() && is_secured;
        if !is_taken {
            refused.push(cluster.name.clone());
        }
        simplify(cluster);
        is_taken
    });
    if !refused.is_empty() {
        made.notes.push(format!(
            "gRPC without a proxy gets clusters with known endpoints, without TLS or with that of the mesh: not {}",
            refused.join(", ")
        ));
    }
    let kept: BTreeSet<_> = made
        .clusters
        .iter()
        .map(|cluster| cluster.name.clone())
        .collect();
    made.endpoints
        .retain(|one| kept.contains(&one.cluster_name));
    made.endpoints.iter_mut().for_each(weigh);
}

/// The mesh's own TLS, with the certificates of the provider in gRPC's bootstrap file that has Istio's name for it. TLS of
/// another kind is none of gRPC's.
#[expect(deprecated, reason = "it is the form of names that gRPC reads")]
fn of_provider(socket: &TransportSocket) -> Option<TransportSocket> {
    let Some(ConfigType::TypedConfig(config)) = &socket.config_type else {
        return None;
    };
    let context = UpstreamTlsContext::decode(config.value.as_slice()).ok()?;
    let common = context.common_tls_context?;
    let mut own = common.tls_certificate_sds_secret_configs.iter();
    own.find(|secret| secret.name == OWN)?;
    let Some(ValidationContextType::CombinedValidationContext(combined)) =
        common.validation_context_type
    else {
        return None;
    };
    let expected = combined.default_validation_context.unwrap_or_default();
    let names = expected.match_typed_subject_alt_names.into_iter();
    let of = |certificate_name: &str| {
        Some(CertificateProviderPluginInstance {
            instance_name: PROVIDER.to_owned(),
            certificate_name: certificate_name.to_owned(),
        })
    };
    let validation = CertificateValidationContext {
        match_subject_alt_names: names.filter_map(|name| name.matcher).collect(),
        ca_certificate_provider_instance: of(ROOTS),
        ..CertificateValidationContext::default()
    };
    Some(mutual_tls::socket(&UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_provider_instance: of(OWN),
            validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    }))
}

fn simplify(cluster: &mut Cluster) {
    // Servers of the mesh take plaintext where they do not ask for more.
    cluster.transport_socket_matches.clear();
    if cluster.lb_policy() != LbPolicy::RingHash {
        cluster.lb_policy = LbPolicy::RoundRobin.into();
        cluster.lb_config = None;
    }
    cluster.typed_extension_protocol_options.clear();
}

/// Localities without a name or a weight are left out by gRPC.
fn weigh(endpoints: &mut ClusterLoadAssignment) {
    for locality in &mut endpoints.endpoints {
        locality.locality.get_or_insert_with(Locality::default);
        let weights = locality.lb_endpoints.iter();
        let sum = weights
            .map(|one| one.load_balancing_weight.map_or(1, |weight| weight.value))
            .sum();
        if locality.load_balancing_weight.is_none() {
            locality.load_balancing_weight = uint32(sum);
        }
    }
}
