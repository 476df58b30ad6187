//! Clients that ask what to sample: Jaeger's own for Python, OpenTelemetry's for Node.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/serve.rs"]
mod harness;

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::Serve;

const PROBABILISTIC: &str = r#"{"service_strategies":
    [{"service": "my shop", "type": "probabilistic", "param": 0.25}]}"#;

const BY_OPERATION: &str = r#"{"service_strategies":
    [{"service": "my shop", "type": "probabilistic", "param": 0.125, "operation_strategies":
        [{"operation": "GET /buy", "type": "probabilistic", "param": 1}]}]}"#;

#[test]
fn jaegers_client_for_python_obeys_the_file_and_its_changes() {
    let Some(clients) = clients() else {
        return;
    };
    let mut python = Command::new(clients.join("python-old/bin/python"));
    python.env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python");
    obeys(
        python,
        "python/sampler.py",
        ["ProbabilisticSampler(0.25)", "AdaptiveSampler(0.125000"],
    );
}

#[test]
fn opentelemetrys_sampler_for_node_obeys_the_file_and_its_changes() {
    let Some(clients) = clients() else {
        return;
    };
    let mut node = Command::new("node");
    node.env("NODE_PATH", clients.join("node/node_modules"));
    obeys(
        node,
        "node/sampler.cjs",
        ["TraceIdRatioBased{0.25}", "GET /buy"],
    );
}

/// Runs the client, which prints each sampler that it is told to have: first a file, then another.
fn obeys(mut command: Command, script: &str, samplers: [&str; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("strategies.json");
    std::fs::write(&path, PROBABILISTIC).unwrap();
    let file = path.to_str().unwrap();
    let serve = Serve::start_with(&[
        "--memory",
        "--sampling-strategies",
        file,
        "--sampling-reload",
        "1s",
    ]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(script);
    let mut client = command
        .arg(script)
        .args([
            serve.addresses["sampling over HTTP"].to_string(),
            "my shop".to_owned(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut wait_for = |text: &str| {
        let mut said = Vec::new();
        // The client ends by itself after a minute.
        for line in lines.by_ref() {
            let line = line.unwrap();
            if line.contains(text) {
                return;
            }
            said.push(line);
        }
        panic!("no {text} in {said:?}");
    };
    wait_for(samplers[0]);
    std::fs::write(&path, BY_OPERATION).unwrap();
    wait_for(samplers[1]);
    client.kill().unwrap();
    client.wait().unwrap();
}

/// Where the clients are installed; `None`, and a notice, where they are not. In CI they must be.
fn clients() -> Option<PathBuf> {
    let clients = env::var_os("PERIPLUS_CLIENTS").map(PathBuf::from);
    assert!(
        clients.is_some() || env::var_os("CI").is_none(),
        "PERIPLUS_CLIENTS is not set; run the tests with: cargo xtask test"
    );
    if clients.is_none() {
        eprintln!("not tried with real clients: run the tests with: cargo xtask test");
    }
    clients
}
