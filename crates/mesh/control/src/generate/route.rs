//! The routes of virtual hosts.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route::Action as EnvoyAction;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HashPolicy, HostRewriteSpecifier, RequestMirrorPolicy,
};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use envoy_types::pb::envoy::config::route::v3::{
    Decorator, DirectResponseAction, HeaderMatcher, QueryParameterMatcher, Route, RouteAction,
    RouteMatch, VirtualHost, WeightedCluster,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    RegexMatchAndSubstitute, RegexMatcher, StringMatcher,
};
use envoy_types::pb::google::protobuf::BoolValue;
use periplus_resources::{
    Action, Destination, DirectResponse, GatewayRef, Headers, Host, HttpMatch, HttpRoute, Labels,
    Mirror, Retries, StringMatch, VirtualService, WeightedDestination,
};

use super::proto::{any, duration, istio_config, map_in_order, uint32};
use super::{balancing, config_path, policy};
use crate::index::{Entry, Index};
use crate::names;
use crate::proxy::Proxy;

/// Where routes are used: it decides which rules of a VirtualService hold.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) index: &'a Index,
    pub(super) proxy: &'a Proxy,
    /// The Gateway's namespace and name; `None` in sidecars.
    pub(super) gateway: Option<(&'a str, &'a str)>,
    /// The port that the client asked for.
    pub(super) port: u16,
}

impl Scope<'_> {
    /// What requests to these destinations are hashed by, where that decides about their endpoints.
    fn hash_policies<'d>(
        self,
        destinations: impl Iterator<Item = &'d Destination>,
    ) -> Vec<HashPolicy> {
        let mut policies = Vec::new();
        for destination in destinations {
            let port = port(destination, self);
            if let Some(policy) = self.hash_policy(&destination.host, &destination.subset, port)
                && !policies.contains(&policy)
            {
                policies.push(policy);
            }
        }
        policies
    }

    /// The same for a service, or one of its subsets.
    pub(super) fn hash_policy(self, host: &Host, subset: &str, port: u16) -> Option<HashPolicy> {
        let service = self.index.service(host)?;
        let rules = self.index.connection_rules(&self.proxy.namespace, service);
        let subset = rules.subsets.iter().find(|one| one.name == subset);
        balancing::hash_policy(&rules.policy_of(subset, port))
    }
}

/// A virtual host; all of them tell the application which attempt it sees.
pub(super) fn virtual_host(name: String, domains: Vec<String>, routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name,
        domains,
        routes,
        include_request_attempt_count: true,
        ..VirtualHost::default()
    }
}

/// The route of a service without rules.
pub(super) fn service_route(
    cluster: String,
    operation: String,
    hash_policy: Option<HashPolicy>,
) -> Route {
    let mut route = default_route(cluster, operation);
    if let Some(EnvoyAction::Route(action)) = &mut route.action {
        action.hash_policy = hash_policy.into_iter().collect();
        action.retry_policy = policy::retry_policy(&Retries::default());
    }
    route
}

/// The route of applications behind their sidecar.
pub(super) fn default_route(cluster: String, operation: String) -> Route {
    Route {
        name: "default".into(),
        r#match: Some(any_request()),
        action: Some(route_to(ClusterSpecifier::Cluster(cluster), Duration::ZERO)),
        decorator: decorator(operation),
        ..Route::default()
    }
}

/// The virtual host for whatever the mesh does not know, if that may pass.
pub(super) fn allow_any() -> VirtualHost {
    let passthrough = ClusterSpecifier::Cluster(names::PASSTHROUGH.to_owned());
    let route = Route {
        name: "allow_any".into(),
        r#match: Some(any_request()),
        action: Some(route_to(passthrough, Duration::ZERO)),
        ..Route::default()
    };
    virtual_host("allow_any".into(), vec!["*".into()], vec![route])
}

