//! The server that an application's questions are redirected to, as that of Istio's agent: it answers for the names
//! of the mesh, and asks the servers of this host for the rest.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use periplus_xds::name_table::NameTable;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::question::Question;
use super::resolver;
use super::system::System;
use super::table::{Place, Table};

/// Where Istio's rules send questions to.
const PORT: u16 = 15053;
/// The most questions that others are asked at a time: each keeps a socket.
const MAX_FORWARDED: usize = 512;
/// The most connections of applications.
const MAX_CONNECTIONS: usize = 128;
/// How long a connection may be silent, or not be read.
const IDLE: Duration = Duration::from_secs(10);
/// The pause after a socket that cannot accept, for which there may be no file.
const PAUSE: Duration = Duration::from_millis(50);
/// The largest message.
const MAX_MESSAGE: usize = 65_535;

/// What is known of names, and how it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Where questions are answered; nowhere unless the workload's DNS is captured.
    addresses: Vec<SocketAddr>,
    place: Place,
    system: Option<System>,
    /// None until the control plane has told.
    table: ArcSwapOption<Table>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    malformed: AtomicU64,
    upstream_requests: AtomicU64,
    upstream_failures: AtomicU64,
    overflow: AtomicU64,
}

/// Sockets that questions come by.
#[derive(Debug)]
pub(in crate::agent) struct Sockets {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
}

impl Names {
    /// As the node's metadata say: `DNS_CAPTURE`, and `DNS_PROXY_ADDR` in place of port 15053 of loopback.
    pub(in crate::agent) fn of(node: &Node) -> Result<Self, String> {
        let text = |key: &str| {
            let value = node.metadata.as_ref()?.fields.get(key)?;
            match value.kind.as_ref()? {
                Kind::StringValue(text) => Some(text.clone()),
                Kind::BoolValue(is) => Some(is.to_string()),
                _ => None,
            }
        };
        match text("DNS_CAPTURE").as_deref() {
            None | Some("" | "false") => return Ok(Self::default()),
            Some("true") => {}
            Some(other) => {
                return Err(format!("DNS_CAPTURE: {other:?} is neither true nor false"));
            }
        }
        let addresses = match text("DNS_PROXY_ADDR") {
            None => Vec::from([
                SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, PORT)),
            ]),
            Some(address) => {
                let address = address.parse();
                vec![address.map_err(|_| "DNS_PROXY_ADDR: this must be IP:PORT".to_owned())?]
            }
        };
        let system = System::read();
        let namespace = text("NAMESPACE").unwrap_or_default();
        let search = system.search.first().map(String::as_str);
        Ok(Self {
            addresses,
            place: Place::new(&namespace, &node.id, search),
            system: Some(system),
            ..Self::default()
        })
    }

    #[cfg(test)]
    pub(super) fn at(address: SocketAddr, system: System) -> Self {
        Self {
            addresses: vec![address],
            system: Some(system),
            ..Self::default()
        }
    }

    /// Whether questions are answered at all.
    pub(crate) fn is_on(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Whether all that is asked for can be answered.
    pub(in crate::agent) fn is_told(&self) -> bool {
        !self.is_on() || self.table.load().is_some()
    }

    /// Takes what the control plane has told, in place of what it told before.
    pub(in crate::agent) fn take(&self, told: &NameTable) {
        let table = Table::of(told, &self.place);
        tracing::debug!(names = table.len(), "names taken");
        self.table.store(Some(Arc::new(table)));
    }

    /// What was counted, by name.
    pub(crate) fn stats(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Counts {
            requests,
            malformed,
            upstream_requests,
            upstream_failures,
            overflow,
        } = &self.counts;
        let all = [
            ("dns.requests", requests),
            ("dns.malformed", malformed),
            ("dns.upstream_requests", upstream_requests),
            ("dns.upstream_failures", upstream_failures),
            ("dns.upstream_overflow", overflow),
        ];
        let shown = all.into_iter().filter(|_| self.is_on());
        shown.map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }

    /// Binds the sockets; without IPv6 on this host those of IPv4 are all.
    pub(in crate::agent) async fn bind(&self) -> Result<Vec<Sockets>, (SocketAddr, io::Error)> {
        let mut all = Vec::new();
        for address in &self.addresses {
            match bind(*address).await {
                Ok(sockets) => all.push(sockets),
                Err(error) if address.is_ipv6() && is_missing(&error) && !all.is_empty() => {}
                Err(error) => return Err((*address, error)),
            }
        }
        Ok(all)
    }

    /// The answer to a message, if there is one.
    async fn answer(&self, message: &[u8], way: Way, forwarded: &Semaphore) -> Option<Vec<u8>> {
        count(&self.counts.requests);
        let question = match Question::parse(message) {
            Ok(question) => question,
            Err(refusal) => {
                count(&self.counts.malformed);
                return refusal;
            }
        };
        let limit = match way {
            Way::Udp => question.datagram,
            Way::Tcp => MAX_MESSAGE,
        };
        // Before the control plane has told nobody knows whose name it is.
        let Some(table) = self.table.load_full() else {
            return Some(question.failure());
        };
        let known = question.name.as_deref();
        let known = known.and_then(|name| table.find(name, &self.place));
        if let Some(known) = known
            && let Some(mut addresses) = question.wanted(known.addresses)
        {
            // Whoever takes the first one must not always get the same.
            fastrand::shuffle(&mut addresses);
            return Some(question.answer(known.alias, &addresses, limit));
        }
        let Ok(_permit) = forwarded.try_acquire() else {
            count(&self.counts.overflow);
            return Some(question.failure());
        };
        let answer = self.forward(message, question.asked(), way).await;
        Some(answer.unwrap_or_else(|| question.failure()))
    }

    /// What one of this host's servers answers, in the same way as it was asked.
    async fn forward(&self, message: &[u8], asked: &[u8], way: Way) -> Option<Vec<u8>> {
        count(&self.counts.upstream_requests);
        let system = self.system.as_ref()?;
        let mut servers = system.servers.clone();
        fastrand::shuffle(&mut servers);
        for server in servers {
            let asking = async {
                match way {
                    Way::Udp => resolver::relay_udp(server, message, asked.len()).await,
                    Way::Tcp => resolver::relay_tcp(server, message, asked.len()).await,
                }
            };
            match timeout(system.timeout, asking).await {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a DNS server cannot be asked"),
                Err(_) => tracing::debug!(%server, "a DNS server does not answer"),
            }
        }
        count(&self.counts.upstream_failures);
        None
    }

    /// Answers a connection's questions, one after the other.
    async fn converse(&self, stream: &mut TcpStream, forwarded: &Semaphore) -> io::Result<()> {
        loop {
            let reading = async {
                let length = stream.read_u16().await?;
                let mut message = vec![0; length.into()];
                stream.read_exact(&mut message).await?;
                io::Result::Ok(message)
            };
            let message = timeout(IDLE, reading).await??;
            let Some(answer) = self.answer(&message, Way::Tcp, forwarded).await else {
                return Ok(());
            };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let answer = [&length.to_be_bytes()[..], &answer].concat();
            timeout(IDLE, stream.write_all(&answer)).await??;
        }
    }
}

