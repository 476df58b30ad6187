//! `kill -9` at any moment, under load: what was acknowledged is there, exactly once.
//!
//! `PERIPLUS_KILL_ROUNDS=1000 cargo test --test durability` does it for longer.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/serve.rs"]
mod harness;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::Serve;
use periplus_store::SpanStore as _;
use periplus_store::embedded::{EmbeddedStore, Options};
use rustix::process::Signal;

const SENDERS: u64 = 4;

/// Spans of one trace in each request.
const SPANS: u64 = 5;

/// The number of the next trace.
static NEXT: AtomicU64 = AtomicU64::new(1);

#[test]
fn nothing_acknowledged_is_lost_or_doubled() {
    let rounds = std::env::var("PERIPLUS_KILL_ROUNDS").map_or(20, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let mut all = Vec::new();
    for round in 0..rounds {
        let mut serve = Serve::start_with(&["--data", data, "--retention", "0"]);
        let address = serve.addresses["Zipkin"];
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let acknowledged = Arc::clone(&acknowledged);
                std::thread::spawn(move || send(address, &acknowledged))
            })
            .collect();
        // Any moment, but one at which something is under way.
        let at_least = 1 + fastrand::usize(0..200);
        let deadline = Instant::now() + Duration::from_secs(20);
        while acknowledged.lock().unwrap().len() < at_least {
            assert!(Instant::now() < deadline, "round {round}: nothing is taken");
            std::thread::yield_now();
        }
        assert_eq!(serve.signal(Signal::KILL), None);
        for sender in senders {
            sender.join().unwrap();
        }
        all.extend(acknowledged.lock().unwrap().drain(..));
        // After the other rounds the next start finds the log as the kill left it.
        if round % 2 == 1 || round + 1 == rounds {
            examine(dir.path(), &all, round);
        }
    }
    assert!(
        all.len() as u64 > rounds,
        "{} in {rounds} rounds",
        all.len()
    );
}

/// Sends requests over one connection until it breaks.
fn send(address: SocketAddr, acknowledged: &Mutex<Vec<u64>>) {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return;
    };
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    loop {
        let trace = NEXT.fetch_add(1, Ordering::Relaxed);
        let spans: Vec<String> = (1..=SPANS)
            .map(|id| {
                format!(
                    r#"{{"traceId":"{trace:016x}","id":"{id:016x}","name":"n","timestamp":1795332552157501}}"#
                )
            })
            .collect();
        let body = format!("[{}]", spans.join(","));
        let request = format!(
            "POST /api/v2/spans HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(request.as_bytes()).is_err() {
            return;
        }
        match answer(&mut answers) {
            Some(status) if status.contains(" 202 ") => acknowledged.lock().unwrap().push(trace),
            Some(status) => panic!("{status}"),
            None => return,
        }
    }
}

/// The status line, if the whole answer comes.
fn answer(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut status = String::new();
    stream.read_line(&mut status).ok().filter(|n| *n > 0)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; length]).ok()?;
    Some(status)
}

/// Opens the directory, as the next start does, and looks for all that was acknowledged.
fn examine(dir: &Path, acknowledged: &[u64], round: u64) {
    let options = Options {
        background: false,
        retention: None,
        ..Options::default()
    };
    let store = EmbeddedStore::open(dir, options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for trace in acknowledged {
        let id = periplus_model::TraceId::from_halves(0, *trace);
        let found = runtime.block_on(store.trace(id)).unwrap();
        let spans = found.map_or(0, |trace| trace.span_count() as u64);
        assert_eq!(spans, SPANS, "round {round}, trace {trace}");
    }
}