/// The virtual host for whatever the mesh does not know, if it may not.
pub(super) fn block_all() -> VirtualHost {
    let route = Route {
        name: "block_all".into(),
        r#match: Some(any_request()),
        action: Some(EnvoyAction::DirectResponse(DirectResponseAction {
            status: 502,
            ..DirectResponseAction::default()
        })),
        ..Route::default()
    };
    virtual_host("block_all".into(), vec!["*".into()], vec![route])
}

/// The routes that a VirtualService gives in a scope.
pub(super) fn routes(entry: &Entry<VirtualService>, scope: Scope<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for rule in &entry.spec.http {
        if rule.matches.is_empty() {
            routes.push(route(entry, rule, &HttpMatch::default(), scope));
            // What follows can never be reached.
            break;
        }
        let holding = rule
            .matches
            .iter()
            .filter(|condition| holds(condition, scope));
        routes.extend(holding.map(|condition| route(entry, rule, condition, scope)));
    }
    routes
}

/// Whether a route takes every request, so that those after it are never asked.
pub(super) fn takes_all(route: &Route) -> bool {
    route.r#match.as_ref().is_some_and(|conditions| {
        let any_path = match &conditions.path_specifier {
            Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
            Some(PathSpecifier::SafeRegex(matcher)) => matcher.regex == ".*",
            _ => false,
        };
        any_path && conditions.headers.is_empty() && conditions.query_parameters.is_empty()
    })
}

impl Scope<'_> {
    /// The conditions that the proxy and the listener decide, not the request.
    pub(super) fn admits(
        self,
        gateways: &[GatewayRef],
        port: Option<u16>,
        source_namespace: Option<&str>,
        source_labels: &Labels,
    ) -> bool {
        let here = |gateway: &GatewayRef| match (gateway, self.gateway) {
            (GatewayRef::Mesh, None) => true,
            (
                GatewayRef::Named {
                    namespace, name, ..
                },
                Some(own),
            ) => (namespace.as_str(), name.as_str()) == own,
            _ => false,
        };
        (gateways.is_empty() || gateways.iter().any(here))
            && port.is_none_or(|port| port == self.port)
            && source_namespace.is_none_or(|namespace| namespace == self.proxy.namespace)
            && self.proxy.is_selected_by(source_labels)
    }
}

fn holds(condition: &HttpMatch, scope: Scope<'_>) -> bool {
    scope.admits(
        &condition.gateways,
        condition.port,
        condition.source_namespace.as_deref(),
        &condition.source_labels,
    )
}

fn route(
    entry: &Entry<VirtualService>,
    rule: &HttpRoute,
    condition: &HttpMatch,
    scope: Scope<'_>,
) -> Route {
    let name = match (rule.name.as_str(), condition.name.as_str()) {
        ("", "") => "default".to_owned(),
        (name, "") => name.to_owned(),
        (name, condition) => format!("{name}.{condition}"),
    };
    let (action, target) = match &rule.action {
        Action::Route(destinations) => forward(rule, destinations, scope),
        Action::Respond(response) => (respond(response), None),
        Action::Redirect(redirect) => (EnvoyAction::Redirect(policy::redirect(redirect)), None),
    };
    // With one destination the span is named for it, otherwise for the rule.
    let target = target.unwrap_or_else(|| names::host_port(&entry.meta.name, scope.port));
    let path = match &condition.uri {
        Some(StringMatch::Exact(text) | StringMatch::Regex(text)) => text.clone(),
        Some(StringMatch::Prefix(prefix)) => format!("{prefix}*"),
        None => "/*".into(),
    };
    let (request_add, request_remove) = policy::header_operations(&rule.headers.request);
    let (response_add, response_remove) = policy::header_operations(&rule.headers.response);
    let fault = rule.fault.as_ref();
    let fault = fault.map(|fault| (policy::FAULT, any(&policy::fault(fault))));
    let cors = rule.cors.as_ref();
    let cors = cors.map(|cors| (policy::CORS, any(&policy::cors(cors))));
    let filters: Vec<_> = fault.into_iter().chain(cors).collect();
    Route {
        name,
        request_headers_to_add: request_add,
        request_headers_to_remove: request_remove,
        response_headers_to_add: response_add,
        response_headers_to_remove: response_remove,
        typed_per_filter_config: map_in_order(&filters),
        r#match: Some(route_match(condition)),
        action: Some(action),
        decorator: decorator(format!("{target}{path}")),
        metadata: istio_config(&config_path(&entry.meta)),
        ..Route::default()
    }
}

