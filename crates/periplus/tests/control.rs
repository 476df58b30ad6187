//! `periplus control`, as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(60);

const SERVICE: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: reviews
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1}]
";

fn command(directory: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    command
        .args([
            "control",
            "--xds-port",
            "0",
            "--monitoring-port",
            "0",
            "--dir",
        ])
        .arg(directory)
        .args(flags)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

struct Control {
    process: Child,
    lines: Receiver<String>,
}

impl Control {
    fn start(directory: &Path) -> Self {
        let mut process = command(directory, &[])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let errors = sender.clone();
        std::thread::spawn(move || forward(stdout, &sender));
        std::thread::spawn(move || forward(stderr, &errors));
        Self { process, lines }
    }

    fn wait_for(&self, words: &str) {
        let deadline = Instant::now() + DEADLINE;
        let mut said = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("nothing with `{words}` in:\n{}", said.join("\n"));
            };
            if line.contains(words) {
                return;
            }
            said.push(line);
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn forward(lines: impl BufRead, to: &mpsc::Sender<String>) {
    for line in lines.lines().map_while(Result::ok) {
        if to.send(line).is_err() {
            return;
        }
    }
}

#[test]
fn says_what_it_loads_and_what_changes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("reviews.yaml");
    std::fs::write(&file, SERVICE).unwrap();
    let mut control = Control::start(directory.path());
    control.wait_for("loaded 1 service, 0 workloads, 0 VirtualServices");
    control.wait_for("control plane is ready");

    std::fs::write(&file, SERVICE.replace("number: 9080", "number: 9081")).unwrap();
    control.wait_for("reviews.yaml: 1 ServiceEntry changed, no proxy needs to know");
    std::fs::write(&file, SERVICE.replace("ports:", "port:")).unwrap();
    control.wait_for("reviews.yaml: 1 error, the last good content stays");
    control.wait_for("reviews.yaml:8:3: spec.port: unknown field `port`, did you mean `ports`?");
    std::fs::write(&file, SERVICE).unwrap();
    control.wait_for("reviews.yaml: right again, 1 ServiceEntry changed");
    std::fs::remove_file(&file).unwrap();
    control.wait_for("reviews.yaml: 1 ServiceEntry removed");

    let process = Pid::from_raw(control.process.id().cast_signed()).unwrap();
    kill_process(process, Signal::TERM).unwrap();
    assert!(control.process.wait().unwrap().success());
}

#[test]
fn says_why_it_cannot_start() {
    let directory = tempfile::tempdir().unwrap();
    let mesh_config = directory.path().join("mesh-config.yaml");
    std::fs::write(&mesh_config, "extensionProvider: []\n").unwrap();
    let mesh_config = mesh_config.to_str().unwrap();
    let missing = directory.path().join("missing");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();

    let cases: [(&Path, &[&str], &str); 4] = [
        (&missing, &[], "cannot read the directory"),
        (
            directory.path(),
            &["--mesh-config", mesh_config],
            "mesh-config.yaml:1:1: extensionProvider: unknown field `extensionProvider`, did you mean `extensionProviders`?",
        ),
        (
            directory.path(),
            &["--mesh-config", "missing.yaml"],
            "cannot be read",
        ),
        (
            directory.path(),
            &["--bind", "127.0.0.1", "--xds-port", &port],
            "choose another port with --xds-port",
        ),
    ];
    for (directory, flags, reason) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
        command
            .args(["control", "--monitoring-port", "0", "--dir"])
            .arg(directory);
        if !flags.contains(&"--xds-port") {
            command.args(["--xds-port", "0"]);
        }
        let output = command.args(flags).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{flags:?}");
        assert!(said.contains(reason), "{flags:?}: {said}");
    }
}
