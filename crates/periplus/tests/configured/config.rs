//! Where settings come from, and which one counts.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::client::{Client, patiently};
use crate::harness::Serve;
use crate::spans;

/// All ports: any free ones.
const PORTS: &str = "ui-port: 0\nquery-grpc-port: 0\notlp-grpc-port: 0\notlp-http-port: 0\n\
    zipkin-port: 0\njaeger-grpc-port: 0\njaeger-http-port: 0\njaeger-compact-port: 0\n\
    jaeger-binary-port: 0\nhealth-port: 0\nmetrics-port: 0\nsampling-port: 0\nsampling-grpc-port: 0\n";

fn bare(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    command
        .args(["serve", "--config"])
        .arg(config)
        .stdin(Stdio::null());
    command
}

#[tokio::test]
async fn flags_count_more_than_variables_and_those_more_than_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("periplus.yaml");
    let data = dir.path().join("data");
    // Whichever counts is seen by its address.
    let ours = format!(
        "bind: 127.0.0.9\nmemory: true\nbase-path: /file\n{}",
        PORTS
            .replace("ui-port: 0", "ui-port: 127.0.0.2:0")
            .replace("zipkin-port: 0", "zipkin-port: 127.0.0.2:0")
            .replace("otlp-http-port: 0", "otlp-http-port: off")
            .replace("otlp-grpc-port: 0", "otlp-grpc-port: 127.0.0.2:0")
    );
    fs::write(&config, ours).unwrap();
    let log = dir.path().join("log");
    let mut command = bare(&config);
    command
        .env("QUERY_HTTP_SERVER_HOST_PORT", "127.0.0.3:0")
        .env("COLLECTOR_ZIPKIN_HOST_PORT", "127.0.0.3:0")
        .env("COLLECTOR_OTLP_HTTP_HOST_PORT", "localhost:0")
        .env("COLLECTOR_FANCY", "1")
        .env("PERIPLUS_BIND", "127.0.0.8")
        .args(["--zipkin-port", "127.0.0.4:0", "--data"])
        .arg(&data)
        .stderr(File::create(&log).unwrap());
    let serve = Serve::run(command);
    let at = |port: &str| serve.addresses[port].ip().to_string();
    assert_eq!(at("UI"), "127.0.0.3");
    assert_eq!(at("Zipkin"), "127.0.0.4");
    assert_eq!(at("OTLP over HTTP"), "127.0.0.1");
    assert_eq!(at("OTLP over gRPC"), "127.0.0.2");
    assert_eq!(at("health"), "127.0.0.8");
    // `memory` of the file does not go with --data, which counts more.
    assert!(data.is_dir());
    let client = Client::plain();
    let below = format!("{}/file/api/services", serve.addresses["UI"]);
    assert_eq!(client.get(&below, &[]).await.status, 200);
    let log = fs::read_to_string(log).unwrap();
    assert!(
        log.contains("COLLECTOR_FANCY looks like one of Jaeger's or Zipkin's"),
        "{log}"
    );
}

#[tokio::test]
async fn a_port_that_is_off_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("periplus.yaml");
    let ports = PORTS.replace("zipkin-port: 0", "zipkin-port: off");
    fs::write(&config, format!("memory: true\n{ports}")).unwrap();
    let mut command = bare(&config);
    command.args(["--jaeger-compact-port", "off", "--sampling-port", "off"]);
    let serve = Serve::run(command);
    let mut names: Vec<_> = serve.addresses.keys().copied().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "Jaeger UDP, binary",
            "Jaeger over HTTP",
            "Jaeger over gRPC",
            "Jaeger query, gRPC",
            "OTLP over HTTP",
            "OTLP over gRPC",
            "UI",
            "health",
            "own metrics",
            "sampling over gRPC",
        ]
    );
    for address in serve.addresses.values() {
        assert!(address.ip().is_loopback(), "{address}");
    }
}

#[test]
fn a_variable_that_is_set_to_nothing_names_no_file() {
    let mut command = crate::harness::command(&["--memory"]);
    command.env("PERIPLUS_CONFIG", "");
    command.env("PERIPLUS_DATA", "");
    command.env("QUERY_UI_CONFIG", "");
    assert_eq!(Serve::run(command).addresses.len(), 13);
}

