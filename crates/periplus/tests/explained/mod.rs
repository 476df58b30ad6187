//! What `periplus explain` says of a request is what the proxy then does with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::bootstrap;
use super::support::{Program, free_base, request};

/// So many requests are asked about, and sent.
const REQUESTS: usize = 500;

fn resources(v1: u16, v2: u16, outbound: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: store}}
spec:
  hosts: [store.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{app: store}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: store-v1}}
spec: {{address: 127.0.0.1, labels: {{app: store, version: v1, security.istio.io/tlsMode: disabled}}, ports: {{http: {v1}}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: store-v2}}
spec: {{address: 127.0.0.1, labels: {{app: store, version: v2, security.istio.io/tlsMode: disabled}}, ports: {{http: {v2}}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: shop-v1}}
spec: {{address: 127.0.0.1, labels: {{app: shop, version: v1}}, serviceAccount: shop, ports: {{http: 1}}}}
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
  hosts: [store]
  http:
  - match: [{{uri: {{exact: /exact}}, method: {{exact: POST}}}}]
    route: [{{destination: {{host: store, subset: v2}}}}]
  - match: [{{headers: {{end-user: {{exact: jason}}}}, uri: {{prefix: /a}}}}, {{queryParams: {{beta: {{exact: 'yes'}}}}}}]
    route: [{{destination: {{host: store, subset: v2}}}}]
  - match: [{{uri: {{regex: '/re/[0-9]+'}}}}]
    route: [{{destination: {{host: store, subset: v1}}}}]
  - match: [{{uri: {{prefix: /re}}, withoutHeaders: {{x-canary: {{}}}}}}]
    directResponse: {{status: 418, body: {{string: tea}}}}
  - match: [{{uri: {{prefix: /old}}}}]
    redirect: {{uri: /a, redirectCode: 302}}
  - match: [{{uri: {{exact: /nobody}}}}]
    route: [{{destination: {{host: store, subset: v3}}}}]
  - match: [{{uri: {{exact: /missing}}}}]
    route: [{{destination: {{host: store, subset: v4}}}}]
  - match: [{{uri: {{prefix: /shared}}}}]
    route:
    - {{destination: {{host: store, subset: v1}}, weight: 50}}
    - {{destination: {{host: store, subset: v2}}, weight: 50}}
  - match: [{{headers: {{x-canary: {{prefix: t}}}}}}]
    route: [{{destination: {{host: store, subset: v2}}}}]
  - match: [{{uri: {{prefix: /}}, method: {{exact: GET}}}}]
    route: [{{destination: {{host: store, subset: v1}}}}]
"
    )
}

/// A server that answers with its port.
pub(super) fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                loop {
                    // A connection that has ended ends this.
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read(&mut byte) {
                            Ok(1) => head.push(byte[0]),
                            _ => return,
                        }
                    }
                    head.clear();
                    let body = port.to_string();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

const HEADERS: [&[(&str, &str)]; 5] = [
    &[],
    &[("end-user", "jason")],
    &[("end-user", "anna")],
    &[("x-canary", "true")],
    &[("x-canary", "no"), ("end-user", "jason")],
];

fn any<'a>(random: &mut fastrand::Rng, of: &[&'a str]) -> &'a str {
    of[random.usize(..of.len())]
}

/// A request as `explain` takes it: its method, and where to.
fn generated(random: &mut fastrand::Rng) -> (String, String) {
    let method = any(random, &["GET", "GET", "POST", "DELETE"]);
    let host = any(
        random,
        &[
            "store",
            "store:80",
            "store.default",
            "STORE",
            "store.default.svc.cluster.local",
            "nobody.example",
            "store:81",
        ],
    );
    let path = any(
        random,
        &[
            "/",
            "/a",
            "/a/b",
            "/exact",
            "/exact/x",
            "/re/12",
            "/re/x",
            "/re",
            "/old/x",
            "/nobody",
            "/missing",
            "/shared",
            "/shared/1",
            "/b",
        ],
    );
    let query = any(random, &["", "", "?x=1", "?beta=yes", "?beta=no"]);
    (method.to_owned(), format!("{host}{path}{query}"))
}

