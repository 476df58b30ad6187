//! What `periplus explain` says of a request is what the proxies then do with it.

mod resources;
pub(super) mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use self::world::{Entry, World};
use super::support::{Answer, Program, free_base, request};

/// At least so many requests are asked about, and sent.
const REQUESTS: usize = 500;

const HEADERS: [&[(&str, &str)]; 5] = [
    &[],
    &[("end-user", "jason")],
    &[("end-user", "anna"), ("x-canary", "true")],
    &[("x-canary", "no"), ("end-user", "jason")],
    // What is meant for the next hop alone is there for nobody.
    &[
        ("connection", "end-user, x-canary"),
        ("end-user", "jason"),
        ("x-canary", "true"),
    ],
];

fn any<'a>(random: &mut fastrand::Rng, of: &[&'a str]) -> &'a str {
    of[random.usize(..of.len())]
}

/// A request as `explain` takes it: its method, and where to.
fn generated(random: &mut fastrand::Rng, entry: &Entry) -> (String, String) {
    let method = any(random, &["GET", "GET", "GET", "POST", "DELETE"]);
    let host = any(random, entry.hosts);
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
            "/secure",
            "/admin/x",
        ],
    );
    let query = any(random, &["", "", "?x=1", "?beta=yes", "?beta=no"]);
    // A gateway has several ports.
    let port = match entry.is_gateway {
        true => format!(":{}", entry.port),
        false => String::new(),
    };
    (method.to_owned(), format!("{host}{port}{path}{query}"))
}

/// What may come of a request: the status, and of 200 who answers.
type Ends = BTreeSet<(u64, String)>;

/// What a report says may come of it.
fn ends(report: &Value, world: &World) -> Ends {
    let nobody = String::new;
    if report["action"] != "forward" {
        return Ends::from([(report["status"].as_u64().unwrap(), nobody())]);
    }
    let mut ends = Ends::new();
    for destination in report["destinations"].as_array().unwrap() {
        let endpoints = destination["endpoints"].as_array().unwrap();
        if endpoints.is_empty() {
            ends.insert((503, nobody()));
        }
        for endpoint in endpoints {
            let (_, port) = endpoint["address"]
                .as_str()
                .unwrap()
                .rsplit_once(':')
                .unwrap();
            let port: u16 = port.parse().unwrap();
            let refusal = endpoint["refusal"].as_str();
            ends.insert(match (endpoint["allowed"].as_bool(), refusal) {
                (Some(true), None) => {
                    let mut origins = world.origins.iter();
                    let (_, origin) = origins.find(|(at, _)| *at == port).unwrap();
                    (200, origin.to_string())
                }
                (Some(false), Some(refusal)) => (refusal[..3].parse().unwrap(), nobody()),
                // What depends on a token is refused without one.
                (Some(false) | None, None) => (403, nobody()),
                other => panic!("{other:?}: {endpoint:#}"),
            });
        }
    }
    ends
}

/// The name that the rule has whose line a report names.
fn named<'t>(report: &Value, text: &'t str) -> Option<&'t str> {
    let source = report["rule"]["source"].as_str()?;
    let (_, line) = source.rsplit_once(':').unwrap();
    let line: usize = line.parse().unwrap();
    let line = text.lines().nth(line - 1).unwrap();
    let begin = line
        .find("rule-")
        .unwrap_or_else(|| panic!("{source}: {line}"));
    let name = &line[begin..];
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    Some(&name[..end.unwrap_or(name.len())])
}

