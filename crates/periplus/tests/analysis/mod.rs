//! The commands that explain files: `analyze`, `validate`, `explain`, `describe`, `authz`, `diff`; and what shells know.

mod diff;
mod doctor;
mod explained;
mod fake;
mod golden;

use std::path::Path;
use std::process::Output;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use tempfile::TempDir;

use super::command;

const MESH: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: reviews}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v1}
spec: {address: 127.0.0.1, labels: {app: reviews, version: v1}, serviceAccount: reviews, ports: {http: 20001}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v2}
spec: {address: 127.0.0.1, labels: {app: reviews, version: v2}, serviceAccount: reviews, ports: {http: 20002}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: shop}
spec: {address: 127.0.0.1, labels: {app: shop}, serviceAccount: shop, ports: {http: 20003}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: shop}
spec:
  workloadSelector: {labels: {app: shop}}
  egress:
  - port: {number: 21003, protocol: HTTP_PROXY, name: http-proxy}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['*/*']
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: reviews-v2}
spec:
  workloadSelector: {labels: {app: reviews, version: v2}}
  ingress:
  - port: {number: 20002, name: http, protocol: HTTP}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:22002
";

const RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - route: [{destination: {host: reviews, subset: v1}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers}
spec:
  selector: {matchLabels: {app: reviews}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/shop]}}]
    to: [{operation: {methods: [GET]}}]
";

fn directory(rules: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mesh = directory.path().join("mesh");
    std::fs::create_dir(&mesh).unwrap();
    std::fs::write(mesh.join("mesh.yaml"), MESH).unwrap();
    std::fs::write(mesh.join("rules.yaml"), rules).unwrap();
    directory
}

fn run_in(directory: &Path, arguments: &[&str]) -> Output {
    command(arguments)
        .current_dir(directory)
        .env_remove("PERIPLUS_CONTROL")
        .env_remove("PERIPLUS_SERVER")
        .output()
        .unwrap()
}

/// What is printed, and the exit code before it.
fn printed(directory: &Path, arguments: &[&str]) -> String {
    let output = run_in(directory, arguments);
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap();
    format!("{code}\n{}{}", said(&output.stdout), said(&output.stderr))
}

#[test]
fn mistakes_are_told_with_code_and_line() {
    let good = directory(RULES);
    let all_well = printed(good.path(), &["analyze", "mesh"]);
    assert_eq!(
        all_well,
        "0\n✔ No validation issues found when analyzing mesh.\n"
    );
    assert_eq!(
        printed(good.path(), &["validate", "mesh", "--ascii"]),
        "0\nok: valid: 9 resources in 2 files\n"
    );

    let bad = directory(
        &RULES
            .replace("subset: v2", "subset: v3")
            .replace("methods:", "method:"),
    );
    let found = printed(bad.path(), &["analyze", "mesh"]);
    insta::assert_snapshot!("analyze", found);
    insta::assert_snapshot!(
        "validate",
        printed(bad.path(), &["validate", "mesh/rules.yaml"])
    );
    let json = run_in(bad.path(), &["analyze", "mesh", "-o", "json"]);
    assert_eq!(json.status.code(), Some(79));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let keys = ["code", "level", "origin", "reference"].map(|key| json[0][key].as_str());
    assert_eq!(
        keys,
        [
            Some("IST0101"),
            Some("Error"),
            Some("VirtualService default/reviews"),
            Some("mesh/rules.yaml:17"),
        ],
        "{json:#}"
    );
}