fn forward(
    rule: &HttpRoute,
    destinations: &[WeightedDestination],
    scope: Scope<'_>,
) -> (EnvoyAction, Option<String>) {
    let (specifier, target) = match destinations {
        [only] if only.headers == Headers::default() => {
            let destination = &only.destination;
            let target = names::host_port(destination.host.as_str(), port(destination, scope));
            (
                ClusterSpecifier::Cluster(cluster(destination, scope)),
                Some(target),
            )
        }
        several => {
            let weighted = several.iter().map(|weighted| {
                let headers = &weighted.headers;
                let (request_add, request_remove) = policy::header_operations(&headers.request);
                let (response_add, response_remove) = policy::header_operations(&headers.response);
                let authority = weighted.authority.clone();
                ClusterWeight {
                    name: cluster(&weighted.destination, scope),
                    weight: uint32(weighted.weight),
                    request_headers_to_add: request_add,
                    request_headers_to_remove: request_remove,
                    response_headers_to_add: response_add,
                    response_headers_to_remove: response_remove,
                    host_rewrite_specifier: authority
                        .map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
                    ..ClusterWeight::default()
                }
            });
            let clusters = WeightedCluster {
                clusters: weighted.collect(),
                ..WeightedCluster::default()
            };
            (ClusterSpecifier::WeightedClusters(clusters), None)
        }
    };
    let mut action = route_to(specifier, rule.timeout.unwrap_or_default());
    if let EnvoyAction::Route(action) = &mut action {
        action.retry_policy = policy::retry_policy(&rule.retries);
        action.request_mirror_policies = mirrors(rule, scope);
        let targets = destinations.iter().map(|one| &one.destination);
        action.hash_policy = scope.hash_policies(targets);
        let single = match destinations {
            [only] => only.authority.clone(),
            _ => None,
        };
        let rewrite = rule.rewrite.clone().unwrap_or_default();
        action.prefix_rewrite = rewrite.uri.unwrap_or_default();
        action.regex_rewrite = rewrite
            .regex
            .map(|(pattern, rewrite)| RegexMatchAndSubstitute {
                pattern: Some(regex(&pattern)),
                substitution: rewrite,
            });
        action.host_rewrite_specifier = rewrite
            .authority
            .or(single)
            .map(HostRewriteSpecifier::HostRewriteLiteral);
    }
    (action, target)
}

/// Where copies go. Istio has them not traced; here they are, under the span of the request.
fn mirrors(rule: &HttpRoute, scope: Scope<'_>) -> Vec<RequestMirrorPolicy> {
    let policy = |mirror: &Mirror| RequestMirrorPolicy {
        cluster: cluster(&mirror.destination, scope),
        runtime_fraction: policy::runtime_share(mirror.share),
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    };
    rule.mirrors.iter().map(policy).collect()
}

/// A gRPC client's own deadline counts, cut to the timeout.
#[expect(
    deprecated,
    reason = "Istio says it in this form, which every Envoy reads"
)]
fn route_to(specifier: ClusterSpecifier, timeout: Duration) -> EnvoyAction {
    EnvoyAction::Route(RouteAction {
        cluster_specifier: Some(specifier),
        timeout: duration(timeout),
        max_grpc_timeout: duration(timeout),
        ..RouteAction::default()
    })
}

