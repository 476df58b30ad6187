//! TLS at gateways where there is nobody to ask: who gets which secrets, and what is said about those that are missing.
//! How connections fare, the tables of `periplus` ask real proxies.

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_control::{Generated, Index, Proxy, generate};
use periplus_resources::{MeshConfig, parse_resources};

use crate::support::{invariants, node};

const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.test], tls: {mode: SIMPLE, credentialName: cert}}
  - port: {number: 443, name: files, protocol: HTTPS}
    hosts: [b.test]
    tls: {mode: MUTUAL, serverCertificate: /c, privateKey: /k, caCertificates: /a}
  - {port: {number: 443, name: mesh, protocol: HTTPS}, hosts: [c.test], tls: {mode: ISTIO_MUTUAL}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far, namespace: shop}
spec:
  hosts: [far.example.com]
  resolution: DNS
  ports: [{number: 443, name: https, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: far, namespace: shop}
spec: {host: far.example.com, trafficPolicy: {tls: {mode: MUTUAL, credentialName: cert}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: api, namespace: shop}
spec:
  gatewayClassName: istio
  listeners:
  - {name: https, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: cert, namespace: vault}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: all, namespace: vault}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}]
  to: [{group: '', kind: Secret}]
---
";

/// Secrets of this name in all namespaces.
fn secrets() -> String {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
    let indented = |pem: &str| pem.trim().replace('\n', "\n    ");
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let secret = |namespace: &str| {
        format!(
            "apiVersion: v1
kind: Secret
metadata: {{name: cert, namespace: {namespace}}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    {}
  tls.key: |
    {}
  ca.crt: |
    {}
---
",
            indented(&chain),
            indented(&key),
            indented(&chain)
        )
    };
    ["shop", "other", "vault"].map(secret).concat()
}

fn made(text: &str, node: &Node) -> Generated {
    let parsed = parse_resources("x.yaml", text);
    assert_eq!(parsed.errors, []);
    let index = Index::new(&parsed.resources, MeshConfig::default());
    let made = generate(&index, &Proxy::from_node(node).expect("a good node"));
    invariants::check(&made);
    made
}

fn names(made: &Generated) -> Vec<&str> {
    let mut names: Vec<_> = made.secrets.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    names
}

fn gateway(namespace: &str, labels: &[(&str, &str)]) -> Node {
    let id = format!("router~10.0.0.1~edge.{namespace}~{namespace}.svc.cluster.local");
    node(&id, "edge", namespace, labels)
}

const API: (&str, &str) = ("gateway.networking.k8s.io/gateway-name", "api");

#[test]
fn only_gateways_that_refer_to_secrets_get_them() {
    let rules = format!("{RULES}{}", secrets());
    let client = ["kubernetes://cert", "kubernetes://cert-cacert"];
    let own = ["file-cert:/c~/k", "file-root:/a", client[0], client[1]];
    let granted = "kubernetes-gateway://vault/cert";
    let sidecar = node(
        "sidecar~10.0.0.1~edge.shop~shop.svc.cluster.local",
        "edge",
        "shop",
        &[("app", "edge"), API],
    );
    for (node, expected) in [
        (gateway("shop", &[("app", "edge")]), own.to_vec()),
        // Istio's Gateways are for all namespaces, and their Secrets those of the proxy.
        (gateway("other", &[("app", "edge")]), own.to_vec()),
        (gateway("nowhere", &[("app", "edge")]), own[..2].to_vec()),
        // As a client, any gateway needs its own.
        (gateway("shop", &[("app", "another")]), client.to_vec()),
        (gateway("shop", &[API]), vec![granted, client[0], client[1]]),
        // Gateway API's are for their own namespace.
        (gateway("other", &[API]), client.to_vec()),
        (sidecar, Vec::new()),
    ] {
        let made = made(&rules, &node);
        assert_eq!(names(&made), expected, "{}", node.id);
        let key = format!("{:?}", made.listeners);
        assert!(!key.contains("PRIVATE KEY"), "keys are in secrets only");
    }
}

/// Secrets of a namespace are not shown to proxies of others, whatever name these ask for.
#[test]
fn what_is_missing_is_told() {
    let rules = format!("{RULES}{}", secrets());
    let here = made(&rules, &gateway("nowhere", &[("app", "edge")]));
    let notes = here.told().collect::<Vec<_>>().join("\n");
    for said in [
        "server https of Gateway shop/edge lets nobody in: there is no Secret nowhere/cert",
        "server mesh of Gateway shop/edge lets nobody in: `ISTIO_MUTUAL` needs certificates of the mesh",
        "requests to far.example.com on port 443 get 503: there is no Secret nowhere/cert",
    ] {
        assert!(notes.contains(said), "{said} in {notes}");
    }
    let parsed = parse_resources("x.yaml", RULES);
    let index = Index::new(&parsed.resources, MeshConfig::default());
    let problems: Vec<_> = index.problems().iter().map(ToString::to_string).collect();
    for said in [
        "x.yaml:8:110: Gateway shop/edge: server https lets nobody in: there is no Secret cert in any namespace",
        "DestinationRule shop/far: requests of gateways get 503: there is no Secret cert in any namespace",
        "there is no Secret vault/cert (InvalidCertificateRef)",
    ] {
        assert!(
            problems.iter().any(|one| one.contains(said)),
            "{said} in {problems:#?}"
        );
    }
}
