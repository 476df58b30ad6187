//! The resolver against servers of the test's own, and what is made of its answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use periplus_xds::name_table::{NameInfo, NameTable};

use super::message::{Kind, Reply, parse, query};
use super::resolver::{Problem, resolve};
use super::system::System;
use super::{Names, choose, pause, serve};
use crate::config::{DnsRate, Family};

/// What a server says to a question about a name, as flags and records of a time to live each.
type Say = fn(name: &str, kind: u8) -> Option<(u16, Vec<(IpAddr, u32)>)>;

/// A server on both transports; over UDP it answers only what fits.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(say: Say) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            let address = udp.local_addr().expect("an address");
            if let Ok(tcp) = TcpListener::bind(address).await {
                break (udp, tcp);
            }
        };
        let server = Self {
            address: udp.local_addr().expect("an address"),
            asked: Arc::default(),
        };
        let asked = server.asked.clone();
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, client)) = udp.recv_from(&mut question).await {
                asked.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = answer(&question[..length], say, false) {
                    // Somebody else's answer comes first, and must not count.
                    let mut forged = answer.clone();
                    forged[0] ^= 0xff;
                    udp.send_to(&forged, client).await.expect("sent");
                    udp.send_to(&answer, client).await.expect("sent");
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let length = stream.read_u16().await.expect("a length");
                let mut question = vec![0; length.into()];
                stream.read_exact(&mut question).await.expect("a question");
                let answer = answer(&question, say, true).expect("an answer");
                stream.write_u16(answer.len() as u16).await.expect("sent");
                stream.write_all(&answer).await.expect("sent");
            }
        });
        server
    }

    fn system(&self, more: &[SocketAddr]) -> System {
        let hosts = "10.9.9.9 here\n".to_owned();
        let resolv = "search a.example b.example\noptions timeout:1 attempts:1\n";
        System {
            servers: [more, &[self.address]].concat(),
            timeout: Duration::from_millis(200),
            ..System::parse(hosts, resolv)
        }
    }
}

