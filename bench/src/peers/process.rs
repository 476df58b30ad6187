//! Child processes and their addresses.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::PROXY_CORE;

/// A child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a command on these cores.
    pub(crate) fn start(
        name: &str,
        core: &str,
        command: &[String],
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let child = Command::new("taskset")
            .args(["-c", core])
            .args(command)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}: {}", command.join(" ")))?;
        Ok(Self {
            name: name.to_owned(),
            log,
            child,
        })
    }

    /// Starts a command under callgrind: the process, and where its counts go.
    pub(crate) fn under_callgrind(
        name: &str,
        command: Vec<String>,
        directory: &Path,
    ) -> anyhow::Result<(Self, PathBuf)> {
        let out = directory.join(format!("{name}.callgrind"));
        let mut valgrind: Vec<String> = ["valgrind", "--tool=callgrind", "--cache-sim=no"]
            .map(str::to_owned)
            .to_vec();
        valgrind.push(format!("--callgrind-out-file={}", out.display()));
        valgrind.extend(command);
        let process = Self::start(name, PROXY_CORE, &valgrind, directory)?;
        Ok((process, out))
    }

    /// Its process id. `taskset` replaces itself by the program, so this is the program's.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a request there has the origin's answer.
    pub(crate) fn wait_until_served(&self, address: SocketAddr, host: &str) -> anyhow::Result<()> {
        self.wait_for(address)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match ask(address, host) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("{} does not serve", self.name)));
                }
                Err(_) => std::thread::park_timeout(Duration::from_millis(20)),
            }
        }
    }

    /// Waits until it listens there.
    pub(crate) fn wait_for(&self, address: SocketAddr) -> anyhow::Result<()> {
        wait_for(address).with_context(|| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            format!("{} did not come up; its last words: {tail:?}", self.name)
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing to do about a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(address).is_err() {
        if Instant::now() > deadline {
            bail!("nothing listens on {address}");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

/// An address that nobody listens on.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

pub(super) fn absolute(path: &Path) -> anyhow::Result<String> {
    let path = path
        .canonicalize()
        .with_context(|| format!("{} is not there", path.display()))?;
    Ok(path.display().to_string())
}

/// A connection that has had one answer, which was a success with the origin's body of 1 KiB.
pub(crate) fn ask(address: SocketAddr, host: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // In one write: a second one waits until the first is acknowledged, which takes a peer 40 ms.
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let count = stream.read(&mut part)?;
        ensure!(count > 0, "{address} has closed a connection");
        answer.extend_from_slice(&part[..count]);
        let Some(head) = memchr::memmem::find(&answer, b"\r\n\r\n") else {
            continue;
        };
        let first = answer.split(|byte| *byte == b'\r').next();
        let first = String::from_utf8_lossy(first.unwrap_or_default());
        ensure!(
            first.starts_with("HTTP/1.1 200 "),
            "{address} answers: {first}"
        );
        if answer.len() >= head + 4 + 1024 {
            return Ok(stream);
        }
    }
}
