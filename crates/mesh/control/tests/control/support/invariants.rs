//! What must hold for whatever is generated.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener, filter};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use periplus_control::Generated;
use prost::Name;

use super::render::unpack;

pub(crate) fn check(generated: &Generated) {
    unique(
        "listener",
        generated.listeners.iter().map(|listener| &listener.name),
    );
    unique(
        "cluster",
        generated.clusters.iter().map(|cluster| &cluster.name),
    );
    unique(
        "secret",
        generated.secrets.iter().map(|secret| &secret.name),
    );
    let routes = unique("routes", generated.routes.iter().map(|routes| &routes.name));
    let assigned = generated
        .endpoints
        .iter()
        .map(|endpoints| &endpoints.cluster_name);
    let assigned = unique("endpoints", assigned);

    // A cluster or listener whose second half never comes would warm for ever.
    let eds = generated
        .clusters
        .iter()
        .filter(|cluster| cluster.eds_cluster_config.is_some());
    let eds: BTreeSet<_> = eds.map(|cluster| &cluster.name).collect();
    assert_eq!(eds, assigned);
    let named: BTreeSet<_> = generated.listeners.iter().flat_map(rds_names).collect();
    assert_eq!(named.iter().collect::<BTreeSet<_>>(), routes);

    for routes in &generated.routes {
        let hosts = routes.virtual_hosts.iter();
        unique("virtual host", hosts.clone().map(|host| &host.name));
        // Envoy refuses a route configuration in which a domain occurs twice.
        unique("domain", hosts.clone().flat_map(|host| &host.domains));
        assert!(hosts.clone().all(|host| !host.domains.is_empty()));
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    for name in names {
        assert!(seen.insert(name), "{what} {name} occurs twice");
    }
    seen
}

fn rds_names(listener: &Listener) -> Vec<String> {
    let chains = listener.filter_chains.iter();
    let filters = chains
        .chain(&listener.default_filter_chain)
        .flat_map(|chain| &chain.filters);
    let name = |filter: &Filter| {
        let Some(filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
            panic!("{filter:?}")
        };
        if any.type_url != HttpConnectionManager::type_url() {
            return None;
        }
        match unpack::<HttpConnectionManager>(any).route_specifier? {
            RouteSpecifier::Rds(rds) => Some(rds.route_config_name),
            _ => None,
        }
    };
    filters.filter_map(name).collect()
}
