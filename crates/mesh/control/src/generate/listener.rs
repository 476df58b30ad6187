//! LDS: one listener is one connection manager.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_filter,
};

use envoy_types::pb::google::protobuf::Any;

use super::policy;
use super::proto::{address, ads, any, boolean, duration};
use super::tracing::tracing;
use crate::index::Index;
use crate::names;
use crate::proxy::{Proxy, Role};

/// Where a listener's routes come from.
pub(super) enum Routes {
    /// RDS, by this name.
    Named(String),
    /// The listener itself.
    Inline(Box<RouteConfiguration>),
}

fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

/// Makes the listener of an address.
pub(super) fn listener(
    index: &Index,
    proxy: &Proxy,
    direction: TrafficDirection,
    (bind, port): (IpAddr, u16),
    routes: Routes,
) -> Listener {
    let prefix = match direction {
        TrafficDirection::Inbound => "inbound",
        _ => "outbound",
    };
    let edge = proxy.role == Role::Router;
    // What applications get from their own sidecar keeps the name of Envoy's default, as in Istio.
    let is_istio_envoy = edge || direction == TrafficDirection::Inbound;
    let manager = HttpConnectionManager {
        stat_prefix: names::stat_prefix(prefix, bind, port),
        // Which routes inject faults is said there.
        http_filters: vec![
            http_filter(policy::FAULT, any(&HttpFault::default())),
            http_filter("envoy.filters.http.router", any(&Router::default())),
        ],
        tracing: tracing(index, proxy),
        use_remote_address: boolean(edge),
        generate_request_id: boolean(true),
        server_name: if is_istio_envoy { "istio-envoy" } else { "" }.into(),
        stream_idle_timeout: duration(Duration::ZERO),
        route_specifier: Some(match routes {
            Routes::Named(name) => RouteSpecifier::Rds(Rds {
                config_source: ads(),
                route_config_name: name,
            }),
            Routes::Inline(routes) => RouteSpecifier::RouteConfig(*routes),
        }),
        ..HttpConnectionManager::default()
    };
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".into(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&manager))),
    };
    Listener {
        name: names::listener(bind, port),
        address: address(bind, port),
        filter_chains: vec![FilterChain {
            filters: vec![filter],
            ..FilterChain::default()
        }],
        traffic_direction: direction.into(),
        ..Listener::default()
    }
}
