//! A flood of what makes no sense, on every port at once: memory stays bounded, nothing panics, and who
//! makes sense is served all the while.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/serve.rs"]
mod harness;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use harness::{Serve, command};

/// Requests of each kind to each port.
const ROUNDS: u64 = 100;

/// The most that the server may ever take. What the flood announces would be gigabytes.
const MAX_MEMORY_KIB: u64 = 400 << 10;

const DATAGRAMS: [&str; 2] = ["Jaeger UDP, compact", "Jaeger UDP, binary"];

/// Where bodies are taken, and how they begin: as one that is right does, before the rubbish.
const BODIES: [(&str, &str, &str, &[u8]); 11] = [
    (
        "OTLP over HTTP",
        "/v1/traces",
        "application/x-protobuf",
        b"\x0a\xff\xff\x7f\x12",
    ),
    (
        "OTLP over HTTP",
        "/v1/traces",
        "application/json",
        b"{\"resourceSpans\":[{\"scopeSpans\":[[[[[",
    ),
    (
        "Zipkin",
        "/api/v2/spans",
        "application/json",
        b"[{\"traceId\":\"1\",\"tags\":{",
    ),
    (
        "Zipkin",
        "/api/v2/spans",
        "application/x-protobuf",
        b"\x0a\xff\xff\x03\x0a\x10",
    ),
    (
        "Zipkin",
        "/api/v1/spans",
        "application/json",
        b"[{\"annotations\":[[[[[",
    ),
    (
        "Zipkin",
        "/api/v1/spans",
        "application/x-thrift",
        b"\x0c\x7f\xff\xff\xff\x0f\x00\x06",
    ),
    (
        "Jaeger over HTTP",
        "/api/traces",
        "application/x-thrift",
        b"\x0f\x00\x02\x0c\x7f\xff\xff\xff",
    ),
    (
        "UI",
        "/api/transform",
        "application/json",
        b"{\"resourceSpans\":[{\"resource\":",
    ),
    (
        "UI",
        "/api/periplus/v1/sampling/dry-run",
        "application/yaml",
        b"tail_sampling: {policies: [[[[",
    ),
    ("UI", "/api/archive/x", "application/json", b"{"),
    ("sampling over HTTP", "/sampling", "application/json", b"{"),
];

/// Where questions are asked.
const QUESTIONS: [(&str, &str); 9] = [
    ("UI", "/api/traces?service="),
    ("UI", "/api/v3/traces?query.filter="),
    ("UI", "/api/periplus/v1/search?q="),
    ("UI", "/api/traces/"),
    ("Zipkin", "/api/v2/traces?annotationQuery="),
    ("Zipkin", "/api/v2/trace/"),
    ("sampling over HTTP", "/sampling?service="),
    ("health", "/"),
    ("own metrics", "/"),
];

/// The head of a connection of HTTP/2, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn rubbish(random: &mut Rng, length: usize) -> Vec<u8> {
    (0..length).map(|_| random.u8(..)).collect()
}

/// What no server understands, in many forms.
fn broken(random: &mut Rng, round: u64) -> Vec<u8> {
    let length = random.usize(1..4_000);
    let tail = rubbish(random, length);
    let head: &[u8] = match round % 8 {
        0 => b"",
        1 => b"POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 18446744073709551616\r\n\r\n",
        2 => b"POST /v1/traces HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffff\r\n",
        3 => b"GET /\0 HTTP/1.1\r\nhost: t\r\n\r\n",
        4 => b"POST /api/v2/spans HTTP/1.1\r\nhost: t\r\ncontent-encoding: gzip\r\ncontent-length: 4000\r\n\r\n\x1f\x8b\x08",
        5 => PREFACE,
        // A frame of headers, and what is no compressed header.
        6 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\x0f\xa0\x01\x05\0\0\0\x01",
        // A handshake of TLS.
        _ => b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    };
    [head, &tail].concat()
}

