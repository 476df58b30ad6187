//! `periplus trace`, `services` and `export` against a running server.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod analysis;
#[path = "support/serve.rs"]
mod harness;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use harness::Serve;
use serde_json::Value;

const ID: &str = "463ac35c9f6413ad48485a3953bb6124";

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// A trace of two services, 1.5 s long, that began five seconds ago.
fn spans(id: &str) -> String {
    let start = now_us() - 5_000_000;
    format!(
        r#"[{{"traceId":"{id}","id":"1","name":"get /buy","kind":"SERVER","timestamp":{start},
            "duration":1500000,"localEndpoint":{{"serviceName":"shop"}}}},
          {{"traceId":"{id}","id":"2","parentId":"1","name":"query","kind":"CLIENT","timestamp":{},
            "duration":500000,"localEndpoint":{{"serviceName":"prices"}},"tags":{{"error":"true"}}}}]"#,
        start + 1_000
    )
}

fn filled() -> (Serve, String) {
    let serve = Serve::start();
    let answer = serve.request("Zipkin", "POST /api/v2/spans", &spans(ID));
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let server = format!("http://{}", serve.addresses["UI"]);
    (serve, server)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("COLUMNS")
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        .env_remove("PERIPLUS_SERVER");
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn good(arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn traces_are_found_and_drawn() {
    let (_serve, server) = filled();
    let list = good(&[
        "trace",
        "search",
        "service=prices",
        "error",
        "--server",
        &server,
    ]);
    assert!(list.starts_with("TIME (UTC)"), "{list}");
    assert!(
        list.contains(ID) && list.contains("shop get /buy"),
        "{list}"
    );
    let ids = good(&["trace", "find", "-o", "ids", "--server", &server]);
    assert_eq!(ids, format!("{ID}\n"));
    let json: Value = serde_json::from_str(&good(&[
        "trace", "search", "-o", "json", "--server", &server,
    ]))
    .unwrap();
    assert_eq!(json["traces"][0]["spans"], 2);

    let drawn = good(&["trace", "get", ID, "--server", &server]);
    assert!(
        drawn.starts_with("shop get /buy  1.50s  2 spans  2 services  ✕ 1 error\n"),
        "{drawn}"
    );
    assert!(
        drawn.contains("waited for: shop 67% · prices 33%"),
        "{drawn}"
    );
    assert!(drawn.contains(" prices query"), "{drawn}");
    assert!(!drawn.contains('\u{1b}'), "no colours in a pipe: {drawn}");
    let colored = command(&["trace", "get", ID, "--server", &server])
        .env("CLICOLOR_FORCE", "1")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&colored.stdout).contains("\u{1b}[31m"));
    let narrow = command(&["trace", "get", ID, "--ascii", "--server", &server])
        .env("COLUMNS", "60")
        .output()
        .unwrap();
    let narrow = String::from_utf8(narrow.stdout).unwrap();
    assert!(
        narrow.is_ascii() && narrow.lines().all(|line| line.len() <= 60),
        "{narrow}"
    );

    // A link says where its server is, and an id may have any form.
    let link = format!("{server}/trace/{ID}?uiFind=x");
    let json: Value = serde_json::from_str(&good(&["trace", "get", &link, "-o", "json"])).unwrap();
    assert_eq!(json[0]["spans"][1]["service"], "prices");
    assert_eq!(json[0]["spans"][1]["criticalUs"], 500_000);
    let header = format!("00-{ID}-a2fb4a1d1a96d312-01");
    let csv = good(&["trace", "get", &header, "-o", "csv", "--server", &server]);
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let lines = good(&["trace", "get", ID, ID, "-o", "jsonl", "--server", &server]);
    assert_eq!(lines.lines().count(), 4, "{lines}");
}

#[test]
fn services_are_listed() {
    let (_serve, server) = filled();
    assert_eq!(
        good(&["services", "--server", &server]),
        "SERVICE\nprices\nshop\n"
    );
    assert_eq!(
        good(&["services", "-o", "json", "--server", &server]),
        "[\n  \"prices\",\n  \"shop\"\n]\n"
    );
    let operations = good(&["services", "shop", "--server", &server]);
    assert_eq!(operations, "KIND    OPERATION\nserver  get /buy\n");
    assert_eq!(
        good(&["services", "shop", "-o", "csv", "--server", &server]),
        "spanKind,operation\r\nserver,get /buy\r\n"
    );
}

#[test]
fn traces_are_exported() {
    let (serve, server) = filled();
    let other = ID.replace('4', "5");
    serve.request("Zipkin", "POST /api/v2/spans", &spans(&other));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("traces.json");
    let file = path.to_str().unwrap();
    good(&[
        "export",
        "service=shop",
        "--format",
        "jaeger",
        "-o",
        file,
        "--server",
        &server,
    ]);
    let json: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(json["data"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(json["data"][0]["spans"].as_array().unwrap().len(), 2);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "no part is left"
    );
    let one = good(&[
        "export", "--format", "jaeger", "--limit", "1", "--server", &server,
    ]);
    let json: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(json["data"].as_array().unwrap().len(), 1);
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let (_serve, server) = filled();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    // It takes connections (the kernel does) and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = format!("http://{}", silent.local_addr().unwrap());
    for (arguments, code, part) in [
        (
            vec!["trace", "get", "xyz", "--server", &server],
            2,
            "'xyz' is no trace id",
        ),
        (vec!["trace", "get"], 2, "required"),
        (
            vec!["trace", "get", "1", "--server", &server],
            1,
            "no trace",
        ),
        (
            vec!["trace", "search", "a=(", "--server", &server],
            2,
            "parameter 'q'",
        ),
        (
            vec!["trace", "search", "--server", "ftp://x"],
            2,
            "only http://",
        ),
        (
            vec![
                "trace",
                "search",
                "service=none",
                "--fail-on-empty",
                "--server",
                &server,
            ],
            1,
            "no trace matches",
        ),
        (
            vec!["trace", "search", "service=none", "--server", &server],
            0,
            "note: no trace matches",
        ),
        (
            vec!["services", "none", "--fail-on-empty", "--server", &server],
            1,
            "no such service",
        ),
        (vec!["services", "--server", &closed], 3, "cannot reach"),
        (
            vec!["services", "--server", &mute, "--timeout", "1s"],
            4,
            "no answer",
        ),
    ] {
        let output = run(&arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(part), "{arguments:?}: {error}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(code == 0 || said.is_empty(), "{arguments:?}: {said}");
    }
}

#[test]
fn new_traces_are_shown_as_they_arrive() {
    let (serve, server) = filled();
    let mut tail = command(&[
        "trace",
        "tail",
        "service=shop",
        "--limit",
        "1",
        "--server",
        &server,
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    // What is sent before it listens is not news to it, so new traces come until it has seen one.
    let seen = std::thread::spawn(move || lines.next().unwrap().unwrap());
    let mut next = 1;
    while !seen.is_finished() {
        assert!(next < 10_000, "nothing is shown");
        serve.request(
            "Zipkin",
            "POST /api/v2/spans",
            &spans(&format!("{next:032x}")),
        );
        next += 1;
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    let line = seen.join().unwrap();
    assert!(
        line.contains("shop get /buy") && !line.contains(ID),
        "{line}"
    );
    assert!(tail.wait().unwrap().success());
}
