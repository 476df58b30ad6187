//! Gateway API where there is nothing to ask: what is reported, and what intercepted sidecars get. How requests are
//! routed by it, the tables of `periplus` ask real proxies.

use envoy_types::pb::envoy::config::route::v3::Route;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use periplus_control::{Generated, Index, Proxy, generate};
use periplus_resources::{MeshConfig, parse_resources};

use crate::connections::sidecar;
use crate::support::{gateway, invariants};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {clusterIP: 10.96.0.7, ports: [{port: 9080, name: http}, {port: 9090, name: http-more}]}
---
apiVersion: v1
kind: Service
metadata: {name: reviews-v1}
spec: {clusterIP: 10.96.0.8, ports: [{port: 9080, name: http}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
";

/// In the shape of the tutorial's: a route for all of reviews.
const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews, port: 9080}]
  rules:
  - backendRefs: [{name: reviews-v1, port: 9080}]
  - {matches: [{path: {value: /exact}, method: GET}, {path: {type: Exact, value: /exact}}], backendRefs: [{name: reviews, port: 9080}]}
";

fn index(rules: &str) -> Index {
    let parsed = parse_resources("x.yaml", &format!("{SERVICES}---{rules}"));
    assert_eq!(parsed.errors, []);
    Index::new(&parsed.resources, MeshConfig::default())
}

fn made(rules: &str) -> Generated {
    let proxy = Proxy::from_node(&sidecar("client")).expect("a good node");
    let made = generate(&index(rules), &proxy);
    invariants::check(&made);
    made
}

/// Which clusters the routes of a virtual host lead to.
fn clusters(made: &Generated, host: &str) -> Vec<String> {
    let mut hosts = made.routes.iter().flat_map(|routes| &routes.virtual_hosts);
    let found = hosts.find(|one| one.name == host).expect(host);
    let cluster = |route: &Route| match &route.action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => name.clone(),
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    };
    found.routes.iter().map(cluster).collect()
}

#[test]
fn intercepted_sidecars_have_the_routes_of_services() {
    let made = made(ROUTE);
    let (all, v1) = (
        "outbound|9080||reviews.default.svc.cluster.local",
        "outbound|9080||reviews-v1.default.svc.cluster.local",
    );
    let host = "reviews.default.svc.cluster.local:9080";
    assert_eq!(clusters(&made, host), [all, all, v1]);
    // Other ports are left alone, and so is the backend.
    let more = "outbound|9090||reviews.default.svc.cluster.local";
    assert_eq!(
        clusters(&made, "reviews.default.svc.cluster.local:9090"),
        [more]
    );
    assert_eq!(
        clusters(&made, "reviews-v1.default.svc.cluster.local:9080"),
        [v1]
    );
}

#[test]
fn a_virtual_service_goes_before_routes() {
    let by_istio = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, port: {number: 9080}}}]}]}
";
    let rules = format!("{ROUTE}---{by_istio}");
    let host = "reviews.default.svc.cluster.local:9080";
    let all = "outbound|9080||reviews.default.svc.cluster.local";
    assert_eq!(clusters(&made(&rules), host), [all]);
    let index = index(&rules);
    let problems: Vec<_> = index.problems().iter().map(ToString::to_string).collect();
    let reported = problems
        .iter()
        .any(|problem| problem.contains("VirtualService default/reviews (x.yaml:"));
    assert!(reported, "{problems:?}");
}

/// One that is somebody's own goes before routes for those who see it, and says nothing to others.
#[test]
fn a_private_virtual_service_leaves_routes_to_others() {
    let (all, v1) = (
        "outbound|9080||reviews.default.svc.cluster.local",
        "outbound|9080||reviews-v1.default.svc.cluster.local",
    );
    let cases: [(&str, &[&str]); 2] = [("default", &[all]), ("other", &[all, all, v1])];
    for (namespace, expected) in cases {
        let rules = format!(
            "{ROUTE}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: {namespace}}}
spec:
  hosts: [reviews.default.svc.cluster.local]
  exportTo: ['.']
  http: [{{route: [{{destination: {{host: reviews.default.svc.cluster.local, port: {{number: 9080}}}}}}]}}]
"
        );
        let host = "reviews.default.svc.cluster.local:9080";
        assert_eq!(clusters(&made(&rules), host), expected, "{namespace}");
        let index = index(&rules);
        let problems: Vec<_> = index.problems().iter().map(ToString::to_string).collect();
        let is_reported = |problem: &String| problem.contains("VirtualService");
        assert!(!problems.iter().any(is_reported), "{problems:?}");
    }
}

