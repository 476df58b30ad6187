//! Sampling with `periplus serve` and `periplus sampling`, as a user runs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/serve.rs"]
mod harness;

use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use harness::{Serve, command};
use rustix::process::Signal;
use serde_json::Value;

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

fn span(id: u64, tags: &str) -> String {
    format!(
        r#"[{{"traceId":"{id:032x}","id":"1","name":"get","kind":"SERVER","timestamp":{},
            "duration":1000,"localEndpoint":{{"serviceName":"shop"}},"tags":{{{tags}}}}}]"#,
        now_us()
    )
}

const HALF: &str =
    r#"{"strategyType":"PROBABILISTIC","probabilisticSampling":{"samplingRate":0.5}}"#;

#[test]
fn clients_are_told_what_the_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("strategies.json");
    let text = r#"{"default_strategy":{"type":"probabilistic","param":0.5}}"#;
    std::fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    let serve = Serve::start_with(&[
        "--memory",
        "--sampling-strategies",
        file,
        "--sampling-reload",
        "1s",
    ]);
    for (port, path) in [("sampling over HTTP", "/sampling"), ("UI", "/api/sampling")] {
        let answer = serve.request(port, &format!("GET {path}?service=x"), "");
        assert_eq!(body(&answer), HALF, "{answer}");
    }
    std::fs::write(&path, text.replace("0.5", "0.25")).unwrap();
    let begun = Instant::now();
    loop {
        let answer = serve.request("sampling over HTTP", "GET /sampling?service=x", "");
        if body(&answer).contains("0.25") {
            break;
        }
        assert!(begun.elapsed().as_secs() < 60, "{answer}");
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    let metrics = serve.request("own metrics", "GET /metrics", "");
    assert!(
        metrics.contains("\nperiplus_remote_sampling_reloads_total 1\n"),
        "{metrics}"
    );

    std::fs::write(&path, "{\n\"x\": 1}").unwrap();
    let output = command(&["--memory", "--sampling-strategies", file])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("strategies.json:2:3: unknown field `x`"),
        "{error}"
    );
}

#[test]
fn all_is_sampled_without_a_file() {
    let serve = Serve::start();
    let answer = serve.request("sampling over HTTP", "GET /sampling?service=x", "");
    assert_eq!(body(&answer), HALF.replace("0.5", "1"));
}

const POLICIES: &str = "tail_sampling:
  decision_wait: 300ms
  policies:
    - name: errors
      type: status_code
      status_code: {status_codes: [ERROR]}
";

#[test]
fn traces_are_kept_as_the_policies_say_and_the_end_decides_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let policies = dir.path().join("tail.yaml");
    let data = dir.path().join("data");
    std::fs::write(&policies, POLICIES).unwrap();
    let flags = [
        "--data",
        data.to_str().unwrap(),
        "--tail-sampling",
        policies.to_str().unwrap(),
    ];
    let mut serve = Serve::start_with(&flags);
    let send = |serve: &Serve, id, tags| {
        let answer = serve.request("Zipkin", "POST /api/v2/spans", &span(id, tags));
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    };
    let error = r#""error":"true""#;
    send(&serve, 0xa, error);
    send(&serve, 0xb, "");
    let begun = Instant::now();
    loop {
        let answer = serve.request("UI", "GET /api/traces/a", "");
        if answer.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(begun.elapsed().as_secs() < 60, "{answer}");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    let decision = |id: &str| -> Value {
        let path = format!("GET /api/periplus/v1/sampling/decisions?trace={id}");
        let answer = serve.request("UI", &path, "");
        serde_json::from_str(body(&answer)).unwrap_or_else(|_| panic!("{answer}"))
    };
    let kept = decision("a");
    assert_eq!(
        kept["decisions"][0]["reason"],
        "kept: policy 'errors' wants it"
    );
    while decision("b")["decisions"][0].is_null() {
        assert!(begun.elapsed().as_secs() < 60, "undecided");
    }
    assert_eq!(
        decision("b")["decisions"][0]["reason"],
        "dropped: no policy wants it"
    );
    let missing = serve.request("UI", "GET /api/traces/b", "");
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    let metrics = serve.request("own metrics", "GET /metrics", "");
    for line in [
        r#"otelcol_processor_tail_sampling_count_traces_sampled_total{policy="errors",decision="sampled"} 1"#,
        r#"otelcol_processor_tail_sampling_count_traces_sampled_total{policy="errors",decision="not_sampled"} 1"#,
        r#"otelcol_processor_tail_sampling_global_count_traces_sampled_total{sampled="true"} 1"#,
        "otelcol_processor_tail_sampling_sampling_traces_on_memory 0",
        "otelcol_processor_tail_sampling_sampling_trace_removal_age_seconds_count 2",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} in {metrics}"
        );
    }

    send(&serve, 0xc, error);
    send(&serve, 0xd, "");
    assert_eq!(serve.signal(Signal::TERM), Some(0));
    let serve = Serve::start_with(&flags[..2]);
    let trace = serve.request("UI", "GET /api/traces/c", "");
    assert!(trace.starts_with("HTTP/1.1 200"), "{trace}");
    let trace = serve.request("UI", "GET /api/traces/d", "");
    assert!(trace.starts_with("HTTP/1.1 404"), "{trace}");
}

#[test]
fn policies_are_tried_on_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let policies = dir.path().join("tail.yaml");
    let data = dir.path().join("data");
    std::fs::write(&policies, POLICIES).unwrap();
    let mut serve = Serve::start_with(&["--data", data.to_str().unwrap()]);
    for id in 1..=4 {
        let tags = if id == 3 { r#""error":"true""# } else { "" };
        serve.request("Zipkin", "POST /api/v2/spans", &span(id, tags));
    }
    let run = |place: [&str; 2], more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_periplus"))
            .args([
                "sampling",
                "dry-run",
                "--config",
                policies.to_str().unwrap(),
            ])
            .args(place)
            .args(more)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let server = format!("http://{}", serve.addresses["UI"]);
    let asked = run(["--server", &server], &[]);
    assert_eq!(serve.signal(Signal::TERM), Some(0));
    let read = run(["--data", data.to_str().unwrap()], &[]);
    for text in ["errors", "25.0%", "00000000000000000000000000000003"] {
        assert!(asked.contains(text) && read.contains(text), "{asked}{read}");
    }
    let json = run(
        ["--data", data.to_str().unwrap()],
        &["-o", "json", "service=shop", "error"],
    );
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["all"]["traces"], 1);
    assert_eq!(json["kept"]["traces"], 1);
}
