//! The peers: each is one process, pinned to one core, with one worker.

mod config;
mod process;
mod surroundings;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use process::absolute;

pub(crate) use process::{Process, ask, free_address};
pub(crate) use surroundings::{BEHIND, Counts, Surroundings};

/// The core of the proxy under measurement.
pub(crate) const PROXY_CORE: &str = "0";

/// The host that the load generator asks for.
const HOST: &str = "origin.default.svc.cluster.local:9080";
/// The same origin, whose requests are tried again as Istio's default has it.
const RETRIED_HOST: &str = "retried.default.svc.cluster.local:9080";
/// The same for calls.
const GRPC_HOST: &str = "echo.default.svc.cluster.local:9090";

/// The real programs that we measure against, and our own.
#[derive(Debug, clap::Args)]
pub(crate) struct Programs {
    /// The periplus binary, built with the release profile
    #[arg(long, env = "PERIPLUS_BIN", default_value = "target/release/periplus")]
    pub(crate) periplus: PathBuf,
    /// What runs as our proxy in its place, taking the same arguments: the proxy alone (`bench/sidecar`)
    #[arg(long, value_name = "FILE")]
    proxy: Option<PathBuf>,
    /// The Envoy binary (`cargo xtask peers` installs it)
    #[arg(long, env = "PERIPLUS_ENVOY", default_value = ".peers/envoy")]
    pub(crate) envoy: PathBuf,
    /// The HAProxy binary
    #[arg(long, default_value = "/usr/sbin/haproxy")]
    pub(crate) haproxy: PathBuf,
}

impl Programs {
    /// What runs as our proxy.
    fn proxy(&self) -> &Path {
        self.proxy.as_ref().unwrap_or(&self.periplus)
    }
}

/// A proxy that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// Our sidecar, every request traced, reported as Zipkin JSON.
    PeriplusZipkin,
    /// Our sidecar, every request traced, reported as OTLP over HTTP.
    PeriplusOtlp,
    /// The same for calls over HTTP/2.
    PeriplusGrpc,
    /// Our sidecar as it is in a mesh: Zipkin JSON, Istio's metrics, and Istio's default of retries.
    PeriplusIstio,
    /// Envoy, every request traced, reported as Zipkin JSON.
    EnvoyZipkin,
    /// Envoy, every request traced, reported as OTLP over gRPC.
    EnvoyOtlp,
    /// Envoy, every call over HTTP/2 traced, reported as Zipkin JSON.
    EnvoyGrpc,
    /// Envoy without tracing.
    EnvoyPlain,
    /// HAProxy in HTTP mode, no tracing.
    HaproxyHttp,
    /// HAProxy as a blind TCP relay: the floor of any userspace hop.
    HaproxyTcp,
}

/// A program that a control plane tells what to do: ours and Envoy take the same bootstrap file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Member {
    Periplus,
    Envoy,
}

impl Member {
    /// The name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Periplus => "periplus",
            Self::Envoy => "envoy",
        }
    }

    /// Starts it as this node, with one worker on the core of proxies.
    pub(crate) fn start(
        self,
        programs: &Programs,
        node: &str,
        control: SocketAddr,
        directory: &Path,
    ) -> anyhow::Result<Process> {
        let name = format!("{}-{node}", self.name());
        let file = directory.join(format!("{name}.json"));
        fs::write(&file, config::bootstrap_of(node, control)?)?;
        let path = file.display().to_string();
        let mut command = match self {
            Self::Periplus => vec![absolute(programs.proxy())?, "proxy".to_owned()],
            Self::Envoy => vec![absolute(&programs.envoy)?],
        };
        let flags: &[&str] = match self {
            Self::Periplus => &["--workers", "1"],
            Self::Envoy => &["--concurrency", "1", "--disable-hot-restart", "-l", "error"],
        };
        command.extend(
            ["-c", &path]
                .iter()
                .chain(flags)
                .map(|&flag| flag.to_owned()),
        );
        Process::start(&name, PROXY_CORE, &command, directory)
    }
}

