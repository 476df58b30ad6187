//! What stands around the proxies: origin, span sink and control planes.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::config;
use super::log_pipe::LogPipe;
use super::process::{Process, absolute, free_address, wait_for};
use super::{Peer, Programs};

/// The core of everything else: origin, sink, control plane, load generator.
const OTHER_CORE: &str = "1";

/// Runs a command behind the others on its core. Lower priorities are for everybody to take.
pub(crate) const BEHIND: [&str; 3] = ["nice", "-n", "10"];

/// What stands around the proxies.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// Origin, sink and control planes; stopped when dropped.
    _processes: Vec<Process>,
    pub(crate) origin: SocketAddr,
    /// The origin of calls, and where it tells what it has counted.
    pub(super) echo: SocketAddr,
    echo_stats: SocketAddr,
    pub(super) sink: Sink,
    pub(super) control_zipkin: SocketAddr,
    pub(super) control_otlp: SocketAddr,
    pub(super) outbound_zipkin: SocketAddr,
    pub(super) outbound_otlp: SocketAddr,
    pub(crate) directory: PathBuf,
    /// The log of the newest proxy that writes one.
    log: Mutex<Option<LogPipe>>,
}

/// The ports of the span sink.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sink {
    pub(super) zipkin: SocketAddr,
    pub(super) otlp_http: SocketAddr,
    pub(super) otlp_grpc: SocketAddr,
    pub(super) stats: SocketAddr,
}

impl Surroundings {
    /// Starts origin, sink and two control planes (one for each span format), all on one core.
    pub(crate) fn start(programs: &Programs, directory: &Path) -> anyhow::Result<Self> {
        let bench = absolute(&std::env::current_exe()?)?;
        let origin = free_address()?;
        let (echo, echo_stats) = (free_address()?, free_address()?);
        let sink = Sink {
            zipkin: free_address()?,
            otlp_http: free_address()?,
            otlp_grpc: free_address()?,
            stats: free_address()?,
        };
        let own = |name: &str, flags: &[(&str, SocketAddr)]| {
            // Nobody waits for the sink, so those whom somebody waits for must not keep it from its work.
            let first: &[&str] = if name == "sink" { &[] } else { &BEHIND };
            let mut command: Vec<_> = first.iter().copied().map(str::to_owned).collect();
            command.extend([bench.clone(), name.to_owned()]);
            for (flag, address) in flags {
                command.extend([format!("--{flag}"), address.to_string()]);
            }
            Process::start(name, OTHER_CORE, &command, directory)
        };
        let mut around = Self {
            _processes: vec![
                own("origin", &[("address", origin)])?,
                own("grpc-origin", &[("address", echo), ("stats", echo_stats)])?,
                own(
                    "sink",
                    &[
                        ("zipkin", sink.zipkin),
                        ("otlp-http", sink.otlp_http),
                        ("otlp-grpc", sink.otlp_grpc),
                        ("stats", sink.stats),
                    ],
                )?,
            ],
            origin,
            echo,
            echo_stats,
            sink,
            control_zipkin: free_address()?,
            control_otlp: free_address()?,
            outbound_zipkin: free_address()?,
            outbound_otlp: free_address()?,
            directory: directory.to_owned(),
            log: Mutex::default(),
        };
        for (name, control, outbound) in [
            ("zipkin", around.control_zipkin, around.outbound_zipkin),
            ("otlp", around.control_otlp, around.outbound_otlp),
        ] {
            let mesh = directory.join(format!("mesh-{name}"));
            fs::create_dir_all(&mesh)?;
            fs::write(mesh.join("mesh.yaml"), around.mesh(name, outbound))?;
            // In a directory of its own: where a file is that a control plane reads, it is told of every change, and
            // proxies write their logs beside these directories.
            let settings = directory.join(format!("mesh-config-{name}"));
            fs::create_dir_all(&settings)?;
            let mesh_config = settings.join("mesh-config.yaml");
            fs::write(&mesh_config, config::mesh_config(name))?;
            let command = [
                absolute(&programs.periplus)?,
                "control".to_owned(),
                "--dir".to_owned(),
                mesh.display().to_string(),
                "--mesh-config".to_owned(),
                mesh_config.display().to_string(),
                "--xds-port".to_owned(),
                control.port().to_string(),
                "--monitoring-port".to_owned(),
                free_address()?.port().to_string(),
            ];
            let label = format!("control-{name}");
            let process = Process::start(&label, OTHER_CORE, &command, directory)?;
            process.wait_for(control)?;
            around._processes.push(process);
        }
        for address in [
            origin,
            echo,
            echo_stats,
            sink.zipkin,
            sink.otlp_http,
            sink.otlp_grpc,
            sink.stats,
        ] {
            wait_for(address)?;
        }
        Ok(around)
    }

