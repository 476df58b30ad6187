//! Spans without end: memory, speed and the time to an answer must be at the end what they are at the
//! beginning.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail, ensure};
use periplus_workload::demo_requests;

use super::http::Client;
use super::serve::{Server, Setup};
use super::{Args, corpus, process};

/// How often memory is looked at and a question asked.
const EVERY: Duration = Duration::from_secs(2);

/// Segments beyond this are dropped, so that this works too, and the disk is not filled.
const MAX_DISK: &str = "2GiB";

/// The demo makes so many spans in a second of its own time.
const SPANS_PER_SECOND: usize = 10_000;

/// By how much memory may be larger at the end: what an allocator keeps is never quite the same.
const TOLERANCE: f64 = 1.1;

/// A look at the server.
#[derive(Clone, Copy, Debug)]
struct Sample {
    resident_mib: f64,
    /// Spans acknowledged since the last look.
    spans: u64,
    answer_ms: f64,
}

/// Takes spans for this time, prints a table, and fails when memory grows.
pub(super) fn run(args: &Args, minutes: u32) -> anyhow::Result<()> {
    let directory = corpus::directory(&std::path::absolute(&args.directory)?)?;
    let data = directory.path().join("data");
    let setup = Setup {
        program: &args.periplus,
        cores: &args.cores,
        data: &data,
        durability: &args.durability,
        max_disk: MAX_DISK,
    };
    let server = setup.serve()?;
    let samples = sample(args, &server, Duration::from_secs(60) * minutes)?;
    server.stop()?;
    report(&samples)
}

fn sample(args: &Args, server: &Server, time: Duration) -> anyhow::Result<Vec<Sample>> {
    let stop = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(0);
    let (sender, receiver) = sync_channel(args.connections);
    let receiver = Arc::new(Mutex::new(receiver));
    thread::scope(|scope| {
        // Its time goes faster than the clock; it begins a day ago, so that hours begin and end.
        let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let start = u64::try_from((start - Duration::from_secs(86_400)).as_nanos())?;
        scope.spawn(move || {
            let endless = 86_400 * SPANS_PER_SECOND;
            for request in demo_requests(endless, start, args.per_request) {
                // Nobody takes it: the time is over.
                if sender.send(request).is_err() {
                    break;
                }
            }
        });
        let senders: Vec<_> = (0..args.connections)
            .map(|_| {
                let requests = Arc::clone(&receiver);
                let (stop, acknowledged) = (&stop, &acknowledged);
                scope.spawn(move || send(&requests, server, stop, acknowledged, args.per_request))
            })
            .collect();
        // With the last sender the channel goes, and with it the generator.
        drop(receiver);
        let looked = look(server, time, &acknowledged, || {
            senders.iter().any(|s| s.is_finished())
        });
        stop.store(true, Ordering::Relaxed);
        for sender in senders {
            sender
                .join()
                .unwrap_or_else(|_| bail!("a sender crashed"))?;
        }
        looked
    })
}

fn send(
    requests: &Mutex<Receiver<Vec<u8>>>,
    server: &Server,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
    spans: usize,
) -> anyhow::Result<()> {
    let mut client = Client::connect(server.otlp)?;
    while !stop.load(Ordering::Relaxed) {
        let request = requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let request = request.context("the workload has ended: soak for a shorter time")?;
        super::load::deliver(&mut client, &request, None)?;
        acknowledged.fetch_add(spans as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn look(
    server: &Server,
    time: Duration,
    acknowledged: &AtomicU64,
    over: impl Fn() -> bool,
) -> anyhow::Result<Vec<Sample>> {
    let mut client = Client::connect(server.api)?;
    let (begin, mut samples, mut known) = (Instant::now(), Vec::new(), 0);
    while begin.elapsed() < time {
        thread::park_timeout(EVERY);
        ensure!(!over(), "a sender has ended, see above");
        let asked = Instant::now();
        let (status, _) = client.get(
            "/api/periplus/v1/search?limit=20&service=frontend&start=0&end=9000000000000000",
        )?;
        ensure!(status == 200, "a search gives status {status}");
        let answer_ms = asked.elapsed().as_secs_f64() * 1e3;
        let spans = acknowledged.load(Ordering::Relaxed);
        let resident_mib = process::resident_kib(server.pid())? as f64 / 1024.0;
        samples.push(Sample {
            resident_mib,
            spans: spans - known,
            answer_ms,
        });
        known = spans;
    }
    Ok(samples)
}

fn report(samples: &[Sample]) -> anyhow::Result<()> {
    // Caches and buffers fill at the beginning: a tenth of the time does not count.
    let counted = &samples[samples.len() / 10..];
    ensure!(counted.len() >= 20, "too short a time: soak for longer");
    println!("| tenth | most resident MiB | spans/s | newest 20 of a service, median ms |");
    println!("|---|---|---|---|");
    let seconds = EVERY.as_secs_f64();
    for (number, tenth) in counted.chunks(counted.len().div_ceil(10)).enumerate() {
        let spans: u64 = tenth.iter().map(|sample| sample.spans).sum();
        let mut times: Vec<f64> = tenth.iter().map(|sample| sample.answer_ms).collect();
        times.sort_by(f64::total_cmp);
        println!(
            "| {} | {:.0} | {:.0} | {:.1} |",
            number + 1,
            most(tenth),
            spans as f64 / (tenth.len() as f64 * seconds),
            times[times.len() / 2]
        );
    }
    let third = counted.len() / 3;
    let (first, last) = (most(&counted[..third]), most(&counted[2 * third..]));
    println!("\nmemory in the first third {first:.0} MiB, in the last {last:.0} MiB");
    ensure!(last <= first * TOLERANCE, "memory grows");
    Ok(())
}

fn most(samples: &[Sample]) -> f64 {
    let resident = samples.iter().map(|sample| sample.resident_mib);
    resident.fold(0.0, f64::max)
}
