//! Sends the requests of a corpus: a closed loop over many connections, each with one request under way.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use periplus_store::priority;

use super::corpus::{Corpus, RequestReader};
use super::http::Client;

/// How long a sender waits that is told to come again, instead of the second that it is asked for:
/// what is measured is a server that always has work.
const BACK_OFF: Duration = Duration::from_millis(20);

/// What a load has seen.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) requests: u64,
    /// Requests that were asked to come again, and did.
    pub(super) refused: u64,
    pub(super) seconds: f64,
    /// From the first byte sent to the acknowledgement, µs.
    pub(super) latencies: Histogram<u64>,
}

/// Sends all requests; with `stop`, only until that is set. Then somebody else is measured meanwhile, who
/// shares a core with the senders: they stand behind.
pub(super) fn run(
    corpus: &Corpus,
    address: SocketAddr,
    connections: usize,
    stop: Option<&AtomicBool>,
) -> anyhow::Result<Report> {
    let source = Mutex::new(corpus.reader()?);
    let refused = AtomicU64::new(0);
    let begin = Instant::now();
    let histograms: Vec<_> = thread::scope(|scope| {
        let senders: Vec<_> = (0..connections)
            .map(|_| scope.spawn(|| send(&source, address, stop, &refused)))
            .collect();
        senders
            .into_iter()
            .map(|sender| sender.join().unwrap_or_else(|_| bail!("a sender crashed")))
            .collect::<anyhow::Result<_>>()
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let mut latencies = histogram()?;
    for histogram in histograms {
        latencies.add(histogram)?;
    }
    Ok(Report {
        requests: latencies.len(),
        refused: refused.into_inner(),
        seconds,
        latencies,
    })
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 120_000_000, 3)?)
}

fn send(
    source: &Mutex<RequestReader>,
    address: SocketAddr,
    stop: Option<&AtomicBool>,
    refused: &AtomicU64,
) -> anyhow::Result<Histogram<u64>> {
    if stop.is_some() {
        priority::lower(priority::INTAKE);
    }
    let mut client = Client::connect(address)?;
    let mut latencies = histogram()?;
    let mut request = Vec::new();
    while stop.is_none_or(|stop| !stop.load(Ordering::Relaxed)) {
        let more = source
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .read(&mut request)?;
        if !more {
            break;
        }
        let begin = Instant::now();
        deliver(&mut client, &request, Some(refused))?;
        latencies.saturating_record(u64::try_from(begin.elapsed().as_micros())?);
    }
    Ok(latencies)
}

/// Sends a request until it is taken.
pub(super) fn deliver(
    client: &mut Client,
    request: &[u8],
    refused: Option<&AtomicU64>,
) -> anyhow::Result<()> {
    loop {
        let (status, body) = client.post("/v1/traces", request)?;
        match status {
            200 => return Ok(()),
            429 | 503 => {
                if let Some(refused) = refused {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                thread::park_timeout(BACK_OFF);
            }
            _ => {
                let body = String::from_utf8_lossy(&body);
                return Err(anyhow::anyhow!("{status}: {body}"))
                    .context("a request was refused for good");
            }
        }
    }
}
