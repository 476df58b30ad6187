//! `periplus control`, as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/program.rs"]
mod program;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use program::Program;
use rustix::process::Signal;

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

#[test]
fn says_what_it_loads_and_what_changes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("reviews.yaml");
    std::fs::write(&file, SERVICE).unwrap();
    let mut control = Program::start(&[
        "control",
        "--xds-port",
        "0",
        "--monitoring-port",
        "0",
        "--dir",
        directory.path().to_str().unwrap(),
    ]);
    control.wait_for(&["loaded 1 service, 0 workloads, 0 VirtualServices"]);
    control.wait_for(&["control plane is ready"]);

    std::fs::write(&file, SERVICE.replace("number: 9080", "number: 9081")).unwrap();
    control.wait_for(&["reviews.yaml: 1 ServiceEntry changed, no proxy needs to know"]);
    std::fs::write(&file, SERVICE.replace("ports:", "port:")).unwrap();
    control.wait_for(&["reviews.yaml: 1 error, the last good content stays"]);
    control.wait_for(&["reviews.yaml:8:3: spec.port: unknown field `port`, did you mean `ports`?"]);
    std::fs::write(&file, SERVICE).unwrap();
    control.wait_for(&["reviews.yaml: right again, 1 ServiceEntry changed"]);
    std::fs::remove_file(&file).unwrap();
    control.wait_for(&["reviews.yaml: 1 ServiceEntry removed"]);

    control.signal(Signal::TERM);
    let (status, said) = control.finish();
    assert!(status.success(), "{said}");
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