#[test]
fn the_proxy_does_what_was_explained() {
    let base = free_base();
    let [xds, monitoring, outbound, admin] = [base, base + 1, base + 2, base + 3];
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config");
    std::fs::create_dir(&config).unwrap();
    let text = resources(origin(), origin(), outbound);
    std::fs::write(config.join("mesh.yaml"), text).unwrap();
    let file = directory.path().join("bootstrap.json");
    std::fs::write(&file, bootstrap(xds, admin).to_string()).unwrap();
    let config = config.to_str().unwrap().to_owned();
    let (xds, monitoring) = (xds.to_string(), monitoring.to_string());
    let mut control = Program::start(&[
        "control",
        "--dir",
        &config,
        "--xds-port",
        &xds,
        "--monitoring-port",
        &monitoring,
    ]);
    control.wait_for(&["control plane is ready"]);
    let mut proxy = Program::start(&["proxy", "-c", file.to_str().unwrap()]);
    proxy.wait_for(&["proxy is ready"]);

    let mut random = fastrand::Rng::with_seed(7);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for headers in HEADERS {
        let requests: Vec<_> = (0..REQUESTS / HEADERS.len())
            .map(|_| generated(&mut random))
            .collect();
        let reports = explain(&config, &requests, headers);
        for ((method, target), report) in requests.iter().zip(&reports) {
            let answer = request(outbound, method, &format!("http://{target}"), headers, "");
            let context = format!(
                "{method} {target} {headers:?}: {} {}\n{report:#}",
                answer.status, answer.body
            );
            *seen
                .entry(report["action"].as_str().unwrap().to_owned())
                .or_default() += 1;
            if report["action"] != "forward" {
                assert_eq!(report["status"], answer.status, "{context}");
                continue;
            }
            let destinations = report["destinations"].as_array().unwrap();
            let endpoints = destinations
                .iter()
                .flat_map(|one| one["endpoints"].as_array().unwrap());
            let ports: BTreeSet<&str> = endpoints
                .map(|one| one["address"].as_str().unwrap().rsplit(':').next().unwrap())
                .collect();
            match ports.is_empty() {
                true => assert_eq!(answer.status, 503, "{context}"),
                false => assert!(
                    answer.status == 200 && ports.contains(&*answer.body),
                    "{context}"
                ),
            }
        }
    }
    // Each kind of end was among them, or the test says nothing.
    for (action, least) in [("forward", 100), ("respond", 50), ("redirect", 5)] {
        assert!(
            seen.get(action).is_some_and(|count| *count >= least),
            "{seen:?}"
        );
    }
}

fn explain(config: &str, requests: &[(String, String)], headers: &[(&str, &str)]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    command.args([
        "explain", "--from", "shop-v1", "--dir", config, "-o", "json",
    ]);
    for (name, value) in headers {
        command.args(["--header", &format!("{name}:{value}")]);
    }
    command.args(
        requests
            .iter()
            .map(|(method, target)| format!("{method} {target}")),
    );
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let reports: Vec<Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(reports.len(), requests.len(), "{said}");
    reports
}

/// What is denied because a policy cannot be read is told by whoever is asked why: of files that no control plane has
/// seen yet, and of those of one that runs.
#[test]
fn it_is_said_that_all_is_denied_because_a_policy_cannot_be_read() {
    let base = free_base();
    let [xds, monitoring] = [base.to_string(), (base + 1).to_string()];
    let directory = tempfile::tempdir().unwrap();
    let text = resources(base + 2, base + 3, base + 4);
    std::fs::write(directory.path().join("mesh.yaml"), text).unwrap();
    let broken = directory.path().join("strict.yaml");
    let policy = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                  metadata: {name: all}\nspec: {mtls: {mode: STRIKT}}\n";
    std::fs::write(&broken, policy).unwrap();
    let config = directory.path().to_str().unwrap();
    let edit = tempfile::tempdir().unwrap();
    std::fs::write(edit.path().join("empty.yaml"), "").unwrap();
    let edit = edit.path().to_str().unwrap();
    let mut control = Program::start(&[
        "control",
        "--dir",
        config,
        "--xds-port",
        &xds,
        "--monitoring-port",
        &monitoring,
    ]);
    control.wait_for(&["control plane is ready"]);
    let server = format!("http://127.0.0.1:{monitoring}");
    let run = |arguments: &[&str], mesh: [&str; 2]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
        let output = command.args(arguments).args(mesh).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };
    let explain = ["explain", "--from", "shop-v1", "POST store/exact"];
    for (mesh, who) in [
        (["--dir", config], "a control plane that starts with it"),
        (["--control", &server], "the control plane that runs"),
    ] {
        let note = format!("note: {who} denies all requests and connections until the policies of");
        let (said, notes) = run(&explain, mesh);
        assert!(notes.contains(&note), "{notes}");
        assert!(
            said.contains("not-loaded-") && said.contains("says DENY"),
            "{said}"
        );
        let (_, notes) = run(&["diff", edit], mesh);
        assert!(notes.contains(&note), "{notes}");
    }
    std::fs::write(&broken, policy.replace("STRIKT", "STRICT")).unwrap();
    let (said, notes) = run(&explain, ["--dir", config]);
    assert!(!notes.contains("denies all"), "{notes}");
    assert!(!said.contains("not-loaded-"), "{said}");
}
