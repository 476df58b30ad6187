//! AuthorizationPolicies of `CUSTOM`, in Istio's shape: rules that only tell which requests they match, and behind
//! them a filter that asks the provider about those.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, GrpcService, HeaderValue, HttpUri};
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationRequest, AuthorizationResponse, BufferSettings, ExtAuthz, HttpService,
};
use envoy_types::pb::envoy::extensions::filters::network::ext_authz::v3 as network;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use envoy_types::pb::envoy::r#type::matcher::v3::metadata_matcher::{PathSegment, path_segment};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::value_matcher::MatchPattern as ValuePattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    ListStringMatcher, MetadataMatcher, StringMatcher, ValueMatcher,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use periplus_resources::{AuthorizationPolicy, Authorizer, Host, HttpAuthorizer, PolicyAction};

use super::authorization::{Filter, NETWORK_STAT_PREFIX, Rules, Traffic, rules};
use super::proto::{any, duration};
use super::trust::Trust;
use crate::index::{Entry, Index};
use crate::names;
use crate::proxy::Proxy;

/// What the names of rules end with whose provider nobody knows, as in Istio: they deny.
const UNKNOWN: &str = "-deny-due-to-bad-CUSTOM-action";

/// What the names of a provider's rules begin with.
pub(super) fn prefix(provider: &str) -> String {
    format!("istio-ext-authz-{provider}-")
}

/// The policies that ask a provider, by its name.
fn by_provider<'a>(
    index: &'a Index,
    proxy: &Proxy,
) -> BTreeMap<&'a str, Vec<&'a Entry<AuthorizationPolicy>>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for entry in index.authorization_policies(proxy) {
        if let PolicyAction::Custom(provider) = &entry.spec.action {
            found.entry(provider.as_str()).or_default().push(entry);
        }
    }
    found
}

/// The services that a proxy asks.
pub(super) fn services(index: &Index, proxy: &Proxy) -> Vec<Host> {
    let providers = by_provider(index, proxy).into_keys();
    let known = providers.filter_map(|name| index.mesh().authorizer(name));
    known.map(|authorizer| authorizer.service.clone()).collect()
}

/// The filters of requests: for each provider its rules, and the one that asks.
pub(super) fn filters(index: &Index, proxy: &Proxy) -> Vec<HttpFilter> {
    let trust = Trust::of(index.mesh());
    let mut filters = Vec::new();
    for (name, entries) in by_provider(index, proxy) {
        let entries: Vec<_> = entries.iter().collect();
        let action = PolicyAction::Custom(name.to_owned());
        let matching = rules(&action, &entries, Traffic::Requests, trust);
        let Some(authorizer) = index.mesh().authorizer(name) else {
            filters.extend(matching.map(|rules| closed(rules).into_http()));
            continue;
        };
        filters.push(telling(matching).into_http());
        filters.push(HttpFilter {
            name: "envoy.filters.http.ext_authz".into(),
            config_type: Some(http_filter::ConfigType::TypedConfig(any(&asking(
                authorizer,
            )))),
            ..HttpFilter::default()
        });
    }
    filters
}

/// The same for connections, about which providers of HTTP know nothing: as in Istio, they are not asked.
pub(super) fn network_filters(index: &Index, proxy: &Proxy) -> Vec<listener::Filter> {
    let trust = Trust::of(index.mesh());
    let mut filters = Vec::new();
    for (name, entries) in by_provider(index, proxy) {
        let entries: Vec<_> = entries.iter().collect();
        let action = PolicyAction::Custom(name.to_owned());
        let matching = rules(&action, &entries, Traffic::Connections, trust);
        match index.mesh().authorizer(name) {
            None => filters.extend(matching.map(|rules| closed(rules).into_network())),
            Some(authorizer) if authorizer.http.is_some() => {}
            Some(authorizer) => {
                filters.push(telling(matching).into_network());
                let config = any(&asking_of_connections(authorizer));
                filters.push(listener::Filter {
                    name: "envoy.filters.network.ext_authz".into(),
                    config_type: Some(listener::filter::ConfigType::TypedConfig(config)),
                });
            }
        }
    }
    filters
}

/// Rules that only tell the filter behind them what they match.
fn telling(matching: Option<Rules>) -> Filter {
    Filter {
        shadow_rules: matching,
        shadow_rules_stat_prefix: "istio_ext_authz_".into(),
        ..Filter::default()
    }
}

/// Rules that deny what they match.
fn closed(mut rules: Rules) -> Filter {
    let policies = std::mem::take(&mut rules.policies).into_iter();
    rules.policies = policies
        .map(|(name, policy)| (format!("{name}{UNKNOWN}"), policy))
        .collect();
    Filter {
        rules: Some(rules),
        ..Filter::default()
    }
}

