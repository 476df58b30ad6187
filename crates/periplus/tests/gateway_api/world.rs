//! A control plane, a gateway, a sidecar of the services' namespace and one of another, and the backends.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::backend::{self, Identity};
use super::cases;
use crate::client_hello::client_hello;
use crate::support::{Answer, Program, free_base, get, get_json, patiently};

/// Who may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    Gateway,
    /// The second listener of the gateway.
    Second,
    Producer,
    Consumer,
    Ingress,
    /// The gateway's listeners for connections.
    Tls,
    Tcp,
    OtherTcp,
}

impl std::fmt::Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

pub(super) struct World {
    monitoring: u16,
    ports: [u16; 8],
    _programs: Vec<Program>,
    directory: TempDir,
}

impl World {
    /// Starts all of it, with Envoys in place of our proxies if they are named.
    pub(super) fn start(envoy: Option<&OsStr>) -> Self {
        let base = free_base();
        let [xds, monitoring] = [base, base + 1];
        let ports = std::array::from_fn(|at| base + 10 + at as u16);
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config");
        std::fs::create_dir(&config).unwrap();
        std::fs::write(config.join("services.yaml"), services(ports)).unwrap();
        for (name, text) in cases::RESOURCES {
            std::fs::write(config.join(name), text).unwrap();
        }
        let mut control = Program::start(&[
            "control",
            "--dir",
            config.to_str().unwrap(),
            "--xds-port",
            &xds.to_string(),
            "--monitoring-port",
            &monitoring.to_string(),
        ]);
        control.wait_for(&["control plane is ready"]);
        let nodes = [
            ("router", "gateway", "infra", base + 2),
            ("router", "ingress", "infra", base + 3),
            ("sidecar", "producer", "infra", base + 4),
            ("sidecar", "consumer", "consumer", base + 5),
        ];
        let mut programs = vec![control];
        for (role, name, namespace, admin) in nodes {
            let file = directory.path().join(format!("{name}.json"));
            std::fs::write(&file, bootstrap((role, name, namespace), (xds, admin))).unwrap();
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
            programs.push(Program::run(command));
            patiently("the proxy to be ready", || {
                (get(admin, "/ready").status == 200).then_some(())
            });
        }
        Self {
            monitoring,
            ports,
            _programs: programs,
            directory,
        }
    }

    /// What a client of TLS hears that asks for this name.
    pub(super) fn hear(&self, name: &str) -> String {
        let address = ("127.0.0.1", self.ports[Proxy::Tls as usize]);
        let mut stream = TcpStream::connect(address).unwrap();
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        stream.write_all(&client_hello(name)).unwrap();
        let mut heard = String::new();
        // A connection that is reset says nothing more.
        let _ = stream.read_to_string(&mut heard);
        heard
    }

    /// Writes a file of resources, or takes it away.
    pub(super) fn write(&self, name: &str, text: Option<&str>) {
        let path = self.directory.path().join("config").join(name);
        match text {
            Some(text) => std::fs::write(path, text).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
    }

    pub(super) fn statuses(&self) -> Vec<Value> {
        let page = get_json(self.monitoring, "/debug/gateway_api");
        page.as_array().unwrap().clone()
    }

    /// The backend that answers, or the status.
    pub(super) fn who_answers(&self, proxy: Proxy, host: &str) -> String {
        let answer = self.ask(proxy, "GET", &format!("http://{host}"), &[]);
        match told(&answer, "backend") {
            Some(name) => name.to_owned(),
            None => answer.status.to_string(),
        }
    }

    fn ask(&self, proxy: Proxy, method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
        let port = self.ports[proxy as usize];
        ask(port, method, url, headers)
            .unwrap_or_else(|error| panic!("{proxy} {method} {url}: {error}"))
    }

    /// `METHOD HOST/PATH NAME=VALUE… => EXPECTATION…`, where an expectation is a status, the name of the backend that
    /// answers with 200, or the `location`; `+NAME=VALUE` is a header that the backend gets, `-NAME` one that it does
    /// not get, `<NAME=VALUE` one of the answer, `!NAME` one that the answer has not got, `~NAME` a backend that gets a
    /// copy, and `NAME=VALUE` what else a backend tells.
    pub(super) fn check(&self, proxy: Proxy, line: &str) -> Result<(), String> {
        let (asked, expected) = line.split_once(" => ").ok_or("it has no =>")?;
        let mut words = asked.split_whitespace();
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err("it has no method and target".to_owned());
        };
        let headers: Vec<_> = words.filter_map(|word| word.split_once('=')).collect();
        let answer = self.ask(proxy, method, &format!("http://{target}"), &headers);
        for word in expected.split_whitespace() {
            if !holds(word, &answer, target) {
                let head = answer.head.replace("\r\n", " | ");
                let body = answer.body.replace('\n', " | ");
                return Err(format!("not {word}: {head}\n    {body}"));
            }
        }
        Ok(())
    }
}

