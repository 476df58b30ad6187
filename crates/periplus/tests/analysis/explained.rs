//! `periplus explain` names the resource, and the line of it, that decides.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::{printed, run_in};

/// What decides stands on a line that ends with its name.
const MESH: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: store}
spec:
  hosts: [store.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: TLS}
  - {number: 6379, name: redis, protocol: TCP}
  workloadSelector: {labels: {app: store}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: store-v1}
spec: {address: 10.0.0.1, labels: {app: store}, serviceAccount: store, ports: {http: 80, https: 443, redis: 6379}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: shop}
spec: {address: 10.0.0.2, labels: {app: shop}, serviceAccount: shop, ports: {http: 9080}}
---
apiVersion: security.istio.io/v1 # strict
kind: PeerAuthentication
metadata: {name: strict}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1 # tokens
kind: RequestAuthentication
metadata: {name: tokens}
spec:
  selector: {matchLabels: {app: store}}
  jwtRules: [{issuer: me, jwks: '{\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}'}]
---
apiVersion: security.istio.io/v1 # owners
kind: AuthorizationPolicy
metadata: {name: owners}
spec:
  selector: {matchLabels: {app: store}}
  rules:
  - {from: [{source: {requestPrincipals: [me/jason]}}], to: [{operation: {paths: [/mine, /outside/mine]}}]}
  - {to: [{operation: {notPaths: [/mine, /outside/mine], notMethods: [PUT]}}]}
---
apiVersion: networking.istio.io/v1 # edge
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: [store.example]}
  - {port: {number: 8443, name: tls, protocol: TLS}, hosts: [secret.example], tls: {mode: PASSTHROUGH}}
  - {port: {number: 8081, name: old, protocol: HTTP}, hosts: [store.example], tls: {httpsRedirect: true}}
---
apiVersion: gateway.networking.k8s.io/v1 # api
kind: Gateway
metadata: {name: api}
spec:
  gatewayClassName: istio
  listeners: [{name: web, port: 8000, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: store}
spec:
  hosts: [store, store.example, secret.example]
  gateways: [mesh, edge]
  http:
  - {match: [{uri: {prefix: /tea}}], directResponse: {status: 418}} # vs-tea
  - {match: [{uri: {prefix: /slow}}], fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}}, route: [{destination: {host: store, port: {number: 80}}}]} # vs-slow
  - {route: [{destination: {host: store, port: {number: 80}}}]} # vs-rest
  tls:
  - {match: [{port: 8443, sniHosts: [secret.example]}], route: [{destination: {host: store, port: {number: 443}}}]} # vs-tls-edge
  - {match: [{port: 443, sniHosts: [store.default.svc.cluster.local]}], route: [{destination: {host: store, port: {number: 443}}}]} # vs-tls
  tcp:
  - {match: [{port: 6379}], route: [{destination: {host: store, port: {number: 6379}}}]} # vs-tcp
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: outside}
spec:
  parentRefs: [{name: api}]
  hostnames: [books.example]
  rules:
  - {matches: [{path: {type: Exact, value: /gone}}], backendRefs: [{name: gone, port: 80}]} # route-gone
  - {matches: [{path: {type: Exact, value: /moved}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: a.example}}]} # route-moved
  - {backendRefs: [{name: store, port: 80}]} # route-rest
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls}
spec:
  parentRefs: [{name: api}]
  hostnames: [calls.example]
  rules:
  - {matches: [{method: {service: shop.Books, method: Buy}}], backendRefs: [{name: store, port: 80}]} # route-grpc
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: front}
spec:
  ingressClassName: istio
  rules:
  - host: front.example
    http:
      paths:
      - path: /outside
        pathType: Prefix
        backend: {service: {name: store, port: {number: 80}}} # ingress
";

/// Where the line is that a name ends.
fn place(name: &str) -> String {
    let end = format!(" # {name}");
    let line = MESH.lines().position(|line| line.ends_with(&end));
    format!(
        "(mesh/mesh.yaml:{})",
        line.unwrap_or_else(|| panic!("{name}")) + 1
    )
}

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mesh = directory.path().join("mesh");
    std::fs::create_dir(&mesh).unwrap();
    std::fs::write(mesh.join("mesh.yaml"), MESH).unwrap();
    directory
}

fn explain(directory: &Path, request: &str, from: &str, more: &[&str]) -> String {
    let line = ["explain", request, "--from", from, "--dir", "mesh"];
    printed(directory, &[&line[..], more].concat())
}

