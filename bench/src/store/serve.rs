//! Our own server as a child process, and the commands on its directory.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::process;

const PORTS: [&str; 13] = [
    "--ui-port",
    "--query-grpc-port",
    "--otlp-grpc-port",
    "--otlp-http-port",
    "--zipkin-port",
    "--jaeger-grpc-port",
    "--jaeger-http-port",
    "--jaeger-compact-port",
    "--jaeger-binary-port",
    "--health-port",
    "--metrics-port",
    "--sampling-port",
    "--sampling-grpc-port",
];

/// A running `periplus serve`.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    /// The query APIs.
    pub(super) api: SocketAddr,
    /// OTLP over HTTP.
    pub(super) otlp: SocketAddr,
    /// From its start until it said that it is ready.
    pub(super) ready_after: Duration,
}

/// How to start it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup<'a> {
    pub(super) program: &'a Path,
    pub(super) cores: &'a str,
    pub(super) data: &'a Path,
    pub(super) durability: &'a str,
    pub(super) max_disk: &'a str,
}

impl Setup<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new("taskset");
        command
            .args(["-c", self.cores])
            .arg(self.program)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null());
        command
    }

    /// Starts the server and waits until it is ready.
    pub(super) fn serve(&self) -> anyhow::Result<Server> {
        let mut command = self.command();
        command.args(["serve", "--retention", "0", "--max-disk", self.max_disk]);
        command.args(["--durability", self.durability]);
        command.arg("--data").arg(self.data);
        for port in PORTS {
            command.args([port, "0"]);
        }
        let begin = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (mut api, mut otlp) = (None, None);
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if line.starts_with("ready:") {
                break;
            }
            let address = || {
                let url = line.split_whitespace().last()?;
                let authority = url.trim_start_matches("http://").split('/').next()?;
                authority.parse().ok()
            };
            if line.starts_with("UI") {
                api = address();
            } else if line.starts_with("OTLP over HTTP") {
                otlp = address();
            }
        }
        let (Some(api), Some(otlp)) = (api, otlp) else {
            child.kill()?;
            let status = child.wait()?;
            anyhow::bail!("the server has not started: {status}");
        };
        Ok(Server {
            child,
            api,
            otlp,
            ready_after: begin.elapsed(),
        })
    }

    /// Merges what is small; gives the CPU time of it.
    pub(super) fn compact(&self) -> anyhow::Result<Duration> {
        let before = process::cpu_of_ended_children()?;
        let mut command = self.command();
        command.args(["store", "compact", "--data"]).arg(self.data);
        let status = command.stdout(Stdio::null()).status()?;
        ensure!(status.success(), "store compact failed: {status}");
        Ok(process::cpu_of_ended_children()? - before)
    }

    /// What is stored.
    pub(super) fn stored(&self) -> anyhow::Result<Stored> {
        let mut command = self.command();
        command.args(["store", "stats", "--output", "json", "--data"]);
        let output = command.arg(self.data).output()?;
        ensure!(output.status.success(), "store stats failed");
        #[derive(Deserialize)]
        struct Stats {
            total: Stored,
        }
        let stats: Stats = serde_json::from_slice(&output.stdout)?;
        Ok(stats.total)
    }
}

/// What `store stats` says of all hours.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) segments: u64,
    pub(super) spans: u64,
    pub(super) bytes: u64,
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time since its start.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        process::cpu_of(self.pid())
    }

    /// Ends it as an operator does, and gives all CPU time that it has used.
    pub(super) fn stop(mut self) -> anyhow::Result<Duration> {
        let before = process::cpu_of_ended_children()?;
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(process::cpu_of_ended_children()? - before)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
