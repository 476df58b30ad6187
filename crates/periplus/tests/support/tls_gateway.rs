//! A gateway that passes TLS through by its server name, and TCP: a VirtualService's `tls` and `tcp`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use crate::client_hello::client_hello;
use crate::namespaces::{Side, World, wait_for};
use crate::sidecars::{Kind, Sidecar, control_plane, envoy};

const RESOURCES: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 8443, name: tls, protocol: TLS}, tls: {mode: PASSTHROUGH}, hosts: ['*.example.com']}
  - {port: {number: 5432, name: tcp, protocol: TCP}, hosts: ['*']}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: names}
spec:
  hosts: ['*.example.com']
  gateways: [edge]
  tls:
  - match: [{sniHosts: [a.example.com], port: 8443}]
    route: [{destination: {host: a}}]
  - match: [{sniHosts: ['*.example.com']}]
    route: [{destination: {host: b, port: {number: 443}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bytes}
spec:
  hosts: ['*']
  gateways: [edge]
  tcp:
  - match: [{port: 8443}]
    route: [{destination: {host: a}}]
  - route:
    - {destination: {host: a}, weight: 50}
    - {destination: {host: b}, weight: 50}
";

/// A server that says its name once it has heard something.
fn serve(world: &World, name: &'static str, port: u16) -> String {
    let listener = world.inside(move || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                // A client that says nothing gets no answer.
                if stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
                    stream.write_all(name.as_bytes()).ok();
                }
            });
        }
    });
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.default.svc.cluster.local]
  resolution: STATIC
  ports: [{{number: 443, name: tls, targetPort: {port}}}]
  endpoints: [{{address: 127.0.0.1}}]
"
    )
}

/// What a client hears that says this; none if it cannot connect.
fn hear(world: &World, port: u16, say: &[u8]) -> Option<String> {
    world.inside(|| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        stream.write_all(say).ok()?;
        let mut heard = String::new();
        // A connection that is reset says nothing more.
        let _ = stream.read_to_string(&mut heard);
        Some(heard)
    })
}

fn a_gateway(envoy: Option<&OsStr>) {
    let Some(world) = World::new() else {
        return;
    };
    let services = [serve(&world, "a", 9001), serve(&world, "b", 9002)];
    let directory = tempfile::tempdir().unwrap();
    let resources = format!("{RESOURCES}{}", services.concat());
    let _control = control_plane(&world, Side::Inside, directory.path(), &resources, &[]);
    let gateway = Sidecar {
        kind: Kind::Gateway,
        side: Side::Inside,
        address: Ipv4Addr::LOCALHOST.into(),
        app: "edge",
        control: Ipv4Addr::LOCALHOST.into(),
        is_certified: false,
        captures_dns: false,
    };
    let _proxy = gateway.start(&world, directory.path(), envoy);
    for port in [8443, 5432] {
        gateway.wait_for(&world, port);
    }
    for (name, expected) in [
        ("a.example.com", "a"),
        ("other.example.com", "b"),
        ("example.org", ""),
    ] {
        let heard = hear(&world, 8443, &client_hello(name));
        assert_eq!(heard.as_deref(), Some(expected), "{name}");
    }
    assert_eq!(hear(&world, 8443, b"no TLS\r\n").as_deref(), Some(""));
    let mut heard = BTreeSet::new();
    wait_for("both destinations", || {
        heard.insert(hear(&world, 5432, b"hello")?);
        (heard.len() == 2).then_some(())
    });
    assert_eq!(heard, ["a", "b"].map(str::to_owned).into());
}

#[test]
fn a_gateway_passes_tls_through_by_its_name() {
    a_gateway(None);
}

#[test]
fn a_gateway_passes_tls_through_by_its_name_with_envoy() {
    if let Some(envoy) = envoy() {
        a_gateway(Some(&envoy));
    }
}
