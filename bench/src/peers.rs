//! Starting the peers: each is one process, pinned to one core, with one worker.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// The core of the proxy under measurement.
const PROXY_CORE: &str = "0";
/// The core of everything else: origin, sink, control plane, load generator.
const OTHER_CORE: &str = "1";

/// The host that the load generator asks for.
pub(crate) const HOST: &str = "origin.default.svc.cluster.local:9080";

/// The real programs that we measure against, and our own.
#[derive(Debug, clap::Args)]
pub(crate) struct Programs {
    /// The periplus binary, built with the release profile
    #[arg(long, env = "PERIPLUS_BIN", default_value = "target/release/periplus")]
    pub(crate) periplus: PathBuf,
    /// The Envoy binary (`cargo xtask peers` installs it)
    #[arg(long, env = "PERIPLUS_ENVOY", default_value = ".peers/envoy")]
    pub(crate) envoy: PathBuf,
    /// The HAProxy binary
    #[arg(long, default_value = "/usr/sbin/haproxy")]
    pub(crate) haproxy: PathBuf,
}

/// What stands around the proxies.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// Origin, sink and control planes; stopped when dropped.
    _processes: Vec<Process>,
    origin: SocketAddr,
    sink: Sink,
    control_zipkin: SocketAddr,
    control_otlp: SocketAddr,
    outbound_zipkin: SocketAddr,
    outbound_otlp: SocketAddr,
    directory: PathBuf,
}

/// The ports of the span sink.
#[derive(Clone, Copy, Debug)]
struct Sink {
    zipkin: SocketAddr,
    otlp_http: SocketAddr,
    otlp_grpc: SocketAddr,
    stats: SocketAddr,
}

/// A proxy that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// Our sidecar, every request traced, reported as Zipkin JSON.
    PeriplusZipkin,
    /// Our sidecar, every request traced, reported as OTLP over HTTP.
    PeriplusOtlp,
    /// Envoy, every request traced, reported as Zipkin JSON.
    EnvoyZipkin,
    /// Envoy, every request traced, reported as OTLP over gRPC.
    EnvoyOtlp,
    /// Envoy without tracing.
    EnvoyPlain,
    /// HAProxy in HTTP mode, no tracing.
    HaproxyHttp,
    /// HAProxy as a blind TCP relay: the floor of any userspace hop.
    HaproxyTcp,
}

impl Peer {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::PeriplusZipkin,
        Self::PeriplusOtlp,
        Self::EnvoyZipkin,
        Self::EnvoyOtlp,
        Self::EnvoyPlain,
        Self::HaproxyHttp,
        Self::HaproxyTcp,
    ];

    /// The name in tables and budgets.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PeriplusZipkin => "periplus-zipkin",
            Self::PeriplusOtlp => "periplus-otlp",
            Self::EnvoyZipkin => "envoy-zipkin",
            Self::EnvoyOtlp => "envoy-otlp-grpc",
            Self::EnvoyPlain => "envoy-plain",
            Self::HaproxyHttp => "haproxy-http",
            Self::HaproxyTcp => "haproxy-tcp",
        }
    }

    /// Whether it reports one span for each request.
    pub(crate) const fn traces(self) -> bool {
        matches!(
            self,
            Self::PeriplusZipkin | Self::PeriplusOtlp | Self::EnvoyZipkin | Self::EnvoyOtlp
        )
    }

    /// Writes its configuration and gives the command that runs it and the address it listens on.
    pub(crate) fn command(
        self,
        programs: &Programs,
        around: &Surroundings,
    ) -> anyhow::Result<(Vec<String>, SocketAddr)> {
        let file = around.directory.join(format!("{}.conf", self.name()));
        let path = file.display().to_string();
        let address = match self {
            Self::PeriplusZipkin => around.outbound_zipkin,
            Self::PeriplusOtlp => around.outbound_otlp,
            _ => free_address()?,
        };
        let (content, program) = match self {
            Self::PeriplusZipkin => (bootstrap(around.control_zipkin)?, &programs.periplus),
            Self::PeriplusOtlp => (bootstrap(around.control_otlp)?, &programs.periplus),
            Self::EnvoyZipkin | Self::EnvoyOtlp | Self::EnvoyPlain => {
                (envoy(self, address, around).to_string(), &programs.envoy)
            }
            Self::HaproxyHttp | Self::HaproxyTcp => {
                (haproxy(self, address, around.origin), &programs.haproxy)
            }
        };
        fs::write(&file, content)?;
        let mut command = vec![absolute(program)?];
        command.extend(
            match self {
                Self::PeriplusZipkin | Self::PeriplusOtlp => {
                    vec!["proxy", "-c", &path, "--workers", "1"]
                }
                Self::EnvoyZipkin | Self::EnvoyOtlp | Self::EnvoyPlain => {
                    vec![
                        "-c",
                        &path,
                        "--concurrency",
                        "1",
                        "--disable-hot-restart",
                        "-l",
                        "error",
                    ]
                }
                Self::HaproxyHttp | Self::HaproxyTcp => vec!["-db", "-f", &path],
            }
            .into_iter()
            .map(str::to_owned),
        );
        Ok((command, address))
    }

    /// Starts it on its core and waits until it answers.
    pub(crate) fn start(
        self,
        programs: &Programs,
        around: &Surroundings,
    ) -> anyhow::Result<(Process, SocketAddr)> {
        let (command, address) = self.command(programs, around)?;
        let process = Process::start(self.name(), PROXY_CORE, &command, &around.directory)?;
        process.wait_for(address)?;
        Ok((process, address))
    }
}

