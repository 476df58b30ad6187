//! An application that does exactly as it is told, byte by byte.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::wire::{Client, header};
use super::{DEADLINE, wait_for};

/// A request as it reached the origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: String,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }

    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        self.line().split(' ').nth(1).unwrap_or_default()
    }
}

/// An origin on a port of its own.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// An origin that hands each connection to `serve`.
    pub(crate) fn raw(serve: impl Fn(Client, &Origin) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = Self {
            address: listener.local_addr().expect("an address"),
            received: Arc::default(),
            connections: Arc::default(),
        };
        let accepting = origin.clone();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
                stream.set_nodelay(true).expect("no delay");
                let client = Client {
                    stream,
                    unread: Vec::new(),
                };
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let (serve, origin) = (serve.clone(), accepting.clone());
                std::thread::spawn(move || serve(client, &origin));
            }
        });
        origin
    }

    /// An origin that answers each request with the bytes that `answer` gives; none closes.
    pub(crate) fn new(
        answer: impl Fn(&Received) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self::raw(move |mut client, origin| {
            while let Some(request) = read_request(&mut client) {
                origin.note(request.clone());
                match answer(&request) {
                    Some(bytes) => client.send(bytes),
                    None => return,
                }
            }
        })
    }

    /// An origin that answers every request with 200 and this body.
    pub(crate) fn saying(body: &str) -> Self {
        let answer = ok(body);
        Self::new(move |_| Some(answer.clone()))
    }

    pub(crate) fn note(&self, request: Received) {
        self.received.lock().expect("lock").push(request);
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("lock").clone()
    }

    /// The newest request, once there are `count`.
    pub(crate) fn nth(&self, count: usize) -> Received {
        wait_for("a request at the origin", || {
            self.received().get(count - 1).cloned()
        })
    }

    pub(crate) fn last(&self) -> Received {
        self.received().pop().expect("the origin has got a request")
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Reads a request with its body.
pub(crate) fn read_request(client: &mut Client) -> Option<Received> {
    let head = client.head()?;
    let mut request = Received {
        head,
        ..Received::default()
    };
    if request.header("expect").is_some() {
        client.send("HTTP/1.1 100 Continue\r\n\r\n");
    }
    if request.header("transfer-encoding").is_some() {
        let mut response = super::Response::default();
        read_chunks(client, &mut response)?;
        request.body = response.body;
        request.trailers = response.trailers;
    } else if let Some(length) = request.header("content-length") {
        request.body = client.exactly(length.parse().expect("a length"))?;
    }
    Some(request)
}

fn read_chunks(client: &mut Client, into: &mut super::Response) -> Option<()> {
    // A chunked request reads like a chunked response.
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    client.unread.splice(0..0, head.iter().copied());
    *into = client.response(false)?;
    Some(())
}

/// `200 OK` with a body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}
