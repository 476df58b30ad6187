//! The mesh: each rule is on one line, and tells its name in answers.

use serde_json::Value;

/// Who issues tokens.
const ISSUER: &str = "https://periplus.istio-system.svc";

/// The rule of a VirtualService, on one line; the answer tells its name.
fn rule(name: &str, condition: &str, action: &str) -> String {
    let told = format!("headers: {{response: {{set: {{x-rule: {name}}}}}}}");
    format!("  - {{{condition}{action}, {told}}}\n")
}

/// The same of an HTTPRoute.
fn route(name: &str, condition: &str, backends: &str) -> String {
    let told = format!(
        "filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-rule, value: {name}}}]}}}}]"
    );
    format!("  - {{{condition}backendRefs: [{backends}], {told}}}\n")
}

fn to(subset: &str) -> String {
    format!("route: [{{destination: {{host: store, subset: {subset}}}}}]")
}

fn rules() -> String {
    let uri = |kind: &str, path: &str| format!("match: [{{uri: {{{kind}: {path}}}}}], ");
    [
        rule(
            "rule-exact",
            "match: [{uri: {exact: /exact}, method: {exact: POST}}], ",
            &to("v2"),
        ),
        rule(
            "rule-jason",
            "match: [{headers: {end-user: {exact: jason}}, uri: {prefix: /a}}, {queryParams: {beta: {exact: 'yes'}}}], ",
            &to("v2"),
        ),
        rule("rule-regex", &uri("regex", "'/re/[0-9]+'"), &to("v1")),
        rule(
            "rule-tea",
            "match: [{uri: {prefix: /re}, withoutHeaders: {x-canary: {}}}], ",
            "directResponse: {status: 418, body: {string: tea}}",
        ),
        rule(
            "rule-old",
            &uri("prefix", "/old"),
            "redirect: {uri: /a, redirectCode: 302}",
        ),
        rule("rule-nobody", &uri("exact", "/nobody"), &to("v3")),
        rule("rule-missing", &uri("exact", "/missing"), &to("v4")),
        rule(
            "rule-shared",
            &uri("prefix", "/shared"),
            "route: [{destination: {host: store, subset: v1}, weight: 50}, {destination: {host: store, subset: v2}, weight: 50}]",
        ),
        rule(
            "rule-canary",
            "match: [{headers: {x-canary: {prefix: t}}}], ",
            &to("v2"),
        ),
        rule(
            "rule-rest",
            "match: [{uri: {prefix: /}, method: {exact: GET}}, {uri: {prefix: /secure}}, {uri: {prefix: /admin}}], ",
            &to("v1"),
        ),
    ]
    .concat()
}

fn routes(of: &str) -> String {
    let prefix = |path: &str| format!("matches: [{{path: {{type: PathPrefix, value: {path}}}}}], ");
    [
        route(&format!("rule-{of}-rest"), "", "{name: one, port: 80}"),
        route(&format!("rule-{of}-a"), &prefix("/a"), "{name: two, port: 80}"),
        route(
            &format!("rule-{of}-jason"),
            "matches: [{headers: [{name: end-user, value: jason}]}, {path: {type: Exact, value: /exact}}], ",
            "{name: two, port: 80}",
        ),
        route(
            &format!("rule-{of}-shared"),
            &prefix("/shared"),
            "{name: one, port: 80, weight: 1}, {name: two, port: 80, weight: 3}",
        ),
        route(&format!("rule-{of}-nobody"), &prefix("/nobody"), "{name: gone, port: 80}"),
    ]
    .concat()
}

fn service(name: &str, labels: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{{labels}}}}}
"
    )
}

fn workload(name: &str, labels: &str, account: &str, port: u16) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}}}
spec: {{address: 127.0.0.1, labels: {{{labels}}}, serviceAccount: {account}, ports: {{http: {port}}}}}
"
    )
}

fn policy(name: &str, action: &str, rules: &str) -> String {
    format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: store, version: v1}}}}
  action: {action}
  rules: [{rules}]
"
    )
}

pub(super) fn resources(
    [outbound, inbound, edge, api]: [u16; 4],
    [behind, beside]: [u16; 2],
    keys: &Value,
) -> String {
    let (rules, of_mesh, of_gateway) = (rules(), routes("mesh"), routes("edge"));
    let parts = [
        service("store", "app: store"),
        service("books", "app: store"),
        service("one", "app: store, version: v1"),
        service("two", "app: store, version: v2"),
        workload("store-v1", "app: store, version: v1", "store", inbound),
        workload(
            "store-v2",
            "app: store, version: v2, security.istio.io/tlsMode: disabled",
            "store",
            beside,
        ),
        workload("shop-v1", "app: shop", "shop", 1),
        workload(
            "edge-v1",
            "istio: edge, gateway.networking.k8s.io/gateway-name: api",
            "edge",
            edge,
        ),
        // Whoever is refused by one of them could pass all others.
        policy(
            "no-writers",
            "DENY",
            "{to: [{operation: {methods: [DELETE]}}]}, {when: [{key: 'request.headers[x-canary]', values: ['no']}]}",
        ),
        policy(
            "callers",
            "ALLOW",
            "{from: [{source: {principals: [cluster.local/ns/default/sa/shop]}}], to: [{operation: {notPaths: [/b, /secure*, /admin*]}}]}, \
             {from: [{source: {principals: [cluster.local/ns/default/sa/edge]}}], to: [{operation: {paths: [/, /a*, /shared*, /re*]}}]}",
        ),
        policy(
            "owners",
            "ALLOW",
            &format!(
                "{{from: [{{source: {{requestPrincipals: ['{ISSUER}/*']}}}}], to: [{{operation: {{paths: [/secure*]}}}}]}}, \
                 {{to: [{{operation: {{paths: [/admin*]}}}}], when: [{{key: 'request.auth.claims[sub]', values: ['system:serviceaccount:default:ada']}}]}}"
            ),
        ),
    ];
    format!(
        "{}---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: strict}}
spec: {{selector: {{matchLabels: {{app: store, version: v1}}}}, mtls: {{mode: STRICT}}}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens}}
spec:
  selector: {{matchLabels: {{app: store, version: v1}}}}
  jwtRules: [{{issuer: '{ISSUER}', jwks: '{keys}'}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: shop}}
spec:
  workloadSelector: {{labels: {{app: shop}}}}
  egress:
  - port: {{number: {outbound}, protocol: HTTP_PROXY, name: http-proxy}}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['*/*']
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: store}}
spec:
  workloadSelector: {{labels: {{app: store, version: v1}}}}
  ingress:
  - port: {{number: {inbound}, protocol: HTTP, name: http}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{behind}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: edge}}
  servers: [{{port: {{number: {edge}, name: http, protocol: HTTP}}, hosts: ['*.example']}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: api}}
spec:
  gatewayClassName: istio
  listeners: [{{name: http, port: {api}, protocol: HTTP}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: store}}
spec:
  host: store
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
  - {{name: v3, labels: {{version: v3}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: store}}
spec:
  hosts: [store, store.example]
  gateways: [mesh, edge]
  http:
{rules}---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: at-the-gate}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: api}}]
  action: DENY
  rules: [{{to: [{{operation: {{paths: [/b]}}}}]}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: books}}
spec:
  parentRefs: [{{group: networking.istio.io, kind: ServiceEntry, name: books}}]
  rules:
{of_mesh}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: books-outside}}
spec:
  parentRefs: [{{name: api}}]
  hostnames: [books.example]
  rules:
{of_gateway}",
        parts.concat().trim_start_matches("---\n"),
    )
}
