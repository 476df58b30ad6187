//! A workload as in Istio: rules of the kernel, a sidecar on what the control plane makes of Istio's resources,
//! and clients that know of neither.

use std::ffi::OsStr;
use std::net::IpAddr;

use tempfile::TempDir;

use crate::namespaces::{INSIDE, INSIDE_V6, OUTSIDE, OUTSIDE_V6, Side, World, wait_for};
use crate::sidecars::{Collector, Kind, MESH_CONFIG, Program, Sidecar, control_plane, envoy};

/// Ports outside: of servers that speak first, of HTTP.
const HELLO: u16 = 7000;
const WEB: u16 = 8081;
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
    kind: Kind,
}

struct Mesh {
    world: World,
    directory: TempDir,
    _programs: [Program; 2],
    spans: Collector,
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
        let spans = Collector::start(&world);

        let directory = tempfile::tempdir().unwrap();
        let control = control_plane(
            &world,
            Side::Inside,
            directory.path(),
            &resources(addresses),
            &[],
        );
        let sidecar = Sidecar {
            kind: addresses.kind,
            side: Side::Inside,
            address: addresses.inside,
            app: "app",
            control: "127.0.0.1".parse().unwrap(),
            is_certified: false,
            captures_dns: false,
        };
        let proxy = sidecar.start(&world, directory.path(), envoy);
        sidecar.intercept(&world, &[]);
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
}

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
            mesh.spans.service(name),
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
        kind: Kind::Redirected,
    }
}

#[test]
fn an_intercepted_workload() {
    a_workload(&of_ipv4(), None);
}

/// The real Envoy takes the same configuration, and does the same.
#[test]
fn an_intercepted_workload_with_envoy() {
    if let Some(envoy) = envoy() {
        a_workload(&of_ipv4(), Some(&envoy));
    }
}

/// The application sees the addresses of its clients.
fn of_tproxy() -> Addresses {
    Addresses {
        source: "10.77.0.2",
        kind: Kind::Transparent,
        ..of_ipv4()
    }
}

#[test]
fn a_workload_that_is_intercepted_transparently() {
    a_workload(&of_tproxy(), None);
}

#[test]
fn a_workload_that_is_intercepted_transparently_with_envoy() {
    if let Some(envoy) = envoy() {
        a_workload(&of_tproxy(), Some(&envoy));
    }
}

#[test]
fn an_intercepted_workload_of_ipv6() {
    let addresses = Addresses {
        inside: INSIDE_V6,
        outside: OUTSIDE_V6,
        service: "fd96::1".parse().unwrap(),
        source: "::6",
        kind: Kind::Redirected,
    };
    a_workload(&addresses, None);
}
