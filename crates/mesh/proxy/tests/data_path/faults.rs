//! Many bad clients at once: nobody else notices, every loss is counted, and in the end nothing of them is left.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::frames::{
    CONTINUATION, END_STREAM, GOAWAY, HEADERS, block, connect, frame, next,
};
use crate::support::wire::Client;
use crate::support::{Config, Origin, wait_for};

/// Open files of this process.
fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("proc(5)").count()
}

/// Resident memory in KiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("proc(5)");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let text = line.expect("VmRSS").trim().trim_end_matches(" kB");
    text.parse().expect("a number")
}

/// How many slow clients there are.
const MANY: usize = 10_000;
/// Where and how many, for the process that they are in: this one has the proxy's ends of their connections only.
const CLIENTS: &str = "PERIPLUS_SLOW_CLIENTS";

/// As many as this process may have files: fewer than [`MANY`] only where nobody relies on the test.
fn most_clients() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(1 << 20);
    let raised = Rlimit {
        current: Some(most),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
    let room = most.saturating_sub(1500) as usize;
    if room < MANY {
        let told = format!("{room} slow clients in place of {MANY}: ulimit -Hn is {most}");
        assert!(std::env::var_os("CI").is_none(), "{told}");
        eprintln!("{told}");
    }
    room.min(MANY)
}

/// Clients that, once they are told to begin, never come to the end of their heads, until each has its answer.
fn be_slow(task: &str) {
    let (address, count) = task.split_once(' ').expect("two words");
    let address = address.parse().expect("an address");
    let count: usize = count.parse().expect("a number");
    let mut clients: Vec<_> = (0..count).map(|_| Client::connect(address)).collect();
    println!("\nall are there");
    let told = std::io::stdin().read_line(&mut String::new());
    told.expect("to be told");
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: h\r\nx-slow: ");
    }
    println!("\nall have begun");
    for mut client in clients {
        assert_eq!(client.response(false).expect("an answer").status, 408);
    }
    println!("\nall are answered");
}

#[test]
fn slow_clients_by_the_thousand_are_cut_off_in_time_and_leave_nothing() {
    if let Ok(task) = std::env::var(CLIENTS) {
        be_slow(&task);
        return;
    }
    let large = vec![b'x'; 8 << 20];
    let origin = Origin::new(move |request| {
        let body = if request.path() == "/large" {
            &large[..]
        } else {
            b"fine"
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        Some([head.as_bytes(), body].concat())
    });
    let mesh = Config::to(&origin)
        .with_manager(|manager| {
            // The others must have come before the first one is cut off.
            manager.request_headers_timeout = Some(Duration::from_secs(8));
            manager.stream_idle_timeout = Some(Duration::from_secs(8));
        })
        .start();
    assert_eq!(mesh.client().get("/").status, 200);
    let (files, memory) = (open_files(), resident());
    let many = most_clients();
    let few = 50;
    let begin = |count: usize, text: &str| {
        let clients = (0..count).map(|_| {
            let mut client = mesh.client();
            client.send(text);
            client
        });
        clients.collect::<Vec<Client>>()
    };
    let mut slow = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "--nocapture"])
        .arg("faults::slow_clients_by_the_thousand_are_cut_off_in_time_and_leave_nothing")
        .env(CLIENTS, format!("{} {many}", mesh.address))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test again");
    let mut told = BufReader::new(slow.stdout.take().expect("a pipe")).lines();
    let mut hear = |line: &str| told.any(|told| told.expect("text") == line);
    assert!(hear("all are there"));
    mesh.wait_stat("listener.test.downstream_cx_active", many as u64);
    let begun = slow.stdin.take().expect("a pipe").write_all(b"\n");
    begun.expect("it listens");
    assert!(hear("all have begun"));
    let per_client = resident().saturating_sub(memory) / many;
    // A block of 16 KiB, which the next bytes are read into, and the connection itself.
    assert!(per_client <= 20, "{per_client} KiB for each slow head");
    let bodies = begin(
        few,
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nx",
    );
    let readers = begin(few, "GET /large HTTP/1.1\r\nhost: h\r\n\r\n");
    mesh.wait_stat("http.test.downstream_rq_active", 2 * few as u64);
    assert_eq!(mesh.client().get("/").status, 200, "others are served");
    // Each is cut off, and counted.
    mesh.wait_stat("http.test.downstream_rq_header_timeout", many as u64);
    mesh.wait_stat("http.test.downstream_rq_idle_timeout", 2 * few as u64);
    for mut client in bodies {
        assert_eq!(client.response(false).expect("an answer").status, 408);
    }
    assert!(hear("all are answered"));
    assert!(slow.wait().expect("its end").success());
    drop(readers);
    for gauge in [
        "listener.test.downstream_cx_active",
        "http.test.downstream_cx_active",
        "http.test.downstream_rq_active",
        "cluster.app.upstream_rq_active",
    ] {
        mesh.wait_stat(gauge, 0);
    }
    // The pool may keep what it has opened for a while.
    wait_for("the files to be closed", || {
        (open_files() <= files + few + 10).then_some(())
    });
    assert_eq!(mesh.client().get("/").status, 200);
}

