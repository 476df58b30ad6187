//! Hosts that only requests and handshakes name: a sidecar looks them up, and goes there, wherever its client wanted to
//! go.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_uid};

use crate::client_hello::client_hello;
use crate::namespaces::{INSIDE, OTHER, OUTSIDE, Side, World, wait_for};
use crate::sidecars::{Kind, MESH_CONFIG, Sidecar, control_plane, envoy};

/// An application's user and group: anybody's but the proxy's.
const APP: u32 = 65534;
/// Where applications connect to: nobody is there.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// Ports outside: of HTTP, of TLS, and of a server that speaks first.
const WEB: u16 = 80;
const ODD_WEB: u16 = 8081;
const TLS: u16 = 443;
const HELLO: u16 = 7000;
/// So much longer than an answer takes.
const LONG: Duration = Duration::from_secs(15);

const RESOURCES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild}
spec:
  hosts: ['*.wild.example']
  resolution: DYNAMIC_DNS
  ports: [{number: 80, name: http}, {number: 443, name: tls}]
";

/// Answers that `missing` is no name, and that all others are another host outside.
fn serve_names(world: &World) {
    let socket = world.outside(|| UdpSocket::bind((OUTSIDE, 53)).unwrap());
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut message) {
            socket.send_to(&answer(&message[..length]), client).unwrap();
        }
    });
}

fn answer(question: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    let IpAddr::V4(address) = OTHER else {
        unreachable!("it is of IPv4")
    };
    let name = &question[HEADER..];
    let end = name.iter().position(|byte| *byte == 0).unwrap();
    let is_missing = name.starts_with(b"\x07missing");
    let mut answer = question[..HEADER + end + 5].to_vec();
    answer[2..HEADER].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    if is_missing {
        answer[3] |= 3;
    } else {
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}

/// Says to whoever begins a handshake that it has come.
fn serve_tls(world: &World) {
    let listener = world.listen_outside(TLS);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut hello = vec![0; client_hello("b.wild.example").len()];
            if stream.read_exact(&mut hello).is_ok() {
                stream.write_all(b"here").ok();
            }
        }
    });
}

/// What an application hears that begins a handshake with a name.
fn handshake(world: &World, name: &str) -> String {
    world.inside(|| {
        set_thread_gid(Gid::from_raw(APP)).unwrap();
        set_thread_uid(Uid::from_raw(APP)).unwrap();
        let mut stream = TcpStream::connect((NOWHERE, TLS)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(&client_hello(name)).unwrap();
        let mut heard = String::new();
        // A connection to nobody may be reset.
        let _ = stream.read_to_string(&mut heard);
        heard
    })
}

fn a_workload(envoy: Option<&OsStr>) {
    let Some(world) = World::new() else {
        return;
    };
    world.run_inside(&format!("ip route add default via {OUTSIDE}"));
    world.write_resolv_conf(&format!("nameserver {OUTSIDE}\n"));
    serve_names(&world);
    for port in [WEB, ODD_WEB] {
        world.serve_http_outside(port);
    }
    world.serve_outside(HELLO);
    serve_tls(&world);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let _control = control_plane(&world, Side::Inside, directory, RESOURCES, &[]);
    let policy = |mode: &str| {
        let config = format!("{MESH_CONFIG}outboundTrafficPolicy: {{mode: {mode}}}\n");
        std::fs::write(directory.join("mesh-config.yaml"), config).unwrap();
    };
    policy("REGISTRY_ONLY");
    let sidecar = Sidecar {
        kind: Kind::Redirected,
        side: Side::Inside,
        address: INSIDE,
        app: "app",
        control: "127.0.0.1".parse().unwrap(),
        is_certified: false,
        captures_dns: false,
    };
    let _proxy = sidecar.start(&world, directory, envoy);
    sidecar.intercept(&world, &[]);

    let asks = |port: u16, host: &str| world.request_as(APP, NOWHERE, port, host);
    let served = |port: u16| format!("\r\n\r\n{port} for {INSIDE}");
    // The listener for requests may come after those that connections are sent to.
    wait_for("a host to be looked up", || {
        let is_there = world.is_answered(APP, NOWHERE, WEB, "a.wild.example");
        is_there.then_some(())
    });
    let response = asks(WEB, "a.wild.example");
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(response.ends_with(&served(WEB)), "{response}");
    let response = asks(WEB, "missing.wild.example");
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("DNS resolution failure"), "{response}");
    assert_eq!(handshake(&world, "b.wild.example"), "here");
    assert_eq!(handshake(&world, "missing.wild.example"), "");
    wait_for("an unknown host to be refused", || {
        let response = asks(WEB, "elsewhere.example");
        response.starts_with("HTTP/1.1 502 ").then_some(())
    });

    // Those that nobody describes come to be looked up too: on a port of services, and on any other.
    policy("ALLOW_ANY_DYNAMIC_DNS");
    for (port, host) in [
        (ODD_WEB, format!("elsewhere.example:{ODD_WEB}")),
        (WEB, "elsewhere.example".to_owned()),
        (WEB, "a.wild.example".to_owned()),
    ] {
        wait_for("an unknown host to be looked up", || {
            let is_there = world.is_answered(APP, NOWHERE, port, &host);
            is_there.then_some(())
        });
        let response = asks(port, &host);
        assert!(response.ends_with(&served(port)), "{host}: {response}");
    }
    let response = asks(ODD_WEB, "missing.example");
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    // What is no request goes where its client wanted to go, though its server speaks first.
    assert_eq!(
        world.connect_inside(APP, OUTSIDE, HELLO),
        format!("{HELLO} for {INSIDE}")
    );
    assert_eq!(handshake(&world, "b.wild.example"), "here");
}

#[test]
fn hosts_that_clients_name() {
    a_workload(None);
}

/// The real Envoy takes the same configuration, and does the same.
#[test]
fn hosts_that_clients_name_with_envoy() {
    if let Some(envoy) = envoy() {
        a_workload(Some(&envoy));
    }
}
