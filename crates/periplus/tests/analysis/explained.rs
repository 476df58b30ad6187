//! `periplus explain` names the resource, and the line of it, that decides.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::{printed, run_in};

/// What decides stands on a line that ends with its name.
const MESH: &str = include_str!("explained.yaml");

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
            "GET a.wild.example/",
            "shop",
            0,
            &[],
            "the host that it names, as the proxy finds it",
        ),
        (
            "https://a.wild.example/",
            "shop",
            0,
            &[],
            "the host that it names, as the proxy finds it",
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
fn who_answers_for_a_service_is_told() {
    let directory = directory();
    for (service, endpoints) in [
        (
            "*.wild.example",
            "the hosts that requests name, which proxies look up",
        ),
        (
            "store.default.svc.cluster.local",
            "10.0.0.1:80 store-v1.default",
        ),
    ] {
        let said = printed(directory.path(), &["describe", service, "--dir", "mesh"]);
        let line = said.lines().find(|line| line.contains("endpoints"));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        assert!(line.ends_with(endpoints), "{said}");
    }
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

#[test]
fn limits_of_rates_are_named_with_their_lines() {
    let directory = directory();
    let mesh = directory.path().join("mesh/mesh.yaml");
    let named = MESH.replacen(
        "{match: [{uri: {prefix: /tea}}]",
        "{name: tea, match: [{uri: {prefix: /tea}}]",
        1,
    );
    std::fs::write(mesh, named).unwrap();
    let config = "extensionProviders:
- name: local
  envoyLocalRateLimit:
    limits:
    - selector: {matchLabels: {app: store}}
      tokenBucket: {maxTokens: 1, fillInterval: 1s}
    - {routes: [tea, milk], tokenBucket: {maxTokens: 1, fillInterval: 1s}}
    - {port: 8080, selector: {matchLabels: {istio: ingressgateway}}, tokenBucket: {maxTokens: 1, fillInterval: 1s}}
";
    std::fs::write(directory.path().join("config.yaml"), config).unwrap();
    let with = ["--mesh-config", "config.yaml"];
    for (request, from, lines) in [
        ("GET store/", "shop", &[5][..]),
        ("GET store/tea", "shop", &[]),
        ("GET store.example:8080/tea", "edge", &[7, 8]),
        ("GET store.example:8080/", "edge", &[8, 5]),
    ] {
        let said = explain(directory.path(), request, from, &with);
        let wanted = lines.iter().map(|line| {
            format!("its rate is limited: extension provider local (config.yaml:{line})")
        });
        let missing: Vec<_> = wanted.filter(|wanted| !said.contains(wanted)).collect();
        assert!(missing.is_empty(), "{request}: {missing:?} not in {said}");
        assert_eq!(
            said.matches("its rate is limited").count(),
            lines.len(),
            "{said}"
        );
    }
    let found = printed(
        directory.path(),
        &[&["analyze", "mesh"][..], &with].concat(),
    );
    assert!(
        found.contains("[PER0105] (config.yaml:7) provider `local` limits route `milk`")
            && !found.contains("`tea`"),
        "{found}"
    );
    std::fs::write(
        directory.path().join("more.yaml"),
        config.replacen("Tokens: 1", "Tokens: 2", 1),
    )
    .unwrap();
    let line = [
        "diff",
        "--dir",
        "mesh",
        "--new-mesh-config",
        "more.yaml",
        "--mesh-config",
        "config.yaml",
    ];
    let changed = printed(directory.path(), &line);
    assert!(
        changed.starts_with("1\n") && changed.contains("~ listener"),
        "{changed}"
    );
}

/// A Gateway that ends TLS, and the Secret with its certificate.
fn secure() -> String {
    let made = rcgen::generate_simple_self_signed(["safe.example".to_owned()]).unwrap();
    let indented = |pem: &str| pem.trim().replace('\n', "\n    ");
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: cert}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    {0}
  tls.key: |
    {1}
  ca.crt: |
    {0}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: safe}}
spec:
  selector: {{istio: safe}}
  servers:
  - {{port: {{number: 9443, name: one, protocol: HTTPS}}, hosts: [safe.example], tls: {{mode: SIMPLE, credentialName: cert}}}}
  - {{port: {{number: 9443, name: two, protocol: HTTPS}}, hosts: [strict.example], tls: {{mode: MUTUAL, credentialName: cert}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: safe}}
spec:
  hosts: [safe.example, strict.example]
  gateways: [safe]
  http: [{{route: [{{destination: {{host: store, port: {{number: 80}}}}}}]}}]
",
        indented(&chain),
        indented(&key)
    )
}

#[test]
fn what_comes_by_tls_is_explained_to_the_request_within() {
    let directory = directory();
    std::fs::write(directory.path().join("mesh/safe.yaml"), secure()).unwrap();
    let explain = |request| explain(directory.path(), request, "safe", &[]);
    let wanted = "its client must show a good certificate: Gateway default/safe (mesh/safe.yaml:";
    for (request, code, part, is_strict) in [
        (
            "https://safe.example:9443/",
            0,
            "VirtualService default/safe (mesh/safe.yaml:",
            false,
        ),
        (
            "https://strict.example:9443/",
            0,
            "VirtualService default/safe (mesh/safe.yaml:",
            true,
        ),
        ("https://other.example:9443/", 1, "it is closed", false),
        ("GET safe.example:9443/", 1, "it is closed", false),
    ] {
        let said = explain(request);
        assert!(
            said.starts_with(&format!("{code}\n")) && said.contains(part),
            "{said}"
        );
        assert_eq!(said.contains(wanted), is_strict, "{said}");
    }
}
