//! As much of Redis as counting needs: one connection, on which the commands of all requests that wait go out together
//! (RESP2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// So many requests may wait; more are told so.
const MAX_WAITING: usize = 4096;
/// So many go out together.
const MAX_TOGETHER: usize = 512;
/// A longer line is none of Redis'.
const MAX_LINE: u64 = 64 * 1024;

/// Where Redis is, and who this is to it.
#[derive(Clone)]
pub struct Login {
    /// `HOST:PORT`
    pub address: String,
    /// Of Redis' access control lists; `default` without it.
    pub user: Option<String>,
    /// What is shown, if anything is.
    pub password: Option<String>,
    /// As long may it take to connect, and to answer.
    pub timeout: Duration,
}

/// It has a password.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Login");
        shown
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Why nothing could be counted.
#[derive(Clone, Debug, Error)]
pub enum RedisError {
    /// It is not there, or has gone.
    #[error("no connection to Redis at {address}: {reason}")]
    Connection {
        /// Where.
        address: String,
        /// Why.
        reason: Arc<str>,
    },
    /// It takes too long.
    #[error("Redis at {0} does not answer")]
    Timeout(String),
    /// It has answered with an error.
    #[error("Redis refuses: {0}")]
    Refused(Arc<str>),
    /// It has answered with something else.
    #[error("Redis has answered with something else than a number")]
    Unexpected,
    /// Too many requests wait for it.
    #[error("{MAX_WAITING} requests wait for Redis")]
    Overloaded,
}

/// A key to be counted.
#[derive(Clone, Debug)]
pub(crate) struct Increment {
    pub(crate) key: String,
    pub(crate) by: u64,
    /// After so many seconds without another it is forgotten.
    pub(crate) expires: u64,
}

type Answer = oneshot::Sender<Result<Vec<u64>, RedisError>>;

/// A connection that comes back by itself. Clones share it.
#[derive(Clone, Debug)]
pub struct Redis {
    requests: mpsc::Sender<(Vec<Increment>, Answer)>,
}

impl Redis {
    /// Connects when there is something to be counted; in a task that ends with the last clone.
    pub fn new(login: Login) -> Self {
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(serve(login, waiting));
        Self { requests }
    }

    /// Counts, and says what has been counted under each key by then.
    pub(crate) async fn count(&self, keys: Vec<Increment>) -> Result<Vec<u64>, RedisError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.try_send((keys, answer));
        sent.map_err(|_| RedisError::Overloaded)?;
        // The task answers whatever it takes.
        answered.await.unwrap_or(Err(RedisError::Overloaded))
    }
}

async fn serve(login: Login, mut waiting: mpsc::Receiver<(Vec<Increment>, Answer)>) {
    let mut connection = None;
    let mut batch = Vec::new();
    let mut is_lost = false;
    while waiting.recv_many(&mut batch, MAX_TOGETHER).await > 0 {
        let keys: Vec<&[Increment]> = batch.iter().map(|(keys, _)| keys.as_slice()).collect();
        let exchange = exchange(&login, &mut connection, &keys);
        let outcome = timeout(login.timeout, exchange).await;
        let outcome = outcome.unwrap_or_else(|_| Err(RedisError::Timeout(login.address.clone())));
        if let Err(error) = &outcome {
            connection = None;
            if !is_lost {
                tracing::warn!(%error, "requests are not counted");
            }
        } else if is_lost {
            tracing::info!("requests are counted again");
        }
        is_lost = outcome.is_err();
        let mut counts = outcome.map(Vec::into_iter);
        for (_, answer) in batch.drain(..) {
            let of_it = match &mut counts {
                Ok(counts) => counts.next().unwrap_or(Err(RedisError::Unexpected)),
                Err(error) => Err(error.clone()),
            };
            // Who has asked may be gone.
            let _ = answer.send(of_it);
        }
    }
}

type Counted = Result<Vec<u64>, RedisError>;

