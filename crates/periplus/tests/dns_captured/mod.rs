//! An application's questions for addresses, captured by the rules of the kernel: its sidecar answers for the names of
//! the mesh, and the servers of its resolv.conf for all others.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_uid};

use crate::namespaces::{INSIDE, OTHER, OUTSIDE, OUTSIDE_V6, Side, World, wait_for};
use crate::sidecars::{Kind, Sidecar, control_plane};

const DNS: u16 = 53;
/// An application's user and group: anybody's but the proxy's.
const APP: u32 = 65534;
/// What the servers outside say of each name.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// So much longer than an answer takes.
const LONG: Duration = Duration::from_secs(15);

fn resources(host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: api}}
spec:
  hosts: [{host}]
  addresses: [240.0.0.1, 240.0.0.2]
  resolution: STATIC
  ports: [{{number: 80, name: http}}]
  endpoints: [{{address: '{OUTSIDE}'}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: wild}}
spec:
  hosts: ['*.wild.example']
  addresses: [240.0.0.3]
  resolution: NONE
  ports: [{{number: 80, name: http}}]
---
apiVersion: v1
kind: Service
metadata: {{name: shop, namespace: default}}
spec:
  clusterIP: 10.96.0.7
  ports: [{{port: 80, name: http}}]
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

/// A question for addresses of IPv4.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// What an answer without names inside its records says: each address, and whether it has authority. The records are
/// at its end, of 16 bytes each.
fn addresses(answer: &[u8]) -> (Vec<IpAddr>, bool) {
    assert_eq!(answer[3] & 15, 0, "{answer:?}");
    let records = usize::from(u16::from_be_bytes([answer[6], answer[7]]));
    let of = answer.len() - 16 * records;
    // One that stands for another name has that name in front of them.
    let chunks = answer[of..].chunks(16);
    let a_records = chunks.filter(|record| record[0] == 0xc0 && record[2..4] == [0, 1]);
    let address = |record: &[u8]| <[u8; 4]>::try_from(&record[12..]).unwrap().into();
    let mut found: Vec<IpAddr> = a_records.map(address).collect();
    found.sort_unstable();
    (found, answer[2] & 4 != 0)
}

/// A server of the world outside, which knows one address for each name.
struct Server {
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start(world: &World) -> Self {
        let asked: Arc<AtomicUsize> = Arc::default();
        // Of each address a socket of its own, so that answers come from where questions went.
        for address in [OUTSIDE, OTHER, OUTSIDE_V6] {
            let (udp, tcp) = world.outside(|| {
                let udp = UdpSocket::bind((address, DNS)).unwrap();
                (udp, TcpListener::bind((address, DNS)).unwrap())
            });
            let count = Arc::clone(&asked);
            std::thread::spawn(move || {
                let mut message = [0; 512];
                while let Ok((length, client)) = udp.recv_from(&mut message) {
                    count.fetch_add(1, Ordering::SeqCst);
                    udp.send_to(&answer(&message[..length]), client).unwrap();
                }
            });
            let count = Arc::clone(&asked);
            std::thread::spawn(move || {
                for mut stream in tcp.incoming().map_while(Result::ok) {
                    let message = read(&mut stream);
                    count.fetch_add(1, Ordering::SeqCst);
                    write(&mut stream, &answer(&message));
                }
            });
        }
        Self { asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    answer.extend(ELSEWHERE.octets());
    answer
}

fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).unwrap();
    message
}

fn write(stream: &mut TcpStream, message: &[u8]) {
    let length = (message.len() as u16).to_be_bytes();
    stream.write_all(&[&length[..], message].concat()).unwrap();
}

/// What an application does in its namespace.
fn as_app<T: Send>(world: &World, work: impl FnOnce() -> T + Send) -> T {
    world.inside(|| {
        set_thread_gid(Gid::from_raw(APP)).unwrap();
        set_thread_uid(Uid::from_raw(APP)).unwrap();
        work()
    })
}

fn by_udp(server: IpAddr, name: &str) -> Vec<u8> {
    let own = if server.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(own).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    // Answers must come from the address that was asked.
    socket.connect((server, DNS)).unwrap();
    socket.send(&question(7, name)).unwrap();
    let mut message = [0; 512];
    let length = socket.recv(&mut message).expect(name);
    assert_eq!(message[..2], [0, 7]);
    message[..length].to_vec()
}

fn by_tcp(server: IpAddr, name: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect((server, DNS)).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    write(&mut stream, &question(7, name));
    read(&mut stream)
}

