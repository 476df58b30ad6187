//! The origin: one thread, one epoll, a fixed answer. It must cost far less than any proxy.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// Flags of the origin.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where it listens
    #[arg(long)]
    address: SocketAddr,
    /// Bytes of each answer's body
    #[arg(long, default_value_t = 1024)]
    body: usize,
}

const LISTENER: Token = Token(0);

/// Serves until it is killed. `GET /__stats` answers how many requests came, and how many of them
/// carried trace context.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut listener = TcpListener::bind(args.address)?;
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
        args.body
    )
    .into_bytes();
    answer.resize(answer.len() + args.body, b'x');

    let mut origin = Origin {
        answer,
        requests: 0,
        with_context: 0,
    };
    let mut connections: HashMap<Token, Connection> = HashMap::new();
    let mut next = 1;
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() != LISTENER {
                let done = connections
                    .get_mut(&event.token())
                    .is_some_and(|connection| {
                        !origin.send(connection) || !origin.serve(connection)
                    });
                if done {
                    connections.remove(&event.token());
                }
                continue;
            }
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nodelay(true)?;
                let token = Token(next);
                next += 1;
                let both = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut stream, token, both)?;
                connections.insert(
                    token,
                    Connection {
                        stream,
                        pending: Vec::new(),
                        owed: 0,
                        sent: 0,
                    },
                );
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    pending: Vec<u8>,
    /// Answers that are not sent to their end.
    owed: usize,
    /// Bytes of the first of them that are sent.
    sent: usize,
}

struct Origin {
    answer: Vec<u8>,
    requests: u64,
    with_context: u64,
}

impl Origin {
    /// Answers what has arrived; false when the connection is over.
    fn serve(&mut self, connection: &mut Connection) -> bool {
        let mut buffer = [0; 16 * 1024];
        loop {
            match connection.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    connection.pending.extend_from_slice(&buffer[..n]);
                    if !self.answer_all(connection) {
                        return false;
                    }
                    // A short read means that the socket is drained; another would only cost.
                    if n < buffer.len() {
                        return true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }

    fn answer_all(&mut self, connection: &mut Connection) -> bool {
        let mut done = 0;
        while let Some(end) = memmem::find(&connection.pending[done..], b"\r\n\r\n") {
            let head = &connection.pending[done..done + end + 4];
            done += end + 4;
            if head.starts_with(b"GET /__stats ") {
                // Few bytes, on a connection of their own.
                if connection.stream.write_all(&self.stats()).is_err() {
                    return false;
                }
                continue;
            }
            self.requests += 1;
            let context = memmem::find(head, b"\r\nx-b3-traceid: ").is_some()
                || memmem::find(head, b"\r\ntraceparent: ").is_some();
            self.with_context += u64::from(context);
            connection.owed += 1;
        }
        connection.pending.drain(..done);
        self.send(connection)
    }

    /// Sends what there is room for; false when the connection is over.
    fn send(&self, connection: &mut Connection) -> bool {
        while connection.owed > 0 {
            match connection.stream.write(&self.answer[connection.sent..]) {
                Ok(n) => connection.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
            if connection.sent == self.answer.len() {
                connection.sent = 0;
                connection.owed -= 1;
            }
        }
        true
    }

    fn stats(&self) -> Vec<u8> {
        let body = format!(
            r#"{{"requests":{},"with_context":{}}}"#,
            self.requests, self.with_context
        );
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}
