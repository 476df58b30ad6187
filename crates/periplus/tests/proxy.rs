//! `periplus proxy` as a user runs it: on a bootstrap file, under a control plane, until it is told to end.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod asked;
#[path = "support/serve.rs"]
mod backend;
#[path = "support/client_hello.rs"]
mod client_hello;
mod complaints;
mod explained;
mod gateway_api;
mod plugged_in;
mod predicted;
mod quota;
mod rotation;
mod secure_gateway;
mod support;
mod tutorial;

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use backend::Serve;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Answer, Program, free_base, is_free, patiently, request};
use tempfile::TempDir;

#[test]
fn a_bootstrap_file_that_cannot_be_used_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut misspelt = bootstrap(1, 2);
    misspelt["admin"]["adress"] = json!("here");
    let mut nameless = bootstrap(1, 2);
    nameless["node"]["id"] = json!("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (path, reasons) in [
        (
            directory.path().join("missing.yaml"),
            ["cannot read the bootstrap file", "No such file"],
        ),
        (file("broken.yaml", "node: [\n"), ["broken.yaml:", "error"]),
        (
            file("misspelt.json", &format!("{misspelt:#}")),
            ["misspelt.json:", "unknown field `adress`"],
        ),
        (
            file("nameless.json", &format!("{nameless:#}")),
            ["nameless.json: node.id", "it must not be empty"],
        ),
        (
            file("taken.json", &bootstrap(1, port).to_string()),
            ["cannot listen on 127.0.0.1:", "for the admin pages"],
        ),
    ] {
        let mut proxy = Program::start(&["proxy", "-c", path.to_str().unwrap()]);
        let (status, said) = proxy.finish();
        assert_eq!(status.code(), Some(1), "{said}");
        for reason in reasons {
            assert!(said.contains(reason), "{reason} in:\n{said}");
        }
    }
}

#[test]
fn a_sigterm_lets_requests_finish() {
    let mut mesh = Mesh::start("", &[]);
    let client = mesh.ask();
    let answer = mesh.origin.asked.recv().unwrap();
    mesh.proxy.signal(Signal::TERM);
    mesh.proxy.wait_for(&["stopping"]);
    // Whoever comes now is still served: not everybody knows yet.
    assert!(!is_free(mesh.outbound));
    answer.send(()).unwrap();
    let answer = client.join().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
    let (status, said) = mesh.proxy.finish();
    assert!(status.success(), "{said}");
    assert!(is_free(mesh.outbound));
}

#[test]
fn requests_that_do_not_finish_are_not_waited_for() {
    let mut mesh = Mesh::start("", &["--drain-time", "1"]);
    let client = mesh.ask();
    let _never = mesh.origin.asked.recv().unwrap();
    mesh.proxy.signal(Signal::TERM);
    let begun = Instant::now();
    let (status, said) = mesh.proxy.finish();
    assert!(status.success(), "{said}");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    assert_eq!(client.join().unwrap().status, 0, "the connection breaks");
}

#[test]
fn spans_go_over_otlp_to_where_the_mesh_configuration_says() {
    let serve = Serve::start();
    let collector = serve.addresses["OTLP over HTTP"].port();
    let mut mesh = Mesh::start(&spans_to(collector), &[]);
    let client = mesh.ask();
    mesh.origin.asked.recv().unwrap().send(()).unwrap();
    assert_eq!(client.join().unwrap().status, 200);

    let ui = serve.addresses["UI"].port();
    let trace = patiently("the span", || {
        let found = support::get_json(ui, "/api/traces?service=shop.default");
        found["data"].get(0).cloned()
    });
    let [span] = trace["spans"].as_array().unwrap().as_slice() else {
        panic!("one span was made: {trace:#}");
    };
    assert_eq!(
        span["operationName"],
        "origin.default.svc.cluster.local:80/*"
    );
    assert_eq!(tag(span, "span.kind"), "client");
    assert_eq!(tag(span, "http.status_code"), "200");
    assert_eq!(tag(span, "team"), "books");
    let process = &trace["processes"][span["processID"].as_str().unwrap()];
    assert_eq!(process["serviceName"], "shop.default");

    // What it has not reported yet it reports when it ends.
    let client = mesh.ask();
    mesh.origin.asked.recv().unwrap().send(()).unwrap();
    assert_eq!(client.join().unwrap().status, 200);
    mesh.proxy.signal(Signal::TERM);
    let (status, said) = mesh.proxy.finish();
    assert!(status.success(), "{said}");
    let found = support::get_json(ui, "/api/traces?service=shop.default");
    assert_eq!(found["data"].as_array().unwrap().len(), 2, "{found:#}");
}

