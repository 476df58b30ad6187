//! Local limits: the buckets of tokens that each proxy has for itself.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::XRateLimitHeadersRfcVersion;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::r#type::v3::TokenBucket;
use envoy_types::pb::google::protobuf::Any;
use periplus_resources::{LimitProvider, LocalLimit};

use super::listener::http_filter;
use super::policy::{WHOLE, runtime_share};
use super::proto::{any, duration, uint32};
use crate::index::Index;
use crate::proxy::{Proxy, Role};

/// The limits of a provider that are about requests to a proxy, each with its place among all of them.
fn of_proxy<'a>(
    provider: &'a LimitProvider,
    proxy: &Proxy,
) -> impl Iterator<Item = (usize, &'a LocalLimit)> {
    let limits = provider.limits.iter().enumerate();
    limits.filter(move |(_, limit)| {
        let namespace = limit.namespace.as_ref();
        namespace.is_none_or(|namespace| *namespace == proxy.namespace)
            && proxy.is_selected_by(&limit.selector)
    })
}

/// A filter for each limit of a port, and one for all that are about some routes, which say how much themselves.
pub(super) fn filters(index: &Index, proxy: &Proxy, port: u16) -> Vec<HttpFilter> {
    let mut filters = Vec::new();
    for provider in &index.mesh().limits {
        let name = filter_name(provider);
        for (at, limit) in of_proxy(provider, proxy) {
            let holds = |wanted| is_port(index, proxy, port, wanted);
            if limit.routes.is_empty() && limit.port.is_none_or(holds) {
                let config = counting(provider, (at, limit));
                filters.push(http_filter(&format!("{name}.{at}"), any(&config)));
            }
        }
        if has_routes(provider, proxy) {
            let config = LocalRateLimit {
                stat_prefix: provider.name.clone(),
                ..LocalRateLimit::default()
            };
            filters.push(http_filter(&name, any(&config)));
        }
    }
    filters
}

/// What a gateway's route says of it: of each provider the first limit that means it.
pub(super) fn of_route(
    index: &Index,
    proxy: &Proxy,
    (port, route): (u16, &str),
) -> Vec<(String, Any)> {
    let limit = |provider: &LimitProvider| {
        let found = of_proxy(provider, proxy).find(|(_, limit)| {
            limit.routes.iter().any(|name| name == route)
                && limit.port.is_none_or(|wanted| wanted == port)
        })?;
        Some((filter_name(provider), any(&counting(provider, found))))
    };
    match proxy.role {
        Role::Router => index.mesh().limits.iter().filter_map(limit).collect(),
        Role::Sidecar => Vec::new(),
    }
}

fn has_routes(provider: &LimitProvider, proxy: &Proxy) -> bool {
    proxy.role == Role::Router
        && of_proxy(provider, proxy).any(|(_, limit)| !limit.routes.is_empty())
}

fn filter_name(provider: &LimitProvider) -> String {
    format!("envoy.filters.http.local_ratelimit.{}", provider.name)
}

/// A Gateway's servers have the ports of the gateway's service, which may not be those that it listens on.
fn is_port(index: &Index, proxy: &Proxy, port: u16, wanted: u16) -> bool {
    match proxy.role {
        Role::Sidecar => port == wanted,
        Role::Router => index
            .servers_of(proxy)
            .any(|(own, (_, server))| own == port && server.port.number == wanted),
    }
}

fn counting(provider: &LimitProvider, (at, limit): (usize, &LocalLimit)) -> LocalRateLimit {
    let bucket = limit.bucket;
    let tells = match limit.tells {
        true => XRateLimitHeadersRfcVersion::DraftVersion03,
        false => XRateLimitHeadersRfcVersion::Off,
    };
    LocalRateLimit {
        stat_prefix: format!("{}.{at}", provider.name),
        token_bucket: Some(TokenBucket {
            max_tokens: bucket.most,
            tokens_per_fill: uint32(bucket.per_fill),
            fill_interval: duration(bucket.interval),
        }),
        filter_enabled: runtime_share(WHOLE),
        filter_enforced: runtime_share(WHOLE),
        enable_x_ratelimit_headers: tells.into(),
        rate_limited_as_resource_exhausted: true,
        ..LocalRateLimit::default()
    }
}