impl Surroundings {
    /// Starts origin, sink and two control planes (one for each span format), all on one core.
    pub(crate) fn start(programs: &Programs, directory: &Path) -> anyhow::Result<Self> {
        let bench = absolute(&std::env::current_exe()?)?;
        let origin = free_address()?;
        let sink = Sink {
            zipkin: free_address()?,
            otlp_http: free_address()?,
            otlp_grpc: free_address()?,
            stats: free_address()?,
        };
        let own = |name: &str, flags: &[(&str, SocketAddr)]| {
            let mut command = vec![bench.clone(), name.to_owned()];
            for (flag, address) in flags {
                command.extend([format!("--{flag}"), address.to_string()]);
            }
            Process::start(name, OTHER_CORE, &command, directory)
        };
        let mut around = Self {
            _processes: vec![
                own("origin", &[("address", origin)])?,
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
            sink,
            control_zipkin: free_address()?,
            control_otlp: free_address()?,
            outbound_zipkin: free_address()?,
            outbound_otlp: free_address()?,
            directory: directory.to_owned(),
        };
        for (name, control, outbound) in [
            ("zipkin", around.control_zipkin, around.outbound_zipkin),
            ("otlp", around.control_otlp, around.outbound_otlp),
        ] {
            let mesh = directory.join(format!("mesh-{name}"));
            fs::create_dir_all(&mesh)?;
            fs::write(mesh.join("mesh.yaml"), around.mesh(name, outbound))?;
            let mesh_config = directory.join(format!("mesh-config-{name}.yaml"));
            fs::write(&mesh_config, mesh_config_yaml(name))?;
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
            sink.zipkin,
            sink.otlp_http,
            sink.otlp_grpc,
            sink.stats,
        ] {
            wait_for(address)?;
        }
        Ok(around)
    }

    /// What origin and sink have counted: requests, requests with trace context, spans.
    pub(crate) fn counts(&self) -> anyhow::Result<Counts> {
        let origin = http_get(self.origin, "/__stats")?;
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

/// A child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    fn start(name: &str, core: &str, command: &[String], dir: &Path) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let child = Command::new("taskset")
            .args(["-c", core])
            .args(command)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}: {}", command.join(" ")))?;
        Ok(Self {
            name: name.to_owned(),
            log,
            child,
        })
    }

    /// Starts it under callgrind, not pinned.
    pub(crate) fn under_callgrind(
        peer: Peer,
        programs: &Programs,
        around: &Surroundings,
    ) -> anyhow::Result<(Self, SocketAddr, PathBuf)> {
        let (command, address) = peer.command(programs, around)?;
        let out = around.directory.join(format!("{}.callgrind", peer.name()));
        let mut valgrind: Vec<String> = ["valgrind", "--tool=callgrind", "--cache-sim=no"]
            .map(str::to_owned)
            .to_vec();
        valgrind.push(format!("--callgrind-out-file={}", out.display()));
        valgrind.extend(command);
        let process = Self::start(peer.name(), PROXY_CORE, &valgrind, &around.directory)?;
        process.wait_for(address)?;
        Ok((process, address, out))
    }

