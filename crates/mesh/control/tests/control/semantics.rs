//! Resources that change what others say: rules about connections for some callers, policies for Gateways, redirects.

use envoy_types::pb::envoy::config::route::v3::route::Action;
use periplus_control::{Generated, Index};
use periplus_resources::{MeshConfig, parse_resources};
use prost::Message;

use crate::connections::sidecar;
use crate::generate::{made, mesh_config, problems};
use crate::support::{gateway, node, set};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.7, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {clusterIP: 10.96.0.8, ports: [{name: http, port: 80}]}
";

pub(crate) fn index(text: &str) -> Index {
    let parsed = parse_resources("mesh.yaml", &format!("{SERVICES}{text}"));
    assert_eq!(parsed.errors, []);
    Index::certified(&parsed.resources, MeshConfig::default())
}

pub(crate) fn errors(text: &str) -> Vec<String> {
    let parsed = parse_resources("mesh.yaml", text);
    parsed.errors.iter().map(ToString::to_string).collect()
}

pub(crate) fn resource(kind: &str, name: &str, spec: &str) -> String {
    let group = match kind {
        "AuthorizationPolicy" | "RequestAuthentication" => "security.istio.io",
        "Telemetry" => "telemetry.istio.io",
        _ => "networking.istio.io",
    };
    format!("---\napiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// What a rule that delegates takes, the rules of the delegate, and what becomes of them.
/// The balancing of the web, as clients of these labels and this namespace have it.
#[test]
fn rules_about_connections_may_be_for_some_callers() {
    let rule = |name: &str, namespace: &str, spec: &str| {
        resource(
            "DestinationRule",
            name,
            &format!("{{host: web.default.svc.cluster.local, {spec}}}"),
        )
        .replace(
            &format!("{{name: {name}}}"),
            &format!("{{name: {name}, namespace: {namespace}}}"),
        )
    };
    let text = [
        rule("all", "default", "trafficPolicy: {loadBalancer: {simple: RANDOM}, outlierDetection: {}}, subsets: [{name: v1}]"),
        rule("of-cart", "default", "workloadSelector: {matchLabels: {app: cart}}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}"),
        rule("more", "default", "workloadSelector: {matchLabels: {app: cart}}, subsets: [{name: v2}]"),
    ]
    .concat();
    let index = index(&text);
    for (app, namespace, balancing, subsets, watches) in [
        ("shop", "default", "Random", ["|v1|"].as_slice(), true),
        // Nothing comes from the rule for all.
        ("cart", "default", "RoundRobin", &["|v2|"], false),
        // It is for callers of its own namespace.
        ("cart", "elsewhere", "Random", &["|v1|"], true),
    ] {
        let id = format!("sidecar~10.0.0.1~{app}.{namespace}~{namespace}.svc.cluster.local");
        let mut node = node(&id, app, namespace, &[("app", app)]);
        set(&mut node, "INTERCEPTION_MODE", "REDIRECT");
        let made = made(&index, &node);
        let of_web = made
            .clusters
            .iter()
            .filter(|one| one.name.contains("|web."));
        let names: Vec<_> = of_web.clone().map(|one| one.name.as_str()).collect();
        assert_eq!(names.len(), 1 + subsets.len(), "{app}: {names:?}");
        for subset in subsets {
            assert!(
                names.iter().any(|name| name.contains(subset)),
                "{app}: {names:?}"
            );
        }
        let of_all = of_web
            .clone()
            .find(|one| one.name.contains("||"))
            .expect("the web");
        assert_eq!(
            format!("{:?}", of_all.lb_policy()),
            balancing,
            "{app} {namespace}"
        );
        assert_eq!(
            of_all.outlier_detection.is_some(),
            watches,
            "{app} {namespace}"
        );
    }
}

const EDGE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: edge, namespace: istio-system}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, name: web.default.svc.cluster.local, port: 80}]}]}
";

