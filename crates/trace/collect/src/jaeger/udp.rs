//! Jaeger's agent: Thrift in datagrams, one message each.
//!
//! A socket is read by one task, which only queues; another decodes and stores what is queued, many
//! datagrams at a time, since the store waits for its disk once for each batch. Senders get no answer:
//! what a busy store refuses is offered to it again for a while, then dropped. Every drop is counted
//! by its reason.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use periplus_model::Batch;
use periplus_wire::jaeger::decode_agent_message;
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::log_limit::LogLimit;
use super::{ThriftProtocol, count_refused, reason_of};
use crate::limits::{Budget, Share};
use crate::{Collector, Reason, Receiver};

/// What the kernel is asked to hold between two reads; it gives less where `net.core.rmem_max` is
/// lower.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// The most datagrams, and their bytes, that go to the store at once.
const MAX_PACKETS_AT_ONCE: usize = 256;
const MAX_BYTES_AT_ONCE: usize = 1 << 20;

/// The first pause before a busy store is asked again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// How long queued datagrams may take to be stored once the receiver stops.
const GRACE: Duration = Duration::from_secs(5);

/// Opens a socket for datagrams.
///
/// # Errors
///
/// The address is taken, foreign, or needs privileges.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    // A kernel that gives less gives what it may.
    if let Err(error) = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES) {
        tracing::debug!(%error, "cannot set SO_RCVBUF");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Which socket it is, for [`kernel_drops`]; `None` where the system does not say.
pub fn inode(socket: &UdpSocket) -> Option<u64> {
    let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
    let inode = link.to_str()?.strip_prefix("socket:[")?;
    inode.strip_suffix(']')?.parse().ok()
}

/// Datagrams that the kernel has dropped before the socket of this inode was read, because its
/// buffer was full; `None` where the system does not say.
pub fn kernel_drops(inode: u64) -> Option<u64> {
    let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"];
    let tables = tables
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    tables.into_iter().find_map(|table| drops_in(&table, inode))
}

/// The last column of the socket's line; the tenth is the inode (proc_pid_net(5)).
fn drops_in(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        (columns.nth(9)?.parse() == Ok(inode)).then_some(())?;
        columns.last()?.parse().ok()
    })
}

/// Takes the datagrams of `socket` until `shutdown` resolves; then gives those that are queued a few
/// seconds to be stored.
pub async fn serve(
    socket: UdpSocket,
    protocol: ThriftProtocol,
    collector: Collector,
    shutdown: impl Future<Output = ()> + Send,
) {
    let receiver = match protocol {
        ThriftProtocol::Binary => Receiver::JaegerUdpBinary,
        ThriftProtocol::Compact => Receiver::JaegerUdpCompact,
    };
    let (sender, queue) = mpsc::channel(collector.limits().max_queued_packets.max(1));
    let worker = Worker {
        protocol,
        receiver,
        collector: collector.clone(),
        malformed: LogLimit::default(),
        dropped: LogLimit::default(),
    };
    let worker = tokio::spawn(worker.run(queue));
    let intake = Intake {
        receiver,
        collector: &collector,
        queue: sender,
        budget: Budget::new(collector.limits().max_queued_bytes),
    };
    intake.run(&socket, shutdown).await;
    let mut worker = pin!(worker);
    if tokio::time::timeout(GRACE, &mut worker).await.is_err() {
        worker.abort();
        tracing::warn!(
            transport = receiver.transport(),
            "datagrams were still queued when the server stopped"
        );
    }
}

/// A datagram, and its share of the queue's bytes.
struct Packet {
    bytes: Bytes,
    _share: Share,
}

/// Queues what arrives.
struct Intake<'a> {
    receiver: Receiver,
    collector: &'a Collector,
    queue: mpsc::Sender<Packet>,
    budget: Arc<Budget>,
}

