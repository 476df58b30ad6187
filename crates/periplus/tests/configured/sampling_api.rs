//! The APIs of tail sampling and of remote sampling are as their description says.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::client::{Client, patiently};
use crate::harness::Serve;
use crate::spans;
use crate::tls::python;

const POLICIES: &str = "tail_sampling:\n  decision_wait: 100ms\n  policies:\n\
    \x20   - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}\n";

#[tokio::test]
async fn schemathesis_finds_the_description_of_sampling_true() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let policies = dir.path().join("policies.yaml");
    fs::write(&policies, POLICIES).unwrap();
    let serve = Serve::start_with(&["--memory", "--tail-sampling", policies.to_str().unwrap()]);
    let client = Client::plain();
    let ui = serve.addresses["UI"];
    let url = format!("{}/v1/traces", serve.addresses["OTLP over HTTP"]);
    let json = [("content-type", "application/json")];
    let good = spans::otlp_json(1, "shop", 1);
    let bad = spans::otlp_json(2, "shop", 1).replace(r#""kind":2"#, r#""status":{"code":2}"#);
    for body in [good, bad] {
        assert_eq!(client.post(&url, &json, body).await.status, 200);
    }
    let decisions = format!("{ui}/api/periplus/v1/sampling/decisions");
    patiently("both decisions", async || {
        let found = client.get_json(&decisions, &[]).await;
        (found["decisions"].as_array()?.len() == 2).then_some(())
    })
    .await;
    let dry_run = format!("{ui}/api/periplus/v1/sampling/dry-run");
    let yaml = [("content-type", "application/yaml")];
    assert_eq!(client.post(&dry_run, &yaml, POLICIES).await.status, 200);
    assert_eq!(client.post(&dry_run, &yaml, vec![0xff]).await.status, 400);
    assert_eq!(
        client
            .post(&dry_run, &yaml, vec![b' '; (1 << 20) + 1])
            .await
            .status,
        413
    );

    let document = format!("http://{ui}/api/periplus/v1/openapi.json");
    // Policies and query lines have grammars that no schema says: what fits the schema may be
    // refused.
    let own = [
        "--include-path-regex",
        "^/sampling/",
        "--exclude-checks",
        "positive_data_acceptance",
    ];
    schemathesis(&python, &document, &own).await;
    // It takes the document's own server for all paths, and Jaeger's is elsewhere.
    let root = format!("http://{ui}");
    let jaeger = ["--include-path", "/api/sampling", "--url", &root];
    schemathesis(&python, &document, &jaeger).await;
}

async fn schemathesis(python: &Path, document: &str, flags: &[&str]) {
    let mut command = Command::new(python);
    // It leaves files where it runs.
    command.current_dir(env!("CARGO_TARGET_TMPDIR"));
    command.args(["-m", "schemathesis.cli", "run", document]);
    command.args(flags);
    command.args(["--max-examples", "20", "--generation-deterministic"]);
    command.args(["--phases", "coverage,fuzzing"]);
    command.args(["--suppress-health-check", "all", "--no-color"]);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("Operations"), "{said}");
}
