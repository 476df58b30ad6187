//! Running a program that knows nothing of supervisors, so that it ends with its supervisor all
//! the same.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::Exit;
use crate::parent::EXIT_WITH_PARENT;

/// How long the program may take to end after a SIGTERM; less than this process itself is given.
const GRACE: Duration = Duration::from_secs(4);

/// Runs `program` until it ends or this process gets a SIGTERM or SIGINT, which is passed on.
///
/// Together with [`follow_parent`](crate::follow_parent) it ties the life of the program to that
/// of the supervisor.
pub async fn guard(program: &Path, arguments: &[OsString]) -> io::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_remove(EXIT_WITH_PARENT)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    tokio::select! {
        ended = child.wait() => return ended.map(Exit::from),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        // An error means that it is gone already, and then the wait below ends at once.
        kill_process(pid, Signal::TERM).ok();
    }
    match tokio::time::timeout(GRACE, child.wait()).await {
        Ok(ended) => ended.map(Exit::from),
        Err(_) => {
            child.kill().await?;
            child.wait().await.map(Exit::from)
        }
    }
}
