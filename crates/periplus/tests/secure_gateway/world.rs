//! A control plane, a gateway, and backends.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Connection, Manner, Pair};
use crate::gateway_api::backend::{self, Identity, Speaks};
use crate::gateway_api::summary;
use crate::support::{Program, free_base, get, get_json, patiently, request};

/// The ports of the gateway's service.
const PORTS: [u16; 7] = [80, 443, 8443, 9443, 9444, 9445, 8081];
/// Whose certificates there are.
const NAMES: [&str; 6] = ["a", "a2", "b", "files", "granted", "stranger"];

pub(super) struct World {
    monitoring: u16,
    base: u16,
    pairs: BTreeMap<&'static str, Pair>,
    config: PathBuf,
    _programs: Vec<Program>,
    _directory: TempDir,
}

impl World {
    pub(super) fn start(envoy: Option<&OsStr>) -> Self {
        let base = free_base();
        let [xds, monitoring, admin] = [base, base + 1, base + 2];
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config");
        std::fs::create_dir(&config).unwrap();
        let pair = |name: &'static str| (name, Pair::of(&format!("{name}.test")));
        let mut world = Self {
            monitoring,
            base,
            pairs: NAMES.into_iter().map(pair).collect(),
            config,
            _programs: Vec::new(),
            _directory: directory,
        };
        world.write();
        let config = world.config.to_str().unwrap();
        let ports = [xds, monitoring].map(|port| port.to_string());
        let mut control = Program::start(&[
            "control",
            "--dir",
            config,
            "--xds-port",
            &ports[0],
            "--monitoring-port",
            &ports[1],
        ]);
        control.wait_for(&["control plane is ready"]);
        world._programs.push(control);
        let mut bootstrap = crate::bootstrap(xds, admin);
        bootstrap["node"] = json!({
            "id": "router~127.0.0.1~gateway.edge~edge.svc.cluster.local",
            "cluster": "gateway.edge",
            "metadata": {
                "NAMESPACE": "edge",
                "LABELS": {
                    "app": "gateway",
                    "istio": "ingressgateway",
                    "gateway.networking.k8s.io/gateway-name": "api",
                },
            },
        });
        let file = world._directory.path().join("gateway.json");
        std::fs::write(&file, bootstrap.to_string()).unwrap();
        let mut command = match envoy {
            Some(envoy) => {
                let mut command = Command::new(envoy);
                command.args(["--concurrency", "1", "--disable-hot-restart"]);
                command
            }
            None => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
                command.arg("proxy");
                command
            }
        };
        command.arg("-c").arg(&file);
        world._programs.push(Program::run(command));
        patiently("the proxy to be ready", || {
            (get(admin, "/ready").status == 200).then_some(())
        });
        world
    }

    fn write(&self) {
        let directory = self._directory.path();
        let resources = include_str!("resources.yaml");
        let resources = resources.replace("DIRECTORY", directory.to_str().unwrap());
        let files = self.pair("files");
        std::fs::write(directory.join("files.crt"), &files.chain).unwrap();
        std::fs::write(directory.join("files.key"), &files.key).unwrap();
        let identity = Identity::new();
        let mut services = services(self.base);
        for (name, namespace, speaks) in [
            ("v1", "edge", Speaks::Http),
            ("v2", "edge", Speaks::Http),
            ("v3", "shop", Speaks::Http),
            ("secure", "edge", Speaks::Https),
            ("unsure", "edge", Speaks::Https),
            ("raw", "edge", Speaks::Https),
            ("bytes", "edge", Speaks::Bytes),
        ] {
            let port = backend::start(name, speaks, &identity.config);
            let protocol = match speaks {
                Speaks::Bytes => "TCP",
                Speaks::Https if name == "raw" => "TLS",
                _ => "HTTP",
            };
            services += &format!(
                "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [{name}.{namespace}.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 8080, name: port, protocol: {protocol}, targetPort: {port}}}]
  endpoints: [{{address: 127.0.0.1}}]
"
            );
        }
        let (a, b, granted) = (self.pair("a"), self.pair("b"), self.pair("granted"));
        let mut secrets = String::new();
        // Istio's older names, and authorities beside the certificate.
        secrets += &secret(
            "edge/b",
            &[("cert", &b.chain), ("key", &b.key), ("cacert", &b.chain)],
        );
        secrets += &secret("edge/b-other", &[("password", "x")]);
        secrets += &secret("edge/broken", &[("tls.crt", &a.chain), ("tls.key", &b.key)]);
        // Authorities in a Secret of their own.
        secrets += &secret("edge/backend-cacert", &[("ca.crt", &identity.certificate)]);
        for name in ["granted", "denied"] {
            secrets += &secret(
                &format!("vault/{name}"),
                &[("tls.crt", &granted.chain), ("tls.key", &granted.key)],
            );
        }
        secrets += &format!(
            "---
apiVersion: v1
kind: ConfigMap
metadata: {{name: clients, namespace: edge}}
data:
  ca.crt: |
    {}
",
            b.chain.trim().replace('\n', "\n    ")
        );
        for (name, text) in [
            ("gateway.yaml", resources),
            ("services.yaml", services),
            ("secrets.yaml", secrets),
        ] {
            std::fs::write(self.config.join(name), text).unwrap();
        }
        self.replace("a", "a");
    }

    pub(super) fn pair(&self, name: &str) -> &Pair {
        &self.pairs[name]
    }

    /// Gives a Secret of the gateway's namespace another certificate.
    pub(super) fn replace(&self, name: &str, by: &str) {
        let pair = self.pair(by);
        let data = [("tls.crt", pair.chain.as_str()), ("tls.key", &pair.key)];
        self.put(name, &secret(&format!("edge/{name}"), &data));
    }

    /// Gives it the key of another one.
    pub(super) fn spoil(&self, name: &str) {
        let (pair, other) = (self.pair(name), self.pair("stranger"));
        let data = [("tls.crt", pair.chain.as_str()), ("tls.key", &other.key)];
        self.put(name, &secret(&format!("edge/{name}"), &data));
    }

    /// Breaks the text of its file.
    pub(super) fn garble(&self, name: &str) {
        let text = std::fs::read_to_string(self.file(name)).unwrap();
        self.put(
            name,
            &text.replace("tls.key: ", "tls.key: '-----BEGIN PRIVATE KEY-----' #"),
        );
    }

    fn file(&self, name: &str) -> PathBuf {
        self.config.join(format!("secret-{name}.yaml"))
    }

    fn put(&self, name: &str, text: &str) {
        let temporary = self._directory.path().join("temporary");
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.file(name)).unwrap();
    }

    /// Where the gateway has a port of its service.
    fn port(&self, port: u16) -> u16 {
        let at = PORTS.iter().position(|known| *known == port).unwrap();
        self.base + 10 + at as u16
    }

    pub(super) fn connect(&self, port: u16, name: &str, manner: Manner<'_>) -> Option<Connection> {
        Connection::open(self.port(port), name, manner)
    }

    /// Whose certificate is shown, and who answers; a target without a path is one of bytes.
    pub(super) fn ask(&self, port: u16, target: &str, manner: Manner<'_>) -> String {
        let (name, path) = match target.split_once('/') {
            Some((name, path)) => (name, Some(path)),
            None => (target, None),
        };
        let Some(mut connection) = self.connect(port, name, manner) else {
            return "closed".to_owned();
        };
        let certificate = connection.certificate();
        let mut pairs = self.pairs.iter();
        let shown = pairs.find(|(_, pair)| pair.shows(&certificate));
        let shown = shown.map_or("backend", |(name, _)| name);
        let who = match path {
            None => connection.hear(),
            // TLS 1.3 lets clients finish before the server has looked at their certificates.
            Some(path) => match connection.get(&format!("/{path}")) {
                None => return "closed".to_owned(),
                Some((200, body)) => text(&body, "backend").unwrap_or("?").to_owned(),
                Some((status, _)) => status.to_string(),
            },
        };
        format!("{shown} {who}")
    }

    /// Where plain requests for a host are sent.
    pub(super) fn location(&self, host: &str, path: &str) -> Option<String> {
        let url = format!("http://{host}{path}");
        let answer = request(self.port(80), "GET", &url, &[], "");
        let is_sent = answer.status == 301;
        answer
            .header("location")
            .filter(|_| is_sent)
            .map(str::to_owned)
    }

    /// What is said about a resource.
    pub(super) fn status(&self, name: &str, path: &str) -> String {
        let page = get_json(self.monitoring, "/debug/gateway_api");
        let mut all = page.as_array().unwrap().iter();
        let found = all.find(|one| {
            let [kind, own] = ["kind", "name"].map(|key| one[key].as_str().unwrap());
            format!("{kind} {own}") == name
        });
        let found = found.unwrap_or_else(|| panic!("{name} has a status"));
        summary(found["status"].pointer(path).unwrap_or(&Value::Null))
    }

    /// All that is wrong, a line each.
    pub(super) fn problems(&self) -> String {
        let page = get_json(self.monitoring, "/debug/config_errors");
        let line = |one: &Value| {
            let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
            format!(
                "{}:{}:{}: {}\n",
                text("file"),
                one["line"],
                one["column"],
                text("message")
            )
        };
        page.as_array().unwrap().iter().map(line).collect()
    }
}

/// What a backend tells about a request.
pub(super) fn text<'a>(body: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = body.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// A Secret of Kubernetes, by its namespace and name.
pub(crate) fn secret(name: &str, data: &[(&str, &str)]) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    let data = data.iter().map(|(key, value)| {
        let value = BASE64_STANDARD.encode(value);
        format!("  {key}: {value}\n")
    });
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\ntype: Opaque\n\
         data:\n{}",
        data.collect::<String>()
    )
}

/// The gateway's own service.
fn services(base: u16) -> String {
    let ports = PORTS.iter().zip(base + 10..).map(|(port, target)| {
        format!("  - {{name: port-{port}, port: {port}, targetPort: {target}}}\n")
    });
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: gateway, namespace: edge}}
spec:
  selector: {{app: gateway}}
  ports:
{}---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: gateway, namespace: edge}}
spec: {{address: 127.0.0.1, labels: {{app: gateway, istio: ingressgateway}}}}
",
        ports.collect::<String>()
    )
}
