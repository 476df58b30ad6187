//! In steady state the data path allocates nothing: not for a request, not for its span, not for
//! the report.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[expect(dead_code, reason = "this file needs only the configuration")]
#[path = "data_path/support/mod.rs"]
mod support;

use support::config::decorated;
use support::{Collector, Config, Origin, forward, route};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const REQUEST: &[u8] = b"GET /reviews/0?x=y HTTP/1.1\r\nhost: reviews:9080\r\nuser-agent: test\r\n\
    x-b3-traceid: 463ac35c9f6413ad48485a3953bb6124\r\nx-b3-spanid: a2fb4a1d1a96d312\r\n\
    x-b3-sampled: 1\r\nx-request-id: 11111111-2222-9333-8444-555555555555\r\n\r\n";
const POST: &[u8] = b"POST /reviews/0 HTTP/1.1\r\nhost: reviews:9080\r\n\
    transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";

/// A server that allocates nothing per request: it answers whenever the bytes end as a request
/// does.
fn serve(answer: &'static [u8], is_end: fn(&[u8]) -> bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut block = vec![0; 256 * 1024];
                while let Ok(n @ 1..) = stream.read(&mut block) {
                    if is_end(&block[..n]) && stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn exchange(client: &mut TcpStream, request: &[u8], block: &mut [u8]) {
    client.write_all(request).expect("the proxy takes it");
    let mut n = 0;
    while !block[..n].ends_with(b"hello") {
        let more = client.read(&mut block[n..]).expect("an answer");
        assert!(more > 0, "the proxy closed");
        n += more;
    }
    assert!(block.starts_with(b"HTTP/1.1 200 OK"));
}

#[test]
fn the_data_path_allocates_nothing_in_steady_state() {
    const ROUNDS: usize = 5000;
    // What is not used as it is: the addresses are replaced below.
    let (origin, collector) = (Origin::saying("hello"), Collector::zipkin());
    let mut config = Config::to(&origin)
        .zipkin(&collector)
        .routes(vec![decorated(
            route("/", forward("app")),
            "reviews.default.svc.cluster.local:9080/*",
        )]);
    config.clusters[0].endpoints[0].address = serve(RESPONSE, |bytes| bytes.ends_with(b"\r\n\r\n"));
    config.clusters[1].endpoints[0].address = serve(
        b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
        |bytes| bytes.ends_with(b"}]"),
    );
    let mesh = config.start();
    let mut client = TcpStream::connect(mesh.address).expect("the proxy accepts");
    client.set_nodelay(true).expect("no delay");
    let mut block = [0; 4096];
    for _ in 0..1000 {
        exchange(&mut client, REQUEST, &mut block);
        exchange(&mut client, POST, &mut block);
    }
    mesh.wait_stat("tracing.zipkin.spans_sent", 2000);

    let region = Region::new(ALLOCATOR);
    for _ in 0..ROUNDS {
        exchange(&mut client, REQUEST, &mut block);
        exchange(&mut client, POST, &mut block);
    }
    let change = region.change();
    // A buffer may still grow to its final size, once: not a hundredth of the requests.
    let count = change.allocations + change.reallocations;
    assert!(count < ROUNDS / 100, "{change:?}");
    mesh.wait_stat("tracing.zipkin.spans_sent", 2000 + 2 * ROUNDS as u64);
}
