//! An attribute of a megabyte, from a sender to a reader, through the log, a table, a segment and a restart.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/serve.rs"]
mod harness;

use std::time::{Duration, Instant};

use harness::Serve;
use rustix::process::Signal;

const ID: &str = "0000000000000000000000000000002a";

/// A megabyte in which nothing repeats for long.
fn large() -> String {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.alphanumeric())
        .take(1 << 20)
        .collect()
}

fn send(serve: &Serve, value: &str) {
    let body = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"a"}}}}]}},
        "scopeSpans":[{{"spans":[{{"traceId":"{ID}","spanId":"0000000000000001","name":"large",
        "startTimeUnixNano":"1795332552157501000","endTimeUnixNano":"1795332552157502000",
        "attributes":[{{"key":"large","value":{{"stringValue":"{value}"}}}}]}}]}}]}}]}}"#
    );
    let answer = serve.request("OTLP over HTTP", "POST /v1/traces", &body);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:.300}");
}

fn assert_there(serve: &Serve, value: &str) {
    let answer = serve.request("UI", &format!("GET /api/traces/{ID}"), "");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:.300}");
    assert!(
        answer.contains(&format!(r#""{value}""#)),
        "the value is another one"
    );
}

#[test]
fn a_megabyte_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let value = large();
    let flags = ["--data", data, "--retention", "0"];

    let mut serve = Serve::start_with(&[&flags[..], &["--table-age-ms", "100"]].concat());
    send(&serve, &value);
    assert_there(&serve, &value);
    // Until it is in a segment.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !serve
        .request("own metrics", "GET /metrics", "")
        .contains("periplus_store_segment_spans 1\n")
    {
        assert!(Instant::now() < deadline, "it does not become a segment");
    }
    assert_there(&serve, &value);
    assert_eq!(serve.signal(Signal::TERM), Some(0));

    let serve = Serve::start_with(&flags);
    assert_there(&serve, &value);
}
