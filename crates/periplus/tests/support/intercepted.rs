//! A workload as in Istio: rules of the kernel, a sidecar on what the control plane makes of Istio's resources,
//! and clients that know of neither.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write as _};
use std::net::IpAddr;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::namespaces::{INSIDE, INSIDE_V6, OUTSIDE, OUTSIDE_V6, World, wait_for};

/// Ports outside: of servers that speak first, of HTTP, and of the collector.
const HELLO: u16 = 7000;
const WEB: u16 = 8081;
const COLLECTOR: u16 = 9411;
/// Ports of the application: HTTP, one that speaks first, and one that nobody describes.
const APP_WEB: u16 = 9081;
const APP_HELLO: u16 = 9080;
const APP_OTHER: u16 = 9090;

/// Addresses of one family: the workload's, another host's, and that of the other host's service.
struct Addresses {
    inside: IpAddr,
    outside: IpAddr,
    service: IpAddr,
    /// Where the proxy calls its application from.
    source: &'static str,
}

struct Mesh {
    world: World,
    directory: TempDir,
    _programs: [Program; 2],
    spans: Arc<Mutex<Vec<Value>>>,
}

/// A program that ends with this.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Mesh {
    fn start(addresses: &Addresses, envoy: Option<&OsStr>) -> Option<Self> {
        let world = World::new()?;
        // Addresses of services lie somewhere behind the cable.
        let family = if addresses.inside.is_ipv4() {
            "-4"
        } else {
            "-6"
        };
        world.run_inside(&format!(
            "ip {family} route add default via {}",
            addresses.outside
        ));
        world.serve_outside(HELLO);
        world.serve_http_outside(WEB);
        world.serve_inside(APP_HELLO);
        world.serve_inside(APP_OTHER);
        world.serve_http_inside(APP_WEB);
        let spans = collect(&world);

        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("config")).unwrap();
        std::fs::write(at("config/mesh.yaml"), resources(addresses)).unwrap();
        std::fs::write(at("mesh-config.yaml"), MESH_CONFIG).unwrap();
        std::fs::write(
            at("bootstrap.json"),
            bootstrap(addresses.inside).to_string(),
        )
        .unwrap();
        let periplus = OsStr::new(env!("CARGO_BIN_EXE_periplus"));
        let start = |program: &OsStr, arguments: &[&str]| {
            let log = std::fs::File::create(at(&format!("{}.log", arguments[0]))).unwrap();
            let mut command = world.command_inside(program);
            command.args(arguments).current_dir(directory.path());
            command.stdout(Stdio::null()).stderr(log);
            Program(command.spawn().unwrap())
        };
        let files = ["--dir", "config", "--mesh-config", "mesh-config.yaml"];
        let control = start(periplus, &[&["control"], &files[..]].concat());
        let proxy = match envoy {
            None => start(periplus, &["proxy", "-c", "bootstrap.json"]),
            Some(envoy) => start(
                envoy,
                &[
                    "-c",
                    "bootstrap.json",
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                ],
            ),
        };
        let listens = |port: u16| {
            let mut probe = world.command_inside("bash");
            let script = format!("exec 3<>/dev/tcp/{}/{port}", addresses.inside);
            let output = probe.args(["-c", &script]).output().unwrap();
            output.status.success().then_some(())
        };
        for port in [15001, 15006] {
            wait_for("the sidecar's listeners", || listens(port));
        }
        let output = world
            .command_inside(env!("CARGO_BIN_EXE_periplus"))
            .args(["proxy-init", "-u", "0", "-g", "0"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(Self {
            world,
            directory,
            _programs: [control, proxy],
            spans,
        })
    }

    fn app_hears(&self, to: IpAddr, port: u16) -> String {
        self.world.connect_inside(65534, to, port)
    }

    /// Waits for a span of this name: its kind and its service.
    fn span(&self, name: &str) -> (String, String) {
        wait_for(name, || {
            let spans = self.spans.lock().unwrap();
            let span = spans.iter().find(|span| span["name"] == name)?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            Some((
                text(&span["kind"]),
                text(&span["localEndpoint"]["serviceName"]),
            ))
        })
    }
}

/// A collector outside that takes Zipkin's JSON.
fn collect(world: &World) -> Arc<Mutex<Vec<Value>>> {
    let spans: Arc<Mutex<Vec<Value>>> = Arc::default();
    let all = Arc::clone(&spans);
    let listener = world.listen_outside(COLLECTOR);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let all = Arc::clone(&all);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                while let Some(body) = read_body(&mut reader) {
                    let told: Vec<Value> = serde_json::from_slice(&body).unwrap();
                    all.lock().unwrap().extend(told);
                    let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
                    (&stream).write_all(answer).unwrap();
                }
            });
        }
    });
    spans
}

/// The body of the next request, whole or in chunks; none at the end of the connection.
fn read_body(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let (mut line, mut length, mut is_chunked) = (String::new(), 0, false);
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        match lower.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("transfer-encoding", value)) => is_chunked = value == "chunked",
            None if lower.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while is_chunked {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        body.extend_from_slice(&chunk[..size]);
        is_chunked = size > 0;
    }
    Some(body)
}

