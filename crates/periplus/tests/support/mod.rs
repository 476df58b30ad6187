//! The demo and other roles as child processes, and a plain HTTP client to look at them from outside.

#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "shared by test binaries, each of which uses a part"
)]

mod program;
pub(crate) mod tokens;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use program::DEADLINE;
pub(crate) use program::Program;

/// Ports of the demo, from its base.
pub(crate) const PORTS: u16 = 70;

/// A running `periplus demo`. When it is killed, its parts follow it.
pub(crate) struct Demo {
    program: Program,
    directory: TempDir,
}

impl Demo {
    /// Starts it with its ports from `base`.
    pub(crate) fn start(base: u16, flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), base, flags)
    }

    /// Starts it in a directory that may hold rules already.
    pub(crate) fn start_in(directory: TempDir, base: u16, flags: &[&str]) -> Self {
        let mut command = Self::command(base, flags);
        command.arg("--dir").arg(directory.path());
        Self::run(command, directory)
    }

    /// Starts it so that it and its parts log what passes `filter`.
    pub(crate) fn start_logging(base: u16, flags: &[&str], filter: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Self::command(base, flags);
        command.arg("--dir").arg(directory.path());
        command.env("RUST_LOG", filter);
        Self::run(command, directory)
    }

    /// Starts it so that it makes a directory of its own, within [`Demo::directory`].
    pub(crate) fn start_in_temporary(base: u16, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Self::command(base, flags);
        command.env("TMPDIR", directory.path());
        Self::run(command, directory)
    }

    fn command(base: u16, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
        command
            .args(["demo", "--port-base", &base.to_string()])
            .args(flags);
        command
    }

    fn run(command: Command, directory: TempDir) -> Self {
        Self {
            program: Program::run(command),
            directory,
        }
    }

    /// Waits for a line that contains all of these words.
    pub(crate) fn wait_for(&mut self, words: &[&str]) -> String {
        self.program.wait_for(words)
    }

    /// Waits for its end; what it said is complete then.
    pub(crate) fn finish(&mut self) -> (ExitStatus, String) {
        self.program.finish()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    /// The directory that it was given.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Makes one of the examples the rules, as the demo tells its user to.
    pub(crate) fn apply(&self, example: &str) {
        let example = self.directory.path().join("examples").join(example);
        std::fs::copy(example, self.rules()).unwrap();
    }

    /// Writes the rules.
    pub(crate) fn edit(&self, rules: &str) {
        std::fs::write(self.rules(), rules).unwrap();
    }

    /// What a part has logged.
    pub(crate) fn log(&self, part: &str) -> String {
        let log = self
            .directory
            .path()
            .join("logs")
            .join(format!("{part}.log"));
        std::fs::read_to_string(log).unwrap_or_default()
    }

    fn rules(&self) -> impl AsRef<Path> + use<> {
        self.directory.path().join("config/routes.yaml")
    }
}

/// A base whose ports are all free, away from those that the system gives out by itself. It is this
/// test's until its process ends: the port behind the demo's is kept bound, and tells the other
/// tests, in whatever process they run.
pub(crate) fn free_base() -> u16 {
    let bases = (20_000..32_000).step_by(100).cycle();
    let spread = std::process::id() as usize % 120;
    bases
        .skip(spread)
        .take(120)
        .find(|&base| {
            let Ok(claim) = TcpListener::bind(("127.0.0.1", base + PORTS)) else {
                return false;
            };
            std::mem::forget(claim);
            (base..base + PORTS).all(is_free)
        })
        .unwrap()
}

/// Whether nothing listens there.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Tries until there is something, or the deadline has passed.
pub(crate) fn patiently<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// An answer.
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Its head, as it came.
    pub(crate) head: String,
    /// Its body.
    pub(crate) body: String,
}

impl Answer {
    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut found = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    }
}

/// `GET` on this machine.
pub(crate) fn get(port: u16, path: &str) -> Answer {
    get_with(port, path, &[])
}

/// `GET` with headers.
pub(crate) fn get_with(port: u16, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(port, "GET", path, headers, "")
}

/// `GET` of JSON.
pub(crate) fn get_json(port: u16, path: &str) -> Value {
    serde_json::from_str(&get(port, path).body).unwrap()
}

/// One request on a connection of its own; a connection that breaks is status 0.
pub(crate) fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let fields: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let names_host = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = if names_host {
        ""
    } else {
        "host: localhost\r\n"
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{host}connection: close\r\n\
         content-length: {}\r\n{fields}\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    let done = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(request.as_bytes())?;
        stream.read_to_end(&mut answer)
    });
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Answer {
        status: status.filter(|_| done.is_ok()).unwrap_or(0),
        head: head.to_owned(),
        body: unchunked(head, body),
    }
}

/// The body without its chunks, if it has any.
fn unchunked(head: &str, body: &str) -> String {
    if !head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        return body.to_owned();
    }
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    whole
}