#[test]
fn a_flood_of_continuations_ends_the_connection_and_takes_no_memory() {
    let origin = Origin::saying("fine");
    let mesh = Config::to(&origin).start();
    assert_eq!(mesh.client().get("/").status, 200);
    let memory = resident();
    let part = block(&[("x-flood", "y".repeat(120))]).repeat(100);
    for part in [&part[..], b""] {
        let mut client = connect(mesh.address);
        client.send(frame(HEADERS, END_STREAM, 1, block(&[(":method", "GET")])));
        let flood = frame(CONTINUATION, 0, 1, part).repeat(8);
        let mut sent = 0;
        // The proxy stops reading at some point, and this side's writes end in an error.
        while sent < 200 << 20 {
            match client.stream.write_all(&flood) {
                Ok(()) => sent += flood.len(),
                Err(_) => break,
            }
        }
        assert!(sent < 200 << 20, "the flood is never stopped");
        while let Some(frame) = next(&mut client) {
            if frame.kind == GOAWAY {
                break;
            }
        }
    }
    let grown = resident().saturating_sub(memory);
    assert!(grown < 8 * 1024, "{grown} KiB");
    mesh.wait_stat("http.test.downstream_cx_active", 0);
    assert_eq!(mesh.client().get("/").status, 200);
    assert_eq!(
        origin.received().len(),
        2,
        "nothing of it has reached the origin"
    );
}

#[test]
fn an_endpoint_that_dies_in_many_exchanges_leaves_no_request_behind() {
    // It says that more will come than it sends, and is gone.
    let origin = Origin::raw(|mut client, origin| {
        while let Some(request) = crate::support::origin::read_request(&mut client) {
            let dies = request.path() == "/dies";
            origin.note(request);
            if dies {
                client.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart");
                let _ = socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO));
                return;
            }
            client.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine");
        }
    });
    let mesh = Config::to(&origin).start();
    assert_eq!(mesh.client().get("/").status, 200);
    let files = open_files();
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let mut client = mesh.client();
            client.send("GET /dies HTTP/1.1\r\nhost: h\r\n\r\n");
            client
        })
        .collect();
    for mut client in clients {
        let seen = client.rest();
        let text = String::from_utf8_lossy(&seen);
        let whole = text.contains("content-length: 100") && text.ends_with(&"x".repeat(100));
        assert!(!whole, "it looks complete: {text}");
    }
    for gauge in [
        "http.test.downstream_rq_active",
        "http.test.downstream_cx_active",
        "cluster.app.upstream_rq_active",
    ] {
        mesh.wait_stat(gauge, 0);
    }
    let ends = ["upstream_rq_rx_reset", "upstream_cx_protocol_error"];
    let counted: u64 = ends
        .iter()
        .map(|end| mesh.stat(&format!("cluster.app.{end}")))
        .sum();
    assert_eq!(counted, 100);
    wait_for("the files to be closed", || {
        (open_files() <= files + 2).then_some(())
    });
    assert_eq!(mesh.client().get("/").status, 200);
}
