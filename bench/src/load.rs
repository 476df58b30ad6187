//! The load generator: a closed loop over keep-alive connections, one thread, one epoll.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};

use crate::cpu;

/// Flags of the load generator.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the proxy listens
    #[arg(long)]
    address: SocketAddr,
    /// The `Host` that is asked for
    #[arg(long)]
    host: String,
    /// The path that is asked for
    #[arg(long, default_value = "/")]
    path: String,
    /// The processes whose CPU time is measured
    #[arg(long)]
    pid: Vec<u32>,
    /// So many requests per second, whatever the answers take; as many as there can be without it
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    rate: Option<u64>,
    /// Connections; each has one request under way
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Milliseconds before the measurement begins
    #[arg(long, default_value_t = 700)]
    warmup_ms: u64,
    /// Milliseconds of measurement
    #[arg(long, default_value_t = 2500)]
    duration_ms: u64,
    /// Stop after this many requests instead of after the duration
    #[arg(long)]
    requests: Option<u64>,
}

/// What one run has seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Answers with status 200 inside the window.
    pub(crate) requests: u64,
    /// All other answers, and broken connections, inside the window.
    pub(crate) errors: u64,
    /// Everything answered since the start, warm-up included.
    pub(crate) total: u64,
    /// The length of the window.
    pub(crate) seconds: f64,
    /// CPU time of the measured process inside the window, µs.
    pub(crate) cpu_us: f64,
    /// Median latency, µs.
    pub(crate) p50_us: u64,
    /// 99th percentile of the latency, µs.
    pub(crate) p99_us: u64,
}

/// Prints the [`Report`] as one line of JSON.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&measure(args)?)?);
    Ok(())
}

struct Connection {
    stream: TcpStream,
    sent: Instant,
    /// Bytes of the answer's head, until it is complete.
    head: Vec<u8>,
    /// Bytes of the body still to come, once the head is complete.
    body_left: Option<usize>,
    status_ok: bool,
}

fn measure(args: &Args) -> anyhow::Result<Report> {
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: periplus-bench\r\naccept: */*\r\n\r\n",
        args.path, args.host
    )
    .into_bytes();
    let mut poll = Poll::new()?;
    let mut connections = Vec::with_capacity(args.connections);
    for i in 0..args.connections {
        // Connected with the blocking API: the kernel completes a loopback handshake at once.
        let stream = std::net::TcpStream::connect(args.address)
            .with_context(|| format!("no connection to {}", args.address))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry()
            .register(&mut stream, Token(i), Interest::READABLE)?;
        if args.rate.is_none() {
            stream.write_all(&request)?;
        }
        let head = Vec::with_capacity(1024);
        let sent = Instant::now();
        connections.push(Connection {
            stream,
            sent,
            head,
            body_left: None,
            status_ok: false,
        });
    }

    let mut pace = args.rate.map(|rate| Pace {
        interval: Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX),
        next: Instant::now(),
        idle: (0..args.connections).collect(),
    });
    let patience = Duration::from_secs(10);
    let mut heard = Instant::now();
    let begin = Instant::now() + Duration::from_millis(args.warmup_ms);
    let mut window: Option<(Instant, Duration)> = None;
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    let (mut requests, mut errors, mut total) = (0, 0, 0);
    let mut events = Events::with_capacity(1024);
    let cpu_now = || {
        args.pid
            .iter()
            .map(|pid| cpu::time_of(*pid))
            .sum::<anyhow::Result<Duration>>()
    };
    loop {
        let tick = pace.as_ref().map(|_| Duration::from_millis(1));
        poll.poll(&mut events, Some(tick.unwrap_or(patience)))?;
        let now = Instant::now();
        if !events.is_empty() {
            heard = now;
        }
        if now.duration_since(heard) >= patience {
            bail!("{} has not answered for 10 s", args.address);
        }
        if window.is_none() && now >= begin {
            window = Some((now, cpu_now()?));
        }
        for event in &events {
            let connection = &mut connections[event.token().0];
            if !connection.read()? {
                continue;
            }
            total += 1;
            if window.is_some() {
                if connection.status_ok {
                    requests += 1;
                    let latency = now.duration_since(connection.sent).as_micros();
                    latencies.saturating_record(u64::try_from(latency)?);
                } else {
                    errors += 1;
                }
            }
            if let Some(pace) = &mut pace {
                pace.idle.push(event.token().0);
                continue;
            }
            connection.stream.write_all(&request)?;
            connection.sent = now;
        }
        if let Some(pace) = &mut pace {
            pace.send(now, &mut connections, &request)?;
        }
        let Some((opened, cpu_before)) = window else {
            continue;
        };
        let over = match args.requests {
            Some(limit) => requests + errors >= limit,
            None => now.duration_since(opened) >= Duration::from_millis(args.duration_ms),
        };
        if over {
            return Ok(Report {
                requests,
                errors,
                total,
                seconds: now.duration_since(opened).as_secs_f64(),
                cpu_us: cpu_now()?.saturating_sub(cpu_before).as_secs_f64() * 1e6,
                p50_us: latencies.value_at_quantile(0.5),
                p99_us: latencies.value_at_quantile(0.99),
            });
        }
    }
}

/// Requests at a steady rate.
struct Pace {
    interval: Duration,
    /// When the next request is due.
    next: Instant,
    /// Connections without a request under way.
    idle: Vec<usize>,
}

impl Pace {
    /// Sends what is due. Latency counts from then on, so that a late answer does not hide that the
    /// next request waits for a connection.
    fn send(
        &mut self,
        now: Instant,
        connections: &mut [Connection],
        request: &[u8],
    ) -> anyhow::Result<()> {
        while self.next <= now
            && let Some(at) = self.idle.pop()
        {
            connections[at].stream.write_all(request)?;
            connections[at].sent = self.next;
            self.next += self.interval;
        }
        Ok(())
    }
}

impl Connection {
    /// Reads what has arrived; true when one answer is complete.
    fn read(&mut self) -> anyhow::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let n = match self.stream.read(&mut buffer) {
                Ok(0) => bail!("the proxy closed a keep-alive connection"),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error).context("reading an answer"),
            };
            // A short read means that the socket is drained; nothing follows a whole answer.
            let whole = self.take(&buffer[..n])?;
            if whole || n < buffer.len() {
                return Ok(whole);
            }
        }
    }

    /// Takes part of an answer; true when it is the last.
    fn take(&mut self, part: &[u8]) -> anyhow::Result<bool> {
        let left = match self.body_left {
            Some(left) => left
                .checked_sub(part.len())
                .context("more bytes than the body has")?,
            None => {
                self.head.extend_from_slice(part);
                let Some(end) = memmem::find(&self.head, b"\r\n\r\n") else {
                    return Ok(false);
                };
                self.status_ok = self.head.starts_with(b"HTTP/1.1 200 ");
                let length = content_length(&self.head[..end])?;
                let arrived = self.head.len() - end - 4;
                self.head.clear();
                length
                    .checked_sub(arrived)
                    .context("more bytes than the body has")?
            }
        };
        self.body_left = (left > 0).then_some(left);
        Ok(left == 0)
    }
}

fn content_length(head: &[u8]) -> anyhow::Result<usize> {
    let head = std::str::from_utf8(head)?;
    head.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("the answer has no content-length")?
        .1
        .trim()
        .parse()
        .context("the content-length is no number")
}
