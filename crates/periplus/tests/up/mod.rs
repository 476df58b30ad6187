//! `periplus up`: the user's own processes.

use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{PORTS, Program, free_base, get, get_json, is_free, patiently};

const BINARY: &str = env!("CARGO_BIN_EXE_periplus");

/// Two services, of which one runs twice.
fn shop() -> String {
    format!(
        r#"
rules: mesh
services:
- name: productpage
  port: 9080
  versions:
  - command: ["{BINARY}", bookinfo, productpage, --port, "${{PORT}}"]
    ready: /health
- name: details
  port: 9080
  versions:
  - name: v1
    command: ["{BINARY}", bookinfo, details, --port, "${{PORT}}", --version, v1]
    replicas: 2
"#
    )
}

fn rules(gateway: u16, more: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: shop}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {gateway}, name: http, protocol: HTTP}}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: ['*']
  gateways: [shop]
  http:
{more}
  - route:
    - destination: {{host: productpage, port: {{number: 9080}}}}
"
    )
}

fn up(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("up").arg(directory.join("shop.yaml"));
    command.args(arguments).output().unwrap()
}

fn status(directory: &Path) -> Vec<Value> {
    let output = up(directory, &["status", "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_mesh_of_ones_own_processes() {
    let base = free_base();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    std::fs::write(directory.join("shop.yaml"), shop()).unwrap();
    let rules_of = |more: &str| {
        std::fs::create_dir_all(directory.join("mesh")).unwrap();
        std::fs::write(directory.join("mesh/shop.yaml"), rules(base, more)).unwrap();
    };
    rules_of("");
    let mut command = Command::new(BINARY);
    command.arg("up").arg(directory.join("shop.yaml"));
    command.args(["--port-base", &base.to_string()]);
    let mut mesh = Program::run(command);
    mesh.wait_for(&["traces", &(base + 1).to_string()]);
    mesh.wait_for(&["Ctrl-C stops everything"]);

    // Requests go through, from the gateway on (which has two spans), and are one trace.
    patiently("the product's details", || {
        let answer = get(base, "/api/v1/products/0");
        (answer.status == 200 && answer.body.contains("publisher")).then_some(())
    });
    patiently("a trace through both services", || {
        let found = get_json(base + 1, "/api/traces?service=details.default&limit=20");
        let spans = |trace: &Value| trace["spans"].as_array().map_or(0, Vec::len);
        found["data"]
            .as_array()?
            .iter()
            .any(|trace| spans(trace) == 5)
            .then_some(())
    });

    // Backend, control plane, gateway, and three processes with a sidecar each.
    let parts = status(directory);
    assert_eq!(parts.len(), 3 + 2 * 3, "{parts:?}");
    assert!(
        parts.iter().all(|part| part["state"] == "ready"),
        "{parts:?}"
    );
    let table = text(&up(directory, &["status"]));
    assert!(
        table.starts_with("NAME ") && table.contains("details-v1-1-sidecar"),
        "{table}"
    );

    // One of them is started again when somebody wants it.
    let find = |parts: &[Value], name: &str| {
        parts
            .iter()
            .find(|part| part["name"] == name)
            .cloned()
            .unwrap()
    };
    let before = find(&parts, "details-v1-1");
    let restarted = up(directory, &["restart", "details-v1-1"]);
    assert!(restarted.status.success(), "{}", text(&restarted));
    patiently("another process", || {
        let now = find(&status(directory), "details-v1-1");
        let is_new = now["pid"] != before["pid"] && now["restarts"] == 1;
        (now["state"] == "ready" && is_new).then_some(())
    });
    let nobody = up(directory, &["restart", "nobody"]);
    assert!(!nobody.status.success());
    assert!(text(&nobody).contains("there is no part 'nobody'; there are serve, control"));

    let log = up(directory, &["logs", "control"]);
    assert!(
        text(&log).contains("control plane is ready"),
        "{}",
        text(&log)
    );
    let missing = text(&up(directory, &["logs", "nobody"]));
    assert!(missing.contains("there is no log of 'nobody'"), "{missing}");

    // Rules are read again when they change.
    rules_of("  - match: [{uri: {exact: /teapot}}]\n    directResponse: {status: 418}\n");
    patiently("the new rule", || {
        (get(base, "/teapot").status == 418).then_some(())
    });

    mesh.signal(Signal::INT);
    let (ended, said) = mesh.finish();
    assert!(ended.success() && said.contains("all stopped"), "{said}");
    assert!((base..base + PORTS).all(is_free), "nothing is left behind");
    assert!(directory.join(".periplus/traces").exists(), "traces stay");
    let gone = up(directory, &["status"]);
    assert!(!gone.status.success());
    assert!(text(&gone).contains("no mesh runs in"), "{}", text(&gone));
}

#[test]
fn what_is_wrong_with_a_file_is_said_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let cases = [
        (
            "services: [{name: a, port: 80, versions: [{comand: [x]}]}]",
            "unknown field `comand`",
        ),
        (
            "rules: nowhere\nservices: [{name: a, port: 80, versions: [{command: [x]}]}]",
            "there is no directory",
        ),
        (
            "services: [{name: a, port: 80, versions: [{command: [x], directory: gone}]}]",
            "a-v1: there is no directory",
        ),
    ];
    for (file, expected) in cases {
        std::fs::write(directory.join("shop.yaml"), file).unwrap();
        let output = up(directory, &["--port-base", &free_base().to_string()]);
        assert!(!output.status.success());
        assert!(
            text(&output).contains(expected),
            "{file}: {}",
            text(&output)
        );
    }
    let missing = text(&up(&directory.join("elsewhere"), &[]));
    assert!(missing.contains("cannot read"), "{missing}");
}