const MESH_CONFIG: &str = "
extensionProviders: [{name: zipkin, zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411}}]
defaultProviders: {tracing: [zipkin]}
defaultConfig: {tracing: {sampling: 100}}
";

fn resources(addresses: &Addresses) -> String {
    let Addresses {
        inside,
        outside,
        service,
        ..
    } = addresses;
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: peer}}
spec:
  hosts: [peer.default.svc.cluster.local]
  addresses: ['{service}']
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: 80, name: http, targetPort: {WEB}}}
  - {{number: 81, name: unknown, targetPort: {WEB}}}
  - {{number: 3306, name: db, targetPort: {HELLO}}}
  endpoints: [{{address: '{outside}'}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app}}
spec:
  hosts: [app.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: 80, name: http, targetPort: {APP_WEB}}}
  - {{number: 90, name: tcp, targetPort: {APP_HELLO}}}
  workloadSelector: {{labels: {{app: app}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: app}}
spec: {{address: '{inside}', labels: {{app: app}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: zipkin, namespace: istio-system}}
spec:
  hosts: [zipkin.istio-system.svc.cluster.local]
  resolution: STATIC
  ports: [{{number: 9411, name: http}}]
  endpoints: [{{address: '{outside}'}}]
"
    )
}

fn bootstrap(inside: IpAddr) -> Value {
    let at = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({
        "node": {
            "id": format!("sidecar~{inside}~app-1.default~default.svc.cluster.local"),
            "cluster": "app.default",
            "metadata": {
                "NAMESPACE": "default",
                "LABELS": {"app": "app"},
                "INTERCEPTION_MODE": "REDIRECT",
            },
        },
        "admin": {"address": at(15000)},
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
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(15010)}}]}],
                },
            }],
        },
    })
}

fn a_workload(addresses: &Addresses, envoy: Option<&OsStr>) {
    let Some(mesh) = Mesh::start(addresses, envoy) else {
        return;
    };
    let world = &mesh.world;
    let Addresses {
        inside,
        outside,
        service,
        source,
        ..
    } = addresses;
    // Requests to a service's own address, on a port of HTTP and on one that nobody says anything of.
    for (port, host) in [(80, "peer"), (81, "peer.default.svc.cluster.local")] {
        let response = world.request_as(65534, *service, port, host);
        let head = response.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{port}: {response}");
        assert!(head.contains("x-envoy-upstream-service-time"), "{response}");
        assert!(
            response.ends_with(&format!("\r\n\r\n{WEB} for {inside}")),
            "{response}"
        );
    }
    // A server that speaks first; and what nobody describes.
    assert_eq!(
        mesh.app_hears(*service, 3306),
        format!("{HELLO} for {inside}")
    );
    assert_eq!(
        mesh.app_hears(*outside, HELLO),
        format!("{HELLO} for {inside}")
    );
    // Connections to the workload.
    let response = world.request_outside(*inside, APP_WEB);
    assert!(
        response.ends_with(&format!("\r\n\r\n{APP_WEB} for {source}")),
        "{response}"
    );
    for port in [APP_HELLO, APP_OTHER] {
        assert_eq!(
            world.connect_outside(*inside, port),
            format!("{port} for {source}")
        );
    }
    for (name, kind) in [
        ("peer.default.svc.cluster.local:80/*", "CLIENT"),
        ("peer.default.svc.cluster.local:81/*", "CLIENT"),
        ("app.default.svc.cluster.local:80/*", "SERVER"),
    ] {
        assert_eq!(
            mesh.span(name),
            (kind.to_owned(), "app.default".to_owned()),
            "{name}"
        );
    }
    // The policy changes, and with it what becomes of what nobody describes.
    let closed = format!("{MESH_CONFIG}outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}\n");
    std::fs::write(mesh.directory.path().join("mesh-config.yaml"), closed).unwrap();
    wait_for("the unknown to be refused", || {
        mesh.app_hears(*outside, HELLO).is_empty().then_some(())
    });
    let response = world.request_as(65534, *service, 80, "nobody");
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
    assert_eq!(
        mesh.app_hears(*service, 3306),
        format!("{HELLO} for {inside}")
    );
}

fn of_ipv4() -> Addresses {
    Addresses {
        inside: INSIDE,
        outside: OUTSIDE,
        service: "10.96.0.1".parse().unwrap(),
        source: "127.0.0.6",
    }
}

#[test]
fn an_intercepted_workload() {
    a_workload(&of_ipv4(), None);
}

/// The real Envoy takes the same configuration, and does the same.
#[test]
fn an_intercepted_workload_with_envoy() {
    match std::env::var_os("PERIPLUS_ENVOY") {
        Some(envoy) => a_workload(&of_ipv4(), Some(&envoy)),
        None => {
            assert!(
                std::env::var_os("CI").is_none(),
                "PERIPLUS_ENVOY must name an Envoy on CI"
            );
            eprintln!("not run: PERIPLUS_ENVOY does not name an Envoy");
        }
    }
}

#[test]
fn an_intercepted_workload_of_ipv6() {
    let addresses = Addresses {
        inside: INSIDE_V6,
        outside: OUTSIDE_V6,
        service: "fd96::1".parse().unwrap(),
        source: "::6",
    };
    a_workload(&addresses, None);
}