    /// Its process id. `taskset` replaces itself by the program, so this is the program's.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn wait_for(&self, address: SocketAddr) -> anyhow::Result<()> {
        wait_for(address).with_context(|| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            format!("{} did not come up; its last words: {tail:?}", self.name)
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing to do about a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            bail!("nothing listens on {address}");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn absolute(path: &Path) -> anyhow::Result<String> {
    let path = path
        .canonicalize()
        .with_context(|| format!("{} is not there", path.display()))?;
    Ok(path.display().to_string())
}

fn http_get(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(2000)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // The origin keeps the connection open: the closing brace ends the answer.
    while !answer.ends_with(b"}") {
        match stream.read(&mut buffer)? {
            0 => break,
            n => answer.extend_from_slice(&buffer[..n]),
        }
    }
    let text = String::from_utf8(answer)?;
    let (_, body) = text.split_once("\r\n\r\n").context("no body")?;
    Ok(serde_json::from_str(body)?)
}

fn bootstrap(control: SocketAddr) -> anyhow::Result<String> {
    let ads = json!({
        "api_type": "GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]
    });
    let from_ads = json!({"ads": {}, "resource_api_version": "V3"});
    Ok(json!({
        "node": {
            "id": "sidecar~127.0.0.1~bench-v1.default~default.svc.cluster.local",
            "cluster": "bench.default",
            "metadata": {
                "NAMESPACE": "default", "NAME": "bench-v1", "WORKLOAD_NAME": "bench-v1",
                "LABELS": {"app": "bench", "version": "v1"}, "INTERCEPTION_MODE": "NONE"
            }
        },
        "admin": {"address": socket_address(free_address()?)},
        "dynamic_resources": {"ads_config": ads, "lds_config": from_ads, "cds_config": from_ads},
        "static_resources": {"clusters": [{
            "name": "xds-grpc", "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}
                }
            },
            "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket_address(control)}}
            ]}]}
        }]}
    })
    .to_string())
}

fn mesh_config_yaml(provider: &str) -> String {
    let how = match provider {
        "zipkin" => "zipkin: {service: collector.default.svc.cluster.local, port: 9411}",
        _ => {
            "opentelemetry: {service: collector.default.svc.cluster.local, port: 9411, \
             http: {path: /v1/traces, timeout: 5s}}"
        }
    };
    format!(
        "extensionProviders:\n- name: {provider}\n  {how}\n\
         defaultProviders:\n  tracing: [{provider}]\n"
    )
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// Envoy at its leanest: a static configuration with nothing but the router, so that the
/// comparison favours it.
fn envoy(peer: Peer, address: SocketAddr, around: &Surroundings) -> Value {
    let kind = |name: &str| format!("type.googleapis.com/{name}");
    let cluster = |name: &str, to: SocketAddr, http2: bool| {
        let mut cluster = json!({
            "name": name, "type": "STATIC", "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [{
                "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000
            }]},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": socket_address(to)}}
            ]}]}
        });
        if http2 {
            cluster["typed_extension_protocol_options"] = json!({
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": kind("envoy.extensions.upstreams.http.v3.HttpProtocolOptions"),
                    "explicit_http_config": {"http2_protocol_options": {}}
                }
            });
        }
        cluster
    };
    let mut clusters = vec![cluster("backend", around.origin, false)];
    let mut manager = json!({
        "@type": kind("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench", "codec_type": "HTTP1",
        "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "15s"}}
        ]}]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": kind("envoy.extensions.filters.http.router.v3.Router")}
        }]
    });
    let provider = match peer {
        Peer::EnvoyZipkin => {
            clusters.push(cluster("sink", around.sink.zipkin, false));
            Some(json!({
                "name": "envoy.tracers.zipkin",
                "typed_config": {
                    "@type": kind("envoy.config.trace.v3.ZipkinConfig"),
                    "collector_cluster": "sink", "collector_endpoint": "/api/v2/spans",
                    "collector_endpoint_version": "HTTP_JSON",
                    "trace_id_128bit": true, "shared_span_context": false
                }
            }))
        }
        Peer::EnvoyOtlp => {
            clusters.push(cluster("sink", around.sink.otlp_grpc, true));
            Some(json!({
                "name": "envoy.tracers.opentelemetry",
                "typed_config": {
                    "@type": kind("envoy.config.trace.v3.OpenTelemetryConfig"),
                    "service_name": "bench",
                    "grpc_service": {"envoy_grpc": {"cluster_name": "sink"}, "timeout": "5s"}
                }
            }))
        }
        _ => None,
    };
    if let Some(provider) = provider {
        manager["tracing"] = json!({
            "random_sampling": {"value": 100}, "overall_sampling": {"value": 100},
            "client_sampling": {"value": 100}, "provider": provider
        });
    }
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {
            "listeners": [{
                "name": "l", "traffic_direction": "OUTBOUND", "address": socket_address(address),
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager", "typed_config": manager
                }]}]
            }],
            "clusters": clusters
        }
    })
}

fn haproxy(peer: Peer, address: SocketAddr, origin: SocketAddr) -> String {
    let (mode, reuse) = match peer {
        Peer::HaproxyTcp => ("tcp", ""),
        _ => ("http", "http-reuse always"),
    };
    format!(
        "global
  nbthread 1
  maxconn 4000
defaults
  mode {mode}
  timeout connect 2s
  timeout client 600s
  timeout server 600s
frontend f
  bind {address}
  default_backend b
backend b
  {reuse}
  server s1 {origin} pool-max-conn 1000
"
    )
}
