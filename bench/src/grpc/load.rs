//! The load generator: a closed loop of calls, over some connections with some streams each.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::Request;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::cpu;
use crate::load::Report;

/// Flags of the load generator.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the proxy listens
    #[arg(long)]
    address: SocketAddr,
    /// The authority that is called
    #[arg(long)]
    host: String,
    /// The process whose CPU time is measured
    #[arg(long)]
    pid: Option<u32>,
    /// Connections
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Calls under way on each of them
    #[arg(long, default_value_t = 8)]
    streams: usize,
    /// Milliseconds before the measurement begins
    #[arg(long, default_value_t = 700)]
    warmup_ms: u64,
    /// Milliseconds of measurement
    #[arg(long, default_value_t = 2500)]
    duration_ms: u64,
    /// Stop after this many calls instead of after the duration
    #[arg(long)]
    requests: Option<u64>,
    /// Bytes of each call's message
    #[arg(long, default_value_t = 128)]
    body: usize,
}

struct Seen {
    window: Option<(Instant, Duration)>,
    latencies: Histogram<u64>,
    requests: u64,
    errors: u64,
    total: u64,
}

impl Seen {
    fn is_over(&self, args: &Args) -> bool {
        let Some((opened, _)) = self.window else {
            return false;
        };
        match args.requests {
            Some(limit) => self.requests + self.errors >= limit,
            None => opened.elapsed() >= Duration::from_millis(args.duration_ms),
        }
    }
}

/// Prints the [`Report`] as one line of JSON.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = LocalSet::new().block_on(&runtime, measure(args))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn measure(args: &Args) -> anyhow::Result<Report> {
    let seen = Rc::new(RefCell::new(Seen {
        window: None,
        latencies: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        requests: 0,
        errors: 0,
        total: 0,
    }));
    let begin = Instant::now() + Duration::from_millis(args.warmup_ms);
    let mut callers = Vec::new();
    for _ in 0..args.connections {
        let stream = TcpStream::connect(args.address)
            .await
            .with_context(|| format!("no connection to {}", args.address))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 24)
            .handshake(stream)
            .await?;
        tokio::task::spawn_local(async move {
            // Its calls tell what went wrong.
            let _ = connection.await;
        });
        for _ in 0..args.streams {
            callers.push(caller(args, sender.clone(), begin, Rc::clone(&seen)));
        }
    }
    let cpu_now = || args.pid.map_or(Ok(Duration::ZERO), cpu::time_of);
    let all = futures_util::future::try_join_all(callers);
    tokio::time::timeout(Duration::from_secs(120), all)
        .await
        .with_context(|| format!("{} does not answer", args.address))??;
    let seen = seen.borrow();
    let (opened, cpu_before) = seen.window.context("nothing was measured")?;
    Ok(Report {
        requests: seen.requests,
        errors: seen.errors,
        total: seen.total,
        seconds: opened.elapsed().as_secs_f64(),
        cpu_us: cpu_now()?.saturating_sub(cpu_before).as_secs_f64() * 1e6,
        p50_us: seen.latencies.value_at_quantile(0.5),
        p99_us: seen.latencies.value_at_quantile(0.99),
    })
}

/// Calls again and again, until the measurement is over.
async fn caller(
    args: &Args,
    sender: SendRequest<Bytes>,
    begin: Instant,
    seen: Rc<RefCell<Seen>>,
) -> anyhow::Result<()> {
    let message = super::message(args.body);
    let uri = format!("http://{}{}", args.host, super::PATH);
    loop {
        let mut ready = sender.clone().ready().await?;
        let request = Request::post(&uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "periplus-bench")
            .body(())?;
        let sent = Instant::now();
        let is_fine = call(&mut ready, request, &message).await?;
        let mut seen = seen.borrow_mut();
        let now = Instant::now();
        seen.total += 1;
        if seen.window.is_none() && now >= begin {
            let cpu = args.pid.map_or(Ok(Duration::ZERO), cpu::time_of)?;
            seen.window = Some((now, cpu));
        } else if seen.window.is_some() {
            match is_fine {
                true => {
                    let latency = u64::try_from(now.duration_since(sent).as_micros())?;
                    seen.requests += 1;
                    seen.latencies.saturating_record(latency);
                }
                false => seen.errors += 1,
            }
        }
        if seen.is_over(args) {
            return Ok(());
        }
    }
}

/// Whether the call ended well, with its message and its trailers.
async fn call(
    sender: &mut SendRequest<Bytes>,
    request: Request<()>,
    message: &Bytes,
) -> anyhow::Result<bool> {
    let (response, mut stream) = sender.send_request(request, false)?;
    stream.send_data(message.clone(), true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        length += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    let trailers = body.trailers().await?;
    let status = trailers.as_ref().and_then(|it| it.get("grpc-status"));
    ensure!(
        head.status != 200 || status.is_some(),
        "an answer has no trailers"
    );
    Ok(head.status == 200 && length > 5 && status.is_some_and(|status| status == "0"))
}