fn answer(question: &[u8], say: Say, over_tcp: bool) -> Option<Vec<u8>> {
    let (mut name, mut at) = (String::new(), 12);
    while question[at] > 0 {
        let label = &question[at + 1..][..question[at].into()];
        name.push_str(std::str::from_utf8(label).expect("text"));
        name.push('.');
        at += 1 + label.len();
    }
    let (flags, records) = say(&name, question[at + 2])?;
    let mut message = question.to_vec();
    let is_cut = records.len() > 30 && !over_tcp;
    let flags = flags | if is_cut { 0x0200 } else { 0 };
    let records = if is_cut { &[] } else { &records[..] };
    message[2..4].copy_from_slice(&flags.to_be_bytes());
    message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
    for (address, ttl) in records {
        let (kind, data) = match address {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (28, ip.octets().to_vec()),
        };
        message.extend([0xc0, 12, 0, kind, 0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend([0, data.len() as u8]);
        message.extend(data);
    }
    Some(message)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn say(name: &str, kind: u8) -> Option<(u16, Vec<(IpAddr, u32)>)> {
    let of = |kinds: [&[(&str, u32)]; 2]| {
        let records = kinds[usize::from(kind == 28)].iter();
        records.map(|(text, ttl)| (ip(text), *ttl)).collect()
    };
    Some(match name {
        "web.b.example." => (0x8180, of([&[("10.0.0.1", 30)], &[("fd00::1", 20)]])),
        "four.example." => (0x8180, of([&[("10.0.0.1", 30)], &[]])),
        "zero.example." => (0x8180, of([&[("10.0.0.1", 0)], &[]])),
        "half.example." if kind == 28 => (0x8182, Vec::new()),
        "half.example." => (0x8180, of([&[("10.0.0.2", 9)], &[]])),
        "much.example." => {
            let all = (1..=200).map(|last| (IpAddr::from([10, 0, 1, last]), 60));
            (0x8180, all.filter(|_| kind == 1).collect())
        }
        "broken.example." => (0x8182, Vec::new()),
        "silent.example." => return None,
        _ => (0x8183, Vec::new()),
    })
}

#[tokio::test]
async fn names_are_found_with_the_time_for_which_they_hold() {
    let server = Server::start(say).await;
    let system = server.system(&[]);
    for (name, family, addresses, ttl) in [
        ("web", Family::All, &["10.0.0.1", "fd00::1"][..], Some(20)),
        ("web", Family::V4Only, &["10.0.0.1"], Some(30)),
        ("web", Family::V6Only, &["fd00::1"], Some(20)),
        ("four.example", Family::Auto, &["10.0.0.1"], Some(30)),
        ("zero.example", Family::All, &["10.0.0.1"], Some(0)),
        ("half.example", Family::All, &["10.0.0.2"], Some(9)),
        ("here", Family::All, &["10.9.9.9"], None),
    ] {
        let found = resolve(&system, name, family).await.expect(name);
        let expected: Vec<_> = addresses.iter().map(|text| ip(text)).collect();
        assert_eq!(found.addresses, expected, "{name}");
        assert_eq!(found.ttl, ttl.map(Duration::from_secs), "{name}");
    }
    let found = resolve(&system, "much.example", Family::V4Only).await;
    assert_eq!(found.expect("over TCP").addresses.len(), 200);
}

#[tokio::test]
async fn what_is_not_found_is_told() {
    let server = Server::start(say).await;
    let system = server.system(&[]);
    for (name, said) in [
        ("nobody", "there is no such name"),
        ("four.example", "the name has no address"),
        ("broken.example", "response code 2"),
        ("silent.example", "no answer in time"),
        ("a..b.", "this is no name of the DNS"),
    ] {
        let problem = resolve(&system, name, Family::V6Only).await;
        let problem = problem.expect_err(name).to_string();
        assert!(problem.contains(said), "{name}: {problem}");
    }
}

#[tokio::test]
async fn servers_are_asked_one_after_the_other() {
    let server = Server::start(say).await;
    let silent = Server::start(|_, _| None).await;
    // A port that nobody has.
    let closed = {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        socket.local_addr().expect("an address")
    };
    let system = server.system(&[closed, silent.address]);
    let found = resolve(&system, "four.example", Family::V4Only).await;
    assert_eq!(found.expect("of the last").addresses, [ip("10.0.0.1")]);
    assert_eq!(silent.asked.load(Ordering::SeqCst), 1);
    // One that says that there is no such name is believed.
    let before = server.asked.load(Ordering::SeqCst);
    let problem = resolve(&server.system(&[server.address]), "no.", Family::V4Only).await;
    assert!(matches!(problem, Err(Problem::NoName)));
    assert_eq!(server.asked.load(Ordering::SeqCst), before + 1);
}

#[test]
fn failures_have_a_rate_of_their_own() {
    let seconds = Duration::from_secs;
    let mut rate = DnsRate {
        refresh: seconds(5),
        jitter: seconds(1),
        failure: None,
        respects_ttl: true,
    };
    for _ in 0..50 {
        assert!((seconds(5)..seconds(6)).contains(&pause(&rate, 0, None)));
        assert!((seconds(5)..seconds(6)).contains(&pause(&rate, 3, None)));
        // Whoever says how long an answer holds goes first.
        let ttl = |ttl| pause(&rate, 0, Some(seconds(ttl)));
        assert!((seconds(2)..seconds(3)).contains(&ttl(2)));
        assert!((seconds(600)..seconds(601)).contains(&ttl(600)));
        assert!((seconds(5)..seconds(6)).contains(&ttl(0)));
    }
    rate.failure = Some((seconds(1), seconds(3)));
    for (failures, most) in [(1, 1), (2, 2), (3, 3), (40, 3)] {
        let longest = (0..50).map(|_| pause(&rate, failures, None)).max();
        assert!(longest.is_some_and(|time| time <= seconds(most) && time > seconds(most) / 2));
    }
    assert!(pause(&rate, 0, None) >= seconds(5));
}

#[test]
fn families() {
    let found = || -> Vec<IpAddr> {
        ["10.0.0.2", "::2", "10.0.0.1", "::1", "10.0.0.1"]
            .map(|text| text.parse().expect("an address"))
            .to_vec()
    };
    let chosen = |family, all| {
        let addresses = choose(found(), family, all);
        addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(chosen(Family::All, true), "10.0.0.1 10.0.0.2 ::1 ::2");
    assert_eq!(chosen(Family::V4Only, true), "10.0.0.1 10.0.0.2");
    assert_eq!(chosen(Family::V6Only, true), "::1 ::2");
    assert_eq!(chosen(Family::Auto, true), "::1 ::2");
    assert_eq!(chosen(Family::V4Preferred, true), "10.0.0.1 10.0.0.2");
    assert_eq!(chosen(Family::V4Preferred, false), "10.0.0.2");
    let only_v4 = vec![found()[0]];
    assert_eq!(choose(only_v4.clone(), Family::Auto, true), only_v4);
    assert_eq!(choose(only_v4, Family::V6Only, true), Vec::<IpAddr>::new());
}

/// Answers for one name of the mesh, and asks `system` for others.
async fn answering(system: System) -> (Arc<Names>, SocketAddr) {
    let names = Arc::new(Names::at(
        "127.0.0.1:0".parse().expect("an address"),
        system,
    ));
    // A port that was free for datagrams may be taken for connections.
    let mut attempts = 0..10;
    let sockets = loop {
        match names.bind().await {
            Ok(sockets) => break sockets,
            Err(error) => assert!(attempts.next().is_some(), "{error:?}"),
        }
    };
    let address = sockets[0].address();
    tokio::spawn(serve(Arc::clone(&names), sockets));
    (names, address)
}

fn told(ips: &[&str]) -> NameTable {
    let info = NameInfo {
        ips: ips.iter().map(ToString::to_string).collect(),
        ..NameInfo::default()
    };
    NameTable {
        table: [("mesh.example".to_owned(), info)].into(),
    }
}

async fn ask_udp(server: SocketAddr, name: &str) -> Option<Reply> {
    let question = query(7, name, Kind::V4).expect("a name");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    socket.connect(server).await.expect("connected");
    socket.send(&question).await.expect("sent");
    let mut message = [0; 4096];
    let length = socket.recv(&mut message).await.expect("an answer");
    parse(&message[..length], &question)
}

async fn ask_tcp(server: SocketAddr, name: &str) -> Option<Reply> {
    let question = query(7, name, Kind::V4).expect("a name");
    let mut stream = tokio::net::TcpStream::connect(server)
        .await
        .expect("connected");
    stream.write_u16(question.len() as u16).await.expect("sent");
    stream.write_all(&question).await.expect("sent");
    let mut message = vec![0; stream.read_u16().await.expect("an answer").into()];
    stream.read_exact(&mut message).await.expect("an answer");
    parse(&message, &question)
}

#[tokio::test]
async fn an_application_is_answered_for_the_mesh_and_others_are_asked_for_the_rest() {
    let server = Server::start(say).await;
    let (names, address) = answering(server.system(&[])).await;
    // Nobody has told yet: not even that a name is not the mesh's.
    assert_eq!(
        ask_udp(address, "mesh.example").await,
        Some(Reply::Failed(2))
    );
    assert_eq!(
        ask_udp(address, "four.example").await,
        Some(Reply::Failed(2))
    );
    assert!(!names.is_told());
    names.take(&told(&["10.1.1.1"]));
    assert!(names.is_told());
    let one = |text, ttl| Some(Reply::Answer(vec![ip(text)], Some(ttl)));
    assert_eq!(ask_udp(address, "mesh.example").await, one("10.1.1.1", 30));
    assert_eq!(ask_tcp(address, "mesh.example").await, one("10.1.1.1", 30));
    assert_eq!(server.asked.load(Ordering::SeqCst), 0);
    assert_eq!(ask_udp(address, "four.example").await, one("10.0.0.1", 30));
    assert_eq!(ask_tcp(address, "four.example").await, one("10.0.0.1", 30));
    assert_eq!(ask_udp(address, "nobody.").await, Some(Reply::NoName));
    // What an answer by UDP has no room for is asked for by TCP, here and there.
    assert_eq!(
        ask_udp(address, "much.example").await,
        Some(Reply::Truncated)
    );
    let Some(Reply::Answer(all, _)) = ask_tcp(address, "much.example").await else {
        panic!("no answer");
    };
    assert_eq!(all.len(), 200);
    let many: Vec<_> = (0..200).map(|last| format!("10.1.2.{last}")).collect();
    names.take(&told(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(
        ask_udp(address, "mesh.example").await,
        Some(Reply::Truncated)
    );
    let Some(Reply::Answer(all, _)) = ask_tcp(address, "mesh.example").await else {
        panic!("no answer");
    };
    assert_eq!(all.len(), 200);
    names.take(&NameTable::default());
    assert_eq!(ask_udp(address, "mesh.example").await, Some(Reply::NoName));
    let stat = |name: &str| names.stats().find(|(known, _)| *known == name);
    assert_eq!(stat("dns.requests"), Some(("dns.requests", 12)));
    assert_eq!(
        stat("dns.upstream_requests"),
        Some(("dns.upstream_requests", 6))
    );
}

#[tokio::test]
async fn servers_that_do_not_answer_keep_nobody_from_an_answer() {
    let silent = Server::start(|_, _| None).await;
    // Longer than it takes to ask for all of them.
    let system = System {
        timeout: Duration::from_secs(2),
        ..silent.system(&[])
    };
    let (names, address) = answering(system).await;
    names.take(&told(&["10.1.1.1"]));
    // More than may be asked for at a time: the rest is told at once.
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..600 {
        waiting.spawn(async move { ask_udp(address, "silent.example").await });
        // The kernel keeps only so many for who does not read.
        tokio::task::yield_now().await;
    }
    let known = ask_udp(address, "mesh.example").await;
    assert_eq!(known, Some(Reply::Answer(vec![ip("10.1.1.1")], Some(30))));
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.expect("a task"), Some(Reply::Failed(2)));
    }
    let stat = |name: &str| {
        names
            .stats()
            .find(|(known, _)| *known == name)
            .expect(name)
            .1
    };
    assert_eq!(
        stat("dns.upstream_failures") + stat("dns.upstream_overflow"),
        600
    );
    assert!(stat("dns.upstream_overflow") > 0);
    // Over TCP one that says nothing is asked in vain, too.
    assert_eq!(ask_tcp(address, "mesh.example").await, known);
}