/// Spans go to a collector at this port.
fn spans_to(collector: u16) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: collector}}
spec:
  hosts: [collector.default.svc.cluster.local]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 4318, name: http, protocol: HTTP, targetPort: {collector}}}]
  endpoints: [{{address: 127.0.0.1}}]
"
    )
}

/// A collector of logs on gRPC's own server; none, and a notice, where the clients are not installed. In CI they must be.
struct LogCollector {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl LogCollector {
    fn start() -> Option<Self> {
        let Some(clients) = std::env::var_os("PERIPLUS_CLIENTS").map(PathBuf::from) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "PERIPLUS_CLIENTS is not set; run the tests with: cargo xtask test"
            );
            eprintln!("not tried with gRPC's own server: run the tests with: cargo xtask test");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut process = Command::new(clients.join("python/bin/python"))
            .arg(script.join("tests/clients/python/logs_collector.py"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap().parse().unwrap();
        Some(Self {
            process,
            lines,
            port,
        })
    }

    /// The next record; the collector ends by itself if none comes.
    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("a record").unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for LogCollector {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The mesh's own namespace has all access logs go to a collector at this port.
fn logs_to(collector: u16) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: logs}}
spec:
  hosts: [logs.default.svc.cluster.local]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 4317, name: grpc, targetPort: {collector}}}]
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: logs, namespace: istio-system}}
spec: {{accessLogging: [{{providers: [{{name: otel}}]}}]}}
"
    )
}

#[test]
fn access_logs_go_over_otlp_to_where_a_telemetry_says() {
    let Some(mut collector) = LogCollector::start() else {
        return;
    };
    let serve = Serve::start();
    let spans = spans_to(serve.addresses["OTLP over HTTP"].port());
    let mut mesh = Mesh::start(&(spans + &logs_to(collector.port)), &[]);
    let client = mesh.ask();
    mesh.origin.asked.recv().unwrap().send(()).unwrap();
    assert_eq!(client.join().unwrap().status, 200);
    let told = collector.next();
    assert_eq!(told["resource"], json!({}), "{told:#}");
    let record = &told["record"];
    assert_eq!(
        record["body"],
        json!({"stringValue": "GET origin 200 outbound|80||origin.default.svc.cluster.local"})
    );
    let labels = json!([
        {"key": "bytes", "value": {"stringValue": "4"}},
        {"key": "none", "value": {"stringValue": "-"}},
    ]);
    assert_eq!(record["attributes"], labels);
    // As the span of the same request has them.
    let ui = serve.addresses["UI"].port();
    let trace = patiently("the span", || {
        let found = support::get_json(ui, "/api/traces?service=shop.default");
        found["data"].get(0).cloned()
    });
    let ids = ["traceId", "spanId"].map(|id| {
        let bytes = BASE64_STANDARD
            .decode(record[id].as_str().unwrap())
            .unwrap();
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<String>()
    });
    let of_span =
        ["traceID", "spanID"].map(|id| trace["spans"][0][id].as_str().unwrap().to_owned());
    assert_eq!(ids, of_span, "{record:#}");
    let begun: u128 = record["timeUnixNano"].as_str().unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ago = now.as_nanos().checked_sub(begun).unwrap();
    assert!(ago < 120_000_000_000, "{ago} ns ago");

    // What it has not reported yet it reports when it ends.
    let client = mesh.ask();
    mesh.origin.asked.recv().unwrap().send(()).unwrap();
    assert_eq!(client.join().unwrap().status, 200);
    mesh.proxy.signal(Signal::TERM);
    let (status, said) = mesh.proxy.finish();
    assert!(status.success(), "{said}");
    assert_eq!(collector.next()["record"]["body"], record["body"]);
}

/// The trace backend takes spans only, and says so.
#[test]
fn access_logs_that_a_collector_does_not_take_are_lost_and_counted() {
    let serve = Serve::start();
    let collector = serve.addresses["OTLP over gRPC"].port();
    let mesh = Mesh::start(&logs_to(collector), &[]);
    let client = mesh.ask();
    mesh.origin.asked.recv().unwrap().send(()).unwrap();
    assert_eq!(client.join().unwrap().status, 200);
    let prefix = "access_logs.open_telemetry_access_log.";
    patiently("the record to be dropped", || {
        let stats = support::get(mesh.admin, "/stats").body;
        stats
            .contains(&format!("{prefix}logs_dropped: 1\n"))
            .then_some(())
    });
    let stats = support::get(mesh.admin, "/stats").body;
    for count in ["logs_written: 0", "reports_dropped: 1", "reports_failed: 0"] {
        assert!(stats.contains(&format!("{prefix}{count}\n")), "{stats}");
    }
}