    /// One more origin, whose answers have so many bytes.
    pub(crate) fn add_origin(&mut self, body: usize) -> anyhow::Result<SocketAddr> {
        let address = free_address()?;
        let bench = absolute(&std::env::current_exe()?)?;
        let (at, bytes) = (address.to_string(), body.to_string());
        let command = [&bench, "origin", "--address", &at, "--body", &bytes].map(str::to_owned);
        let process = Process::start("origin-large", OTHER_CORE, &command, &self.directory)?;
        process.wait_for(address)?;
        self._processes.push(process);
        Ok(address)
    }

    /// A log for a proxy: where it writes.
    pub(super) fn new_log(&self) -> anyhow::Result<PathBuf> {
        let mut log = self.log();
        let path = self.directory.join("access.log");
        if log.take().is_some() {
            fs::remove_file(&path)?;
        }
        *log = Some(LogPipe::new(&path, OTHER_CORE.parse()?)?);
        Ok(path)
    }

    /// The log of the newest proxy that writes one.
    pub(super) fn log(&self) -> MutexGuard<'_, Option<LogPipe>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where spans are sent as Zipkin JSON.
    pub(crate) fn sink_zipkin(&self) -> SocketAddr {
        self.sink.zipkin
    }

    /// The spans that have reached the sink.
    pub(crate) fn spans(&self) -> anyhow::Result<u64> {
        let sink = http_get(self.sink.stats, "/__stats")?;
        sink["spans"].as_u64().context("no such count")
    }

    /// The spans that have reached the sink since there were `before`, once all are there that are
    /// expected, or Envoy's interval of reports has passed.
    pub(crate) fn wait_for_spans(&self, before: u64, expected: u64) -> anyhow::Result<u64> {
        let deadline = std::time::Instant::now() + Duration::from_secs(6);
        loop {
            let spans = self.spans()? - before;
            if spans >= expected || std::time::Instant::now() > deadline {
                return Ok(spans);
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// What origin and sink have counted: requests, requests with trace context, spans.
    pub(crate) fn counts(&self, peer: Peer) -> anyhow::Result<Counts> {
        let origin = if peer.is_grpc() {
            self.echo_stats
        } else {
            self.origin
        };
        let origin = http_get(origin, "/__stats")?;
        let sink = http_get(self.sink.stats, "/__stats")?;
        let number = |value: &Value, key: &str| value[key].as_u64().context("no such count");
        Ok(Counts {
            requests: number(&origin, "requests")?,
            with_context: number(&origin, "with_context")?,
            spans: number(&sink, "spans")?,
        })
    }

    fn mesh(&self, provider: &str, outbound: SocketAddr) -> String {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: origin, namespace: default}}
spec:
  hosts: [origin.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 9080, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {origin}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: origin, namespace: default}}
spec:
  hosts: [origin.default.svc.cluster.local]
  http: [{{retries: {{attempts: 0}}, route: [{{destination: {{host: origin.default.svc.cluster.local}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: retried, namespace: default}}
spec:
  hosts: [retried.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 9080, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {origin}}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: echo, namespace: default}}
spec:
  hosts: [echo.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 9090, name: grpc, protocol: GRPC}}]
  endpoints: [{{address: 127.0.0.1, ports: {{grpc: {echo}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: echo, namespace: default}}
spec:
  hosts: [echo.default.svc.cluster.local]
  http: [{{retries: {{attempts: 0}}, route: [{{destination: {{host: echo.default.svc.cluster.local}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: collector, namespace: default}}
spec:
  hosts: [collector.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 9411, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {sink}}}}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: bench, namespace: default}}
spec:
  workloadSelector: {{labels: {{app: bench}}}}
  egress:
  - port: {{number: {outbound}, protocol: HTTP_PROXY, name: http-proxy}}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['*/*']
",
            origin = self.origin.port(),
            echo = self.echo.port(),
            sink = match provider {
                "zipkin" => self.sink.zipkin.port(),
                _ => self.sink.otlp_http.port(),
            },
            outbound = outbound.port(),
        )
    }
}

/// What origin and sink have counted since they started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Requests that reached the origin.
    pub(crate) requests: u64,
    /// Those that carried trace context.
    pub(crate) with_context: u64,
    /// Spans that reached the sink.
    pub(crate) spans: u64,
}

fn http_get(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&http_get_text(address, path)?)?)
}

/// The body of an answer.
pub(crate) fn http_get_text(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(2000)))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // The origin keeps the connection open: its answer says how long it is.
    loop {
        let text = str::from_utf8(&answer)?;
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Some(body) = body.get(..content_length(head)?)
        {
            return Ok(body.to_owned());
        }
        match stream.read(&mut buffer)? {
            0 => bail!("{address} has ended its answer too early: {text:?}"),
            n => answer.extend_from_slice(&buffer[..n]),
        }
    }
}

fn content_length(head: &str) -> anyhow::Result<usize> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = lengths.next().context("an answer has no content-length")?;
    Ok(length.trim().parse()?)
}
