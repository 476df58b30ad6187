//! A resolver that knows for how long an answer holds, which the system's own does not tell.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{Kind, Reply, is_answer, parse, query};
use super::system::System;
use crate::config::Family;

/// The largest answer without extensions is 512 (RFC 1035 §4.2.1); whoever sends more does no harm.
const MAX_DATAGRAM: usize = 4096;

/// What a name stands for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    /// For how long; none if nobody says.
    pub(super) ttl: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Problem {
    NoName,
    NoAddresses,
    NotAName,
    /// What the last server said, or why it did not.
    Server(SocketAddr, String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoName => f.write_str("there is no such name"),
            Self::NoAddresses => f.write_str("the name has no address"),
            Self::NotAName => f.write_str("this is no name of the DNS"),
            Self::Server(server, why) => write!(f, "{server}: {why}"),
        }
    }
}

/// Looks a name up: in `/etc/hosts`, else by the servers, in each domain that is searched.
pub(super) async fn resolve(system: &System, name: &str, family: Family) -> Result<Found, Problem> {
    let known = system.known(name);
    if !known.is_empty() {
        return Ok(Found {
            addresses: known,
            ttl: None,
        });
    }
    let mut last = Problem::NoName;
    for candidate in system.candidates(name) {
        match of_name(system, &candidate, family).await {
            Ok(found) => return Ok(found),
            Err(Problem::NoName) => {}
            Err(problem @ Problem::NoAddresses) => last = problem,
            // Another domain would be another name's answer.
            Err(problem) => return Err(problem),
        }
    }
    Err(last)
}

/// Asks for the addresses of one name: of both families at once, where both may be used.
async fn of_name(system: &System, name: &str, family: Family) -> Result<Found, Problem> {
    let four = async {
        match family {
            Family::V6Only => None,
            _ => Some(of_kind(system, name, Kind::V4).await),
        }
    };
    let six = async {
        match family {
            Family::V4Only => None,
            _ => Some(of_kind(system, name, Kind::V6).await),
        }
    };
    let (four, six) = tokio::join!(four, six);
    let mut found = Found::default();
    let mut problem = None;
    for answer in [four, six].into_iter().flatten() {
        match answer {
            Ok(part) => {
                found.addresses.extend(part.addresses);
                found.ttl = [found.ttl, part.ttl].into_iter().flatten().min();
            }
            // A server that fails says more than one that knows nothing.
            Err(server @ Problem::Server(..)) => problem = Some(server),
            Err(other) => problem = problem.or(Some(other)),
        }
    }
    match problem {
        Some(problem) if found.addresses.is_empty() => Err(problem),
        _ => Ok(found),
    }
}

async fn of_kind(system: &System, name: &str, kind: Kind) -> Result<Found, Problem> {
    let mut last = Problem::NoName;
    for _ in 0..system.attempts {
        for server in &system.servers {
            let question = query(id(), name, kind).ok_or(Problem::NotAName)?;
            let why = match timeout(system.timeout, ask(*server, &question)).await {
                Ok(Ok(Reply::Answer(addresses, _))) if addresses.is_empty() => {
                    return Err(Problem::NoAddresses);
                }
                Ok(Ok(Reply::Answer(addresses, seconds))) => {
                    return Ok(Found {
                        addresses,
                        ttl: seconds.map(|seconds| Duration::from_secs(seconds.into())),
                    });
                }
                Ok(Ok(Reply::NoName)) => return Err(Problem::NoName),
                Ok(Ok(Reply::Failed(code))) => format!("response code {code}"),
                Ok(Ok(Reply::Truncated)) => "a truncated answer over TCP".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            last = Problem::Server(*server, why);
        }
    }
    Err(last)
}

/// What nobody can guess who does not see the question.
fn id() -> u16 {
    let mut bytes = [0; 2];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u16::from_ne_bytes(bytes),
        Err(_) => fastrand::u16(..),
    }
}

/// Asks a server: over UDP, and over TCP what does not fit.
async fn ask(server: SocketAddr, question: &[u8]) -> io::Result<Reply> {
    let socket = send(server, question).await?;
    let mut message = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut message).await?;
        // What is no answer to this question may be an attempt to pass for one.
        match parse(&message[..length], question) {
            Some(Reply::Truncated) => break,
            Some(reply) => return Ok(reply),
            None => {}
        }
    }
    ask_tcp(server, question).await
}

/// Sends a question from a port of its own, on which only the server's answers arrive.
async fn send(server: SocketAddr, question: &[u8]) -> io::Result<UdpSocket> {
    let own: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    Ok(socket)
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Reply> {
    let message = exchange_tcp(server, question).await?;
    parse(&message, question).ok_or_else(|| io::Error::other("a malformed answer"))
}

/// Passes somebody's question on to a server: its answer as it comes. What is asked are the first `asked` bytes.
pub(super) async fn relay_udp(
    server: SocketAddr,
    message: &[u8],
    asked: usize,
) -> io::Result<Vec<u8>> {
    let question = anew(message);
    let socket = send(server, &question).await?;
    loop {
        socket.readable().await?;
        // Only now, since many may wait.
        let mut answer = vec![0; usize::from(u16::MAX)];
        let length = match socket.try_recv(&mut answer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        answer.truncate(length);
        if is_answer(&answer, &question[..asked]) == Some(true) {
            answer[..2].copy_from_slice(&message[..2]);
            answer.shrink_to_fit();
            return Ok(answer);
        }
    }
}

/// The same over TCP.
pub(super) async fn relay_tcp(
    server: SocketAddr,
    message: &[u8],
    asked: usize,
) -> io::Result<Vec<u8>> {
    let question = anew(message);
    let mut answer = exchange_tcp(server, &question).await?;
    if is_answer(&answer, &question[..asked]) != Some(true) {
        return Err(io::Error::other("a malformed answer"));
    }
    answer[..2].copy_from_slice(&message[..2]);
    Ok(answer)
}

/// The same question with a number that nobody can guess who has not asked it.
fn anew(message: &[u8]) -> Vec<u8> {
    let mut question = message.to_vec();
    question[..2].copy_from_slice(&id().to_be_bytes());
    question
}

async fn exchange_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&length.to_be_bytes(), question].concat())
        .await?;
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}