fn tag<'a>(span: &'a Value, key: &str) -> &'a Value {
    let tags = span["tags"].as_array().unwrap();
    let tag = tags.iter().find(|tag| tag["key"] == key);
    tag.map_or(&Value::Null, |tag| &tag["value"])
}

/// A control plane, and a sidecar through which the origin can be asked.
struct Mesh {
    proxy: Program,
    /// Where requests of the sidecar's application go.
    outbound: u16,
    admin: u16,
    origin: Origin,
    _control: Program,
    _directory: TempDir,
}

impl Mesh {
    /// Starts both; `services` is more for the control plane, `flags` are those of the proxy.
    fn start(services: &str, flags: &[&str]) -> Self {
        let base = free_base();
        let [xds, monitoring, outbound, admin] = [base, base + 1, base + 2, base + 3];
        let origin = Origin::start();
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| -> PathBuf {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        write("config/mesh.yaml", &resources(origin.port, outbound));
        write("config/services.yaml", services);
        let mesh_config = write("mesh-config.yaml", MESH_CONFIG);
        let bootstrap = write("bootstrap.json", &bootstrap(xds, admin).to_string());

        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut control = Program::start(&[
            "control",
            "--dir",
            &text(&directory.path().join("config")),
            "--mesh-config",
            &text(&mesh_config),
            "--xds-port",
            &xds.to_string(),
            "--monitoring-port",
            &monitoring.to_string(),
        ]);
        control.wait_for(&["control plane is ready"]);
        let bootstrap = text(&bootstrap);
        let arguments = [&["proxy", "-c", bootstrap.as_str()], flags].concat();
        let mut proxy = Program::start(&arguments);
        proxy.wait_for(&["proxy is ready"]);
        Self {
            proxy,
            outbound,
            admin,
            origin,
            _control: control,
            _directory: directory,
        }
    }

    /// Sends a request through the sidecar; it is answered when the origin is told to.
    fn ask(&self) -> JoinHandle<Answer> {
        let port = self.outbound;
        std::thread::spawn(move || request(port, "GET", "http://origin/", &[], ""))
    }
}

/// A server that answers each request when the test says so.
struct Origin {
    port: u16,
    /// One for each request that has come: to be sent to when it shall be answered.
    asked: Receiver<Sender<()>>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asks, asked) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let asks = asks.clone();
                std::thread::spawn(move || answer(stream, &asks));
            }
        });
        Self { port, asked }
    }
}

/// Answers a request; a connection that breaks, or a test that has ended, ends it.
fn answer(mut stream: TcpStream, asks: &Sender<Sender<()>>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let (answer, told) = mpsc::channel();
    asks.send(answer).ok()?;
    told.recv().ok()?;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlate")
        .ok()
}

const MESH_CONFIG: &str = "
extensionProviders:
- name: otlp
  opentelemetry:
    service: collector.default.svc.cluster.local
    port: 4318
    http:
      path: /v1/traces
      timeout: 5s
- name: otel
  envoyOtelAls:
    service: logs.default.svc.cluster.local
    port: 4317
    logFormat:
      text: '%REQ(:METHOD)% %REQ(:AUTHORITY)% %RESPONSE_CODE% %UPSTREAM_CLUSTER_RAW%'
      labels: {none: '%REQ(X-NONE)%', bytes: '%BYTES_SENT%'}
defaultProviders:
  tracing: [otlp]
defaultConfig:
  tracing:
    sampling: 100
    customTags:
      team:
        literal:
          value: books
";

fn resources(origin: u16, outbound: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: origin}}
spec:
  hosts: [origin.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {origin}}}]
  endpoints: [{{address: 127.0.0.1}}]
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
"
    )
}

fn bootstrap(xds: u16, admin: u16) -> Value {
    let at = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({
        "node": {
            "id": "sidecar~127.0.0.1~shop-v1.default~default.svc.cluster.local",
            "cluster": "shop.default",
            "metadata": {
                "NAMESPACE": "default",
                "LABELS": {"app": "shop", "version": "v1"},
                "INTERCEPTION_MODE": "NONE",
            },
        },
        "admin": {"address": at(admin)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {
            "clusters": [{
                "name": "xds-grpc",
                "type": "STATIC",
                "connect_timeout": "1s",
                "http2_protocol_options": {},
                "load_assignment": {
                    "cluster_name": "xds-grpc",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(xds)}}]}],
                },
            }],
        },
    })
}