impl Intake<'_> {
    /// Until `shutdown` resolves; then what the kernel still holds.
    async fn run(self, socket: &UdpSocket, shutdown: impl Future<Output = ()>) {
        // One byte more than is allowed shows what is larger.
        let mut buffer = vec![0; self.collector.limits().max_packet_bytes + 1];
        let mut failures = LogLimit::default();
        let mut shutdown = pin!(shutdown);
        loop {
            let received = tokio::select! {
                () = &mut shutdown => break,
                received = socket.recv(&mut buffer) => received,
            };
            match received {
                Ok(length) => self.take(&buffer[..length]),
                Err(error) => {
                    if let Some(more) = failures.allow() {
                        tracing::warn!(%error, more, "cannot receive a datagram; trying again");
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
        for _ in 0..self.queue.capacity() {
            match socket.try_recv(&mut buffer) {
                Ok(length) => self.take(&buffer[..length]),
                Err(_) => break,
            }
        }
    }

    fn take(&self, datagram: &[u8]) {
        let stats = self.collector.stats();
        if datagram.len() > self.collector.limits().max_packet_bytes {
            stats.refuse_request(self.receiver, Reason::TooLarge);
            return;
        }
        let mut share = self.budget.share();
        let packet = share.grow(datagram.len()).then(|| Packet {
            bytes: Bytes::copy_from_slice(datagram),
            _share: share,
        });
        let queued = packet.is_some_and(|packet| self.queue.try_send(packet).is_ok());
        if !queued {
            stats.refuse_request(self.receiver, Reason::QueueFull);
        }
    }
}

/// Decodes and stores.
struct Worker {
    protocol: ThriftProtocol,
    receiver: Receiver,
    collector: Collector,
    malformed: LogLimit,
    dropped: LogLimit,
}

/// Datagrams that go to the store together.
#[derive(Default)]
struct Load {
    packets: Vec<Packet>,
    /// How many spans each of them has.
    spans: Vec<usize>,
    batch: Batch,
}

impl Worker {
    async fn run(mut self, mut queue: mpsc::Receiver<Packet>) {
        let mut waiting = Vec::with_capacity(MAX_PACKETS_AT_ONCE);
        while queue.recv_many(&mut waiting, MAX_PACKETS_AT_ONCE).await > 0 {
            let mut packets = std::mem::take(&mut waiting).into_iter().peekable();
            while packets.peek().is_some() {
                let mut load = Load::default();
                let mut bytes = 0;
                while let Some(packet) = packets.next_if(|_| bytes < MAX_BYTES_AT_ONCE) {
                    bytes += packet.bytes.len();
                    self.add(&mut load, packet);
                    // A full load is some milliseconds of work: others may have a turn.
                    tokio::task::consume_budget().await;
                }
                self.store(load).await;
            }
        }
    }

    fn add(&mut self, load: &mut Load, packet: Packet) {
        let stats = self.collector.stats();
        stats.read(self.receiver, packet.bytes.len());
        let decoded = match decode_agent_message(&packet.bytes, self.protocol) {
            Ok(decoded) => decoded,
            Err(error) => {
                stats.refuse_request(self.receiver, reason_of(&error));
                if let Some(more) = self.malformed.allow() {
                    let transport = self.receiver.transport();
                    tracing::warn!(transport, %error, more, "a datagram was refused");
                }
                return;
            }
        };
        count_refused(&self.collector, self.receiver, &decoded);
        load.spans.push(decoded.batch.span_count());
        load.batch.groups.extend(decoded.batch.groups);
        load.packets.push(packet);
    }

    /// Stores a load, or drops it when the store has been busy for too long.
    async fn store(&mut self, mut load: Load) {
        if load.packets.is_empty() {
            return;
        }
        let stats = self.collector.stats();
        let deadline = Instant::now() + self.collector.limits().datagram_retry;
        let mut pause = FIRST_PAUSE;
        let refusal = loop {
            let batch = std::mem::take(&mut load.batch);
            let refusal = match self.collector.append(batch).await {
                Ok(()) => {
                    for spans in load.spans {
                        stats.accept(self.receiver, spans);
                    }
                    return;
                }
                Err(refusal) => refusal,
            };
            if refusal.reason != Reason::Busy || Instant::now() + pause > deadline {
                break refusal;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            load.batch = self.decode_again(&load.packets);
        };
        for spans in &load.spans {
            stats.refuse_request(self.receiver, refusal.reason);
            stats.refuse_spans(self.receiver, refusal.reason, *spans);
        }
        if let Some(more) = self.dropped.allow() {
            tracing::warn!(
                transport = self.receiver.transport(),
                datagrams = load.packets.len(),
                reason = refusal.message,
                more,
                "datagrams were dropped"
            );
        }
    }

    /// The store took the spans with it when it refused them. Datagrams are small: decoding them
    /// once more is cheaper than copying the spans of every load.
    fn decode_again(&self, packets: &[Packet]) -> Batch {
        let decoded = packets
            .iter()
            .filter_map(|packet| decode_agent_message(&packet.bytes, self.protocol).ok());
        Batch {
            groups: decoded.flat_map(|decoded| decoded.batch.groups).collect(),
        }
    }
}
