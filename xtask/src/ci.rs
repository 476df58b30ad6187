//! The chores that check a change.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::clients::CLIENTS;
use crate::peers::{self, CARGO_DENY, ENVOY, Need, PYTHON};
use crate::shell::{command, has, run, sh};

const WEB: &str = "crates/trace/ui/web";

/// Everything, in the order in which a failure is cheapest to find.
pub(crate) fn all() -> anyhow::Result<()> {
    peers::install(&Need::ALL)?;
    timed("lint", lint)?;
    timed("ui", || ui(true))?;
    // Linking it keeps one core busy for minutes, and the tests often leave one idle: so it goes on beside
    // them, at the lowest priority, since some of them watch the clock. Whether it went well is seen
    // when it is needed: the same command then waits for this one.
    let mut building = release_build("nice -n 19 ")
        .arg("--quiet")
        .spawn()
        .context("cannot run nice")?;
    let tested = timed("test", test).and_then(|()| timed("browser", browser));
    if tested.is_err() {
        building.kill()?;
    }
    building.wait()?;
    tested?;
    timed("instructions", instructions)
}

/// Formatting, lints, licences and duplicate versions.
pub(crate) fn lint() -> anyhow::Result<()> {
    peers::install(&[Need::CargoDeny])?;
    sh("cargo fmt --all --check")?;
    sh("cargo clippy --workspace --all-targets --locked -- -D warnings")?;
    run(command(CARGO_DENY).args(["check", "bans", "licenses", "sources"]))
}

/// The Rust tests: unit, integration, against real peers, end to end.
pub(crate) fn test() -> anyhow::Result<()> {
    peers::install(&[
        Need::Envoy,
        Need::DuckDb,
        Need::Grpcio,
        Need::Websockets,
        Need::Schemathesis,
        Need::Iptables,
        Need::Nftables,
        Need::Iproute,
        Need::Prometheus,
        Need::Redis,
        Need::Node,
        Need::PythonClients,
        Need::NodeClients,
    ])?;
    let envoy = absolute(ENVOY)?;
    let python = absolute(PYTHON)?;
    let clients = absolute(CLIENTS)?;
    let with_peers = |line: &str| {
        run(command(line)
            .env("PERIPLUS_ENVOY", &envoy)
            .env("PERIPLUS_PEERS_PYTHON", &python)
            .env("PERIPLUS_CLIENTS", &clients))
    };
    if has("cargo-nextest") {
        with_peers("cargo nextest run --workspace --locked --no-fail-fast")?;
        // nextest leaves out the examples in the documentation.
        sh("cargo test --doc --workspace --locked")
    } else {
        with_peers("cargo test --workspace --locked --no-fail-fast")
    }
}

/// Builds the UI and runs its unit tests; with `check`, the build must be what is committed.
pub(crate) fn ui(check: bool) -> anyhow::Result<()> {
    peers::install(&[Need::Node])?;
    let npm = |line: &str| run(command(line).current_dir(WEB));
    npm("npm ci --no-audit --no-fund")?;
    npm("npm run test:unit")?;
    npm("npm run build")?;
    if check {
        run(&mut command(
            "git diff --exit-code --stat -- crates/trace/ui/dist",
        ))?;
        let untracked = command("git status --porcelain -- crates/trace/ui/dist").output()?;
        ensure!(
            untracked.stdout.is_empty(),
            "the build adds files to dist that are not committed"
        );
    }
    Ok(())
}

/// The UI in a real browser, on the real binary.
fn browser() -> anyhow::Result<()> {
    peers::install(&[Need::Chromium, Need::Node])?;
    sh(DEV_BUILD)?;
    run(command("npm run test:browser")
        .current_dir(WEB)
        .env("PERIPLUS_BIN", absolute("target/debug/periplus")?))
}

