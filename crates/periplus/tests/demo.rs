//! `periplus demo` and `periplus up`, as a user runs them.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod faults;
mod operators;
mod support;
mod up;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use support::{Demo, PORTS, free_base, is_free};

#[test]
fn the_whole_story_once() {
    let base = free_base();
    let mut demo = Demo::start(base, &["--once"]);
    let (status, said) = demo.finish();
    assert!(status.success(), "{said}");
    for text in [
        &format!("http://127.0.0.1:{base}/productpage"),
        &format!("http://127.0.0.1:{}/trace/", base + 1),
        "(9 spans)",
        "virtual-service-reviews-90-10.yaml",
        "all stopped",
    ] {
        assert!(said.contains(text), "{text} in:\n{said}");
    }
    let ready = said.lines().filter(|line| line.contains(" ready in "));
    assert_eq!(ready.count(), PARTS, "each part is told of:\n{said}");
    assert!(
        demo.directory().join("traces").exists(),
        "what the user has named stays"
    );
    assert!((base..base + PORTS).all(is_free), "nothing is left behind");
}

/// Backend, control plane and gateway; six applications with a sidecar each.
const PARTS: usize = 3 + 2 * 6;

#[test]
fn a_temporary_directory_goes_when_the_demo_does() {
    let mut demo = Demo::start_in_temporary(free_base(), &["--no-traffic"]);
    let begun = demo.wait_for(&["starting Bookinfo", "--dir keeps them"]);
    demo.wait_for(&["Ctrl-C stops everything"]);
    let made = entries(demo.directory());
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(begun.contains(made[0].to_str().unwrap()), "{begun}");
    assert!(made[0].join("traces").exists());
    demo.signal(Signal::INT);
    let (status, said) = demo.finish();
    assert!(status.success(), "{said}");
    assert!(said.contains("all stopped"), "{said}");
    let left = entries(demo.directory());
    assert!(left.is_empty(), "{left:?} stay: {said}");
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn real_envoys_do_as_well() {
    let Ok(envoy) = std::env::var("PERIPLUS_ENVOY") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "PERIPLUS_ENVOY must name an Envoy binary on CI"
        );
        eprintln!("not run: PERIPLUS_ENVOY does not name an Envoy binary");
        return;
    };
    let mut demo = Demo::start(
        free_base(),
        &["--once", "--proxy", &format!("envoy={envoy}")],
    );
    let (status, said) = demo.finish();
    assert!(status.success(), "{said}");
    assert!(said.contains("(9 spans)"), "{said}");
}

#[test]
fn a_crashed_part_is_named_and_comes_back_and_ctrl_c_stops_everything() {
    let base = free_base();
    let mut demo = Demo::start_in_temporary(base, &["--no-traffic"]);
    demo.wait_for(&["Ctrl-C stops everything"]);
    let victim = child_with(demo.id(), "--version\0v3");
    kill_process(victim, Signal::KILL).unwrap();
    demo.wait_for(&["reviews-v3", "crashed", "SIGKILL"]);
    demo.wait_for(&["reviews-v3", "ready"]);
    demo.signal(Signal::INT);
    let (status, said) = demo.finish();
    assert!(status.success(), "{said}");
    assert!(said.contains("all stopped"), "{said}");
    let kept = entries(demo.directory());
    assert!(
        kept[0].join("logs/reviews-v3.log").exists(),
        "the logs that it has pointed to are kept: {said}"
    );
    assert!(
        said.contains(&format!("logs: {}", kept[0].join("logs").display())),
        "{said}"
    );
    assert!((base..base + PORTS).all(is_free), "nothing is left behind");
}

#[test]
fn a_hop_that_does_not_work_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config");
    std::fs::create_dir(&config).unwrap();
    let rule = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: details
spec:
  hosts:
  - details
  http:
  - route:
    - destination:
        host: details
        subset: v2
";
    std::fs::write(config.join("routes.yaml"), rule).unwrap();
    let mut demo = Demo::start_in(directory, free_base(), &["--once"]);
    let (status, said) = demo.finish();
    assert!(!status.success());
    for text in [
        "the sidecar of productpage-v1, outbound to details, does not work (status 503",
        "productpage-v1-sidecar.log",
        "Error fetching product details",
    ] {
        assert!(said.contains(text), "{text} in:\n{said}");
    }
}

/// The child process whose command line contains `text`.
fn child_with(parent: u32, text: &str) -> Pid {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = std::fs::read_to_string(path).unwrap();
    children
        .split_whitespace()
        .map(|pid| pid.parse::<i32>().unwrap())
        .find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .and_then(Pid::from_raw)
        .unwrap()
}

#[test]
fn an_interrupted_check_has_not_passed() {
    let base = free_base();
    let mut demo = Demo::start(base, &["--once"]);
    demo.wait_for(&["starting Bookinfo"]);
    demo.signal(Signal::INT);
    let (status, said) = demo.finish();
    assert!(!status.success(), "{said}");
    assert!(said.contains("interrupted"), "{said}");
    assert!((base..base + PORTS).all(is_free), "nothing is left behind");
}

#[test]
fn busy_ports_are_named() {
    let base = free_base();
    let _taken = TcpListener::bind(("127.0.0.1", base + 1)).unwrap();
    let mut demo = Demo::start(base, &["--once"]);
    let (status, said) = demo.finish();
    assert!(!status.success());
    assert!(
        said.contains(&format!("{} (serve, UI: in use)", base + 1)),
        "{said}"
    );
    assert!(said.contains("--port-base"), "{said}");
}

#[test]
fn a_part_that_cannot_start_is_explained() {
    let mut demo = Demo::start(
        free_base(),
        &["--once", "--proxy", "envoy=/nonexistent/envoy"],
    );
    let (status, said) = demo.finish();
    assert!(!status.success());
    assert!(said.contains("sidecar ended before it was ready"), "{said}");
    assert!(said.contains("cannot run /nonexistent/envoy"), "{said}");
    assert!(said.contains("its log: "), "{said}");
}
