//! What `periplus diff` says of an edit is what proxies then get.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bootstrap;
use super::support::{Program, free_base, get_json};

const RULES: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: store}
spec:
  host: store
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: store}
spec:
  hosts: [store]
  http:
  - route: [{destination: {host: store, subset: v1}}]
";

fn mesh(outbound: u16, inbound: u16) -> String {
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
spec: {{address: 127.0.0.1, labels: {{app: store, version: v1}}, ports: {{http: {inbound}}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: shop-v1}}
spec: {{address: 127.0.0.1, labels: {{app: shop, version: v1}}, ports: {{http: 1}}}}
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
  workloadSelector: {{labels: {{app: store}}}}
  ingress:
  - port: {{number: {inbound}, protocol: HTTP, name: http}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:1
"
    )
}

/// What there is of a resource, by its kind and name.
type Resources = BTreeMap<(&'static str, String), Value>;

/// What a proxy runs on.
fn running(admin: u16) -> Resources {
    let dump = get_json(admin, "/config_dump?include_eds");
    let of = |part: &str, list: &str| -> Vec<Value> {
        let configs = dump["configs"].as_array().unwrap().iter();
        let mut configs = configs.filter(|one| one["@type"].as_str().unwrap().ends_with(part));
        let config = configs.next().unwrap_or(&Value::Null);
        config[list].as_array().cloned().unwrap_or_default()
    };
    let mut all = Resources::new();
    let mut add = |kind, resource: &Value, name: &str| {
        let name = resource[name].as_str().unwrap().to_owned();
        all.insert((kind, name), resource.clone());
    };
    for one in of(".ListenersConfigDump", "dynamic_listeners") {
        add("listener", &one["active_state"]["listener"], "name");
    }
    for one in of(".RoutesConfigDump", "dynamic_route_configs") {
        add("route", &one["route_config"], "name");
    }
    for one in of(".ClustersConfigDump", "dynamic_active_clusters") {
        add("cluster", &one["cluster"], "name");
    }
    for one in of(".EndpointsConfigDump", "dynamic_endpoint_configs") {
        add("endpoints", &one["endpoint_config"], "cluster_name");
    }
    all
}

/// Kind, name, and what has become of it.
type Changes = BTreeSet<(String, String, String)>;

fn changes(before: &Resources, after: &Resources) -> Changes {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = keys.into_iter().filter_map(|key| {
        let change = match (before.get(key), after.get(key)) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "removed",
            (None, _) => "added",
        };
        Some((key.0.to_owned(), key.1.clone(), change.to_owned()))
    });
    told(changed.collect())
}

/// Endpoints end with their cluster: nobody tells proxies so.
fn told(mut changes: Changes) -> Changes {
    changes
        .retain(|(kind, _, change)| (kind.as_str(), change.as_str()) != ("endpoints", "removed"));
    changes
}

/// What `diff` says of each proxy.
fn predicted(directory: &Path, monitoring: &str, flags: &[&str]) -> BTreeMap<String, Changes> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    let control = format!("http://127.0.0.1:{monitoring}");
    command.args(["diff", "-o", "json", "--control", &control]);
    command.args(flags).current_dir(directory);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    let of = |proxy: &Value| -> Changes {
        let changes = proxy["changes"].as_array().unwrap().iter();
        let changes =
            changes.map(|one| (text(one, "kind"), text(one, "name"), text(one, "change")));
        told(changes.collect())
    };
    let proxies = report["proxies"].as_array().unwrap().iter();
    proxies
        .map(|proxy| (text(proxy, "proxy"), of(proxy)))
        .collect()
}

#[test]
fn proxies_get_what_diff_has_said() {
    let base = free_base();
    let [xds, monitoring, outbound, inbound] = [0, 1, 2, 3].map(|n| base + n);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
    for name in ["config", "edit"] {
        std::fs::create_dir(path.join(name)).unwrap();
    }
    write("config/mesh.yaml", &mesh(outbound, inbound));
    write("config/rules.yaml", RULES);
    write("mesh-config.yaml", "{}\n");
    let (config, mesh_config) = (path.join("config"), path.join("mesh-config.yaml"));
    let monitoring = monitoring.to_string();
    let mut control = Program::start(&[
        "control",
        "--dir",
        config.to_str().unwrap(),
        "--mesh-config",
        mesh_config.to_str().unwrap(),
        "--xds-port",
        &xds.to_string(),
        "--monitoring-port",
        &monitoring,
    ]);
    control.wait_for(&["control plane is ready"]);
    let mut programs = Vec::new();
    let proxies = [
        ("shop-v1", "shop", base + 4),
        ("store-v1", "store", base + 5),
    ];
    for (name, app, admin) in proxies {
        let mut made = bootstrap(xds, admin);
        made["node"]["id"] = json!(format!(
            "sidecar~127.0.0.1~{name}.default~default.svc.cluster.local"
        ));
        made["node"]["metadata"]["LABELS"]["app"] = json!(app);
        let file = path.join(format!("{name}.json"));
        std::fs::write(&file, made.to_string()).unwrap();
        let mut proxy = Program::start(&["proxy", "-c", file.to_str().unwrap()]);
        proxy.wait_for(&["proxy is ready"]);
        programs.push(proxy);
    }
    let second = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: books}
spec:
  hosts: [books.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: store}}
";
    let policy = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody}
spec: {selector: {matchLabels: {app: store}}}
";
    let mut before: Vec<Resources> = proxies.map(|(.., admin)| running(admin)).into();
    for (file, text, touched) in [
        (
            "config/rules.yaml",
            RULES.replace("subset: v1}", "subset: v2}"),
            [true, false],
        ),
        ("config/books.yaml", second.to_owned(), [true, true]),
        ("config/policy.yaml", policy.to_owned(), [false, true]),
        (
            "config/rules.yaml",
            RULES.replace("  - {name: v2, labels: {version: v2}}\n", ""),
            [true, true],
        ),
        (
            "mesh-config.yaml",
            "accessLogFile: /dev/null\n".to_owned(),
            [true, true],
        ),
    ] {
        write("edit/new.yaml", &text);
        let flags: &[&str] = match file {
            "mesh-config.yaml" => &["--new-mesh-config", "edit/new.yaml"],
            _ => &["edit/new.yaml"],
        };
        let said = predicted(path, &monitoring, flags);
        write(file, &text);
        for (at, (name, _, admin)) in proxies.into_iter().enumerate() {
            let expected = said
                .get(&format!("{name}.default"))
                .cloned()
                .unwrap_or_default();
            assert_eq!(
                !expected.is_empty(),
                touched[at],
                "{file} {name}: {said:#?}"
            );
            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                let found = changes(&before[at], &running(admin));
                if found == expected {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "{file} at {name}: {found:#?} in place of {expected:#?}"
                );
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
        // What comes that nobody has foretold is a change that the next edit has not.
        before = proxies.map(|(.., admin)| running(admin)).into();
    }
    // All of it is there now.
    let last = predicted(path, &monitoring, &["config"]);
    assert!(last.is_empty(), "{last:#?}");
}
