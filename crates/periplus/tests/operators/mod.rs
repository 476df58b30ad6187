//! The commands that look into a mesh that runs.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::{Demo, PORTS, free_base, get, patiently};

/// A command's exit code, and what it has printed and said.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("COLUMNS")
        .env_remove("PERIPLUS_CONTROL")
        .env_remove("PERIPLUS_SERVER");
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn good(arguments: &[&str]) -> String {
    let (code, printed, said) = run(arguments);
    assert_eq!(code, 0, "{arguments:?}: {printed}{said}");
    printed
}

fn json(arguments: &[&str]) -> Value {
    let printed = good(&[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn a_mesh_that_runs_is_looked_into() {
    let base = free_base();
    let mut demo = Demo::start(base, &["--no-traffic", "--drop-headers", "reviews"]);
    demo.wait_for(&["Ctrl-C stops everything"]);
    let control = format!("http://127.0.0.1:{}", monitoring(base));
    let server = format!("http://127.0.0.1:{}", base + 1);
    let at = |arguments: &[&str]| -> Vec<String> {
        let all = [arguments, &["--control", &control]].concat();
        all.iter().map(|&one| one.to_owned()).collect()
    };
    let ask = |arguments: &[&str]| {
        let arguments = at(arguments);
        good(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };

    let status = ask(&["proxy-status"]);
    assert!(
        status.starts_with("NAME ") && status.lines().count() == 8,
        "{status}"
    );
    assert!(
        status.contains("reviews-v2.default") && status.contains("4 (CDS,LDS,EDS,RDS)"),
        "{status}"
    );
    let verbose = ask(&["ps", "-v"]);
    assert!(
        verbose.contains("SYNCED  SYNCED  SYNCED  SYNCED"),
        "{verbose}"
    );
    let one = ask(&["ps", "productpage"]);
    assert!(
        one.starts_with("TYPE  STATUS") && one.contains("RDS   SYNCED"),
        "{one}"
    );

    let part = |kind: &str| ask(&["pc", kind, "productpage-v1"]);
    let clusters = part("clusters");
    let row = clusters
        .lines()
        .find(|line| line.starts_with("reviews.") && line.contains(" v2 "));
    let row: Vec<_> = row.unwrap().split_whitespace().collect();
    assert_eq!(
        row,
        [
            "reviews.default.svc.cluster.local",
            "9080",
            "v2",
            "outbound",
            "EDS",
            "reviews.default"
        ]
    );
    let listeners = part("listeners");
    assert!(listeners.contains("Route: http_proxy"), "{listeners}");
    let routes = part("routes");
    assert!(
        routes.contains("reviews.default.svc.cluster.local:9080"),
        "{routes}"
    );
    let endpoints = part("endpoints");
    assert!(
        endpoints.contains("HEALTHY  OK             outbound|9080|v1|details"),
        "{endpoints}"
    );
    let secrets = part("secrets");
    let named = |name: &str, kind: &str| {
        let mut rows = secrets.lines().map(str::trim_end);
        let row = rows
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{secrets}"));
        assert!(row.contains(kind) && row.contains("ACTIVE  true"), "{row}");
        row.to_owned()
    };
    let own = named("default ", "Cert Chain");
    assert!(
        own.ends_with("spiffe://cluster.local/ns/default/sa/bookinfo-productpage"),
        "{secrets}"
    );
    named("ROOTCA ", "CA");
    let all = part("all");
    for head in [
        "SERVICE FQDN",
        "ADDRESSES",
        "VHOST NAME",
        "OUTLIER CHECK",
        "SERIAL NUMBER",
    ] {
        assert!(all.contains(head), "{head}: {all}");
    }
    let log = |level: &[&str]| ask(&[&["pc", "log", "productpage-v1"], level].concat());
    assert!(log(&[]).contains("  http: info\n"));
    let changed = log(&["--level", "http:debug,tracing:error"]);
    assert!(
        changed.contains("  http: debug\n") && changed.contains("  tracing: error\n"),
        "{changed}"
    );

    let versions = json(&["version", "--control", &control]);
    assert_eq!(versions["client"], versions["controlPlane"]);
    assert_eq!(
        ask(&["dashboard", "control", "--no-browser"]),
        format!("{control}/debug/syncz\n")
    );
    let admin = ask(&["dashboard", "proxy", "productpage", "--no-browser"]);
    assert!(admin.starts_with("http://127.0.0.1:"), "{admin}");

    let clean = ask(&["analyze"]);
    assert!(clean.contains("No validation issues found"), "{clean}");
    let explained = ask(&[
        "explain",
        "GET reviews:9080/reviews/0",
        "--from",
        "productpage-v1",
    ]);
    assert!(
        explained.contains("mutual TLS") && explained.contains("a workload answers"),
        "{explained}"
    );
    let outside = ask(&[
        "explain",
        "GET localhost/productpage",
        "--from",
        "bookinfo-gateway",
    ]);
    assert!(outside.contains("bookinfo-gateway.yaml:"), "{outside}");

    let doctor = ask(&["doctor"]);
    assert!(
        doctor.contains("all 7 proxies") && doctor.contains("7 serve"),
        "{doctor}"
    );
    let doctor = |name: &str| {
        let arguments = [
            "doctor",
            "tracing",
            "-o",
            "json",
            "--control",
            &control,
            "--server",
            &server,
        ];
        let (code, printed, said) = run(&arguments);
        let steps: Vec<Value> = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{said}"));
        let failed = steps.iter().find(|step| step["state"] == "failed").cloned();
        assert_eq!(code, i32::from(failed.is_some()), "{printed}");
        failed.filter(|step| step["name"] == name)
    };
    let failed = patiently("a broken trace", || {
        get(base, "/productpage");
        doctor("propagated")
    });
    let said = failed["said"].as_str().unwrap();
    assert!(
        said.contains("the application of reviews.default does not hand on"),
        "{said}"
    );
}

/// The control plane's monitoring port of a demo.
fn monitoring(base: u16) -> u16 {
    (base..base + PORTS)
        .find(|port| get(*port, "/version").body.contains("\"periplus\""))
        .unwrap()
}
