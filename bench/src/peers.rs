//! The peers: each is one process, pinned to one core, with one worker.

mod checks;
mod config;
mod log_pipe;
mod process;
mod surroundings;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use process::absolute;

use crate::full::{self, On, Routes};
use crate::mesh;

pub(crate) use checks::check;
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

/// One worker.
const ENVOY_FLAGS: &[&str] = &["--concurrency", "1", "--disable-hot-restart", "-l", "error"];

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
    /// Our sidecar with everything on.
    PeriplusFull,
    /// Envoy with everything on that it has.
    EnvoyFull,
    /// Our sidecar with one part of everything on.
    Part(Part),
}

/// What of everything is on, beside routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    Nothing,
    Spans,
    Metrics,
    Log,
    Rbac,
    /// Nothing, and so many routes.
    Routes10,
    Routes1000,
}

impl Part {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Spans,
        Self::Metrics,
        Self::Log,
        Self::Rbac,
        Self::Routes10,
        Self::Routes1000,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "part-nothing",
            Self::Spans => "part-spans",
            Self::Metrics => "part-metrics",
            Self::Log => "part-log",
            Self::Rbac => "part-rbac",
            Self::Routes10 => "routes-10",
            Self::Routes1000 => "routes-1000",
        }
    }

    const fn on(self) -> On {
        let mut on = On::NOTHING;
        match self {
            Self::Nothing => {}
            Self::Spans => on.spans = true,
            Self::Metrics => on.metrics = true,
            Self::Log => on.log = true,
            Self::Rbac => on.rbac = true,
            Self::Routes10 => on.routes = Routes::Paths(10),
            Self::Routes1000 => on.routes = Routes::Paths(1000),
        }
        on
    }
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
        let command = self.command(programs, node, control, directory)?;
        let name = format!("{}-{node}", self.name());
        Process::start(&name, PROXY_CORE, &command, directory)
    }

    /// Writes the bootstrap file of this node and gives the command that runs it.
    pub(crate) fn command(
        self,
        programs: &Programs,
        node: &str,
        control: SocketAddr,
        directory: &Path,
    ) -> anyhow::Result<Vec<String>> {
        let file = directory.join(format!("{}-{node}.json", self.name()));
        fs::write(&file, config::bootstrap_of(node, control)?)?;
        let path = file.display().to_string();
        let mut command = match self {
            Self::Periplus => vec![absolute(programs.proxy())?, "proxy".to_owned()],
            Self::Envoy => vec![absolute(&programs.envoy)?],
        };
        let flags: &[&str] = match self {
            Self::Periplus => &["--workers", "1"],
            Self::Envoy => ENVOY_FLAGS,
        };
        command.extend(
            ["-c", &path]
                .iter()
                .chain(flags)
                .map(|&flag| flag.to_owned()),
        );
        Ok(command)
    }
}

impl Peer {
    /// All of them but the parts of everything.
    pub(crate) const ALL: [Self; 12] = [
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
        Self::PeriplusFull,
        Self::EnvoyFull,
    ];