#[test]
fn gateways_in_other_namespaces_are_not_served() {
    let proxy = Proxy::from_node(&gateway()).expect("a good node");
    let made = generate(&index(ROUTE), &proxy);
    assert_eq!(made.listeners, []);
}

#[test]
fn what_has_no_effect_is_reported_where_it_is_written() {
    let with = |kind: &str, spec: &str| {
        format!(
            "\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n"
        )
    };
    let route = |spec: &str| with("HTTPRoute", spec);
    for (rules, expected) in [
        (
            with(
                "Gateway",
                "{gatewayClassName: isto, listeners: [{name: a, port: 80, protocol: HTTP}]}",
            ),
            "x.yaml:17:1: Gateway default/x has no effect: there is no GatewayClass `isto`, did you mean `istio`?",
        ),
        (
            with(
                "Gateway",
                "{gatewayClassName: istio-waypoint, listeners: [{name: a, port: 80, protocol: HTTP}]}",
            ),
            "class `istio-waypoint` is not supported",
        ),
        (
            with(
                "Gateway",
                "{gatewayClassName: istio, listeners: [{name: a, port: 53, protocol: UDP}]}",
            ),
            "protocol `UDP` of listener a is not supported, expected `HTTP`, `HTTPS`, `TLS` or `TCP` (UnsupportedProtocol)",
        ),
        (
            with(
                "Gateway",
                "{gatewayClassName: istio, addresses: [{type: Hostname, value: nowhere}], listeners: [{name: a, port: 80, protocol: HTTP}]}",
            ),
            "address `nowhere.default.svc.cluster.local` is no service",
        ),
        (
            route("{}"),
            "HTTPRoute default/x has no effect: it has no `parentRefs`",
        ),
        (
            route("{parentRefs: [{name: egde}]}"),
            "x.yaml:20:21: HTTPRoute default/x: there is no Gateway default/egde (NoMatchingParent)",
        ),
        (
            route("{parentRefs: [{name: edge, sectionName: https}]}"),
            "Gateway default/edge has no such listener, it has http (port 80) (NoMatchingParent)",
        ),
        (
            route("{parentRefs: [{kind: Service, name: reviews, port: 80}]}"),
            "Service default/reviews has no port 80 (NoMatchingParent)",
        ),
        (
            with(
                "TCPRoute",
                "{parentRefs: [{kind: Service, name: reviews}], rules: [{backendRefs: [{name: reviews-v1, port: 9080}]}]}",
            ),
            "in the mesh requests only are routed by Gateway API (NotAllowedByListeners)",
        ),
        (
            route(
                "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: review, port: 9080}]}]}",
            ),
            "there is no Service default/review, did you mean `reviews.default.svc.cluster.local`? (BackendNotFound)",
        ),
        (
            route(
                "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: reviews, port: 80}]}]}",
            ),
            "`reviews.default.svc.cluster.local` has no port 80, it has 9080, 9090 (BackendNotFound)",
        ),
        (
            route(
                "{parentRefs: [{name: edge}], rules: [{backendRefs: [{name: a, namespace: b, port: 80}]}]}",
            ),
            "no ReferenceGrant in namespace b lets a HTTPRoute of default refer to Service a (RefNotPermitted)",
        ),
    ] {
        let index = index(&rules);
        let problems: Vec<_> = index.problems().iter().map(ToString::to_string).collect();
        let is_there = problems.iter().any(|problem| problem.contains(expected));
        assert!(is_there, "{expected}: {problems:#?}");
    }
}
