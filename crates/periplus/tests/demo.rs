//! `periplus demo`, as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long anything may take; generous, since other tests run at the same time.
const DEADLINE: Duration = Duration::from_secs(90);
/// Ports of the demo, from its base.
const PORTS: u16 = 70;

struct Demo {
    process: Child,
    lines: Receiver<String>,
    /// All that it has said so far.
    said: Vec<String>,
    directory: TempDir,
}

impl Demo {
    fn start(base: u16, flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), base, flags)
    }

    fn start_in(directory: TempDir, base: u16, flags: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_periplus"))
            .args(["demo", "--port-base", &base.to_string(), "--dir"])
            .arg(directory.path())
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let errors = sender.clone();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        std::thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| errors.send(line))
        });
        Self {
            process,
            lines,
            said: Vec::new(),
            directory,
        }
    }

    /// Waits for a line that contains all of these words.
    fn wait_for(&mut self, words: &[&str]) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("nothing with {words:?} in:\n{}", self.said.join("\n"));
            };
            self.said.push(line.clone());
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    /// Waits for its end; what it said is complete then.
    fn finish(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + DEADLINE;
        while let Ok(line) = self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.said.push(line);
        }
        assert!(
            Instant::now() < deadline,
            "it does not end:\n{}",
            self.said.join("\n")
        );
        (self.process.wait().unwrap(), self.said.join("\n"))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Only where a test has failed does it still run; its parts follow it.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A base whose ports are all free, away from those that the system gives out by itself; another
/// one for each test, since they run at the same time.
fn free_base(test: u16) -> u16 {
    let first = 21_000 + (std::process::id() % 20) as u16 * 500 + test * 100;
    (first..32_000)
        .step_by(100)
        .find(|&base| (base..base + PORTS).all(is_free))
        .unwrap()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[test]
fn the_whole_story_once() {
    let base = free_base(0);
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
    assert!((base..base + PORTS).all(is_free), "nothing is left behind");
}

#[test]
fn real_envoys_do_as_well() {
    let Ok(envoy) = std::env::var("PERIPLUS_ENVOY") else {
        return;
    };
    let mut demo = Demo::start(
        free_base(1),
        &["--once", "--proxy", &format!("envoy={envoy}")],
    );
    let (status, said) = demo.finish();
    assert!(status.success(), "{said}");
    assert!(said.contains("(9 spans)"), "{said}");
}

#[test]
fn a_crashed_part_is_named_and_comes_back_and_ctrl_c_stops_everything() {
    let base = free_base(2);
    let mut demo = Demo::start(base, &["--no-traffic"]);
    demo.wait_for(&["Ctrl-C stops everything"]);
    let victim = child_with(demo.process.id(), "--version\0v3");
    kill_process(victim, Signal::KILL).unwrap();
    demo.wait_for(&["reviews-v3", "crashed", "SIGKILL"]);
    demo.wait_for(&["reviews-v3", "ready"]);
    demo.signal(Signal::INT);
    let (status, said) = demo.finish();
    assert!(status.success(), "{said}");
    assert!(said.contains("all stopped"), "{said}");
    assert!((base..base + PORTS).all(is_free), "nothing is left behind");
}

#[test]
fn a_service_that_drops_headers_splits_traces_and_breaks_nothing() {
    let base = free_base(7);
    let mut demo = Demo::start(base, &["--drop-headers", "reviews"]);
    demo.wait_for(&["Ctrl-C stops everything"]);
    // The roots of all traces with their spans, until both halves are all there: the gateway's
    // lacks the call to ratings.
    let halves = [
        ("istio-ingressgateway.istio-system", 7),
        ("reviews.default", 2),
    ];
    let deadline = Instant::now() + DEADLINE;
    let mut found = Vec::new();
    while !halves
        .iter()
        .all(|(root, spans)| found.contains(&((*root).to_owned(), *spans)))
    {
        assert!(Instant::now() < deadline, "the traces are {found:?}");
        let (_, answer) = fetch(base + 1, "/api/periplus/v1/search?limit=100", "");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let traces: serde_json::Value = serde_json::from_str(body).unwrap();
        let root = |trace: &serde_json::Value| {
            let service = trace["root"]["service"].as_str().unwrap().to_owned();
            (service, trace["spans"].as_u64().unwrap())
        };
        found = traces["traces"]
            .as_array()
            .unwrap()
            .iter()
            .map(root)
            .collect();
    }
    assert!(found.iter().all(|(_, spans)| *spans <= 7), "{found:?}");
    let (status, page) = product_page(base, "");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(page.contains("The slapstick humour is refreshing!"));
}

/// The product page as it comes through the gateway: status and text.
fn product_page(base: u16, cookie: &str) -> (String, String) {
    fetch(base, "/productpage", cookie)
}

/// A GET: the status line, and everything.
fn fetch(port: u16, path: &str, cookie: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.lines().next().unwrap_or_default().to_owned();
    (status, answer)
}

#[test]
fn rules_change_while_requests_flow() {
    let base = free_base(5);
    let mut demo = Demo::start(base, &["--no-traffic"]);
    demo.wait_for(&["Ctrl-C stops everything"]);
    let directory = demo.directory.path();
    let example = directory.join("examples/virtual-service-reviews-test-v2.yaml");
    std::fs::copy(example, directory.join("config/routes.yaml")).unwrap();

    // Version 1 answers all but jason as soon as the proxies know; until then any version does.
    let deadline = Instant::now() + DEADLINE;
    let mut in_a_row = 0;
    while in_a_row < 10 {
        assert!(Instant::now() < deadline, "the rule takes no effect");
        let (status, page) = product_page(base, "a=b");
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(!page.contains("Error fetching"), "{page}");
        in_a_row = if page.contains("<code>reviews-v1</code>") {
            in_a_row + 1
        } else {
            0
        };
    }
    for _ in 0..5 {
        let (_, page) = product_page(base, "session=jason");
        assert!(page.contains("<code>reviews-v2</code>"), "{page}");
        assert!(page.contains("style=\"color:black\""), "{page}");
    }
    demo.signal(Signal::TERM);
    let (status, said) = demo.finish();
    assert!(status.success(), "{said}");
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
    let mut demo = Demo::start_in(directory, free_base(6), &["--once"]);
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
    let base = free_base(8);
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
    let base = free_base(3);
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
        free_base(4),
        &["--once", "--proxy", "envoy=/nonexistent/envoy"],
    );
    let (status, said) = demo.finish();
    assert!(!status.success());
    assert!(said.contains("sidecar ended before it was ready"), "{said}");
    assert!(said.contains("cannot run /nonexistent/envoy"), "{said}");
    assert!(said.contains("its log: "), "{said}");
}
