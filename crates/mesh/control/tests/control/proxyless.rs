//! gRPC without a proxy: real gRPC finds services by xDS, and follows rules.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::json;

use crate::support::PATIENCE;
use crate::support::plane::Plane;

/// Names the interpreter that has grpcio.
const VARIABLE: &str = "PERIPLUS_PEERS_PYTHON";

const SUBSETS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: greeter}
spec:
  host: greeter
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
";

fn interpreter() -> Option<PathBuf> {
    let path = std::env::var_os(VARIABLE);
    if path.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{VARIABLE} is not set: it must name a Python with grpcio"
        );
        eprintln!("SKIPPED: set {VARIABLE} to a Python with grpcio to run this test");
    }
    path.map(PathBuf::from)
}

/// The client and its servers; killed when it is dropped.
struct Greeter {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Greeter {
    fn start(python: &Path, xds: SocketAddr, directory: &Path) -> Self {
        let bootstrap = directory.join("grpc.json");
        let text = json!({
            "xds_servers": [{
                "server_uri": xds.to_string(),
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }],
            "node": {
                "id": "sidecar~127.0.0.1~client.default~default.svc.cluster.local",
                "metadata": {"NAMESPACE": "default", "GENERATOR": "grpc", "LABELS": {"app": "client"}},
            },
        });
        std::fs::write(&bootstrap, text.to_string()).expect("a file");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control/clients/greeter.py");
        let mut process = Command::new(python)
            .arg(script)
            .env("GRPC_XDS_BOOTSTRAP", bootstrap)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Python");
        Self {
            input: process.stdin.take().expect("an input"),
            output: BufReader::new(process.stdout.take().expect("an output")),
            process,
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line
    }

    /// Who answers how many of some calls.
    fn call(&mut self, what: &str) -> BTreeMap<String, usize> {
        writeln!(self.input, "{what}").expect("it listens");
        serde_json::from_str(&self.line()).expect("JSON")
    }

    /// Calls until these answer, and nobody else; none of the calls may fail meanwhile.
    fn wait_for(&mut self, what: &str, expected: &[&str]) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let found = self.call(what);
            let names: Vec<_> = found.keys().map(String::as_str).collect();
            assert!(
                names.iter().all(|name| ["v1", "v2"].contains(name)),
                "a call has failed: {found:?}"
            );
            if names == expected {
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{what}: {found:?}, not {expected:?}"
            );
        }
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn services(ports: &str) -> String {
    let mut ports = ports.split_whitespace();
    let mut port = || ports.next().expect("two ports").to_owned();
    let (v1, v2) = (port(), port());
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: greeter}}
spec:
  hosts: [greeter.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 7070, name: grpc, protocol: GRPC}}]
  endpoints:
  - {{address: 127.0.0.1, ports: {{grpc: {v1}}}, labels: {{version: v1}}}}
  - {{address: 127.0.0.1, ports: {{grpc: {v2}}}, labels: {{version: v2}}}}
"
    )
}

/// The rules for some headers, and where all else goes.
fn rules(first: &str, rest: &str) -> String {
    format!(
        "{SUBSETS}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: greeter}}
spec:
  hosts: [greeter]
  http:
{first}  - route:
{rest}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_finds_services_and_follows_rules() {
    let Some(python) = interpreter() else {
        return;
    };
    let plane = Plane::start(&[], "").await;
    let mut greeter = Greeter::start(&python, plane.xds, plane.directory.path());
    let ports = greeter.line();
    plane.replace("services.yaml", &services(&ports));
    greeter.wait_for("20", &["v1", "v2"]);

    let to = |subset: &str| format!("    - destination: {{host: greeter, subset: {subset}}}\n");
    plane.replace("rules.yaml", &rules("", &to("v1")));
    greeter.wait_for("20", &["v1"]);
    let jason = format!(
        "  - match: [{{headers: {{end-user: {{exact: jason}}}}}}]\n    route:\n{}",
        to("v2")
    );
    plane.replace("rules.yaml", &rules(&jason, &to("v1")));
    greeter.wait_for("20 jason", &["v2"]);
    greeter.wait_for("20", &["v1"]);
    let shares = format!(
        "{}      weight: 80\n{}      weight: 20\n",
        to("v1"),
        to("v2")
    );
    plane.replace("rules.yaml", &rules("", &shares));
    greeter.wait_for("40", &["v1", "v2"]);
    let found = greeter.call("300");
    assert!((20..120).contains(&found["v2"]), "{found:?}");

    // What gRPC refuses is seen here.
    for proxy in plane.ads.proxies() {
        for (type_url, state) in &proxy.types {
            assert_eq!(
                state.last_error.as_ref().map(|error| &error.message),
                None,
                "{type_url}"
            );
        }
    }
}
