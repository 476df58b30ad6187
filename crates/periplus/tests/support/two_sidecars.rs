//! Two workloads, each in a namespace of its own with its rules of the kernel and its sidecar, on the
//! configuration of one control plane; clients and servers that know of none of it.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::namespaces::{INSIDE, OUTSIDE, Side, World};
use crate::sidecars::{
    Collector, IDENTITY, Kind, Program, Sidecar, control_plane, envoy, service, text,
};

/// Ports of the server: HTTP, gRPC, one that speaks first, and one of which nobody says what it speaks.
const WEB: u16 = 8081;
const GRPC: u16 = 50051;
const HELLO: u16 = 7000;
const UNKNOWN: u16 = 7100;
/// The same with a server of HTTP.
const UNKNOWN_WEB: u16 = 7200;
/// The service's address, which no host has.
const SERVICE: &str = "10.96.0.2";
/// An application's user: anybody but the proxy's.
const APP: u32 = 65534;

fn resources() -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: server}}
spec:
  hosts: [server.default.svc.cluster.local]
  addresses: ['{SERVICE}']
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {{number: 80, name: http, targetPort: {WEB}}}
  - {{number: {GRPC}, name: grpc}}
  - {{number: 3306, name: tcp-hello, targetPort: {HELLO}}}
  - {{number: 7100, name: unknown, targetPort: {UNKNOWN}}}
  - {{number: {UNKNOWN_WEB}, name: unknown-web}}
  workloadSelector: {{labels: {{app: server}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: server}}
spec: {{address: '{OUTSIDE}', labels: {{app: server}}, serviceAccount: server}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: zipkin, namespace: istio-system}}
spec:
  hosts: [zipkin.istio-system.svc.cluster.local]
  resolution: STATIC
  ports: [{{number: 9411, name: http}}]
  endpoints: [{{address: '{OUTSIDE}'}}]
"
    )
}

/// Nobody gets in without a certificate.
const STRICT: &str = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

/// A script of the tests with gRPC's own Python, if it is prepared. On CI it must be.
fn grpc(role: &str) -> Option<[OsString; 2]> {
    let Some(python) = std::env::var_os("PERIPLUS_PEERS_PYTHON") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "PERIPLUS_PEERS_PYTHON is not set; run the tests with: cargo xtask test"
        );
        eprintln!("not tried with gRPC: run the tests with: cargo xtask test");
        return None;
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mesh/proxy/tests/grpc_peers");
    Some([python, directory.join(format!("{role}.py")).into()])
}

fn principal(account: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{account}")
}

fn serve_grpc(world: &World) -> Option<Program> {
    let script = grpc("server")?;
    let mut command: Command = world.command(Side::Outside, &script[0]);
    let address = format!("{OUTSIDE}:{GRPC}");
    command.arg(&script[1]).arg(address).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let out = process.stdout.take().unwrap();
    let server = Program(process);
    BufReader::new(out).read_line(&mut String::new()).unwrap();
    Some(server)
}

/// Waits for the two spans of a call, one of each side, and checks that they are of one trace, and that those of ours
/// have these principals, which Envoy's spans do not tell. A span of the client's side has no parent: the client knows nothing.
fn check_trace(
    spans: &Collector,
    name: &str,
    (are_ours, principals): ([bool; 2], Option<[&str; 2]>),
) {
    let found = spans.wait_for(name, |spans| {
        let of = |kind: &str| {
            let is = |span: &&Value| span["name"] == name && span["kind"] == kind;
            spans.iter().find(is).cloned()
        };
        let client = of("CLIENT")?;
        let server = spans.iter().find(|span| {
            span["kind"] == "SERVER" && span["name"] == name && span["traceId"] == client["traceId"]
        });
        Some((client, server?.clone()))
    });
    let (client, server) = found;
    assert_eq!(text(service(&client)), "client.default", "{client}");
    assert_eq!(text(service(&server)), "server.default", "{server}");
    assert_eq!(client["parentId"], Value::Null, "{client}");
    // Shared by both sides, or the child of the client's.
    let is_joined = server["id"] == client["id"] || server["parentId"] == client["id"];
    assert!(is_joined, "{client} {server}");
    for (span, is_ours) in [&client, &server].into_iter().zip(are_ours) {
        let said =
            ["source_principal", "destination_principal"].map(|name| span["tags"][name].as_str());
        let principals = principals.filter(|_| is_ours);
        let expected = principals.map_or([None; 2], |principals| principals.map(Some));
        assert_eq!(said, expected, "{span}");
    }
}

/// Who may speak to whom.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peers {
    /// Nobody has a certificate.
    Plain,
    /// Everybody must have one.
    Strict,
}