/// Kills the server under load so many times.
pub(crate) fn kill(rounds: u32) -> anyhow::Result<()> {
    let test = "cargo test --locked --package periplus --test durability -- --nocapture";
    run(command(test).env("PERIPLUS_KILL_ROUNDS", rounds.to_string()))
}

/// Lets the disk below the store fail at every operation, and runs what is large.
pub(crate) fn crash() -> anyhow::Result<()> {
    let tests = "cargo test --locked --release --package periplus-store --test embedded --test differential";
    run(command(tests).env("PERIPLUS_CRASH_SWEEP", "1"))
}

/// Replaces certificates and the root under load for so many seconds, with a real Envoy among the proxies.
pub(crate) fn rotate(seconds: u32) -> anyhow::Result<()> {
    peers::install(&[Need::Envoy])?;
    let test = "cargo test --locked --package periplus --test proxy rotation -- --nocapture";
    run(command(test)
        .env("PERIPLUS_ENVOY", absolute(ENVOY)?)
        .env("PERIPLUS_ROTATION_SECONDS", seconds.to_string()))
}

/// Edits rules ten times a second under load for so many seconds, and kills the control plane.
pub(crate) fn faults(seconds: u32) -> anyhow::Result<()> {
    let test = "cargo test --locked --package periplus --test demo faults -- --nocapture";
    run(command(test).env("PERIPLUS_FAULTS_SECONDS", seconds.to_string()))
}

/// Asks for so many paths, each another one.
pub(crate) fn harm(paths: u32) -> anyhow::Result<()> {
    let test = "cargo test --locked --package periplus-proxy --test agent harm -- --nocapture";
    run(command(test).env("PERIPLUS_HARM_PATHS", paths.to_string()))
}

/// What the tests have built already, with the same features: nothing is compiled again.
const DEV_BUILD: &str = "cargo build --locked --workspace --tests --bins";

/// Counts the instructions of the proxy as it is released. Those of the bench tool are not counted, so
/// it may be a debug build, which is there.
fn instructions() -> anyhow::Result<()> {
    peers::install(bench_needs(&["instructions".to_owned()]))?;
    sh(DEV_BUILD)?;
    run(&mut release_build(""))?;
    sh(
        "target/debug/periplus-bench instructions --periplus target/debug/periplus --proxy target/release/periplus-sidecar",
    )
}

/// The proxy as it is released, but for the other roles, and the line numbers of its code, which cost the
/// linker time. `through` is the program that runs the build, with a space behind it, if any.
fn release_build(through: &str) -> Command {
    let line = format!("{through}cargo build --locked --release --package periplus-sidecar");
    let mut build = command(&line);
    build.env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    build
}

/// Builds the product as it is released, and the bench tool, and runs it.
pub(crate) fn bench(args: &[String]) -> anyhow::Result<()> {
    peers::install(bench_needs(args))?;
    sh("cargo build --locked --release --package periplus --package periplus-bench")?;
    run(command("target/release/periplus-bench").args(args))
}

/// What a benchmark runs against. `store` installs its peers itself, since nobody else needs them.
fn bench_needs(args: &[String]) -> &'static [Need] {
    let names_peers = args.iter().any(|arg| arg.starts_with("--peer"));
    match args.first().map(String::as_str) {
        Some("proxy" | "footprint") => &[Need::Envoy, Need::Haproxy],
        Some("chain") => &[Need::Envoy],
        Some("relay") => &[Need::Haproxy],
        Some("instructions") if names_peers => &[Need::Envoy, Need::Haproxy, Need::Valgrind],
        Some("instructions") => &[Need::Valgrind],
        _ => &[],
    }
}

fn timed(name: &str, chore: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let begin = Instant::now();
    let result = chore();
    eprintln!("\n== {name}: {:.0} s", begin.elapsed().as_secs_f64());
    result
}

fn absolute(path: &str) -> anyhow::Result<PathBuf> {
    Ok(env::current_dir()?.join(path))
}