#[cfg(test)]
impl Sockets {
    pub(super) fn address(&self) -> SocketAddr {
        self.tcp.local_addr().expect("it is bound")
    }
}

/// How a question comes, and is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Udp,
    Tcp,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

async fn bind(address: SocketAddr) -> io::Result<Sockets> {
    let udp = UdpSocket::bind(address).await?;
    // Of a port that was free to be chosen, the same.
    let tcp = TcpListener::bind(udp.local_addr()?).await?;
    Ok(Sockets {
        udp: Arc::new(udp),
        tcp,
    })
}

/// Whether this host has no such address.
fn is_missing(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Answers until the proxy ends.
pub(in crate::agent) async fn serve(names: Arc<Names>, all: Vec<Sockets>) {
    let forwarded = Arc::new(Semaphore::new(MAX_FORWARDED));
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    for Sockets { udp, tcp } in all {
        tasks.spawn(serve_udp(Arc::clone(&names), udp, Arc::clone(&forwarded)));
        let forwarded = Arc::clone(&forwarded);
        let most = (forwarded, Arc::clone(&connections));
        tasks.spawn(serve_tcp(Arc::clone(&names), tcp, most));
    }
    while tasks.join_next().await.is_some() {}
}

async fn serve_udp(names: Arc<Names>, socket: Arc<UdpSocket>, forwarded: Arc<Semaphore>) {
    let mut tasks = JoinSet::new();
    let mut message = vec![0; MAX_MESSAGE];
    loop {
        let (length, client) = match socket.recv_from(&mut message).await {
            Ok(received) => received,
            // Such as that an answer was not taken.
            Err(_) => continue,
        };
        while tasks.try_join_next().is_some() {}
        let message = message[..length].to_vec();
        let (names, socket) = (Arc::clone(&names), Arc::clone(&socket));
        let forwarded = Arc::clone(&forwarded);
        tasks.spawn(async move {
            if let Some(answer) = names.answer(&message, Way::Udp, &forwarded).await {
                // Who has gone has no use for it.
                let _ = socket.send_to(&answer, client).await;
            }
        });
    }
}

async fn serve_tcp(
    names: Arc<Names>,
    listener: TcpListener,
    (forwarded, connections): (Arc<Semaphore>, Arc<Semaphore>),
) {
    let mut tasks = JoinSet::new();
    loop {
        // The others wait in the kernel's queue.
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let mut stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection for DNS");
                sleep(PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let (names, forwarded) = (Arc::clone(&names), Arc::clone(&forwarded));
        tasks.spawn(async move {
            // However it ends, its application asks again.
            let _ = names.converse(&mut stream, &forwarded).await;
            drop(permit);
        });
    }
}