#[test]
fn policies_may_be_for_a_gateway() {
    let target = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]";
    let of_edge = |kind: &str, namespace: &str, target: &str, rest: &str| {
        resource(kind, "policy", &format!("{{{target}, {rest}}}")).replace(
            "{name: policy}",
            &format!("{{name: policy, namespace: {namespace}}}"),
        )
    };
    let rendered = |text: &str, is_gateway: bool| {
        let index = index(&format!("{EDGE}{text}"));
        let node = match is_gateway {
            true => {
                let labels = [("gateway.networking.k8s.io/gateway-name", "edge")];
                let id = "router~127.0.0.1~edge.istio-system~istio-system.svc.cluster.local";
                node(id, "edge", "istio-system", &labels)
            }
            false => gateway(),
        };
        let made: Generated = made(&index, &node);
        let listeners = made.listeners.iter().map(Message::encode_to_vec);
        let listeners = listeners.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (listeners.collect::<String>(), problems(&index))
    };
    let token = "jwtRules: [{issuer: i, jwks: '{\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}'}]";
    for (kind, rest, trace) in [
        ("AuthorizationPolicy", "rules: [{}]", "filters.http.rbac"),
        ("RequestAuthentication", token, "filters.http.jwt_authn"),
        (
            "Telemetry",
            "accessLogging: [{providers: [{name: envoy}]}]",
            "access_loggers",
        ),
    ] {
        for single in [
            target.to_owned(),
            target
                .replace("targetRefs: [", "targetRef: ")
                .replace(']', ""),
        ] {
            let text = of_edge(kind, "istio-system", &single, rest);
            let (listeners, told) = rendered(&text, true);
            assert!(listeners.contains(trace), "{kind}: {told}");
        }
        // It is for no other proxies,
        let text = of_edge(kind, "istio-system", target, rest);
        let has_listeners = resource(
            "Gateway",
            "own",
            "{selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}",
        );
        let (listeners, _) = rendered(&(text.clone() + &has_listeners), false);
        assert!(
            listeners.contains("8080") && !listeners.contains(trace),
            "{kind}"
        );
        // and Gateways of other namespaces are none of its.
        let (listeners, told) = rendered(&of_edge(kind, "default", target, rest), true);
        assert!(!listeners.contains(trace), "{kind}");
        assert!(
            told.contains("there is no Gateway default/edge of Gateway API"),
            "{told}"
        );
        for (target, expected) in [
            (
                "targetRefs: [{kind: Service, name: web}]",
                "`Service` of group ``: only a `Gateway` of `gateway.networking.k8s.io`",
            ),
            (
                "targetRefs: [{group: a, kind: B, name: web}]",
                "`B` of group `a`: only a `Gateway`",
            ),
            (
                "selector: {}, targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: edge}",
                "exclude each other",
            ),
            (
                "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: edge, namespace: b}",
                "a policy of namespace `default` is for Gateways of it, not of `b`",
            ),
        ] {
            let errors = errors(&of_edge(kind, "default", target, rest));
            assert!(
                errors.iter().any(|error| error.contains(expected)),
                "{kind} {target}: {errors:?}"
            );
        }
    }
}

#[test]
fn redirects_keep_what_they_do_not_replace() {
    for (spec, expected) in [
        ("prefixRewrite: /new", "PrefixRewrite(\"/new\")"),
        ("uri: /new", "PathRedirect(\"/new\")"),
        ("derivePort: FROM_REQUEST_PORT", "port_redirect: 80,"),
        ("derivePort: FROM_PROTOCOL_DEFAULT", "port_redirect: 0,"),
        ("port: 8443", "port_redirect: 8443,"),
    ] {
        let rule = format!("{{hosts: [web], http: [{{redirect: {{authority: a, {spec}}}}}]}}");
        let made = made(
            &index(&resource("VirtualService", "web", &rule)),
            &sidecar("client"),
        );
        let text = format!("{:?}", made.routes);
        assert!(text.contains(expected), "{spec}: {text}");
    }
}

/// Where no rule says when to try again, the mesh does.
#[test]
fn requests_are_tried_again_as_the_mesh_says() {
    let mesh = mesh_config("defaultHttpRetryPolicy: {attempts: 7, retryOn: 5xx}");
    let rules = "{hosts: [web], http: [{match: [{uri: {exact: /own}}], retries: {attempts: 1}, route: [{destination: {host: web}}]}, \
                 {route: [{destination: {host: web}}]}]}";
    let text = format!("{SERVICES}{}", resource("VirtualService", "web", rules));
    let parsed = parse_resources("mesh.yaml", &text);
    let made = made(&Index::new(&parsed.resources, mesh), &sidecar("client"));
    let hosts = made.routes.iter().flat_map(|routes| &routes.virtual_hosts);
    let told = hosts.flat_map(|host| {
        let name = host.name.split('.').next().unwrap_or_default().to_owned();
        host.routes
            .iter()
            .filter_map(move |route| match &route.action {
                Some(Action::Route(action)) => {
                    let policy = action.retry_policy.as_ref()?;
                    let attempts = policy.num_retries.map_or(0, |number| number.value);
                    Some(format!(
                        "{name} {attempts} {}",
                        policy.retry_on.contains("5xx")
                    ))
                }
                _ => None,
            })
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, ["other 7 true", "web 1 false", "web 7 true"]);
}

/// The same holds for the routes of Gateway API.
#[test]
fn routes_of_gateway_api_are_tried_again_as_the_mesh_says() {
    let mesh = mesh_config("defaultHttpRetryPolicy: {attempts: 7, retryOn: 5xx}");
    let rules = "[{matches: [{path: {value: /own}}], retry: {attempts: 1}, backendRefs: [{name: web, port: 80}]}, \
                 {backendRefs: [{name: web, port: 80}], timeouts: {request: 2s, backendRequest: 1s}}]";
    let route = format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: web}}], rules: {rules}}}\n"
    );
    let parsed = parse_resources("mesh.yaml", &format!("{SERVICES}{route}"));
    assert_eq!(parsed.errors, []);
    let made = made(&Index::new(&parsed.resources, mesh), &sidecar("client"));
    let hosts = made.routes.iter().flat_map(|routes| &routes.virtual_hosts);
    let of_web = hosts.filter(|host| host.name.starts_with("web."));
    let policies = of_web.flat_map(|host| &host.routes).filter_map(|route| {
        let Some(Action::Route(action)) = &route.action else {
            return None;
        };
        let policy = action.retry_policy.as_ref()?;
        let attempts = policy.num_retries.map_or(0, |number| number.value);
        let one = policy.per_try_timeout.map_or(0, |time| time.seconds);
        Some((attempts, policy.retry_on.as_str() == "5xx", one))
    });
    let policies: Vec<_> = policies.collect();
    assert_eq!(policies, [(1, false, 0), (7, true, 1)]);
}
