//! A real Envoy as a child process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// The binary, if there is one: `PERIPLUS_ENVOY` names it.
pub(crate) fn binary() -> Option<PathBuf> {
    match std::env::var_os("PERIPLUS_ENVOY") {
        Some(path) => Some(path.into()),
        None if std::env::var_os("CI").is_some() => {
            panic!("PERIPLUS_ENVOY must name an Envoy binary on CI");
        }
        None => {
            eprintln!("not run: PERIPLUS_ENVOY does not name an Envoy binary");
            None
        }
    }
}

/// A running Envoy; killed when dropped.
pub(crate) struct Envoy {
    child: Child,
    directory: tempfile::TempDir,
}

impl Envoy {
    /// Starts it on a bootstrap file, with spans sent at once and not in batches.
    pub(crate) fn start(binary: &Path, bootstrap: &str) -> Self {
        let mut bootstrap: Value = serde_json::from_str(bootstrap).expect("JSON");
        bootstrap["layered_runtime"] = json!({"layers": [{
            "name": "test",
            "static_layer": {
                "tracing.zipkin.min_flush_spans": 1,
                "tracing.zipkin.flush_interval_ms": 100,
                "tracing.opentelemetry.min_flush_spans": 1,
                "tracing.opentelemetry.flush_interval_ms": 100,
            },
        }]});
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("bootstrap.json");
        std::fs::write(&config, bootstrap.to_string()).expect("write");
        let log = std::fs::File::create(directory.path().join("log")).expect("a log file");
        let child = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .args([
                "--use-dynamic-base-id",
                "--disable-hot-restart",
                "--concurrency",
                "1",
            ])
            .args(["--log-level", "warning", "--file-flush-interval-msec", "50"])
            .arg("--admin-address-path")
            .arg(directory.path().join("admin"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start Envoy");
        Self { child, directory }
    }

    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        let text = std::fs::read_to_string(self.directory.path().join("admin")).ok()?;
        text.parse().ok()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
