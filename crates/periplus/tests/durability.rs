//! `kill -9` at any moment, under load, while tables become segments, segments are merged and the log
//! gets new files: what was acknowledged is there, exactly once, whatever format it came in.
//!
//! `cargo xtask kill 1000` does it for longer.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/serve.rs"]
mod harness;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness::Serve;
use periplus_model::{Attribute, Batch, Resource, Span, SpanGroup, SpanId, TraceId};
use periplus_store::SpanStore as _;
use periplus_store::embedded::disk::RealDisk;
use periplus_store::embedded::{EmbeddedStore, Inventory, Options, check, inventory};
use periplus_wire::{otlp, zipkin};
use rustix::process::Signal;

/// Where senders send, and what.
#[derive(Clone, Copy)]
struct Format {
    port: &'static str,
    path: &'static str,
    content_type: &'static str,
    encode: fn(&Batch) -> Vec<u8>,
    accepted: &'static str,
}

/// A sender for each of these.
const FORMATS: [Format; 4] = [
    Format {
        port: "Zipkin",
        path: "/api/v2/spans",
        content_type: "application/json",
        encode: zipkin::encode_json,
        accepted: " 202 ",
    },
    Format {
        port: "OTLP over HTTP",
        path: "/v1/traces",
        content_type: "application/x-protobuf",
        encode: otlp::encode_protobuf,
        accepted: " 200 ",
    },
    Format {
        port: "OTLP over HTTP",
        path: "/v1/traces",
        content_type: "application/json",
        encode: otlp::encode_json,
        accepted: " 200 ",
    },
    Format {
        port: "OTLP over HTTP",
        path: "/v1/traces",
        content_type: "application/x-protobuf",
        encode: otlp::encode_protobuf,
        accepted: " 200 ",
    },
];

/// Small enough that a round has several of each.
const SIZES: [&str; 6] = [
    "--table-bytes",
    "65536",
    "--table-age-ms",
    "300",
    "--log-file-bytes",
    "131072",
];

/// Of the rounds in turn. A kill takes nothing from the system, so that it loses nothing with either.
const DURABILITIES: [&str; 3] = ["fsync", "fsync", "os"];

/// Spans of one trace in each request.
const SPANS: u64 = 5;

/// The most kills of one store: whatever it holds is looked at again and again.
const ROUNDS_OF_A_STORE: u64 = 100;

/// The number of the next trace.
static NEXT: AtomicU64 = AtomicU64::new(1);

#[test]
fn nothing_acknowledged_is_lost_or_doubled() {
    let mut left = std::env::var("PERIPLUS_KILL_ROUNDS").map_or(20, |n| n.parse().unwrap());
    while left > 0 {
        let rounds = ROUNDS_OF_A_STORE.min(left);
        kill(rounds);
        left -= rounds;
    }
}

/// Kills a server so many times, and looks for each acknowledged span.
fn kill(rounds: u64) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let flags = |round: u64| {
        let durability = DURABILITIES[round as usize % DURABILITIES.len()];
        let flags = [
            "--data",
            data,
            "--retention",
            "0",
            "--durability",
            durability,
        ];
        [&flags[..], &SIZES].concat()
    };
    let mut all = Vec::new();
    let mut seen = Seen::default();
    for round in 0..rounds {
        let mut serve = Serve::start_with(&flags(round));
        let begun = files(dir.path());
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let senders: Vec<_> = FORMATS
            .into_iter()
            .map(|format| {
                let (address, acknowledged) = (serve.addresses[format.port], acknowledged.clone());
                std::thread::spawn(move || send(address, format, &acknowledged))
            })
            .collect();
        // Any moment, but one at which something is under way.
        let at_least = 1 + fastrand::usize(0..400);
        let deadline = Instant::now() + Duration::from_secs(30);
        while acknowledged.lock().unwrap().len() < at_least {
            assert!(Instant::now() < deadline, "round {round}: nothing is taken");
            std::thread::yield_now();
        }
        assert_eq!(serve.signal(Signal::KILL), None);
        for sender in senders {
            sender.join().unwrap();
        }
        all.extend(acknowledged.lock().unwrap().drain(..));
        seen.add(&begun, &files(dir.path()));
        let report = check(&RealDisk, dir.path()).unwrap();
        assert_eq!(report.damages, [""; 0], "round {round}");
        // After the other rounds the next start finds the log as the kill left it.
        if round % 2 == 1 || round + 1 == rounds {
            examine(dir.path(), &all, round);
        }
    }
    println!("{} requests in {rounds} rounds, {seen:?}", all.len());
    assert!(all.len() as u64 > rounds, "{} requests", all.len());
    let enough = rounds / 4;
    assert!(
        seen.flushes > enough && seen.merges > enough && seen.new_log_files > enough,
        "not enough went on for the kills to hit it: {seen:?}"
    );
}