fn two_sidecars(client_envoy: Option<&OsStr>, server_envoy: Option<&OsStr>, peers: Peers) {
    let Some(world) = World::new() else {
        return;
    };
    let is_certified = peers == Peers::Strict;
    let (resources, flags, principals) = match peers {
        Peers::Plain => (resources(), &[][..], None),
        Peers::Strict => (
            resources() + STRICT,
            &["--identity-dir", IDENTITY, "--tls-port", "0"][..],
            Some(["client", "server"].map(principal)),
        ),
    };
    let principals = (principals.as_ref()).map(|both| both.each_ref().map(String::as_str));
    let expected = ([client_envoy.is_none(), server_envoy.is_none()], principals);
    world.run_inside(&format!("ip route add default via {OUTSIDE}"));
    for port in [WEB, UNKNOWN_WEB] {
        world.serve_http_outside(port);
    }
    world.serve_outside(HELLO);
    world.serve_outside(UNKNOWN);
    let grpc_server = serve_grpc(&world);
    let spans = Collector::start(&world);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let _control = control_plane(&world, Side::Outside, directory, &resources, flags);
    let sidecar = |side, address, app| Sidecar {
        kind: Kind::Redirected,
        side,
        address,
        app,
        control: OUTSIDE,
        is_certified,
        captures_dns: false,
    };
    let client = sidecar(Side::Inside, INSIDE, "client");
    let server = sidecar(Side::Outside, OUTSIDE, "server");
    let _proxies = [
        server.start(&world, directory, server_envoy),
        client.start(&world, directory, client_envoy),
    ];
    client.intercept(&world, &[]);
    // The collector and the control plane are no part of the workload, though they are where it is.
    server.intercept(&world, &["-d", "9411,15010", "-o", "9411"]);

    let service: IpAddr = SERVICE.parse().unwrap();
    let response = world.request_as(APP, service, 80, "server");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(
        response.ends_with(&format!("\r\n\r\n{WEB} for 127.0.0.6")),
        "{response}"
    );
    for (port, said) in [(3306, HELLO), (7100, UNKNOWN)] {
        let heard = world.connect_inside(APP, service, port);
        assert_eq!(heard, format!("{said} for 127.0.0.6"), "{port}");
    }
    check_trace(&spans, "server.default.svc.cluster.local:80/*", expected);
    // What a port speaks that nobody describes is found out, and said to the server's sidecar in its handshake. An Envoy
    // needs a filter of Istio's for that: without it the server's takes the same for bytes.
    let response = world.request_as(APP, service, UNKNOWN_WEB, "server");
    let said = format!("\r\n\r\n{UNKNOWN_WEB} for 127.0.0.6");
    assert!(response.ends_with(&said), "{response}");
    if client_envoy.is_none() || peers == Peers::Plain {
        let name = format!("server.default.svc.cluster.local:{UNKNOWN_WEB}/*");
        check_trace(&spans, &name, expected);
    }
    // Root's connections go around the client's sidecar, but not around the server's.
    let is_answered = world.is_answered(0, OUTSIDE, WEB, "server");
    assert_eq!(is_answered, peers == Peers::Plain);

    if grpc_server.is_some()
        && let Some(script) = grpc("client")
    {
        let uid = APP.to_string();
        let mut command = world.command(Side::Inside, "setpriv");
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
        let address = format!("{SERVICE}:{GRPC}");
        command.args(script).arg(address);
        // Three know of the deadline, and may be the first to give up.
        command.arg("deadlines=DEADLINE_EXCEEDED,UNAVAILABLE");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!(output.stdout, b"all passed\n", "{said}");
        check_trace(
            &spans,
            &format!("server.default.svc.cluster.local:{GRPC}/*"),
            expected,
        );
    }
}

#[test]
fn two_sidecars_with_all_that_a_client_speaks() {
    two_sidecars(None, None, Peers::Plain);
}

/// All of it over mutual TLS, with certificates of the control plane.
#[test]
fn two_sidecars_that_take_nothing_but_mutual_tls() {
    two_sidecars(None, None, Peers::Strict);
}

/// Each of ours beside the real Envoy.
#[test]
fn a_sidecar_and_envoy() {
    if let Some(envoy) = envoy() {
        two_sidecars(None, Some(&envoy), Peers::Plain);
        two_sidecars(Some(&envoy), None, Peers::Plain);
    }
}

/// The same over mutual TLS; Envoy has its certificate by SDS from an agent beside it.
#[test]
fn a_sidecar_and_envoy_over_mutual_tls() {
    if let Some(envoy) = envoy() {
        two_sidecars(None, Some(&envoy), Peers::Strict);
        two_sidecars(Some(&envoy), None, Peers::Strict);
    }
}
