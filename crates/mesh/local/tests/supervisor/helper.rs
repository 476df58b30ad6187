//! The processes of these tests. [`helper_process`] is no test: it is what the tests run.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use periplus_local::{Event, Events, Limits, Part, Probe, Restart, Supervisor};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const ROLE: &str = "PERIPLUS_TEST_ROLE";
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// What a helper process does.
pub(crate) enum Role<'a> {
    /// Says hello, listens, and ends at a SIGTERM, of which it makes a note.
    Server(SocketAddr),
    /// The same but deaf to SIGTERM.
    Stubborn(SocketAddr),
    /// Complains on both streams and ends with status 3.
    Failing,
    /// Runs a server as a supervisor of its own.
    Supervisor(SocketAddr),
    /// Runs a program that knows nothing of supervisors under a guard.
    Guard(&'a str),
}

/// A directory for one test, and parts in it.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn part(&self, name: &str, role: &Role<'_>, after: &[&str]) -> Part {
        part_in(self.path(), name, role, after)
    }

    /// What servers have noted.
    pub(crate) fn journal(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path().join("journal")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn part_in(directory: &Path, name: &str, role: &Role<'_>, after: &[&str]) -> Part {
    let (text, ready) = match role {
        Role::Server(address) => (format!("server {address}"), Probe::Tcp(*address)),
        Role::Stubborn(address) => (format!("stubborn {address}"), Probe::Tcp(*address)),
        Role::Failing => ("failing".to_owned(), Probe::Tcp(nowhere())),
        Role::Supervisor(address) => (format!("supervisor {address}"), Probe::Tcp(*address)),
        Role::Guard(program) => (format!("guard {program}"), Probe::Started),
    };
    Part {
        name: name.to_owned(),
        program: std::env::current_exe().unwrap(),
        directory: None,
        arguments: ["helper::helper_process", "--exact", "--nocapture"]
            .map(str::to_owned)
            .to_vec(),
        environment: vec![
            (ROLE.to_owned(), text),
            ("NAME".to_owned(), name.to_owned()),
            ("DIRECTORY".to_owned(), directory.display().to_string()),
        ],
        after: after.iter().map(|&name| name.to_owned()).collect(),
        ready,
        restart: Restart::Always,
        log: directory.join(format!("{name}.log")),
    }
}

/// An address where nobody listens.
pub(crate) fn nowhere() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

pub(crate) fn limits() -> Limits {
    Limits {
        ready_within: DEADLINE,
        first_pause: Duration::from_millis(10),
        ..Limits::default()
    }
}

/// Waits for an event that `wanted` makes something of.
pub(crate) async fn event<T>(events: &mut Events, wanted: impl Fn(Event) -> Option<T>) -> T {
    let search = async {
        loop {
            let event = events.next().await.expect("the supervisor still runs");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(DEADLINE, search).await.unwrap()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, wait).await;
    assert!(waited.is_ok(), "{what}: not within {DEADLINE:?}");
}

pub(crate) async fn listens(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}

/// Without the role in its environment, as in a normal test run, this does nothing.
#[test]
fn helper_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    periplus_local::follow_parent().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(play(&role));
    // libtest's own last words would end up among those of the process.
    std::process::exit(0);
}

async fn play(role: &str) {
    let (role, argument) = role.split_once(' ').unwrap_or((role, ""));
    match role {
        "server" => server(argument, true).await,
        "stubborn" => server(argument, false).await,
        "failing" => {
            println!("about to fail");
            eprintln!("it is the disk's fault");
            std::process::exit(3);
        }
        "supervisor" => {
            let address = argument.parse().unwrap();
            let part = part_in(&directory(), "inner", &Role::Server(address), &[]);
            let (supervisor, _events) = Supervisor::new(vec![part], limits()).unwrap();
            supervisor.start().await.unwrap();
            std::future::pending::<()>().await;
        }
        "guard" => {
            let arguments = ["-c".into(), argument.into()];
            periplus_local::guard(Path::new("sh"), &arguments)
                .await
                .unwrap();
        }
        other => panic!("no role {other}"),
    }
}

async fn server(address: &str, polite: bool) {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    println!("hello");
    let _listener = TcpListener::bind(address).await.unwrap();
    note("started");
    loop {
        terminate.recv().await;
        note("stopped");
        if polite {
            return;
        }
    }
}

fn note(what: &str) {
    let mut journal = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory().join("journal"))
        .unwrap();
    let name = std::env::var("NAME").unwrap();
    journal
        .write_all(format!("{name} {what}\n").as_bytes())
        .unwrap();
}

fn directory() -> PathBuf {
    std::env::var_os("DIRECTORY").unwrap().into()
}
