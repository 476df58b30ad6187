//! One run of a part: a process and its output.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{ChildStdin, Command};
use tokio::task::JoinSet;

use crate::log::{Line, Log};
use crate::parent::EXIT_WITH_PARENT;
use crate::{Exit, Part};

/// How long output may trickle in after the process has ended: one that it has started itself
/// may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A process that runs.
#[derive(Debug)]
pub(super) struct Child {
    process: tokio::process::Child,
    /// Open as long as the supervisor lives; see [`crate::follow_parent`].
    _leash: Option<ChildStdin>,
    output: JoinSet<()>,
    log: Arc<Mutex<Log>>,
}

impl Child {
    pub(super) fn spawn(part: &Part, log: Arc<Mutex<Log>>) -> std::io::Result<Self> {
        let mut process = Command::new(&part.program);
        if let Some(directory) = &part.directory {
            process.current_dir(directory);
        }
        let mut process = process
            .args(&part.arguments)
            .envs(part.environment.iter().map(|(name, value)| (name, value)))
            .env(EXIT_WITH_PARENT, "stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C in the terminal is for the supervisor alone: it stops parts in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let leash = process.stdin.take();
        let mut output = JoinSet::new();
        if let Some(stream) = process.stdout.take() {
            output.spawn(copy(stream, Arc::clone(&log)));
        }
        if let Some(stream) = process.stderr.take() {
            output.spawn(copy(stream, Arc::clone(&log)));
        }
        Ok(Self {
            process,
            _leash: leash,
            output,
            log,
        })
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Waits for the end of the process. Cancel safe.
    pub(super) async fn wait(&mut self) -> Exit {
        match self.process.wait().await {
            Ok(status) => Exit::from(status),
            Err(error) => {
                tracing::error!(%error, "cannot wait for a process");
                Exit::Code(-1)
            }
        }
    }

    /// Ends the process: politely, and after `patience` with force, then with all that it has
    /// started. Says whether it took force.
    pub(super) async fn stop(&mut self, patience: Duration) -> (Exit, bool) {
        let Some(pid) = self.pid() else {
            return (self.wait().await, false);
        };
        // Errors mean that the process is gone already: then the wait ends at once.
        kill_process(pid, Signal::TERM).ok();
        match tokio::time::timeout(patience, self.wait()).await {
            Ok(exit) => (exit, false),
            Err(_) => {
                kill_process_group(pid, Signal::KILL).ok();
                (self.wait().await, true)
            }
        }
    }

    /// What the process said last.
    pub(super) async fn last_lines(&mut self) -> Vec<String> {
        let read_all = async { while self.output.join_next().await.is_some() {} };
        // Whoever still holds the pipe is not waited for.
        tokio::time::timeout(LAST_WORDS, read_all).await.ok();
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tail()
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.process.id()?.cast_signed())
    }
}

async fn copy(mut stream: impl AsyncRead + Unpin, log: Arc<Mutex<Log>>) {
    let mut line = Line::default();
    let mut buffer = vec![0; 8 * 1024];
    let mut complained = false;
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let written = log.write(&mut line, &buffer[..length]);
        // A full disk must not stop the part, so its output is read on.
        if let Err(error) = written
            && !complained
        {
            complained = true;
            tracing::error!(%error, "cannot write a log file");
        }
    }
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .finish(&mut line);
}