/// Whether an expectation holds of an answer.
fn holds(word: &str, answer: &Answer, target: &str) -> bool {
    let (mark, rest) = word.split_at(1);
    let field = |text: &str| {
        let (name, value) = text.split_once('=').expect("a name and a value");
        (name.to_owned(), Some(value.to_owned()))
    };
    match mark {
        "-" => told(answer, &format!("header {rest}")).is_none(),
        "!" => answer.header(rest).is_none(),
        "~" => {
            let path = target.find('/').map_or("/", |at| &target[at..]);
            let copy = (rest.to_owned(), path.to_owned());
            patiently("the copy", || {
                backend::heard().contains(&copy).then_some(())
            });
            true
        }
        "+" => {
            let (name, value) = field(rest);
            told(answer, &format!("header {name}")) == value.as_deref()
        }
        "<" => {
            let (name, value) = field(rest);
            answer.header(&name) == value.as_deref()
        }
        _ if word.starts_with("http") => answer.header("location") == Some(word),
        _ if word.parse() == Ok(answer.status) => true,
        _ if word.contains('=') => {
            let (name, value) = field(word);
            told(answer, &name) == value.as_deref()
        }
        _ => answer.status == 200 && told(answer, "backend") == Some(word),
    }
}

/// One request on a connection of its own. The answer ends by its length: Envoy keeps the connection for a second
/// after answers of its own.
fn ask(port: u16, method: &str, url: &str, headers: &[(&str, &str)]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let upgrades = headers.iter().any(|(name, _)| *name == "upgrade");
    let connection = if upgrades { "upgrade" } else { "close" };
    let mut request =
        format!("{method} {url} HTTP/1.1\r\nhost: localhost\r\nconnection: {connection}\r\n");
    if !upgrades {
        request += "content-length: 0\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all((request + "\r\n").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let mut answer = Answer {
        status: status.ok_or_else(|| std::io::Error::other("it has no status"))?,
        head: head.trim_end().to_owned(),
        body: String::new(),
    };
    let length = answer.header("content-length");
    let length = length.and_then(|length| length.parse().ok());
    if method != "HEAD" {
        let body = length.unwrap_or(u64::MAX);
        reader.take(body).read_to_string(&mut answer.body)?;
    }
    Ok(answer)
}

/// What a backend tells about a request.
fn told<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut lines = answer.body.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// The services, of Kubernetes and of Istio; the gateway's own leads from its ports to those that are free.
fn services([http, second, producer, consumer, ingress, tls, tcp, tcp_two]: [u16; 8]) -> String {
    let identity = Identity::new();
    let indented = |pem: &str| pem.trim().replace('\n', "\n    ");
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: ingress, namespace: infra}}
spec:
  selector: {{app: gateway}}
  ports:
  - {{name: http, port: 80, targetPort: {http}}}
  - {{name: second, port: 8080, targetPort: {second}}}
  - {{name: tls, port: 443, targetPort: {tls}}}
  - {{name: tcp, port: 5432, targetPort: {tcp}}}
  - {{name: tcp-two, port: 5433, targetPort: {tcp_two}}}
---
apiVersion: v1
kind: Service
metadata: {{name: ingressgateway, namespace: infra}}
spec:
  selector: {{app: ingress}}
  ports: [{{name: http, port: 80, targetPort: {ingress}}}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: ingress, namespace: infra}}
spec: {{address: 127.0.0.1, labels: {{app: ingress}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: authorities, namespace: infra}}
data:
  ca.crt: |
    {}
---
apiVersion: v1
kind: Secret
metadata: {{name: backend, namespace: infra}}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    {}
  tls.key: |
    {}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: gateway, namespace: infra}}
spec: {{address: 127.0.0.1, labels: {{app: gateway}}}}
",
        indented(&identity.certificate),
        indented(&identity.certificate),
        indented(&identity.key),
    );
    for (name, namespace, port) in [
        ("producer", "infra", producer),
        ("consumer", "consumer", consumer),
    ] {
        text += &format!(
            "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  workloadSelector: {{labels: {{app: {name}}}}}
  egress:
  - port: {{number: {port}, protocol: HTTP_PROXY, name: http-proxy}}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['*/*']
"
        );
    }
    for (name, namespace, speaks) in cases::SERVICES {
        let port = backend::start(name, speaks, &identity.config);
        text += &format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [{name}.{namespace}.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: 8080, name: http, protocol: HTTP, targetPort: {port}}}
  - {{number: 9090, name: http-more, protocol: HTTP, targetPort: {port}}}
  - {{number: 80, name: http-usual, protocol: HTTP, targetPort: {port}}}
  endpoints: [{{address: 127.0.0.1, labels: {{app: {name}}}}}]
"
        );
    }
    for (name, address, more, speaks) in cases::KUBERNETES {
        // What has the address of the proxies would be taken for them.
        let port = backend::start_at("127.0.0.2", (name, speaks), &identity.config);
        text += &format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: infra}}
spec: {{clusterIP: {address}, ports: [{{name: http, port: 8080, targetPort: {port}{more}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: infra, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.2], conditions: {{ready: true}}}}]
"
        );
    }
    text
}

fn bootstrap((role, name, namespace): (&str, &str, &str), (xds, admin): (u16, u16)) -> String {
    let labels = match name {
        "gateway" => {
            json!({"app": name, "gateway.networking.k8s.io/gateway-name": "same-namespace"})
        }
        "ingress" => json!({"app": name, "istio": "ingressgateway"}),
        _ => json!({"app": name}),
    };
    let mut bootstrap = crate::bootstrap(xds, admin);
    bootstrap["node"] = json!({
        "id": format!("{role}~127.0.0.1~{name}.{namespace}~{namespace}.svc.cluster.local"),
        "cluster": format!("{name}.{namespace}"),
        "metadata": {
            "NAMESPACE": namespace,
            "LABELS": labels,
            "INTERCEPTION_MODE": "NONE",
        },
    });
    bootstrap.to_string()
}