    /// Those of these names, which all must be known; all but the parts, if there are none.
    pub(crate) fn named(names: &[String]) -> anyhow::Result<Vec<Self>> {
        if names.is_empty() {
            return Ok(Self::ALL.to_vec());
        }
        let known = || Self::ALL.into_iter().chain(Part::ALL.map(Self::Part));
        let named = names.iter().map(|name| {
            let found = known().find(|peer| peer.name() == name);
            found.with_context(|| {
                let names: Vec<_> = known().map(Self::name).collect();
                format!("no peer is called {name}: {names:?}")
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
            Self::PeriplusFull => "periplus-full",
            Self::EnvoyFull => "envoy-full",
            Self::Part(part) => part.name(),
        }
    }

    /// What is on beside routing, if that is what is measured.
    pub(crate) const fn on(self) -> Option<On> {
        match self {
            Self::PeriplusFull => Some(On::EVERYTHING),
            Self::EnvoyFull => Some(On {
                metrics: false,
                ..On::EVERYTHING
            }),
            Self::Part(part) => Some(part.on()),
            _ => None,
        }
    }

    /// Whether it reports one span for each request.
    pub(crate) const fn traces(self) -> bool {
        match self.on() {
            Some(on) => on.spans,
            None => !matches!(
                self,
                Self::EnvoyPlain | Self::HaproxyHttp | Self::HaproxyTcp
            ),
        }
    }

    /// Whether it is sent calls over HTTP/2 instead of requests over HTTP/1.1.
    pub(crate) const fn is_grpc(self) -> bool {
        matches!(self, Self::PeriplusGrpc | Self::EnvoyGrpc)
    }

    /// The host that it is asked for.
    pub(crate) const fn host(self) -> &'static str {
        match self {
            Self::PeriplusGrpc | Self::EnvoyGrpc => GRPC_HOST,
            Self::PeriplusIstio => RETRIED_HOST,
            _ => HOST,
        }
    }

    /// The load generator for it, and what it asks for there.
    pub(crate) fn load(self, at: SocketAddr) -> Vec<String> {
        let generator = if self.is_grpc() { "grpc-load" } else { "load" };
        let at = at.to_string();
        let mut flags = vec![generator, "--address", &at, "--host", self.host()];
        if let Self::Part(Part::Routes10 | Part::Routes1000) = self {
            flags.extend(["--path", full::PATH]);
        }
        flags.into_iter().map(str::to_owned).collect()
    }

    /// Writes its configuration and gives the command that runs it and the address it listens on.
    pub(crate) fn command(
        self,
        programs: &Programs,
        around: &Surroundings,
    ) -> anyhow::Result<(Vec<String>, SocketAddr)> {
        let file = self.file(around);
        let path = file.display().to_string();
        let address = match self {
            Self::PeriplusZipkin | Self::PeriplusGrpc | Self::PeriplusIstio => {
                around.outbound_zipkin
            }
            Self::PeriplusOtlp => around.outbound_otlp,
            _ => free_address()?,
        };
        let counting = |control| config::counting(&config::bootstrap(control)?);
        let content = match self {
            Self::PeriplusZipkin | Self::PeriplusGrpc => config::bootstrap(around.control_zipkin)?,
            Self::PeriplusOtlp => config::bootstrap(around.control_otlp)?,
            Self::PeriplusIstio => counting(around.control_zipkin)?,
            Self::EnvoyZipkin | Self::EnvoyOtlp | Self::EnvoyGrpc | Self::EnvoyPlain => {
                config::envoy(self, address, around).to_string()
            }
            Self::HaproxyHttp | Self::HaproxyTcp => config::haproxy(self, address, around.origin),
            Self::PeriplusFull | Self::EnvoyFull | Self::Part(_) => {
                let on = self.on().unwrap_or(On::NOTHING);
                let control = told(on, address, around)?;
                match on.metrics {
                    true => counting(control)?,
                    false => config::bootstrap(control)?,
                }
            }
        };
        fs::write(&file, content)?;
        let (program, before, after): (&Path, &[&str], &[&str]) = match self {
            Self::PeriplusZipkin
            | Self::PeriplusOtlp
            | Self::PeriplusGrpc
            | Self::PeriplusIstio
            | Self::PeriplusFull
            | Self::Part(_) => (programs.proxy(), &["proxy", "-c"], &["--workers", "1"]),
            Self::EnvoyZipkin
            | Self::EnvoyOtlp
            | Self::EnvoyGrpc
            | Self::EnvoyPlain
            | Self::EnvoyFull => (&programs.envoy, &["-c"], ENVOY_FLAGS),
            Self::HaproxyHttp | Self::HaproxyTcp => (&programs.haproxy, &["-db", "-f"], &[]),
        };
        let mut command = vec![absolute(program)?];
        command.extend(before.iter().map(|&flag| flag.to_owned()));
        command.push(path);
        command.extend(after.iter().map(|&flag| flag.to_owned()));
        Ok((command, address))
    }

    /// Its configuration.
    pub(crate) fn file(self, around: &Surroundings) -> PathBuf {
        around.directory.join(format!("{}.conf", self.name()))
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

/// A control plane that tells a proxy of this, which has a log of its own.
fn told(on: On, at: SocketAddr, around: &Surroundings) -> anyhow::Result<SocketAddr> {
    let log = around.new_log()?;
    let world = full::world(
        on,
        &full::Around {
            at,
            host: HOST,
            origin: around.origin,
            sink: around.sink_zipkin(),
            log: &log,
        },
    );
    mesh::serve(BTreeMap::from([(config::NODE.to_owned(), world)]))
}
