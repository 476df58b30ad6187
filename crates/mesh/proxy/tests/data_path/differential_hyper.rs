//! Whatever hyper refuses, the proxy refuses too: requests mutated at random, over real sockets.
//! (The other way round does not hold: hyper takes CL+TE, several hosts, bare LF and more.)

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;

use crate::support::config::Mesh;
use crate::support::origin::Origin;
use crate::support::{Client, Config};

/// A hyper server that counts the requests whose body it could read.
struct Hyper {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
}

impl Hyper {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("an address");
        let taken = Arc::<AtomicUsize>::default();
        let counter = taken.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let counter = counter.clone();
                    let service = service_fn(move |request: Request<Incoming>| {
                        let counter = counter.clone();
                        async move {
                            if request.into_body().collect().await.is_ok() {
                                counter.fetch_add(1, Ordering::SeqCst);
                            }
                            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("ok"))))
                        }
                    });
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new()
                            .half_close(true)
                            .serve_connection(TokioIo::new(stream), service),
                    );
                }
            });
        });
        Self { address, taken }
    }

    /// How many requests it takes out of these bytes.
    fn takes(&self, bytes: &[u8]) -> usize {
        let before = self.taken.load(Ordering::SeqCst);
        drain(self.address, bytes);
        self.taken.load(Ordering::SeqCst) - before
    }
}

/// Sends bytes, says that no more will come, and waits until the other side has closed.
fn drain(address: SocketAddr, bytes: &[u8]) {
    let mut client = Client::connect(address);
    client.send(bytes);
    // The other side may have closed first.
    let _ = client.stream.shutdown(std::net::Shutdown::Write);
    client.rest();
}

struct Both {
    hyper: Hyper,
    origin: Origin,
    mesh: Mesh,
}

static BOTH: LazyLock<Both> = LazyLock::new(|| {
    let origin = Origin::saying("ok");
    let mut config = Config::to(&origin);
    config.routes[0].path = periplus_proxy::snapshot::PathMatch::Prefix(String::new());
    Both {
        hyper: Hyper::start(),
        mesh: config.start(),
        origin,
    }
});

const SEEDS: [&str; 5] = [
    "GET /a?b=c HTTP/1.1\r\nhost: h.example\r\naccept: */*\r\n\r\n",
    "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    "GET http://h.example/ HTTP/1.1\r\nhost: h.example\r\nconnection: close\r\n\r\n",
    "OPTIONS * HTTP/1.0\r\nhost: h\r\n\r\n",
];

/// Pieces that break parsers.
const SHARDS: [&str; 18] = [
    "\r",
    "\n",
    "\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "\x0b",
    "\x7f",
    "0",
    "a",
    "-1",
    "%",
    "#",
    "content-length: 3\r\n",
    "transfer-encoding: chunked\r\n",
];

#[derive(Clone, Debug)]
enum Mutation {
    Insert(usize, usize),
    Delete(usize),
    Replace(usize, u8),
    Cut(usize),
}

fn mutate(seed: &str, mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = seed.as_bytes().to_vec();
    for mutation in mutations {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match mutation {
            Mutation::Insert(at, shard) => {
                let at = at % length;
                bytes.splice(at..at, SHARDS[shard % SHARDS.len()].bytes());
            }
            Mutation::Delete(at) => {
                bytes.remove(at % length);
            }
            Mutation::Replace(at, byte) => bytes[at % length] = *byte,
            Mutation::Cut(at) => bytes.truncate(at % length),
        }
    }
    bytes
}

/// The same without characters in the target that no URI has, which hyper refuses and the proxy passes on as
/// they are.
fn as_uri(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let line = bytes.iter().position(|byte| *byte == b'\n');
    let line = &mut bytes[..line.unwrap_or_default()];
    let mut words = line.split_mut(|byte| *byte == b' ').skip(1);
    for byte in words.next().unwrap_or_default() {
        if matches!(*byte, b'<' | b'>' | b'`') {
            *byte = b'a';
        }
    }
    bytes
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let one = prop_oneof![
        4 => (any::<usize>(), any::<usize>()).prop_map(|(at, shard)| Mutation::Insert(at, shard)),
        3 => any::<usize>().prop_map(Mutation::Delete),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        1 => any::<usize>().prop_map(Mutation::Cut),
    ];
    prop::collection::vec(one, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_proxy_takes_no_request_that_hyper_refuses(
        seed in 0..SEEDS.len(),
        mutations in mutations(),
    ) {
        let bytes = mutate(SEEDS[seed], &mutations);
        let both = &*BOTH;
        let by_hyper = both.hyper.takes(&as_uri(&bytes));
        let before = both.origin.received().len();
        drain(both.mesh.address, &bytes);
        let by_us = both.origin.received().len() - before;
        prop_assert!(
            by_us <= by_hyper,
            "the proxy forwarded {by_us}, hyper took {by_hyper}: {}",
            bytes.escape_ascii()
        );
        if mutations.is_empty() {
            prop_assert_eq!((by_us, by_hyper), (1, 1));
        }
    }
}