fn check_answers(world: &World, server: &Server) {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let api = [ip("240.0.0.1"), ip("240.0.0.2")];
    let shop = [ip("10.96.0.7")];
    wait_for("the names", || {
        let answer = as_app(world, || by_udp(OUTSIDE, "shop"));
        (answer[3] & 15 == 0).then_some(())
    });
    for ask in [by_udp, by_tcp] {
        for nameserver in [OUTSIDE, OUTSIDE_V6] {
            let before = server.asked();
            for (name, expected) in [
                ("api.example", &api[..]),
                ("API.Example", &api),
                ("any.wild.example", &[ip("240.0.0.3")]),
                ("shop", &shop),
                ("shop.default", &shop),
                ("shop.default.svc", &shop),
                ("shop.default.svc.cluster.local", &shop),
            ] {
                let answer = as_app(world, || ask(nameserver, name));
                assert_eq!(addresses(&answer), (expected.to_vec(), true), "{name}");
            }
            // What a resolver tries first stands for the name itself.
            let searched = "api.example.default.svc.cluster.local";
            let answer = as_app(world, || ask(nameserver, searched));
            let records = u16::from_be_bytes([answer[6], answer[7]]);
            assert_eq!(records, 3, "{answer:?}");
            assert!(answer.ends_with(&[240, 0, 0, 1]) || answer.ends_with(&[240, 0, 0, 2]));
            assert_eq!(server.asked(), before, "nobody else was asked");

            let answer = as_app(world, || ask(nameserver, "elsewhere.example"));
            assert_eq!(addresses(&answer), (vec![ELSEWHERE.into()], false));
            assert_eq!(server.asked(), before + 1);
        }
    }
    // A server that resolv.conf does not name is asked itself.
    let before = server.asked();
    let answer = as_app(world, || by_udp(OTHER, "api.example"));
    assert_eq!(addresses(&answer), (vec![ELSEWHERE.into()], false));
    assert_eq!(server.asked(), before + 1);
    // Many at a time from one port: the answers of the proxy and those of the servers are told apart.
    let answered = as_app(world, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket.connect((OUTSIDE, DNS)).unwrap();
        for id in 0..100 {
            let name = ["api.example", "elsewhere.example"][usize::from(id) % 2];
            socket.send(&question(id, name)).unwrap();
        }
        let mut message = [0; 512];
        let mut answered: Vec<_> = (0..100)
            .map(|_| {
                let length = socket.recv(&mut message).unwrap();
                let id = u16::from_be_bytes([message[0], message[1]]);
                let (_, is_of_mesh) = addresses(&message[..length]);
                assert_eq!(is_of_mesh, id % 2 == 0, "{id}");
                id
            })
            .collect();
        answered.sort_unstable();
        answered
    });
    assert_eq!(answered, (0..100).collect::<Vec<_>>());
}

#[test]
fn names_of_the_mesh_are_answered_by_the_sidecar_and_others_by_the_servers() {
    let Some(world) = World::new() else {
        return;
    };
    world.run_inside(&format!("ip route add default via {OUTSIDE}"));
    world.write_resolv_conf(&format!(
        "search default.svc.cluster.local svc.cluster.local\nnameserver {OUTSIDE}\nnameserver {OUTSIDE_V6}\n"
    ));
    let server = Server::start(&world);
    let directory = tempfile::tempdir().unwrap();
    let directory: &Path = directory.path();
    let _control = control_plane(
        &world,
        Side::Outside,
        directory,
        &resources("api.example"),
        &[],
    );
    let sidecar = Sidecar {
        kind: Kind::Redirected,
        side: Side::Inside,
        address: INSIDE,
        app: "client",
        control: OUTSIDE,
        is_certified: false,
        captures_dns: true,
    };
    let before = world.rules();
    let answer = as_app(&world, || by_udp(OUTSIDE, "api.example"));
    assert_eq!(addresses(&answer), (vec![ELSEWHERE.into()], false));

    for native in [&[][..], &["--native-nftables"]] {
        let flags = [&["--redirect-dns"], native].concat();
        sidecar.intercept(&world, &flags);
        let once = world.rules();
        sidecar.intercept(&world, &flags);
        assert_eq!(world.rules(), once, "a second run changes nothing");
        // Behind the rules, as in a pod: they are asked about connections that they have not seen begin.
        let proxy = sidecar.start(&world, directory, None);
        check_answers(&world, &server);
        drop(proxy);
        sidecar.intercept(&world, &[native, &["--cleanup"]].concat());
        assert_eq!(world.rules(), before);
    }
    let all = ["--redirect-dns", "--capture-all-dns"];
    sidecar.intercept(&world, &all);
    let _proxy = sidecar.start(&world, directory, None);
    wait_for("an answer of the mesh, whatever server is asked", || {
        let answer = as_app(&world, || by_udp(OTHER, "api.example"));
        (answer[2] & 4 != 0).then_some(())
    });

    // A name that comes, and one that goes.
    std::fs::write(directory.join("config/mesh.yaml"), resources("new.example")).unwrap();
    for (name, is_of_mesh) in [("new.example", true), ("api.example", false)] {
        wait_for("the names as they are now", || {
            let answer = as_app(&world, || by_udp(OUTSIDE, name));
            (addresses(&answer).1 == is_of_mesh).then_some(())
        });
    }
}