fn respond(response: &DirectResponse) -> EnvoyAction {
    EnvoyAction::DirectResponse(DirectResponseAction {
        status: u32::from(response.status),
        body: (!response.body.is_empty()).then(|| DataSource {
            specifier: Some(Specifier::InlineString(response.body.clone())),
            ..DataSource::default()
        }),
        ..DirectResponseAction::default()
    })
}

/// The destination's port: as it says, or the service's only one, or the one asked for.
fn port(destination: &Destination, scope: Scope<'_>) -> u16 {
    let only = || scope.index.service(&destination.host)?.only_port();
    destination.port.or_else(only).unwrap_or(scope.port)
}

/// The cluster's name, whether or not there is such a cluster: without it the answer is 503.
pub(super) fn cluster(destination: &Destination, scope: Scope<'_>) -> String {
    let port = port(destination, scope);
    names::outbound_cluster(port, &destination.subset, destination.host.as_str())
}

fn route_match(condition: &HttpMatch) -> RouteMatch {
    let pseudo = [
        (":method", &condition.method),
        (":authority", &condition.authority),
        (":scheme", &condition.scheme),
    ];
    let pseudo = pseudo.into_iter().filter_map(|(name, condition)| {
        let condition = condition.as_ref()?;
        Some(header_matcher(name, Some(condition)))
    });
    let headers = condition.headers.iter();
    let headers = headers.map(|(name, condition)| header_matcher(name, condition.as_ref()));
    let without = condition.without_headers.iter();
    let without = without.map(|(name, condition)| HeaderMatcher {
        invert_match: true,
        // A header that is not there has no such value either.
        treat_missing_header_as_empty: condition.is_some(),
        ..header_matcher(name, condition.as_ref())
    });
    let query = condition.query.iter();
    let query = query.map(|(name, condition)| QueryParameterMatcher {
        name: name.clone(),
        query_parameter_match_specifier: Some(match condition {
            None => QueryParameterMatchSpecifier::PresentMatch(true),
            Some(condition) => QueryParameterMatchSpecifier::StringMatch(string_matcher(condition)),
        }),
    });
    RouteMatch {
        path_specifier: Some(match &condition.uri {
            Some(StringMatch::Exact(path)) => PathSpecifier::Path(path.clone()),
            Some(StringMatch::Prefix(prefix)) => PathSpecifier::Prefix(prefix.clone()),
            Some(StringMatch::Regex(pattern)) => PathSpecifier::SafeRegex(regex(pattern)),
            None => PathSpecifier::Prefix("/".into()),
        }),
        headers: pseudo.chain(headers).chain(without).collect(),
        query_parameters: query.collect(),
        case_sensitive: condition
            .ignores_uri_case
            .then_some(BoolValue { value: false }),
        ..RouteMatch::default()
    }
}

fn header_matcher(name: &str, condition: Option<&StringMatch>) -> HeaderMatcher {
    let specifier = match condition {
        None => HeaderMatchSpecifier::PresentMatch(true),
        Some(condition) => HeaderMatchSpecifier::StringMatch(string_matcher(condition)),
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

pub(super) fn string_matcher(condition: &StringMatch) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(match condition {
            StringMatch::Exact(text) => MatchPattern::Exact(text.clone()),
            StringMatch::Prefix(text) => MatchPattern::Prefix(text.clone()),
            StringMatch::Regex(pattern) => MatchPattern::SafeRegex(regex(pattern)),
        }),
        ..StringMatcher::default()
    }
}

/// Envoy's default engine is RE2; it matches the whole text.
fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher {
        regex: pattern.to_owned(),
        ..RegexMatcher::default()
    }
}

fn any_request() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".into())),
        ..RouteMatch::default()
    }
}

fn decorator(operation: String) -> Option<Decorator> {
    Some(Decorator {
        operation,
        ..Decorator::default()
    })
}