#[test]
fn thresholds_and_suppressions_are_istioctls() {
    // Its subset is defined nowhere: an error; its selector selects nobody: a warning.
    let rules = RULES
        .replace("subset: v2", "subset: v3")
        .replace("matchLabels: {app: reviews}", "matchLabels: {app: nobody}");
    let mesh = directory(&rules);
    for (flags, code, lines) in [
        (vec![], 79, 2),
        (vec!["--output-threshold", "Error"], 79, 1),
        (
            vec!["--suppress", "IST0101=VirtualService reviews.default"],
            0,
            1,
        ),
        (
            vec!["--suppress", "IST0101=*", "--failure-threshold", "warning"],
            79,
            1,
        ),
        (vec!["--suppress", "*=*"], 0, 1),
        // What is not shown counts.
        (
            vec![
                "--suppress",
                "IST0101=*",
                "--failure-threshold",
                "warning",
                "--output-threshold",
                "error",
            ],
            79,
            0,
        ),
        (
            vec!["--suppress", "IST0101=*", "--output-threshold", "error"],
            0,
            0,
        ),
    ] {
        let arguments = [&["analyze", "mesh"][..], &flags].concat();
        let output = run_in(mesh.path(), &arguments);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{flags:?}: {said}");
        assert_eq!(said.lines().count(), lines, "{flags:?}: {said}");
    }
    for (arguments, code, part) in [
        (vec!["analyze", "missing"], 1, "cannot read"),
        (
            vec!["analyze", "mesh", "--suppress", "x"],
            2,
            "expected CODE=KIND NAME.NAMESPACE",
        ),
        (
            vec!["analyze", "--control", "http://127.0.0.1:1"],
            3,
            "start it with `periplus control`",
        ),
        (vec!["validate"], 2, "required"),
        (
            vec!["explain", "GET a/", "--from", "nobody", "--dir", "mesh"],
            1,
            "there is no workload `nobody`",
        ),
        (
            vec!["explain", "ftp://a/", "--from", "shop", "--dir", "mesh"],
            2,
            "cannot be looked into",
        ),
        (
            vec!["describe", "nothing", "--dir", "mesh"],
            1,
            "there is no service `nothing`",
        ),
        (
            vec!["proxy-config", "clusters", "127.0.0.1:1"],
            3,
            "admin port",
        ),
        (
            vec!["proxy-status", "--control", "ftp://x"],
            2,
            "--control ftp://x: only http://",
        ),
        (vec!["dashboard", "proxy"], 2, "required"),
        (
            vec!["proxy-config", "log", "127.0.0.1:1", "--level", "dns:"],
            2,
            "empty logger or level",
        ),
        (
            vec!["proxy-config", "log", "127.0.0.1:1", "--level", ""],
            2,
            "empty logger or level",
        ),
        (vec!["validate", "."], 1, "-R looks into directories"),
    ] {
        let output = run_in(mesh.path(), &arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[test]
fn requests_are_explained_with_the_lines_that_decide() {
    let mesh = directory(RULES);
    let explain = |requests: &[&str], more: &[&str]| {
        let flags = ["--from", "shop", "--dir", "mesh"];
        printed(
            mesh.path(),
            &[&["explain"][..], requests, &flags, more].concat(),
        )
    };
    insta::assert_snapshot!("explain", explain(&["GET reviews:9080/reviews/1"], &[]));
    let denied = explain(
        &["DELETE reviews:9080/reviews/1"],
        &["--header", "end-user: jason"],
    );
    assert!(denied.starts_with("1\n"), "{denied}");
    assert!(
        denied.contains("denied: no ALLOW policy matches"),
        "{denied}"
    );
}

/// Only a control plane that runs asks an issuer for its keys.
#[test]
fn tokens_of_an_issuer_that_is_asked_are_told_as_such() {
    let tokens = "---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: everybody}
spec: {jwtRules: [{issuer: 'https://issuer.example'}]}
";
    let mesh = directory(&format!("{RULES}{tokens}"));
    let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
    let header = part(r#"{"alg": "RS256"}"#);
    let claims = part(r#"{"iss": "https://issuer.example", "sub": "ada"}"#);
    let bearer = format!("authorization: Bearer {header}.{claims}.AAAA");
    for (flags, code, said) in [
        (vec![], "0\n", "a workload answers"),
        (
            vec!["-H", &bearer],
            "0\n",
            "the keys of https://issuer.example are not here",
        ),
        (
            vec![
                "--jwt-claims",
                r#"{"iss": "https://issuer.example", "sub": "ada"}"#,
            ],
            "0\n",
            "a workload answers",
        ),
    ] {
        let request = [
            "explain",
            "GET reviews:9080/",
            "--from",
            "shop",
            "--dir",
            "mesh",
        ];
        let found = printed(mesh.path(), &[&request[..], &flags].concat());
        assert!(
            found.starts_with(code) && found.contains(said),
            "{flags:?}: {found}"
        );
    }
}

/// A service and a workload behind it that have the same port, and nobody has a Sidecar: connections are intercepted.
const INTERCEPTED: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ratings}
spec:
  hosts: [ratings.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: ratings}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: ratings-v1}
spec: {address: 10.0.0.1, labels: {app: ratings}, serviceAccount: ratings, ports: {http: 9080}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v1}
spec: {address: 10.0.0.2, labels: {app: reviews}, serviceAccount: reviews, ports: {http: 9080}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-writers}
spec:
  selector: {matchLabels: {app: ratings}}
  action: DENY
  rules: [{to: [{operation: {methods: [POST]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: asked}
spec:
  selector: {matchLabels: {app: ratings}}
  action: CUSTOM
  provider: {name: door}
  rules: [{to: [{operation: {methods: [PUT]}}]}]
";

#[test]
fn intercepted_requests_are_explained_as_the_workload_takes_them() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("mesh.yaml", INTERCEPTED);
    write(
        "config.yml",
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n\
         extensionProviders: [{name: door, envoyExtAuthzHttp: {service: \
         ratings.default.svc.cluster.local, port: 9080}}]\n",
    );
    let explain = |request: &str| {
        let line = ["explain", request, "--from", "reviews-v1"];
        let mesh = ["--dir", ".", "--mesh-config", "config.yml"];
        printed(directory.path(), &[&line[..], &mesh].concat())
    };
    let asked = "a service is asked whether it may go on";
    for (request, code, part, is_asked) in [
        ("GET ratings:9080/", "0\n", "a workload answers", false),
        (
            "POST ratings:9080/",
            "1\n",
            "denied: AuthorizationPolicy default/no-writers",
            false,
        ),
        ("PUT ratings:9080/", "0\n", "a workload answers", true),
        (
            "GET nobody.example:4444/",
            "1\n",
            "the connection is closed: nothing outside of the mesh may be reached",
            false,
        ),
    ] {
        let said = explain(request);
        assert!(said.starts_with(code) && said.contains(part), "{said}");
        assert_eq!(said.contains(asked), is_asked, "{said}");
        assert!(!said.contains("dry run"), "{said}");
    }
}

#[test]
fn the_listener_that_knows_a_host_explains_it() {
    let first = "  egress:\n  \
                 - {port: {number: 21002, protocol: HTTP_PROXY, name: other}, bind: 127.0.0.1, \
                 captureMode: NONE, hosts: ['nobody/*']}\n";
    let mesh = directory(RULES);
    let text = MESH.replacen("  egress:\n", first, 1);
    std::fs::write(mesh.path().join("mesh/mesh.yaml"), text).unwrap();
    let explain = |request: &str| {
        printed(
            mesh.path(),
            &["explain", request, "--from", "shop", "--dir", "mesh"],
        )
    };
    let known = explain("GET reviews:9080/");
    assert!(
        known.starts_with("0\n") && known.contains("127.0.0.1_21003"),
        "{known}"
    );
    let unknown = explain("GET nobody.example/");
    assert!(
        unknown.starts_with("1\n") && unknown.contains("502: the mesh has no such host"),
        "{unknown}"
    );
}

#[test]
fn services_and_workloads_are_described() {
    let mesh = directory(RULES);
    let described = |name| printed(mesh.path(), &["describe", name, "--dir", "mesh"]);
    insta::assert_snapshot!("describe", described("reviews") + &described("reviews-v2"));
    insta::assert_snapshot!(
        "authz",
        printed(
            mesh.path(),
            &["authz", "check", "reviews-v2", "--dir", "mesh"]
        )
    );
}

#[test]
fn a_version_asks_nobody_if_it_is_short() {
    let mut command = command(&["version", "--short"]);
    let output = command
        .env("PERIPLUS_CONTROL", "http://127.0.0.1:1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn shells_and_man_know_the_commands() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(directory.path(), &["completions", shell]);
        assert!(
            script.contains("proxy-config") && script.contains("failure-threshold"),
            "{shell}"
        );
    }
    let said = printed(directory.path(), &["man", "pages"]);
    assert_eq!(said, "0\n");
    let page = std::fs::read_to_string(directory.path().join("pages/periplus-explain.1")).unwrap();
    assert!(page.contains("\\-\\-header"), "{page}");
}
