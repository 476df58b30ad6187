//! The binary as a child process, and what it says.

#![allow(
    clippy::allow_attributes,
    dead_code,
    reason = "shared by test binaries, each of which uses a part"
)]

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take; generous, since other tests run at the same time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// A running program; killed when it is dropped.
pub(crate) struct Program {
    process: Child,
    lines: Receiver<String>,
    /// All that it has said so far.
    said: Vec<String>,
}

impl Program {
    /// Starts the binary with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_periplus"));
        command.args(arguments).env_remove("RUST_LOG");
        Self::run(command)
    }

    /// Starts a command.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        forward(process.stdout.take().unwrap(), sender.clone());
        forward(process.stderr.take().unwrap(), sender);
        Self {
            process,
            lines,
            said: Vec::new(),
        }
    }

    /// Waits for a line that contains all of these words.
    pub(crate) fn wait_for(&mut self, words: &[&str]) -> String {
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

    /// Whether it has said a line with this text.
    pub(crate) fn has_said(&mut self, text: &str) -> bool {
        self.said.extend(self.lines.try_iter());
        self.said.iter().any(|line| line.contains(text))
    }

    /// Waits for its end; what it said is complete then.
    pub(crate) fn finish(&mut self) -> (ExitStatus, String) {
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

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Only where a test did not end it does it still run.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn forward(output: impl Read + Send + 'static, to: Sender<String>) {
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    std::thread::spawn(move || {
        for line in lines {
            if to.send(line).is_err() {
                return;
            }
        }
    });
}
