//! The routes of virtual hosts.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3::route::Action as EnvoyAction;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HashPolicy, HostRewriteSpecifier,
    RequestMirrorPolicy,
};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use envoy_types::pb::envoy::config::route::v3::{
    Decorator, Route, RouteAction, RouteMatch, Tracing as RouteTracing, VirtualHost,
    WeightedCluster,
};
use envoy_types::pb::google::protobuf::Any;
use periplus_resources::{
    Action, Destination, GatewayRef, Headers, Host, HttpMatch, HttpRoute, Labels, Mirror, Retries,
    Semantics, StringMatch, TrafficPolicy, VirtualService, WeightedDestination,
};

use super::answers::{NOT_DELEGATED, respond};
use super::condition::{regex_rewrite, route_match};
use super::proto::{any, duration, istio_config, map_in_order, uint32};
use super::{balancing, config_path, local_limit, policy, session, tracing};
use crate::index::{Entry, Index, Side};
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
    /// It asked by TLS, which ends here.
    pub(super) is_secure: bool,
}

impl Scope<'_> {
    /// What the route of a rule says of tracing; an empty name is none.
    pub(super) fn tracing(self, rule: &str) -> Option<RouteTracing> {
        tracing::of_route(self.index, self.proxy, Side::Client, (self.port, rule))
    }

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
        balancing::hash_policy(&self.policy(host, subset, port)?)
    }

    /// When idle connections to a service, or one of its subsets, end, if that is said.
    pub(super) fn tcp_idle_timeout(self, host: &Host, subset: &str, port: u16) -> Option<Duration> {
        let pool = self.policy(host, subset, port)?.connection_pool?;
        pool.tcp_idle_timeout
    }

    /// How a service is connected to, or one of its subsets.
    fn policy(self, host: &Host, subset: &str, port: u16) -> Option<TrafficPolicy> {
        let service = self.index.service_for(self.proxy, host)?;
        let rules = self.index.connection_rules(self.proxy.as_client(), service);
        let subset = rules.subsets.iter().find(|one| one.name == subset);
        Some(rules.policy_of(subset, port))
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
    (hash_policy, session): (Option<HashPolicy>, Option<Any>),
    retries: &Retries,
) -> Route {
    let mut route = default_route(cluster, operation);
    let session = session.map(|session| (session::SESSION, session));
    route.typed_per_filter_config = map_in_order(session.as_slice());
    if let Some(EnvoyAction::Route(action)) = &mut route.action {
        action.hash_policy = hash_policy.into_iter().collect();
        retry(action, retries);
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

/// The routes that a VirtualService gives in a scope.
pub(super) fn routes(entry: &Entry<VirtualService>, scope: Scope<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for rule in &entry.spec.http {
        if rule.matches.is_empty() {
            routes.push(route(entry, rule, &HttpMatch::default(), scope));
            // What follows can never be reached.
            break;
        }
        routes.extend(rule_routes(entry, rule, scope).map(|(_, route)| route));
    }
    routes
}

/// The routes that the conditions of a rule give in a scope.
pub(super) fn rule_routes<'a>(
    entry: &'a Entry<VirtualService>,
    rule: &'a HttpRoute,
    scope: Scope<'a>,
) -> impl Iterator<Item = (&'a HttpMatch, Route)> {
    let matches = rule.matches.iter();
    let holding = matches.filter(move |condition| holds(condition, scope));
    holding.map(move |condition| (condition, route(entry, rule, condition, scope)))
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
        Action::Redirect(redirect) => {
            let redirect = policy::redirect(redirect, (scope.port, scope.is_secure));
            (EnvoyAction::Redirect(redirect), None)
        }
        Action::Delegate(_) => (respond(&NOT_DELEGATED), None),
    };
    let action = match (action, entry.spec.semantics) {
        (EnvoyAction::Route(mut action), Semantics::GatewayApi) => {
            let code = ClusterNotFoundResponseCode::InternalServerError;
            action.cluster_not_found_response_code = code.into();
            EnvoyAction::Route(action)
        }
        (action, _) => action,
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
    let session = match &rule.action {
        Action::Route(destinations) => match destinations.as_slice() {
            [only] => session::of_service((scope.index, scope.proxy), &only.destination.host),
            // Each of several says it itself.
            _ => None,
        },
        Action::Respond(_) | Action::Redirect(_) | Action::Delegate(_) => None,
    };
    let session = session.map(|session| (session::SESSION, session));
    let limits = local_limit::of_route(scope.index, scope.proxy, (scope.port, &rule.name));
    let limits = limits
        .iter()
        .map(|(name, limit)| (name.as_str(), limit.clone()));
    let filters = fault.into_iter().chain(cors).chain(session);
    let filters: Vec<_> = filters.chain(limits).collect();
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
        tracing: scope.tracing(&rule.name),
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
                let host = &weighted.destination.host;
                let session = session::of_service((scope.index, scope.proxy), host);
                let session = session.filter(|_| several.len() > 1);
                let session = session.map(|session| (session::SESSION, session));
                ClusterWeight {
                    typed_per_filter_config: map_in_order(session.as_slice()),
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
        action.request_mirror_policies = mirrors(rule, scope);
        let targets = destinations.iter().map(|one| &one.destination);
        action.hash_policy = scope.hash_policies(targets);
        let of_mesh = &scope.index.mesh().retries;
        retry(action, rule.retries.as_ref().unwrap_or(of_mesh));
        let single = match destinations {
            [only] => only.authority.clone(),
            _ => None,
        };
        let rewrite = rule.rewrite.clone().unwrap_or_default();
        action.prefix_rewrite = rewrite.uri.unwrap_or_default();
        action.regex_rewrite = rewrite.regex.as_ref().map(regex_rewrite);
        action.host_rewrite_specifier = rewrite
            .authority
            .or(single)
            .map(HostRewriteSpecifier::HostRewriteLiteral);
    }
    (action, target)
}

/// Tries requests again: those that are balanced by a hash with the endpoint that they stay with.
fn retry(action: &mut RouteAction, retries: &Retries) {
    action.retry_policy = policy::retry_policy(retries);
    if !action.hash_policy.is_empty()
        && let Some(policy) = &mut action.retry_policy
    {
        policy.retry_host_predicate.clear();
        policy.host_selection_retry_max_attempts = 0;
    }
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
pub(super) fn route_to(specifier: ClusterSpecifier, timeout: Duration) -> EnvoyAction {
    EnvoyAction::Route(RouteAction {
        cluster_specifier: Some(specifier),
        timeout: duration(timeout),
        max_grpc_timeout: duration(timeout),
        ..RouteAction::default()
    })
}

/// The destination's port: as it says, or the service's only one, or the one asked for.
pub(super) fn port(destination: &Destination, scope: Scope<'_>) -> u16 {
    let service = || scope.index.service_for(scope.proxy, &destination.host);
    let only = || service()?.only_port();
    destination.port.or_else(only).unwrap_or(scope.port)
}

/// The cluster's name, whether or not there is such a cluster: without it the answer is 503.
pub(super) fn cluster(destination: &Destination, scope: Scope<'_>) -> String {
    let port = port(destination, scope);
    names::outbound_cluster(port, &destination.subset, destination.host.as_str())
}

pub(super) fn any_request() -> RouteMatch {
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