#[test]
fn the_proxy_does_what_was_explained() {
    let world = World::start();
    let mut random = fastrand::Rng::with_seed(7);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut rules = BTreeSet::new();
    let [ada, bob, forged] = &world.tokens;
    let groups: Vec<(Entry, Vec<(&str, String)>)> = (world.entries.into_iter())
        .flat_map(|entry| {
            let tokens = [None, Some(ada), Some(bob), Some(forged), None];
            let all = HEADERS.into_iter().zip(tokens);
            all.map(move |(headers, token)| {
                let headers = headers
                    .iter()
                    .map(|(name, value)| (*name, (*value).to_owned()));
                let bearer = token.map(|token| ("authorization", format!("Bearer {token}")));
                (entry, headers.chain(bearer).collect())
            })
        })
        .collect();
    let each = REQUESTS.div_ceil(groups.len());
    for (entry, headers) in &groups {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let requests: Vec<_> = (0..each).map(|_| generated(&mut random, entry)).collect();
        let reports = explain(world.directory(), entry.from, &requests, &headers);
        for ((method, target), report) in requests.iter().zip(&reports) {
            let answer = request(
                entry.port,
                method,
                &format!("http://{target}"),
                &headers,
                "",
            );
            let context = format!(
                "{} {method} {target} {headers:?}: {} {}\n{report:#}",
                entry.from, answer.head, answer.body
            );
            check(&world, report, &answer, &context);
            if let Some(rule) = named(report, &world.text) {
                rules.insert(rule);
            }
            let end = match answer.status {
                302 | 418 => "by a rule",
                200 => "answered",
                401 => "a bad token",
                403 => "denied",
                404 | 502 => "no rule",
                _ => "nobody there",
            };
            *seen.entry(end.to_owned()).or_default() += 1;
            if report["decisions"].to_string().contains("at-the-gate") {
                assert_eq!(answer.status, 403, "{context}");
                *seen.entry("denied at the gate".to_owned()).or_default() += 1;
            }
            if report["destinations"]
                .to_string()
                .contains("\"allowed\":null")
            {
                *seen.entry("depends on a token".to_owned()).or_default() += 1;
            }
        }
    }
    // Each kind of end was among them, or the test says nothing.
    for (end, least) in [
        ("by a rule", 10),
        ("answered", 100),
        ("a bad token", 10),
        ("denied", 30),
        ("no rule", 40),
        ("nobody there", 20),
        ("denied at the gate", 5),
        ("depends on a token", 3),
    ] {
        assert!(
            seen.get(end).is_some_and(|count| *count >= least),
            "{end}: {seen:?}"
        );
    }
    let written = world.text.matches("rule-").count();
    assert!(
        rules.len() + 2 >= written,
        "{written} rules, seen {rules:?}"
    );
}

fn check(world: &World, report: &Value, answer: &Answer, context: &str) {
    let ends = ends(report, world);
    let body = match answer.status {
        200 => answer.body.clone(),
        _ => String::new(),
    };
    assert!(
        ends.contains(&(answer.status.into(), body)),
        "{ends:?}: {context}"
    );
    // What the proxy says itself for want of an endpoint is no answer of the rule's.
    if answer.status != 503 {
        let name = named(report, &world.text);
        assert_eq!(answer.header("x-rule"), name, "{context}");
    }
}

fn explain(
    directory: &Path,
    from: &str,
    requests: &[(String, String)],
    headers: &[(&str, &str)],
) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    command.args(["explain", "--from", from, "-o", "json", "--dir"]);
    command.arg(directory.join("config"));
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
/// One that calls, and one that is called.
const SHOP: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: store}
spec:
  hosts: [store.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: store}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: store-v1}
spec: {address: 127.0.0.1, labels: {app: store, version: v1}, serviceAccount: store, ports: {http: 1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: shop-v1}
spec: {address: 127.0.0.1, labels: {app: shop, version: v1}, serviceAccount: shop, ports: {http: 2}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: shop}
spec:
  workloadSelector: {labels: {app: shop}}
  egress:
  - port: {number: OUTBOUND, protocol: HTTP_PROXY, name: http-proxy}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['*/*']
";

#[test]
fn it_is_said_that_all_is_denied_because_a_policy_cannot_be_read() {
    let base = free_base();
    let [xds, monitoring] = [base.to_string(), (base + 1).to_string()];
    let directory = tempfile::tempdir().unwrap();
    let text = SHOP.replace("OUTBOUND", &(base + 2).to_string());
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