#[test]
fn the_line_that_decides_is_named_in_every_form_of_rules() {
    let directory = directory();
    let mut wrong = Vec::new();
    for (request, from, code, names, part) in [
        (
            "GET store/",
            "shop",
            0,
            &["vs-rest", "strict"][..],
            "a workload answers",
        ),
        (
            "GET store/tea",
            "shop",
            0,
            &["vs-tea"],
            "418, from the rule itself",
        ),
        (
            "GET store/slow",
            "shop",
            0,
            &["vs-slow"],
            "faults are injected",
        ),
        (
            "PUT store/",
            "shop",
            1,
            &["strict", "tokens"],
            "denied: no ALLOW policy matches",
        ),
        (
            "https://store.default.svc.cluster.local/",
            "shop",
            1,
            &["vs-tls"],
            "refuse it",
        ),
        ("GET store:6379/", "shop", 1, &["vs-tcp"], "refuse it"),
        (
            "GET nobody.example/",
            "shop",
            0,
            &[],
            "ALLOW_ANY in `outboundTrafficPolicy` of the mesh configuration",
        ),
        (
            "GET store.example:8080/",
            "edge",
            0,
            &["edge", "vs-rest"],
            "a workload answers",
        ),
        (
            "https://secret.example:8443/",
            "edge",
            1,
            &["edge", "vs-tls-edge"],
            "refuse it",
        ),
        (
            "https://other.example:8443/",
            "edge",
            1,
            &["edge"],
            "it is closed",
        ),
        (
            "https://store.example:8080/",
            "edge",
            1,
            &["edge"],
            "it expects requests, and gets TLS",
        ),
        (
            "GET store.example:8081/",
            "edge",
            0,
            &["edge"],
            "301: the client is sent elsewhere",
        ),
        (
            "GET books.example/",
            "api",
            0,
            &["api", "route-rest"],
            "a workload answers",
        ),
        (
            "GET books.example/moved",
            "api",
            0,
            &["route-moved"],
            "302: the client is sent elsewhere",
        ),
        (
            "GET books.example/gone",
            "api",
            1,
            &["route-gone"],
            "500: none of the rule's backends is there",
        ),
        (
            "POST calls.example/shop.Books/Buy",
            "api",
            0,
            &["route-grpc"],
            "a workload answers",
        ),
        (
            "GET front.example:80/outside",
            "front",
            0,
            &["ingress"],
            "a workload answers",
        ),
    ] {
        let said = explain(directory.path(), request, from, &[]);
        let mut parts = vec![part.to_owned()];
        parts.extend(names.iter().map(|name| place(name)));
        parts.retain(|part| !said.contains(part));
        if !said.starts_with(&format!("{code}\n")) || !parts.is_empty() {
            wrong.push(format!("{request} from {from}: {parts:?} not in {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_token_decides_is_told_with_and_without_it() {
    let directory = directory();
    let jason = "{\"iss\": \"me\", \"sub\": \"jason\"}";
    std::fs::write(
        directory.path().join("anna.json"),
        jason.replace("jason", "anna"),
    )
    .unwrap();
    let forged =
        "authorization: Bearer eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJtZSIsInN1YiI6Imphc29uIn0.AAAA";
    for (more, code, allowed, part) in [
        (
            &[][..],
            1,
            Value::Null,
            "depends on its token: AuthorizationPolicy default/owners",
        ),
        (
            &["--jwt-claims", jason],
            0,
            true.into(),
            "allowed: AuthorizationPolicy default/owners",
        ),
        (
            &["--jwt-claims", "anna.json"],
            1,
            false.into(),
            "denied: no ALLOW policy matches",
        ),
        (
            &["--jwt-claims", "none"],
            1,
            false.into(),
            "denied: no ALLOW policy matches",
        ),
        (
            &["--jwt-claims", "{\"iss\": \"you\"}"],
            1,
            false.into(),
            "refused: 401, Jwt issuer is not configured",
        ),
        (
            &["--jwt-claims", "{\"iss\": \"me\", \"exp\": 1}"],
            1,
            false.into(),
            "refused: 401, Jwt is expired",
        ),
        (
            &["-H", forged],
            1,
            false.into(),
            "refused: 401, Jwt verification fails",
        ),
    ] {
        let said = explain(directory.path(), "GET store/mine", "shop", more);
        assert!(said.starts_with(&format!("{code}\n")), "{more:?}: {said}");
        assert!(said.contains(part), "{more:?}: {said}");
        assert!(
            said.contains(&format!(
                "its tokens are checked: RequestAuthentication default/tokens {}",
                place("tokens")
            )),
            "{said}"
        );
        let line = [
            "explain",
            "GET store/mine",
            "--from",
            "shop",
            "--dir",
            "mesh",
            "-o",
            "json",
        ];
        let output = run_in(directory.path(), &[&line[..], more].concat());
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            json[0]["destinations"][0]["endpoints"][0]["allowed"], allowed,
            "{json:#}"
        );
    }
    // What no token can change needs none.
    let said = explain(directory.path(), "PUT store/", "shop", &[]);
    assert!(said.contains("denied: no ALLOW policy matches"), "{said}");
    let wrong = explain(
        directory.path(),
        "GET store/",
        "shop",
        &["--jwt-claims", "missing.json"],
    );
    assert!(
        wrong.starts_with("2\n") && wrong.contains("cannot read missing.json"),
        "{wrong}"
    );
}

#[test]
fn descriptions_name_rules_and_policies_of_every_form() {
    let directory = directory();
    let described = |name| printed(directory.path(), &["describe", name, "--dir", "mesh"]);
    insta::assert_snapshot!("describe_all", described("store") + &described("store-v1"));
}
