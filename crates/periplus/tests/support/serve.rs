//! The backend as a child process.

#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "shared by test binaries, each of which uses a part"
)]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(60);

const FLAGS: [&str; 13] = [
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
pub(crate) struct Serve {
    process: Child,
    pub(crate) addresses: HashMap<&'static str, SocketAddr>,
}

impl Serve {
    /// Starts the backend in memory.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--memory"])
    }

    /// Starts the backend on free ports, and reads from its output which ones they are.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let mut command = command(flags);
        command.stderr(Stdio::null());
        let serve = Self::run(command);
        assert_eq!(serve.addresses.len(), FLAGS.len(), "{:?}", serve.addresses);
        serve
    }

    /// Starts a command that is a backend, and reads which ports it has.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut addresses = HashMap::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if line.starts_with("ready:") {
                break;
            }
            let Some(address) = line.split_whitespace().last() else {
                continue;
            };
            let address = address.trim_start_matches("http://");
            let address = address.trim_start_matches("https://");
            let address = address.split('/').next().unwrap().parse().unwrap();
            for name in [
                "UI",
                "Jaeger query, gRPC",
                "OTLP over gRPC",
                "OTLP over HTTP",
                "Zipkin",
                "Jaeger over gRPC",
                "Jaeger over HTTP",
                "Jaeger UDP, compact",
                "Jaeger UDP, binary",
                "health",
                "own metrics",
                "sampling over HTTP",
                "sampling over gRPC",
            ] {
                if line.starts_with(name) {
                    addresses.insert(name, address);
                }
            }
        }
        Self { process, addresses }
    }

    pub(crate) fn request(&self, name: &str, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.addresses[name]).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(
            stream,
            "{head} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The most memory that it has had.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.unwrap().trim().trim_end_matches(" kB");
        kib.parse().unwrap()
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "still running after {signal:?}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The backend on free ports, other flags behind them.
pub(crate) fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    command.arg("serve").stdin(Stdio::null());
    for flag in FLAGS {
        if !flags.contains(&flag) {
            command.args([flag, "0"]);
        }
    }
    command.args(flags);
    command
}
