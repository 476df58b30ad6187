//! The measurement of our own store: the server as users run it, then its directory as a library.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::corpus::{Corpus, Facts, Workload};
use super::crowd::{self, Crowd};
use super::process::Watch;
use super::questions::{self, Answers, Question};
use super::serve::{Server, Setup};
use super::{Args, ask, corpus, http, load, process};

/// What was measured.
#[derive(Debug)]
pub(super) struct Result {
    /// Spans acknowledged in a second of the clock.
    pub(super) spans_per_second: f64,
    /// CPU time until the last acknowledgement.
    pub(super) take_cpu: Duration,
    /// CPU time behind it: what was in memory becomes segments, segments are merged.
    pub(super) settle_cpu: Duration,
    pub(super) requests: u64,
    pub(super) refused: u64,
    pub(super) ack_ms: (f64, f64),
    pub(super) segments: u64,
    pub(super) segment_bytes: u64,
    /// All files of the directory.
    pub(super) directory_bytes: u64,
    pub(super) peak_mib: f64,
    /// From the start of the process on the full directory until it was ready.
    pub(super) ready_after: Duration,
    /// The opening alone, as a library.
    pub(super) opened: Duration,
    pub(super) served_mib: f64,
    pub(super) http: Answers,
    pub(super) library: Answers,
    /// The same over HTTP while another workload was stored.
    pub(super) while_loading: Answers,
    /// What many at once got meanwhile, and how many spans were stored in a second of it.
    pub(super) crowd: (Crowd, f64),
}

/// Stores the corpus, then asks.
pub(super) fn measure(
    args: &Args,
    corpus: &Corpus,
    directory: &Path,
    questions: &[Question],
) -> anyhow::Result<Result> {
    let data = directory.join("data");
    let setup = Setup {
        program: &args.periplus,
        cores: &args.cores,
        data: &data,
        durability: &args.durability,
        max_disk: "1000GiB",
    };
    let server = setup.serve()?;
    let idle = server.cpu()?;
    let watch = Watch::start(server.pid());
    let report = load::run(corpus, server.otlp, args.connections, None)?;
    let taken = server.cpu()?;
    eprintln!(
        "    {:.0} spans/s, {:.2} µs CPU per span until acknowledged",
        corpus.spans as f64 / report.seconds,
        (taken - idle).as_secs_f64() * 1e6 / corpus.spans as f64
    );
    check(&server, &corpus.facts).context("right after the last acknowledgement")?;
    let peak_mib = watch.peak_mib();
    let all = server.stop()?;
    let compacting = setup.compact()?;
    let stored = setup.stored()?;
    ensure!(
        stored.spans == corpus.spans,
        "{} spans are in segments instead of {}",
        stored.spans,
        corpus.spans
    );

    let server = setup.serve()?;
    let ready_after = server.ready_after;
    check(&server, &corpus.facts).context("after a restart")?;
    let asked: Vec<&Question> = questions.iter().collect();
    let http = ask::server(&server, &asked, args.patience())?;
    let served_mib = process::resident_kib(server.pid())? as f64 / 1024.0;
    let directory_bytes = size(&data)?;
    server.stop()?;
    eprintln!("  as a library");
    let (opened, library) = ask::library(&data, questions, args.patience())?;
    eprintln!("  the same as over HTTP, while spans are stored");
    let server = setup.serve()?;
    let (while_loading, crowd) = while_loading(args, &server, corpus, directory, questions)?;
    server.stop()?;
    fs::remove_dir_all(&data)?;

    let ack = |q| report.latencies.value_at_quantile(q) as f64 / 1e3;
    Ok(Result {
        spans_per_second: corpus.spans as f64 / report.seconds,
        take_cpu: taken - idle,
        settle_cpu: (all - taken) + compacting,
        requests: report.requests,
        refused: report.refused,
        ack_ms: (ack(0.5), ack(0.99)),
        segments: stored.segments,
        segment_bytes: stored.bytes,
        directory_bytes,
        peak_mib,
        ready_after,
        opened,
        served_mib,
        http,
        library,
        while_loading,
        crowd,
    })
}

/// Every watched trace is there with all its spans.
fn check(server: &Server, facts: &Facts) -> anyhow::Result<()> {
    let mut client = http::Client::connect(server.api)?;
    for (id, spans) in &facts.traces {
        let (status, body) = client.get(&format!("/api/traces/{id}"))?;
        ensure!(status == 200, "trace {id}: status {status}");
        let answer: serde_json::Value = serde_json::from_slice(&body)?;
        let found = answer["data"][0]["spans"].as_array().map_or(0, Vec::len);
        ensure!(found == *spans, "trace {id} has {found} spans, not {spans}");
    }
    Ok(())
}

/// The questions that are asked while spans are stored, too.
pub(super) const WHILE_LOADING: [&str; 3] = [questions::TRACE, questions::NEWEST, questions::RARE];

/// Some questions while the spans of the other workload come in as fast as they are taken, over and
/// over until all are asked; then the same by many at once.
fn while_loading(
    args: &Args,
    server: &Server,
    corpus: &Corpus,
    directory: &Path,
    questions: &[Question],
) -> anyhow::Result<(Answers, (Crowd, f64))> {
    let other = match corpus.workload {
        Workload::Demo => Workload::Tracegen,
        Workload::Tracegen => Workload::Demo,
    };
    let directory = directory.join("other");
    fs::create_dir_all(&directory)?;
    let load = corpus::Corpus::make(&directory, other, args.spans, args.per_request, None)?;
    let asked: Vec<&Question> = questions
        .iter()
        .filter(|question| WHILE_LOADING.contains(&question.name))
        .collect();
    let alone = loading(args, server, &load, || {
        ask::server(server, &asked, args.patience())
    });
    let crowd = alone.and_then(|(answers, spans_per_second)| {
        eprintln!("    {spans_per_second:.0} spans/s came in meanwhile");
        eprintln!("    by {} at once", crowd::PEOPLE);
        let crowd = loading(args, server, &load, || crowd::ask(server, &asked))?;
        Ok((answers, crowd))
    });
    fs::remove_dir_all(&directory)?;
    crowd
}

/// How long spans come in before anything is asked: connections are opened, tables and caches filled.
const WARM_UP: Duration = Duration::from_secs(5);

/// What `ask` gives while spans come in, and how many came in a second.
fn loading<T>(
    args: &Args,
    server: &Server,
    load: &Corpus,
    ask: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, f64)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let loading = scope.spawn(|| {
            let (mut requests, mut seconds) = (0, 0.0);
            while !stop.load(Ordering::Relaxed) {
                let report = load::run(load, server.otlp, args.connections, Some(&stop))?;
                requests += report.requests;
                seconds += report.seconds;
            }
            anyhow::Ok((requests * args.per_request as u64) as f64 / seconds)
        });
        let begin = Instant::now();
        // Whoever has ended may wake this thread before.
        while let Some(left) = WARM_UP.checked_sub(begin.elapsed()) {
            thread::park_timeout(left);
        }
        let answers = ask();
        let still = !loading.is_finished();
        stop.store(true, Ordering::Relaxed);
        let spans_per_second = loading
            .join()
            .unwrap_or_else(|_| anyhow::bail!("the load crashed"))?;
        ensure!(still, "the load ended before the questions did");
        Ok((answers?, spans_per_second))
    })
}

/// The bytes of all files.
fn size(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += match meta.is_dir() {
            true => size(&entry.path())?,
            false => meta.len(),
        };
    }
    Ok(bytes)
}
