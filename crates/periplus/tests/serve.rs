//! `periplus serve`, as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(60);

const FLAGS: [&str; 6] = [
    "--ui-port",
    "--otlp-grpc-port",
    "--otlp-http-port",
    "--zipkin-port",
    "--health-port",
    "--metrics-port",
];

struct Serve {
    process: Child,
    addresses: HashMap<&'static str, SocketAddr>,
}

impl Serve {
    /// Starts the backend on free ports, and reads from its output which ones they are.
    fn start() -> Self {
        let mut process = command(&[])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
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
            let address = address.split('/').next().unwrap().parse().unwrap();
            for name in [
                "UI",
                "OTLP over gRPC",
                "OTLP over HTTP",
                "Zipkin",
                "health",
                "own metrics",
            ] {
                if line.starts_with(name) {
                    addresses.insert(name, address);
                }
            }
        }
        assert_eq!(addresses.len(), FLAGS.len(), "{addresses:?}");
        Self { process, addresses }
    }

    fn request(&self, name: &str, head: &str, body: &str) -> String {
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

    fn signal(&mut self, signal: Signal) -> Option<i32> {
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
fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    command.args(["serve", "--memory"]).stdin(Stdio::null());
    for flag in FLAGS {
        if !flags.contains(&flag) {
            command.args([flag, "0"]);
        }
    }
    command.args(flags);
    command
}

#[test]
fn what_is_sent_is_served() {
    let mut serve = Serve::start();
    let span = r#"[{"traceId":"0000000000000abc","id":"1","name":"get","kind":"SERVER",
        "timestamp":1795332552157501,"duration":1000,"localEndpoint":{"serviceName":"shop"}}]"#;
    let answer = serve.request("Zipkin", "POST /api/v2/spans", span);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");

    let services = serve.request("UI", "GET /api/services", "");
    assert!(services.contains(r#""data":["shop"]"#), "{services}");
    let trace = serve.request("UI", "GET /api/traces/abc", "");
    assert!(trace.contains(r#""operationName":"get""#), "{trace}");
    let page = serve.request("UI", "GET /trace/abc", "");
    assert!(page.contains("text/html"), "{page}");
    let unknown = serve.request("UI", "GET /api/nothing", "");
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    assert!(
        unknown.contains("no such endpoint: /api/nothing"),
        "{unknown}"
    );

    for path in ["/", "/status"] {
        let health = serve.request("health", &format!("GET {path}"), "");
        assert!(health.starts_with("HTTP/1.1 200"), "{health}");
        assert!(
            health.contains(r#""status":"Server available""#),
            "{health}"
        );
    }
    let metrics = serve.request("own metrics", "GET /metrics", "");
    for line in [
        r#"periplus_receiver_accepted_spans_total{receiver="zipkin",transport="http"} 1"#,
        r#"otelcol_receiver_accepted_spans_total{receiver="zipkin",transport="http"} 1"#,
        r#"periplus_receiver_refused_requests_total{receiver="otlp",transport="grpc",reason="busy"} 0"#,
        "# TYPE periplus_store_spans gauge",
        "periplus_store_spans 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} in {metrics}"
        );
    }
    assert_eq!(serve.signal(Signal::TERM), Some(0));
}

#[test]
fn an_interrupt_ends_it() {
    assert_eq!(Serve::start().signal(Signal::INT), Some(0));
}

#[test]
fn a_busy_port_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = command(&["--zipkin-port", &port]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.starts_with(&format!("error: port {port} (zipkin) is taken: ")),
        "{error}"
    );
    assert!(error.contains("--zipkin-port"), "{error}");
}

#[test]
fn a_foreign_address_is_named() {
    // TEST-NET-1 (RFC 5737): nobody's.
    let output = command(&["--bind", "192.0.2.1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("192.0.2.1 is no address of this machine"),
        "{error}"
    );
}
