//! Real Zipkin clients, unmodified: each sends one trace to `periplus serve`, which is then read over
//! Zipkin's API, Jaeger's and our own.
//!
//! `PERIPLUS_CLIENTS` names the directory that `cargo xtask peers` installs them into. Without it the
//! tests fail on CI, and elsewhere say so and pass.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/apis.rs"]
mod apis;
#[path = "support/serve.rs"]
mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;

use apis::{Everywhere, get};
use harness::Serve;
use serde_json::json;

/// Where the clients are, if they are installed.
fn clients() -> Option<PathBuf> {
    match std::env::var_os("PERIPLUS_CLIENTS") {
        Some(path) => Some(path.into()),
        None if std::env::var_os("CI").is_some() => {
            panic!("PERIPLUS_CLIENTS must name the clients' directory on CI")
        }
        None => {
            eprintln!("not run: PERIPLUS_CLIENTS does not name a directory of clients");
            None
        }
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

/// Runs a client against Zipkin's port: the id of the trace that it sent.
fn send(serve: &Serve, program: &Path, name: &str, kind: &str, modules: &Path) -> String {
    let endpoint = serve.addresses["Zipkin"].to_string();
    let output = Command::new(program)
        .arg(script(name))
        .args([kind, &endpoint])
        .env("NODE_PATH", modules)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {kind}: {error}");
    let id = String::from_utf8(output.stdout).unwrap();
    let id = id.trim().to_owned();
    assert_eq!(id.len(), 32, "{name} {kind} printed {id}: {error}");
    id
}

/// What every client sent: a server span, and a failed client span below it.
fn check(serve: &Serve, id: &str, what: &str) {
    let everywhere = Everywhere::read(serve, id, 2);
    everywhere.agree(what);
    let trace = &everywhere.zipkin;
    let spans = trace.as_array().unwrap();
    assert_eq!(spans.len(), 2, "{what}: {trace}");
    let of_kind = |kind: &str| {
        let mut spans = spans.iter();
        spans
            .find(|span| span["kind"] == kind)
            .unwrap_or_else(|| panic!("{what}: no {kind} in {trace}"))
    };
    let (server, client) = (of_kind("SERVER"), of_kind("CLIENT"));
    assert_eq!(server["traceId"], id, "{what}");
    assert_eq!(server["name"], "get /cart", "{what}");
    assert_eq!(
        server["localEndpoint"]["serviceName"], "cart service",
        "{what}"
    );
    assert_eq!(server["tags"]["http.path"], "/cart", "{what}");
    assert_eq!(server["tags"]["size"], "7", "{what}: {server}");
    // OpenTelemetry's for Python writes `{"cache miss": {}}`.
    let note = server["annotations"][0]["value"].as_str().unwrap();
    assert!(note.contains("cache miss"), "{what}: {note}");
    assert_eq!(client["name"], "get /prices", "{what}");
    assert_eq!(client["parentId"], server["id"], "{what}");
    assert_eq!(client["remoteEndpoint"]["serviceName"], "prices", "{what}");
    assert_eq!(client["tags"]["error"], "timed out", "{what}: {client}");

    let found = get(
        serve,
        "Zipkin",
        "/api/v2/traces?serviceName=cart+service&spanName=get+/cart&remoteServiceName=prices\
         &annotationQuery=http.path%3D/cart+and+error&limit=100",
    );
    let ids = found.as_array().unwrap().iter();
    assert!(ids.clone().any(|trace| trace[0]["traceId"] == id), "{what}");
}

#[test]
fn what_real_clients_send_is_read_over_every_api() {
    let Some(clients) = clients() else { return };
    let serve = Serve::start();
    let python = |venv: &str| clients.join(venv).join("bin/python");
    let node = PathBuf::from("node");
    let modules = clients.join("node/node_modules");
    let today = python("python-zipkin");
    let old = python("python-zipkin-old");
    let runs = [
        (&today, "python/zipkin.py", "v1-json"),
        (&today, "python/zipkin.py", "v2-json"),
        (&old, "python/zipkin.py", "v1-json"),
        (&old, "python/zipkin.py", "v1-thrift"),
        (&old, "python/zipkin.py", "v2-json"),
        (&today, "python/zipkin_otel.py", "v2-json"),
        (&today, "python/zipkin_otel.py", "proto"),
        (&node, "node/zipkin.cjs", "v1-json"),
        (&node, "node/zipkin.cjs", "v2-json"),
        (&node, "node/zipkin_otel.cjs", "v2-json"),
    ];
    for (program, name, kind) in runs {
        let id = send(&serve, program, name, kind, &modules);
        check(&serve, &id, &format!("{} {name} {kind}", program.display()));
    }
    let services = get(&serve, "Zipkin", "/api/v2/services");
    assert_eq!(services, json!(["cart service"]));
    let remote = get(
        &serve,
        "Zipkin",
        "/api/v2/remoteServices?serviceName=cart+service",
    );
    assert_eq!(remote, json!(["prices"]));
}