/// The shape of what Istio's add-on mounts, on free ports.
const JAEGER: &str = r"
service:
  extensions: [jaeger_storage, jaeger_query, healthcheckv2]
  pipelines:
    traces:
      receivers: [otlp, jaeger, zipkin]
      processors: [tail_sampling, batch]
      exporters: [jaeger_storage_exporter]
extensions:
  healthcheckv2:
    use_v2: true
    http:
      endpoint: ${env:HOST:-localhost}:0
  jaeger_query:
    base_path: /jaeger
    storage:
      traces: some_store
    http:
      endpoint: localhost:0
    grpc:
      endpoint: localhost:0
    color: blue
  jaeger_storage:
    backends:
      some_store:
        badger:
          directories:
            keys: DATA
            values: DATA
          ephemeral: false
          ttl:
            spans: 48h0m0s
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: localhost:0
      http:
        endpoint: localhost:0
  jaeger:
    protocols:
      grpc:
        endpoint: localhost:0
      thrift_http:
        endpoint: localhost:0
      thrift_compact:
        endpoint: localhost:0
      thrift_binary:
        endpoint: localhost:0
  zipkin:
    endpoint: localhost:0
processors:
  batch:
  tail_sampling:
    decision_wait: 100ms
    policies:
      - name: errors
        type: status_code
        status_code: {status_codes: [ERROR]}
exporters:
  jaeger_storage_exporter:
    trace_storage: some_store
periplus:
  metrics-port: 0
  sampling-port: 0
  sampling-grpc-port: 0
";

#[tokio::test]
async fn the_file_of_a_jaeger_v2_starts_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("jaeger.yaml");
    let data = dir.path().join("data");
    fs::write(&config, JAEGER.replace("DATA", data.to_str().unwrap())).unwrap();
    let log = dir.path().join("log");
    let mut command = bare(&config);
    command
        .env_remove("HOST")
        .stderr(File::create(&log).unwrap());
    let serve = Serve::run(command);
    assert_eq!(serve.addresses.len(), 13, "{:?}", serve.addresses);
    assert!(data.is_dir());
    let client = Client::plain();
    let url = format!("{}/v1/traces", serve.addresses["OTLP over HTTP"]);
    let json = [("content-type", "application/json")];
    let good = spans::otlp_json(1, "shop", 1);
    let bad = spans::otlp_json(2, "shop", 1).replace(r#""kind":2"#, r#""status":{"code":2}"#);
    for body in [good, bad] {
        assert_eq!(client.post(&url, &json, body).await.status, 200);
    }
    let trace = |id: u64| format!("{}/jaeger/api/traces/{id:x}", serve.addresses["UI"]);
    patiently("the failed trace", async || {
        (client.get(&trace(2), &[]).await.status == 200).then_some(())
    })
    .await;
    let decisions = format!(
        "{}/api/periplus/v1/sampling/decisions",
        serve.addresses["UI"]
    );
    patiently("both decisions", async || {
        let found = client.get_json(&decisions, &[]).await;
        (found["decisions"].as_array()?.len() == 2).then_some(())
    })
    .await;
    assert_eq!(client.get(&trace(1), &[]).await.status, 404);
    let log = fs::read_to_string(log).unwrap();
    assert!(
        log.contains("extensions.jaeger_query.color is not known here and has no effect"),
        "{log}"
    );
}

#[test]
fn a_file_that_cannot_be_used_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("periplus.yaml");
    for (text, expected) in [
        ("ui-prot: 1", "unknown key 'ui-prot': is 'ui-port' meant?"),
        (
            "ui-port: high",
            "invalid value 'high' for '--ui-port <PORT>'",
        ),
        ("memory: true\nmax-memory: 5", "at least 1 MiB are needed"),
        ("ui-port: 1\nui-port: 2", "line 2"),
        ("tls-cert: x", "--tls-key"),
        ("config: other.yaml", "unknown key 'config'"),
    ] {
        fs::write(&config, text).unwrap();
        let output = bare(&config).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let output = bare(&dir.path().join("missing.yaml")).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("cannot read") && error.contains("missing.yaml"),
        "{error}"
    );
}
