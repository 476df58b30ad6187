//! gRPC without a proxy: real gRPC finds services by xDS, and follows rules.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
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
    /// With certificates in a directory they speak mutual TLS.
    fn start(python: &Path, xds: SocketAddr, directory: &Path, identity: Option<&Path>) -> Self {
        let bootstrap = directory.join("grpc.json");
        let mut text = json!({
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
        if let Some(identity) = identity {
            // As Istio's agent writes it.
            text["certificate_providers"] = json!({"default": {
                "plugin_name": "file_watcher",
                "config": {
                    "certificate_file": identity.join("client.pem"),
                    "private_key_file": identity.join("client.key"),
                    "ca_certificate_file": identity.join("ca.pem"),
                    "refresh_interval": "600s",
                },
            }});
        }
        std::fs::write(&bootstrap, text.to_string()).expect("a file");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control/clients/greeter.py");
        let mut process = Command::new(python)
            .arg(script)
            .args(identity)
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
    let mut greeter = Greeter::start(&python, plane.xds, plane.directory.path(), None);
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

/// An authority, and what it says of a server and a client.
fn certify(directory: &Path) {
    let write = |name: &str, text: String| {
        std::fs::write(directory.join(name), text).expect("a file");
    };
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "authority");
    let authority = params.self_signed(&key).expect("a certificate");
    write("ca.pem", authority.pem());
    let issuer = Issuer::new(params, key);
    for (name, account) in [("server", "greeter"), ("client", "client")] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        let id = format!("spiffe://cluster.local/ns/default/sa/{account}");
        params.subject_alt_names = vec![SanType::URI(id.try_into().expect("ASCII"))];
        let made = params.signed_by(&key, &issuer).expect("a certificate");
        write(&format!("{name}.pem"), made.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_speaks_mutual_tls_where_a_rule_says_so() {
    const SECURED: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: greeter}
spec: {host: greeter, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
";
    let Some(python) = interpreter() else {
        return;
    };
    let rules = [("rules.yaml", SECURED.to_owned())];
    let plane = Plane::start_with(&rules, "", true).await;
    let identity = tempfile::tempdir().expect("a directory");
    certify(identity.path());
    let directory = plane.directory.path();
    let mut greeter = Greeter::start(&python, plane.xds, directory, Some(identity.path()));
    let ports = greeter.line();
    let services = |account: &str| {
        services(&ports).replace("labels:", &format!("serviceAccount: {account}, labels:"))
    };
    let mut wait_for = |what: &str, is_wanted: &dyn Fn(&str) -> bool| {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let found = greeter.call("4");
            if found.keys().all(|answer| is_wanted(answer)) {
                return;
            }
            let is_late = std::time::Instant::now() > deadline;
            assert!(!is_late, "waited in vain for {what}: {found:?}");
        }
    };
    let client = "to spiffe://cluster.local/ns/default/sa/client";
    plane.replace("services.yaml", &services("greeter"));
    wait_for("answers", &|answer| answer.ends_with(client));
    // A server must be who it is said to be,
    plane.replace("services.yaml", &services("somebody"));
    wait_for("a refusal of the server", &|answer| {
        answer.starts_with("UNAVAILABLE")
    });
    plane.replace("services.yaml", &services("greeter"));
    wait_for("answers again", &|answer| answer.ends_with(client));
    // and takes nothing in plaintext.
    plane.replace("rules.yaml", &SECURED.replace("ISTIO_MUTUAL", "DISABLE"));
    wait_for("a refusal of the client", &|answer| {
        answer.starts_with("UNAVAILABLE")
    });
}
