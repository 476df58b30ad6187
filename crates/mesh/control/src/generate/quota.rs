//! Shared quotas: which requests the service that counts is asked about.

use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, GrpcService};
use envoy_types::pb::envoy::config::ratelimit::v3::RateLimitServiceConfig;
use envoy_types::pb::envoy::config::route::v3::RateLimit as Rule;
use envoy_types::pb::envoy::config::route::v3::rate_limit::Action;
use envoy_types::pb::envoy::config::route::v3::rate_limit::action::{
    ActionSpecifier, DestinationCluster, GenericKey, RemoteAddress, RequestHeaders, SourceCluster,
};
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3::RateLimit;
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3::rate_limit::XRateLimitHeadersRfcVersion;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use periplus_resources::{Host, QuotaAction, QuotaProvider};

use super::proto::{any, duration};
use crate::index::Index;
use crate::names;
use crate::proxy::Proxy;

/// The providers that are asked about requests to a proxy, with what they are asked.
fn asked<'a>(
    index: &'a Index,
    proxy: &Proxy,
) -> impl Iterator<Item = (&'a QuotaProvider, Vec<&'a [QuotaAction]>)> {
    let of_proxy = |provider: &'a QuotaProvider| {
        let limits = provider.limits.iter().filter(|limit| {
            let namespace = limit.namespace.as_ref();
            namespace.is_none_or(|namespace| *namespace == proxy.namespace)
                && proxy.is_selected_by(&limit.selector)
        });
        let actions: Vec<_> = limits.map(|limit| limit.actions.as_slice()).collect();
        (!actions.is_empty()).then_some((provider, actions))
    };
    index.mesh().quotas.iter().filter_map(of_proxy)
}

/// The services that a proxy asks.
pub(super) fn services(index: &Index, proxy: &Proxy) -> Vec<Host> {
    let asked = asked(index, proxy);
    asked
        .map(|(provider, _)| provider.service.clone())
        .collect()
}

/// A filter of requests for each provider.
pub(super) fn filters(index: &Index, proxy: &Proxy) -> Vec<HttpFilter> {
    let filter = |(provider, rules): (&QuotaProvider, Vec<&[QuotaAction]>)| HttpFilter {
        name: format!("envoy.filters.http.ratelimit.{}", provider.name),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(&asking(
            provider, &rules,
        )))),
        ..HttpFilter::default()
    };
    asked(index, proxy).map(filter).collect()
}

fn asking(provider: &QuotaProvider, rules: &[&[QuotaAction]]) -> RateLimit {
    let cluster = names::outbound_cluster(provider.port, "", provider.service.as_str());
    let rules = rules.iter().map(|actions| Rule {
        actions: actions.iter().map(action).collect(),
        ..Rule::default()
    });
    RateLimit {
        domain: provider.domain.clone(),
        timeout: duration(provider.timeout),
        failure_mode_deny: !provider.fails_open,
        rate_limit_service: Some(RateLimitServiceConfig {
            grpc_service: Some(GrpcService {
                target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                    // `|` is none of a host's characters.
                    authority: cluster.replace('|', "_."),
                    cluster_name: cluster,
                    ..EnvoyGrpc::default()
                })),
                ..GrpcService::default()
            }),
            transport_api_version: ApiVersion::V3.into(),
        }),
        enable_x_ratelimit_headers: XRateLimitHeadersRfcVersion::DraftVersion03.into(),
        rate_limited_as_resource_exhausted: true,
        rate_limits: rules.collect(),
        ..RateLimit::default()
    }
}

fn action(action: &QuotaAction) -> Action {
    let specifier = match action {
        QuotaAction::Generic { key, value } => ActionSpecifier::GenericKey(GenericKey {
            descriptor_key: key.clone().unwrap_or_default(),
            descriptor_value: value.clone(),
            ..GenericKey::default()
        }),
        QuotaAction::Header { name, key, skips } => {
            ActionSpecifier::RequestHeaders(RequestHeaders {
                header_name: name.clone(),
                descriptor_key: key.clone(),
                skip_if_absent: *skips,
            })
        }
        QuotaAction::RemoteAddress => ActionSpecifier::RemoteAddress(RemoteAddress::default()),
        QuotaAction::SourceCluster => ActionSpecifier::SourceCluster(SourceCluster::default()),
        QuotaAction::DestinationCluster => {
            ActionSpecifier::DestinationCluster(DestinationCluster::default())
        }
    };
    Action {
        action_specifier: Some(specifier),
    }
}
