//! AuthorizationPolicies of `CUSTOM`, in Istio's shape: rules that only tell which requests they match, and behind
//! them a filter that asks the provider about those.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::http_uri::HttpUpstreamType;
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, GrpcService, HeaderValue, HttpUri};
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ext_authz::Services;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationRequest, AuthorizationResponse, BufferSettings, ExtAuthz, HttpService,
};
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

use super::authorization::{Filter, Traffic, rules};
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
        let matching = Filter {
            shadow_rules: matching,
            shadow_rules_stat_prefix: "istio_ext_authz_".into(),
            ..Filter::default()
        };
        filters.push(matching.into_http());
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

/// Connections that a provider of gRPC would have to be asked about, which nobody does: they are denied. Providers
/// of HTTP know requests only, as in Istio.
pub(super) fn closed_to_connections(index: &Index, proxy: &Proxy) -> Vec<Filter> {
    let trust = Trust::of(index.mesh());
    let mut filters = Vec::new();
    for (name, entries) in by_provider(index, proxy) {
        let authorizer = index.mesh().authorizer(name);
        if authorizer.is_some_and(|authorizer| authorizer.http.is_some()) {
            continue;
        }
        let entries: Vec<_> = entries.iter().collect();
        let action = PolicyAction::Custom(name.to_owned());
        let matching = rules(&action, &entries, Traffic::Connections, trust);
        filters.extend(matching.map(closed));
    }
    filters
}

/// Rules that deny what they match.
fn closed(mut rules: super::authorization::Rules) -> Filter {
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
    let host = authorizer.service.as_str();
    let cluster = names::outbound_cluster(authorizer.port, "", host);
    let timeout = duration(authorizer.timeout);
    let services = match &authorizer.http {
        None => Services::GrpcService(GrpcService {
            timeout,
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                // `|` is none of a host's characters.
                authority: cluster.replace('|', "_."),
                cluster_name: cluster,
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        }),
        Some(http) => Services::HttpService(HttpService {
            server_uri: Some(HttpUri {
                uri: format!("http://{host}"),
                timeout,
                http_upstream_type: Some(HttpUpstreamType::Cluster(cluster)),
            }),
            ..http_service(http)
        }),
    };
    let told = authorizer.http.as_ref().map(|http| &http.told);
    ExtAuthz {
        services: Some(services),
        transport_api_version: ApiVersion::V3.into(),
        failure_mode_allow: authorizer.fails_open,
        status_on_error: authorizer.status_on_error.map(|status| HttpStatus {
            code: status.into(),
        }),
        with_request_body: authorizer.body.map(|body| BufferSettings {
            max_request_bytes: body.most,
            allow_partial_message: body.may_be_cut,
            pack_as_bytes: body.as_bytes,
        }),
        allowed_headers: told.and_then(|names| matchers(names)),
        filter_enabled_metadata: Some(matched(&prefix(&authorizer.name))),
        ..ExtAuthz::default()
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

/// Whether a rule has matched whose name begins so.
fn matched(prefix: &str) -> MetadataMatcher {
    let key = "istio_ext_authz_shadow_effective_policy_id";
    MetadataMatcher {
        filter: "envoy.filters.http.rbac".into(),
        path: vec![PathSegment {
            segment: Some(path_segment::Segment::Key(key.into())),
        }],
        value: Some(ValueMatcher {
            match_pattern: Some(ValuePattern::StringMatch(StringMatcher {
                match_pattern: Some(MatchPattern::Prefix(prefix.to_owned())),
                ..StringMatcher::default()
            })),
        }),
        invert: false,
    }
}