impl Peer {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::PeriplusZipkin,
        Self::PeriplusOtlp,
        Self::PeriplusGrpc,
        Self::PeriplusIstio,
        Self::EnvoyZipkin,
        Self::EnvoyOtlp,
        Self::EnvoyGrpc,
        Self::EnvoyPlain,
        Self::HaproxyHttp,
        Self::HaproxyTcp,
    ];

    /// Those of these names, which all must be known; all, if there are none.
    pub(crate) fn named(names: &[String]) -> anyhow::Result<Vec<Self>> {
        if names.is_empty() {
            return Ok(Self::ALL.to_vec());
        }
        let named = names.iter().map(|name| {
            let found = Self::ALL.into_iter().find(|peer| peer.name() == name);
            found.with_context(|| {
                format!("no peer is called {name}: {:?}", Self::ALL.map(Self::name))
            })
        });
        named.collect()
    }

    /// The name in tables and budgets.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PeriplusZipkin => "periplus-zipkin",
            Self::PeriplusOtlp => "periplus-otlp",
            Self::PeriplusGrpc => "periplus-grpc",
            Self::PeriplusIstio => "periplus-istio",
            Self::EnvoyGrpc => "envoy-grpc",
            Self::EnvoyZipkin => "envoy-zipkin",
            Self::EnvoyOtlp => "envoy-otlp-grpc",
            Self::EnvoyPlain => "envoy-plain",
            Self::HaproxyHttp => "haproxy-http",
            Self::HaproxyTcp => "haproxy-tcp",
        }
    }

    /// Whether it reports one span for each request.
    pub(crate) const fn traces(self) -> bool {
        !matches!(
            self,
            Self::EnvoyPlain | Self::HaproxyHttp | Self::HaproxyTcp
        )
    }

    /// Whether it is sent calls over HTTP/2 instead of requests over HTTP/1.1.
    pub(crate) const fn is_grpc(self) -> bool {
        matches!(self, Self::PeriplusGrpc | Self::EnvoyGrpc)
    }

    /// The load generator for it, and the host that it asks for.
    pub(crate) const fn load(self) -> [&'static str; 2] {
        match self {
            Self::PeriplusGrpc | Self::EnvoyGrpc => ["grpc-load", GRPC_HOST],
            Self::PeriplusIstio => ["load", RETRIED_HOST],
            _ => ["load", HOST],
        }
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
            Self::PeriplusZipkin | Self::PeriplusGrpc | Self::PeriplusIstio => {
                around.outbound_zipkin
            }
            Self::PeriplusOtlp => around.outbound_otlp,
            _ => free_address()?,
        };
        let (content, program): (String, &Path) = match self {
            Self::PeriplusZipkin | Self::PeriplusGrpc => {
                (config::bootstrap(around.control_zipkin)?, programs.proxy())
            }
            Self::PeriplusOtlp => (config::bootstrap(around.control_otlp)?, programs.proxy()),
            Self::PeriplusIstio => (
                config::counting(&config::bootstrap(around.control_zipkin)?)?,
                programs.proxy(),
            ),
            Self::EnvoyZipkin | Self::EnvoyOtlp | Self::EnvoyGrpc | Self::EnvoyPlain => (
                config::envoy(self, address, around).to_string(),
                &programs.envoy,
            ),
            Self::HaproxyHttp | Self::HaproxyTcp => (
                config::haproxy(self, address, around.origin),
                &programs.haproxy,
            ),
        };
        fs::write(&file, content)?;
        let mut command = vec![absolute(program)?];
        command.extend(
            match self {
                Self::PeriplusZipkin
                | Self::PeriplusOtlp
                | Self::PeriplusGrpc
                | Self::PeriplusIstio => {
                    vec!["proxy", "-c", &path, "--workers", "1"]
                }
                Self::EnvoyZipkin | Self::EnvoyOtlp | Self::EnvoyGrpc | Self::EnvoyPlain => {
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
