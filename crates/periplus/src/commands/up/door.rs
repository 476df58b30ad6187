//! The socket in the mesh's directory by which it is asked how it is, and told to start a part again.

use std::convert::Infallible;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use periplus_local::Supervisor;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::table::{Parts, Status};

/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of a question, and of an answer.
const MAX_QUESTION: u64 = 4 << 10;
const MAX_ANSWER: u64 = 4 << 20;

/// What is asked, one line of JSON.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Question {
    /// How everything is.
    Status,
    /// Start a part again.
    Restart(String),
}

/// What is answered: all parts, or why not.
pub(super) type Answer = Result<Vec<Status>, String>;

/// The socket's path.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join("up.sock")
}

/// Asks the mesh of this directory.
pub(super) fn ask(directory: &Path, question: &Question) -> anyhow::Result<Vec<Status>> {
    let path = path(directory);
    let stream = match StdStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if is_nobody(&error) => bail!(
            "no mesh runs in {}: start it with `periplus up FILE`",
            directory.display()
        ),
        Err(error) => return Err(error).with_context(|| format!("cannot ask {}", path.display())),
    };
    match exchange(stream, question).context("the mesh does not answer")? {
        Ok(parts) => Ok(parts),
        Err(why) => bail!(why),
    }
}

fn exchange(mut stream: StdStream, question: &Question) -> anyhow::Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(question)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    io::BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// Listens in this directory, which is locked: a socket that is there is of a mesh that is gone.
pub(super) fn listen(directory: &Path) -> anyhow::Result<UnixListener> {
    let path = path(directory);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    UnixListener::bind(&path).with_context(|| {
        format!(
            "cannot listen on {} (its path may have 107 bytes: --dir DIRECTORY takes a shorter one)",
            path.display()
        )
    })
}

/// Answers, one after the other, for ever.
pub(super) async fn serve(
    listener: &UnixListener,
    supervisor: &Supervisor,
    parts: &Parts,
) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let answered = tokio::time::timeout(PATIENCE, answer(stream, supervisor, parts));
                if let Ok(Err(error)) = answered.await {
                    tracing::debug!(%error, "a question was not answered");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take questions");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    supervisor: &Supervisor,
    parts: &Parts,
) -> anyhow::Result<()> {
    let mut question = Vec::new();
    let (reading, _) = stream.split();
    let mut reading = tokio::io::BufReader::new(reading.take(MAX_QUESTION));
    tokio::io::AsyncBufReadExt::read_until(&mut reading, b'\n', &mut question).await?;
    let answer: Answer = match serde_json::from_slice(&question) {
        Ok(Question::Status) => Ok(parts.status()),
        Ok(Question::Restart(part)) if supervisor.restart(&part) => Ok(parts.status()),
        Ok(Question::Restart(part)) => Err(format!(
            "there is no part '{part}'; there are {}",
            parts.names().join(", ")
        )),
        Err(error) => Err(format!("that is no question: {error}")),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    Ok(())
}