/// What went on while there were kills, as far as the files show it.
#[derive(Debug, Default)]
struct Seen {
    flushes: u64,
    merges: u64,
    new_log_files: u64,
}

/// The segments that the manifest names, and the last file of the log.
fn files(dir: &Path) -> (Inventory, u64) {
    let log = std::fs::read_dir(dir.join("wal")).unwrap();
    let number = |name: &std::ffi::OsStr| name.to_str()?.strip_suffix(".wal")?.parse().ok();
    let last = log
        .filter_map(|entry| number(&entry.unwrap().file_name()))
        .max();
    (inventory(&RealDisk, dir).unwrap(), last.unwrap_or_default())
}

impl Seen {
    fn add(&mut self, before: &(Inventory, u64), after: &(Inventory, u64)) {
        let known = |id: u64| before.0.segments.iter().any(|entry| entry.id == id);
        for entry in after.0.segments.iter().filter(|entry| !known(entry.id)) {
            match entry.level {
                0 => self.flushes += 1,
                _ => self.merges += 1,
            }
        }
        self.new_log_files += after.1.saturating_sub(before.1);
    }
}

/// The spans of a trace that all begin now.
fn batch(trace: u64) -> Batch {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    // Zipkin's times are microseconds.
    let now = now.as_micros() as u64 * 1_000;
    let span = |id| Span {
        trace_id: TraceId::from_halves(0, trace),
        span_id: SpanId::from_u64(id),
        name: "operation".to_owned(),
        start_unix_nano: now,
        end_unix_nano: now + id * 1_000,
        attributes: vec![
            Attribute::new("number", format!("{trace} {id}")),
            Attribute::new("filling", fastrand::u64(..).to_string().repeat(10)),
        ],
        ..Span::default()
    };
    let group = SpanGroup {
        resource: Arc::new(Resource::of_service("durable")),
        spans: (1..=SPANS).map(span).collect(),
        ..SpanGroup::default()
    };
    Batch {
        groups: vec![group],
    }
}

/// Sends requests over one connection until it breaks.
fn send(address: SocketAddr, format: Format, acknowledged: &Mutex<Vec<u64>>) {
    let Ok(mut stream) = TcpStream::connect(address) else {
        return;
    };
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    loop {
        let trace = NEXT.fetch_add(1, Ordering::Relaxed);
        let body = (format.encode)(&batch(trace));
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: t\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
            format.path,
            format.content_type,
            body.len()
        );
        if stream
            .write_all(&[head.as_bytes(), &body].concat())
            .is_err()
        {
            return;
        }
        match answer(&mut answers) {
            Some(status) if status.contains(format.accepted) => {
                acknowledged.lock().unwrap().push(trace);
            }
            Some(status) => panic!("{}: {status}", format.path),
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
        let id = TraceId::from_halves(0, *trace);
        let found = runtime.block_on(store.trace(id)).unwrap();
        let groups = found.map(|trace| trace.groups).unwrap_or_default();
        let mut texts: Vec<_> = (groups.iter())
            .flat_map(|group| &group.spans)
            .map(|span| span.attribute("number").cloned())
            .collect();
        texts.sort_by_key(|text| format!("{text:?}"));
        let expected: Vec<_> = (1..=SPANS)
            .map(|id| Some(format!("{trace} {id}").into()))
            .collect();
        assert_eq!(texts, expected, "round {round}, trace {trace}");
    }
}