fn asking(authorizer: &Authorizer) -> ExtAuthz {
    let services = match &authorizer.http {
        None => Services::GrpcService(grpc_service(authorizer)),
        Some(http) => Services::HttpService(HttpService {
            server_uri: Some(HttpUri {
                uri: format!("http://{}", authorizer.service.as_str()),
                timeout: duration(authorizer.timeout),
                http_upstream_type: Some(HttpUpstreamType::Cluster(cluster(authorizer))),
            }),
            ..http_service(http)
        }),
    };
    let told = authorizer.http.as_ref().map(|http| &http.told);
    ExtAuthz {
        services: Some(services),
        transport_api_version: ApiVersion::V3.into(),
        failure_mode_allow: authorizer.fails_open,
        clear_route_cache: authorizer.clears_route,
        status_on_error: authorizer.status_on_error.map(|status| HttpStatus {
            code: status.into(),
        }),
        with_request_body: authorizer.body.map(|body| BufferSettings {
            max_request_bytes: body.most,
            allow_partial_message: body.may_be_cut,
            pack_as_bytes: body.as_bytes,
        }),
        allowed_headers: told.and_then(|names| matchers(names)),
        filter_enabled_metadata: Some(matched("envoy.filters.http.rbac", authorizer)),
        ..ExtAuthz::default()
    }
}

fn asking_of_connections(authorizer: &Authorizer) -> network::ExtAuthz {
    network::ExtAuthz {
        stat_prefix: NETWORK_STAT_PREFIX.into(),
        grpc_service: Some(grpc_service(authorizer)),
        failure_mode_allow: authorizer.fails_open,
        transport_api_version: ApiVersion::V3.into(),
        filter_enabled_metadata: Some(matched("envoy.filters.network.rbac", authorizer)),
        ..network::ExtAuthz::default()
    }
}

fn cluster(authorizer: &Authorizer) -> String {
    names::outbound_cluster(authorizer.port, "", authorizer.service.as_str())
}

fn grpc_service(authorizer: &Authorizer) -> GrpcService {
    let cluster = cluster(authorizer);
    GrpcService {
        timeout: duration(authorizer.timeout),
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            // `|` is none of a host's characters.
            authority: cluster.replace('|', "_."),
            cluster_name: cluster,
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    }
}

fn http_service(http: &HttpAuthorizer) -> HttpService {
    let added = http.added.iter().map(|(name, value)| HeaderValue {
        key: name.clone(),
        value: value.clone(),
        ..HeaderValue::default()
    });
    let response = AuthorizationResponse {
        allowed_upstream_headers: matchers(&http.upstream),
        allowed_client_headers: matchers(&http.denied),
        allowed_client_headers_on_success: matchers(&http.allowed),
        ..AuthorizationResponse::default()
    };
    HttpService {
        path_prefix: http.path_prefix.clone(),
        authorization_request: (!http.added.is_empty()).then(|| AuthorizationRequest {
            headers_to_add: added.collect(),
            ..AuthorizationRequest::default()
        }),
        authorization_response: (response != AuthorizationResponse::default()).then_some(response),
        ..HttpService::default()
    }
}

/// Names of headers: exact, or with `*` at one end.
fn matchers(names: &[String]) -> Option<ListStringMatcher> {
    let pattern = |name: &String| StringMatcher {
        match_pattern: Some(match (name.strip_suffix('*'), name.strip_prefix('*')) {
            (Some(prefix), _) => MatchPattern::Prefix(prefix.to_owned()),
            (None, Some(suffix)) => MatchPattern::Suffix(suffix.to_owned()),
            (None, None) => MatchPattern::Exact(name.clone()),
        }),
        ignore_case: true,
    };
    let patterns: Vec<_> = names.iter().map(pattern).collect();
    (!patterns.is_empty()).then_some(ListStringMatcher { patterns })
}

/// Whether one of the provider's rules has matched, as the filter of rules tells.
fn matched(filter: &str, authorizer: &Authorizer) -> MetadataMatcher {
    let key = "istio_ext_authz_shadow_effective_policy_id";
    MetadataMatcher {
        filter: filter.into(),
        path: vec![PathSegment {
            segment: Some(path_segment::Segment::Key(key.into())),
        }],
        value: Some(ValueMatcher {
            match_pattern: Some(ValuePattern::StringMatch(StringMatcher {
                match_pattern: Some(MatchPattern::Prefix(prefix(&authorizer.name))),
                ..StringMatcher::default()
            })),
        }),
        invert: false,
    }
}
