//! LDS: one listener is one connection manager.

use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::Cors;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
    SetCurrentClientCertDetails, UpgradeConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_filter,
};

use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::pb::google::protobuf::Any;
use periplus_resources::PathNormalization;

use super::access_log::access_logs;
use super::policy;
use super::proto::{address, ads, any, boolean, duration};
use super::tracing::tracing;
use super::{authentication, authorization, custom, local_limit, quota, session, told};
use crate::index::{Index, Side};
use crate::names;
use crate::proxy::{Proxy, Role};

/// Where a listener's routes come from.
pub(super) enum Routes {
    /// RDS, by this name.
    Named(String),
    /// The listener itself.
    Inline(Box<RouteConfiguration>),
}

pub(super) fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

/// Makes the listener of an address, with a connection manager.
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
    let prefix = names::stat_prefix(prefix, bind, port);
    Listener {
        name: names::listener(bind, port),
        address: address(bind, port),
        filter_chains: vec![FilterChain {
            filters: vec![http(index, proxy, direction, (prefix, port), routes)],
            ..FilterChain::default()
        }],
        traffic_direction: direction.into(),
        ..Listener::default()
    }
}

/// A connection manager of a port.
pub(super) fn http(
    index: &Index,
    proxy: &Proxy,
    direction: TrafficDirection,
    (stat_prefix, port): (String, u16),
    routes: Routes,
) -> Filter {
    let edge = proxy.role == Role::Router;
    // What a gateway serves it passes on, as in Istio.
    let side = match edge || direction != TrafficDirection::Inbound {
        true => Side::Client,
        false => Side::Server,
    };
    // What applications get from their own sidecar keeps the name of Envoy's default, as in Istio.
    let is_istio_envoy = edge || direction == TrafficDirection::Inbound;
    // What a workload itself asks for is nobody's to allow.
    let mut http_filters = match edge || direction == TrafficDirection::Inbound {
        true => {
            let asking = custom::filters(index, proxy).into_iter();
            let tokens = authentication::filter(index, proxy);
            let policies = authorization::filters(index, proxy);
            let limits = local_limit::filters(index, proxy, port);
            let quotas = quota::filters(index, proxy);
            // What is refused anyway uses nobody's quota up.
            let deciding = asking.chain(tokens).chain(policies);
            deciding.chain(limits).chain(quotas).collect()
        }
        false => Vec::new(),
    };
    // Which routes inject faults, or may be asked by pages of other origins, is said there.
    http_filters.push(http_filter(policy::FAULT, any(&HttpFault::default())));
    http_filters.push(http_filter(policy::CORS, any(&Cors::default())));
    let session = session::filter(index).filter(|_| side == Side::Client);
    http_filters.extend(session.map(|session| http_filter(session::SESSION, session)));
    let metrics = told::metrics(index, proxy, side);
    http_filters.extend(metrics.map(|metrics| http_filter(told::STATS, metrics)));
    http_filters.push(http_filter(
        "envoy.filters.http.router",
        any(&Router::default()),
    ));
    let (forwards, shown) = peer(index, edge, side);
    let paths = index.mesh().paths;
    let decodes = paths == PathNormalization::DecodeAndMergeSlashes;
    let manager = HttpConnectionManager {
        stat_prefix,
        normalize_path: boolean(paths != PathNormalization::None),
        merge_slashes: decodes || paths == PathNormalization::MergeSlashes,
        path_with_escaped_slashes_action: match decodes {
            true => PathWithEscapedSlashesAction::UnescapeAndForward.into(),
            false => PathWithEscapedSlashesAction::default().into(),
        },
        http_filters,
        tracing: tracing(index, proxy, side),
        access_log: access_logs(index, proxy, side),
        use_remote_address: boolean(edge),
        generate_request_id: boolean(true),
        server_name: if is_istio_envoy { "istio-envoy" } else { "" }.into(),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".into(),
            ..UpgradeConfig::default()
        }],
        forward_client_cert_details: forwards.into(),
        set_current_client_cert_details: shown,
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
    Filter {
        name: "envoy.filters.network.http_connection_manager".into(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&manager))),
    }
}

/// Who has called, in `x-forwarded-client-cert`: at the edge nobody else is believed about it.
fn peer(
    index: &Index,
    edge: bool,
    side: Side,
) -> (
    ForwardClientCertDetails,
    Option<SetCurrentClientCertDetails>,
) {
    let shown = SetCurrentClientCertDetails {
        subject: boolean(true),
        cert: edge,
        dns: true,
        uri: true,
        ..SetCurrentClientCertDetails::default()
    };
    match (edge, index.has_authority() && side == Side::Server) {
        (true, _) => (ForwardClientCertDetails::SanitizeSet, Some(shown)),
        (false, true) => (ForwardClientCertDetails::AppendForward, Some(shown)),
        (false, false) => (ForwardClientCertDetails::default(), None),
    }
}

/// A TCP proxy to a cluster.
pub(super) fn tcp(cluster: &str) -> Filter {
    tcp_until(cluster, None)
}

/// The same whose connections end when they were idle for so long, if that is said.
pub(super) fn tcp_until(cluster: &str, idle_timeout: Option<Duration>) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: names::alt_stat_name(cluster),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        idle_timeout: idle_timeout.and_then(duration),
        ..TcpProxy::default()
    };
    Filter {
        name: "envoy.filters.network.tcp_proxy".into(),
        config_type: Some(filter::ConfigType::TypedConfig(any(&proxy))),
    }
}