/// Sends it all and takes what comes back, as far as the server plays along; says that no more comes
/// where `is_end`.
fn send(address: SocketAddr, bytes: &[u8], is_end: bool) -> Vec<u8> {
    let mut answer = Vec::new();
    let Ok(mut stream) = TcpStream::connect(address) else {
        return answer;
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // The server may have closed it already, and need not say anything.
    let _ = stream.write_all(bytes);
    if is_end {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let _ = stream.take(1 << 20).read_to_end(&mut answer);
    answer
}

fn flood(serve: &Serve) {
    thread::scope(|scope| {
        for (number, (name, address)) in serve.addresses.iter().enumerate() {
            let mut random = Rng::with_seed(number as u64);
            scope.spawn(move || {
                if DATAGRAMS.contains(name) {
                    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                    for round in 0..20 * ROUNDS {
                        let length = random.usize(0..2_000);
                        let mut datagram = rubbish(&mut random, length);
                        if round % 2 == 0 {
                            // As a call begins: of the one protocol, of the other.
                            datagram.splice(..0, *b"\x82\x81\x01\x09emitBatch\x1c\x19\xfc\xff\xff");
                        }
                        socket.send_to(&datagram, address).unwrap();
                    }
                    return;
                }
                for round in 0..2 * ROUNDS {
                    let answer = send(*address, &broken(&mut random, round), true);
                    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{name} took {round}");
                }
            });
        }
        for (port, path, kind, begin) in BODIES {
            let address = serve.addresses[port];
            let mut random = Rng::with_seed(path.len() as u64);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let body = [begin, &rubbish(&mut random, 10_000)].concat();
                    let head = format!(
                        "POST {path} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-type: {kind}\r\n\
                         content-length: {}\r\n\r\n",
                        body.len()
                    );
                    let answer = send(address, &[head.as_bytes(), &body].concat(), false);
                    let answer = String::from_utf8_lossy(&answer).into_owned();
                    assert!(answer.starts_with("HTTP/1.1 4"), "{path} {kind}: {answer}");
                }
            });
        }
        for (port, path) in QUESTIONS {
            let address = serve.addresses[port];
            let mut random = Rng::with_seed(path.len() as u64);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let length = random.usize(1..300);
                    let text = rubbish(&mut random, length);
                    let text: String = text.iter().map(|byte| format!("%{byte:02x}")).collect();
                    let request = format!(
                        "GET {path}{text} HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n"
                    );
                    let answer = send(address, request.as_bytes(), false);
                    let answer = String::from_utf8_lossy(&answer).into_owned();
                    // Some ports answer every question.
                    let is_answer = ["HTTP/1.1 200", "HTTP/1.1 4", "HTTP/1.1 501"]
                        .iter()
                        .any(|status| answer.starts_with(status));
                    assert!(is_answer, "{path}{text}: {answer}");
                }
            });
        }
    });
}

/// Sends traces and reads them until it is told to stop; how many.
fn honest(serve: &Serve, stop: &AtomicBool) -> u64 {
    let mut traces = 0;
    while !stop.load(Ordering::Relaxed) || traces < 10 {
        traces += 1;
        let body = format!(
            r#"[{{"traceId":"{traces:032x}","id":"1","name":"get","timestamp":1,"localEndpoint":{{"serviceName":"a"}}}}]"#
        );
        let taken = serve.request("Zipkin", "POST /api/v2/spans", &body);
        assert!(taken.starts_with("HTTP/1.1 202"), "{traces}: {taken}");
        let path = format!("GET /api/traces/{traces:x}");
        let found = serve.request("UI", &path, "");
        assert!(found.starts_with("HTTP/1.1 200"), "{traces}: {found}");
        let health = serve.request("health", "GET /status", "");
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    }
    traces
}

#[test]
fn a_flood_on_every_port_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = command(&["--memory"]);
    command.stderr(File::create(&log).unwrap());
    let serve = Serve::run(command);
    assert_eq!(serve.addresses.len(), 13);
    let stop = AtomicBool::new(false);
    let traces = thread::scope(|scope| {
        let honest = scope.spawn(|| honest(&serve, &stop));
        let flooded = scope.spawn(|| flood(&serve)).join();
        stop.store(true, Ordering::Relaxed);
        flooded.unwrap();
        honest.join().unwrap()
    });

    let peak = serve.peak_memory_kib();
    println!("{traces} traces beside the flood, {peak} KiB at most");
    assert!(peak < MAX_MEMORY_KIB, "{peak} KiB");
    let said = fs::read_to_string(&log).unwrap();
    assert!(!said.contains("panicked"), "{said}");
}
