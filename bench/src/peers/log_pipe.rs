//! Where proxies write their access logs: a pipe, as a container's standard output is.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::thread::{CpuSet, sched_setaffinity};

/// The most that is read at once.
const PART: usize = 64 * 1024;

/// A named pipe, and the thread that counts the lines that come through it.
#[derive(Debug)]
pub(super) struct LogPipe {
    /// Open for both ends, so that nobody waits for somebody who opens the other one.
    pipe: File,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    lines: AtomicU64,
    first: OnceLock<Vec<u8>>,
    stops: AtomicBool,
}

impl LogPipe {
    /// Makes a pipe that a thread on this core reads.
    pub(super) fn new(path: &Path, core: usize) -> anyhow::Result<Self> {
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, path, FileType::Fifo, mode, 0).context("cannot make a pipe")?;
        let pipe = OpenOptions::new().read(true).write(true).open(path)?;
        let seen = Arc::<Seen>::default();
        let (reads, counts) = (pipe.try_clone()?, seen.clone());
        let thread = std::thread::Builder::new().name("log".to_owned());
        thread.spawn(move || {
            let mut cores = CpuSet::new();
            cores.set(core);
            let read = sched_setaffinity(None, &cores).map_err(Into::into);
            if let Err(error) = read.and_then(|()| counts.read(reads)) {
                eprintln!("the access log is read no further: {error}");
            }
        })?;
        Ok(Self { pipe, seen })
    }

    /// Waits a while until there are so many lines: how many there are.
    pub(super) fn lines(&self, expected: u64) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let lines = self.seen.lines.load(Ordering::Relaxed);
            if lines >= expected || Instant::now() > deadline {
                return lines;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// The first of them.
    pub(super) fn first(&self) -> &[u8] {
        self.seen.first.get().map_or(&[], Vec::as_slice)
    }
}

impl Drop for LogPipe {
    fn drop(&mut self) {
        self.seen.stops.store(true, Ordering::Relaxed);
        // It ends when it has read this. Without it, it waits for as long as this process lives.
        let _ = self.pipe.write_all(b"\n");
    }
}

impl Seen {
    fn read(&self, mut pipe: File) -> std::io::Result<()> {
        let mut part = vec![0; PART];
        let mut first = Vec::new();
        while !self.stops.load(Ordering::Relaxed) {
            let count = pipe.read(&mut part)?;
            let part = &part[..count];
            let lines = memchr::memchr_iter(b'\n', part).count() as u64;
            if self.first.get().is_none() {
                let end = memchr::memchr(b'\n', part);
                first.extend_from_slice(&part[..end.unwrap_or(part.len())]);
                if end.is_some() {
                    self.first.get_or_init(|| std::mem::take(&mut first));
                }
            }
            self.lines.fetch_add(lines, Ordering::Relaxed);
        }
        Ok(())
    }
}
