//! `periplus serve`, as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/serve.rs"]
mod harness;

use std::net::TcpListener;

use harness::{Serve, command};
use rustix::process::Signal;

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
    assert!(unknown.contains("404 page not found"), "{unknown}");

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
    let output = command(&["--memory", "--zipkin-port", &port])
        .output()
        .unwrap();
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
    let output = command(&["--memory", "--bind", "192.0.2.1"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("192.0.2.1 is no address of this machine"),
        "{error}"
    );
}

const SPAN: &str = r#"[{"traceId":"0000000000000abc","id":"1","name":"get","kind":"SERVER",
    "timestamp":1795332552157501,"duration":1000,"localEndpoint":{"serviceName":"shop"}}]"#;

#[test]
fn what_is_sent_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let flags = ["--data", data.to_str().unwrap(), "--retention", "0"];
    let mut serve = Serve::start_with(&flags);
    let answer = serve.request("Zipkin", "POST /api/v2/spans", SPAN);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    // Two at once would write over each other.
    let second = command(&flags).output().unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(error.contains("in use by another process"), "{error}");
    assert_eq!(serve.signal(Signal::KILL), None);

    let mut serve = Serve::start_with(&flags);
    let trace = serve.request("UI", "GET /api/traces/abc", "");
    assert!(trace.contains(r#""operationName":"get""#), "{trace}");
    let metrics = serve.request("own metrics", "GET /metrics", "");
    assert!(metrics.contains("\nperiplus_store_spans 1\n"), "{metrics}");
    let boot = serve.request("UI", "GET /api/periplus/v1/boot", "");
    assert!(boot.contains(r#""engine":"embedded""#), "{boot}");
    assert_eq!(serve.signal(Signal::TERM), Some(0));

    let store = |command: &str| {
        let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_periplus"));
        process.args(["store", command, "--data"]).arg(&data);
        let output = process.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = store("check");
    assert_eq!(said, "1 segments with 1 spans, and 0 spans in the log\n");
    let said = store("stats");
    assert!(said.contains("BYTES/SPAN"), "{said}");
    let said = store("compact");
    assert!(said.starts_with("1 segments with "), "{said}");

    for path in files(&data) {
        if path.extension() == Some("seg".as_ref()) {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[20] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let check = |flags: &[&str]| {
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_periplus"));
        check.args(["store", "check", "--data"]).arg(&data);
        let output = check.args(flags).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = check(&[]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("damaged: ") && said.contains(".seg"),
        "{said}"
    );
    // Its only row group is what is damaged.
    let (code, said) = check(&["--repair"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("repaired: segment ")
            && said.contains(": 0 spans saved, 1 dropped; its bytes are in "),
        "{said}"
    );
    assert!(
        said.contains("\n0 segments with 0 spans, and 0 spans in the log\nnote: "),
        "{said}"
    );
    assert!(files(&data.join("quarantine")).len() == 1, "a copy");
    let (code, said) = check(&["--repair"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("no segment is damaged\n"), "{said}");
    // It is a store again.
    let serve = Serve::start_with(&flags);
    let answer = serve.request("Zipkin", "POST /api/v2/spans", SPAN);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let trace = serve.request("UI", "GET /api/traces/abc", "");
    assert!(trace.contains(r#""operationName":"get""#), "{trace}");
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn all_is_below_the_base_path_and_at_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("ui.json");
    let menu = r#"{"menu": [{"label": "Docs", "url": "https://docs.example/"}], "search": {}}"#;
    std::fs::write(&config, menu).unwrap();
    let flags = ["--memory", "--base-path", "/jaeger", "--ui-config"];
    let mut serve = Serve::start_with(&[&flags[..], &[config.to_str().unwrap()]].concat());
    for base in ["", "/jaeger"] {
        for (path, part) in [
            ("/api/services", r#""data":[]"#),
            ("/api/v3/services", r#"{"services":[]}"#),
            ("/api/periplus/v1/boot", r#""engine":"memory""#),
            ("/api/nothing", "404 page not found"),
            ("/search", r#"<meta name="base-path" content="/jaeger" />"#),
            ("/trace/abc", r#"content="https://docs.example/ Docs""#),
            ("/", r#"src="/jaeger/assets/"#),
        ] {
            let answer = serve.request("UI", &format!("GET {base}{path}"), "");
            assert!(answer.contains(part), "{base}{path}: {answer}");
        }
    }
    let page = serve.request("UI", "GET /jaeger", "");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert_eq!(serve.signal(Signal::TERM), Some(0));

    let script = dir.path().join("ui.js");
    std::fs::write(&script, "function UIConfig() {}").unwrap();
    let output = command(&["--memory", "--ui-config", script.to_str().unwrap()]).output();
    let error = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(
        error.contains("only a configuration in JSON is taken"),
        "{error}"
    );
}

#[test]
fn an_archived_trace_is_there_when_the_store_has_lost_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let flags = ["--data", data.to_str().unwrap(), "--retention", "0"];
    let mut serve = Serve::start_with(&flags);
    serve.request("Zipkin", "POST /api/v2/spans", SPAN);
    let archived = serve.request("UI", "POST /api/archive/abc", "");
    assert!(archived.starts_with("HTTP/1.1 200"), "{archived}");
    assert_eq!(serve.signal(Signal::TERM), Some(0));
    // As if retention had taken everything.
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name() != Some("archive".as_ref()) {
            std::fs::remove_dir_all(path).unwrap();
        } else if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let mut serve = Serve::start_with(&flags);
    let trace = serve.request("UI", "GET /api/traces/abc", "");
    assert!(trace.contains(r#""operationName":"get""#), "{trace}");
    let services = serve.request("UI", "GET /api/services", "");
    assert!(services.contains(r#""data":[]"#), "{services}");
    assert_eq!(serve.signal(Signal::TERM), Some(0));
}
