//! AuthorizationPolicies of `CUSTOM` for connections: our proxy and a real Envoy get the same from the control plane, ask the
//! same service on grpcio, and do the same.

#[path = "../../../mesh/proxy/tests/announced/mod.rs"]
mod announced;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::quota::{proxy, stat};
use super::support::{Program, free_base, get, patiently};
use announced::Announced;

/// Ports of the workload: asked about and allowed, asked about and denied, and one that no rule is for.
const PORTS: [&str; 3] = ["allowed", "denied", "unasked"];

fn mesh_config(fails_open: bool) -> String {
    format!(
        "extensionProviders:
- name: asker
  envoyExtAuthzGrpc:
    service: asker.default.svc.cluster.local
    port: 9000
    timeout: 5s
    failOpen: {fails_open}
    clearRouteCache: true
- name: of-http
  envoyExtAuthzHttp: {{service: asker.default.svc.cluster.local, port: 9000}}
"
    )
}

/// Two replicas of a workload, each behind a sidecar.
fn resources(origin: u16, authorizer: u16, ports: [[u16; 3]; 2]) -> String {
    let mut text = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: asker}}
spec:
  hosts: [asker.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 9000, name: grpc, targetPort: {authorizer}}}]
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: of-http}}
spec:
  selector: {{matchLabels: {{app: db}}}}
  action: CUSTOM
  provider: {{name: of-http}}
  rules: [{{}}]
"
    );
    for (n, ports) in ports.into_iter().enumerate() {
        let [allowed, denied, _] = ports;
        text += &format!(
            "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: db-{n}}}
spec:
  workloadSelector: {{labels: {{app: db, replica: '{n}'}}}}
  ingress:
"
        );
        for port in ports {
            text += &format!(
                "  - port: {{number: {port}, protocol: TCP, name: tcp-{port}}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{origin}
"
            );
        }
        text += &format!(
            "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ask-{n}}}
spec:
  selector: {{matchLabels: {{app: db, replica: '{n}'}}}}
  action: CUSTOM
  provider: {{name: asker}}
  rules: [{{to: [{{operation: {{ports: ['{allowed}', '{denied}'], paths: [/left-out]}}}}]}}]
"
        );
    }
    text
}

/// An endpoint that says what it hears.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    port
}

/// Whether a connection gets through.
fn passes(port: u16) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut heard = [0; 5];
    let written = stream.write_all(b"hello");
    match written.and_then(|()| stream.read_exact(&mut heard)) {
        Ok(()) => heard == *b"hello",
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "no end");
            false
        }
    }
}

/// The service, which allows connections to these ports.
fn authorizer(python: &std::ffi::OsStr, allowed: [u16; 2]) -> Announced {
    let script = "../mesh/proxy/tests/differential_envoy/policies/authorizer.py";
    let mut command = Command::new(python);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script))
        .args(allowed.map(|port| port.to_string()));
    Announced::start(command)
}

#[test]
fn a_service_is_asked_about_connections() {
    let Some(python) = std::env::var_os("PERIPLUS_PEERS_PYTHON") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "PERIPLUS_PEERS_PYTHON is not set; run the tests with: cargo xtask test"
        );
        eprintln!("not tried with grpcio: run the tests with: cargo xtask test");
        return;
    };
    let base = free_base();
    let [xds, monitoring] = [base, base + 1];
    let admin = [base + 2, base + 3];
    let ports = [10, 20].map(|from| [0, 1, 2].map(|n| base + from + n));
    let asker = authorizer(&python, [ports[0][0], ports[1][0]]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let file = |name: &str| path.join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| std::fs::write(file(name), text).unwrap();
    std::fs::create_dir(path.join("config")).unwrap();
    let resources = resources(echo(), asker.address.port(), ports);
    write("config/mesh.yaml", &resources);
    write("mesh-config.yaml", &mesh_config(false));
    let mut control = Program::start(&[
        "control",
        "--dir",
        &file("config"),
        "--mesh-config",
        &file("mesh-config.yaml"),
        "--xds-port",
        &xds.to_string(),
        "--monitoring-port",
        &monitoring.to_string(),
    ]);
    control.wait_for(&["control plane is ready"]);
    let _sidecars = [0, 1].map(|n| proxy(path, ("sidecar", "db"), n, [xds, admin[n]]));
    for (admin, ports) in admin.into_iter().zip(ports) {
        patiently("the listeners", || {
            let listeners = get(admin, "/listeners").body;
            let has = |port: &u16| listeners.contains(&format!(":{port}"));
            ports.iter().all(has).then_some(())
        });
        let outcomes = ports.map(passes);
        assert_eq!(outcomes, [true, false, true], "{PORTS:?}");
        for (count, expected) in [("total", 2), ("ok", 1), ("denied", 1), ("cx_closed", 1)] {
            let name = format!("ext_authz.tcp..{count}");
            assert_eq!(stat(admin, &name), expected, "{name}");
        }
        assert_eq!(
            stat(admin, "tcp.rbac.istio_ext_authz_.shadow_denied"),
            2,
            "{}",
            get(admin, "/stats").body
        );
    }
    // Whom nobody can ask about goes on only where that is said.
    drop(asker);
    for (admin, ports) in admin.into_iter().zip(ports) {
        assert_eq!(ports.map(passes), [false, false, true], "{PORTS:?}");
        assert_eq!(stat(admin, "ext_authz.tcp..error"), 2);
    }
    write("mesh-config.yaml", &mesh_config(true));
    for ports in ports {
        patiently("who fails to be let pass", || {
            (ports.map(passes) == [true; 3]).then_some(())
        });
    }
}