/// Sends everything, then reads everything: for each request its counts, or why Redis refuses.
async fn exchange(
    login: &Login,
    connection: &mut Option<BufReader<TcpStream>>,
    requests: &[&[Increment]],
) -> Result<Vec<Counted>, RedisError> {
    let lost = |error: io::Error| RedisError::Connection {
        address: login.address.clone(),
        reason: error.to_string().into(),
    };
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(connect(login).await?),
    };
    let mut commands = Vec::new();
    for increment in requests.iter().copied().flatten() {
        let Increment { key, by, expires } = increment;
        push(&mut commands, &["INCRBY", key, &by.to_string()]);
        push(&mut commands, &["EXPIRE", key, &expires.to_string()]);
    }
    stream.get_mut().write_all(&commands).await.map_err(lost)?;
    let mut all = Vec::with_capacity(requests.len());
    for request in requests {
        let mut counted = Ok(Vec::with_capacity(request.len()));
        for _ in *request {
            let (count, expiry) = (
                reply(stream).await.map_err(lost)?,
                reply(stream).await.map_err(lost)?,
            );
            counted = counted.and_then(|mut counts: Vec<u64>| {
                counts.push(count.number()?);
                expiry.number()?;
                Ok(counts)
            });
        }
        all.push(counted);
    }
    Ok(all)
}

async fn connect(login: &Login) -> Result<BufReader<TcpStream>, RedisError> {
    let lost = |error: io::Error| RedisError::Connection {
        address: login.address.clone(),
        reason: error.to_string().into(),
    };
    let stream = TcpStream::connect(&login.address).await.map_err(lost)?;
    // Else commands wait for acknowledgements; without it they are only slower.
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    if let Some(password) = &login.password {
        let mut command = Vec::new();
        match &login.user {
            Some(user) => push(&mut command, &["AUTH", user, password]),
            None => push(&mut command, &["AUTH", password]),
        }
        stream.get_mut().write_all(&command).await.map_err(lost)?;
        if let Reply::Error(reason) = reply(&mut stream).await.map_err(lost)? {
            return Err(RedisError::Refused(reason));
        }
    }
    Ok(stream)
}

/// A command is a list of texts.
fn push(commands: &mut Vec<u8>, parts: &[&str]) {
    commands.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        commands.extend_from_slice(format!("${}\r\n{part}\r\n", part.len()).as_bytes());
    }
}

#[derive(Debug, PartialEq)]
enum Reply {
    Number(u64),
    Error(Arc<str>),
    Other,
}

impl Reply {
    fn number(self) -> Result<u64, RedisError> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Error(reason) => Err(RedisError::Refused(reason)),
            Self::Other => Err(RedisError::Unexpected),
        }
    }
}

async fn reply(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Reply> {
    let mut line = Vec::new();
    let mut limited = stream.take(MAX_LINE);
    limited.read_until(b'\n', &mut line).await?;
    let Some(line) = line.strip_suffix(b"\r\n") else {
        return Err(match line.is_empty() {
            true => io::Error::new(io::ErrorKind::UnexpectedEof, "it was closed"),
            false => io::Error::new(
                io::ErrorKind::InvalidData,
                "it does not speak Redis' protocol",
            ),
        });
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(match line.split_first() {
        Some((b':', number)) => text(number).parse().map_or(Reply::Other, Reply::Number),
        Some((b'-', reason)) => Reply::Error(text(reason).into()),
        Some((b'+', _)) => Reply::Other,
        _ => {
            let reason = "it has answered with a kind that was not asked for";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replies_are_read() {
        for (text, expected) in [
            (":42\r\n", Ok(Reply::Number(42))),
            (":-1\r\n", Ok(Reply::Other)),
            ("+OK\r\n", Ok(Reply::Other)),
            (
                "-NOAUTH Authentication required.\r\n",
                Ok(Reply::Error("NOAUTH Authentication required.".into())),
            ),
            ("", Err(io::ErrorKind::UnexpectedEof)),
            (":4", Err(io::ErrorKind::InvalidData)),
            (
                "HTTP/1.1 400 Bad Request\r\n",
                Err(io::ErrorKind::InvalidData),
            ),
            ("$3\r\nabc\r\n", Err(io::ErrorKind::InvalidData)),
        ] {
            let read = reply(&mut text.as_bytes()).await;
            assert_eq!(read.map_err(|error| error.kind()), expected, "{text:?}");
        }
        let endless = vec![b':'; 2 * MAX_LINE as usize];
        assert!(reply(&mut endless.as_slice()).await.is_err());
    }

    #[test]
    fn commands_are_lists_of_texts() {
        let mut commands = Vec::new();
        push(&mut commands, &["INCRBY", "ä b", "1"]);
        assert_eq!(
            String::from_utf8_lossy(&commands),
            "*3\r\n$6\r\nINCRBY\r\n$4\r\nä b\r\n$1\r\n1\r\n"
        );
    }
}
