//! Envoy resources, built by hand.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf;
use envoy_types::util::pack_any;
use periplus_xds::Resource;

pub(crate) fn socket(address: SocketAddr) -> Option<core::Address> {
    Some(core::Address {
        address: Some(AddressKind::SocketAddress(core::SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..Default::default()
        })),
    })
}

pub(crate) fn ads() -> Option<core::ConfigSource> {
    Some(core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(Default::default())),
        ..Default::default()
    })
}

/// A cluster whose endpoints come by EDS.
pub(crate) fn eds_cluster(name: &str, edit: impl FnOnce(&mut cluster::Cluster)) -> Resource {
    let mut cluster = cluster::Cluster {
        name: name.to_owned(),
        connect_timeout: Some(protobuf::Duration {
            seconds: 1,
            nanos: 0,
        }),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            service_name: String::new(),
        }),
        ..Default::default()
    };
    edit(&mut cluster);
    Resource::new(name, &cluster)
}

pub(crate) fn endpoints(name: &str, at: &[SocketAddr]) -> Resource {
    let lb_endpoints = at
        .iter()
        .map(|address| endpoint::LbEndpoint {
            host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
                endpoint::Endpoint {
                    address: socket(*address),
                    ..Default::default()
                },
            )),
            ..Default::default()
        })
        .collect();
    let assignment = endpoint::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints,
            ..Default::default()
        }],
        ..Default::default()
    };
    Resource::new(name, &assignment)
}

/// A connection manager with routes by RDS.
pub(crate) fn manager(routes: &str) -> hcm::HttpConnectionManager {
    hcm::HttpConnectionManager {
        stat_prefix: "test".to_owned(),
        http_filters: vec![hcm::HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(
                Router::default(),
            ))),
            ..Default::default()
        }],
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(
            hcm::Rds {
                config_source: ads(),
                route_config_name: routes.to_owned(),
            },
        )),
        ..Default::default()
    }
}

pub(crate) fn listener(
    name: &str,
    address: SocketAddr,
    direction: core::TrafficDirection,
    manager: hcm::HttpConnectionManager,
) -> listener::Listener {
    let filter = "envoy.filters.network.http_connection_manager";
    listener_of(name, address, direction, filter, manager)
}

/// A listener with one filter.
pub(crate) fn listener_of(
    name: &str,
    address: SocketAddr,
    direction: core::TrafficDirection,
    filter: &str,
    config: impl prost::Name,
) -> listener::Listener {
    listener::Listener {
        name: name.to_owned(),
        address: socket(address),
        traffic_direction: direction as i32,
        filter_chains: vec![listener::FilterChain {
            filters: vec![listener::Filter {
                name: filter.to_owned(),
                config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(config))),
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) fn path_prefix(prefix: &str) -> route::RouteMatch {
    route::RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix(prefix.to_owned())),
        ..Default::default()
    }
}

pub(crate) fn to_cluster(cluster: &str) -> route::RouteAction {
    route::RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    }
}

pub(crate) fn a_route(condition: route::RouteMatch, action: route::RouteAction) -> route::Route {
    route::Route {
        r#match: Some(condition),
        action: Some(Action::Route(action)),
        ..Default::default()
    }
}

/// Routes for all domains.
pub(crate) fn route_configuration(name: &str, routes: Vec<route::Route>) -> Resource {
    let config = route::RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![route::VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes,
            ..Default::default()
        }],
        ..Default::default()
    };
    Resource::new(name, &config)
}
