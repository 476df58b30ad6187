//! The thread that writes lines to files.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

/// The most batches that wait for the thread, and the most bytes of them: more are dropped and counted.
const MOST_BATCHES: usize = 256;
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// Files that nobody has written to for this long are closed.
const IDLE: Duration = Duration::from_secs(60);
/// The room of a pipe: with that of most (64 KiB) the thread goes to sleep and is woken several times for each batch.
const PIPE: usize = 256 * 1024;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Destination {
    Stdout,
    Stderr,
    File(Arc<str>),
}

/// The way of batches to the thread that writes them.
#[derive(Debug)]
pub(crate) struct Logs {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    dropped: AtomicU64,
    write_completed: AtomicU64,
    write_failed: AtomicU64,
    reopen_failed: AtomicU64,
    /// Lines that were handed over and are neither written nor lost, and their bytes.
    waiting: AtomicU64,
    waiting_bytes: AtomicUsize,
    /// Nothing more will come.
    stops: AtomicBool,
    /// The files are to be opened anew.
    reopen: AtomicBool,
}

#[derive(Debug)]
enum Message {
    Batch {
        destination: Destination,
        bytes: Vec<u8>,
        lines: u64,
    },
    /// To look whether it is to end.
    Wake,
}

/// The thread, as long as it runs.
#[derive(Debug)]
pub(crate) struct WriterThread {
    thread: JoinHandle<()>,
    /// It is closed when the thread ends. Behind a lock only so that threads may share what has it.
    ended: Mutex<Receiver<()>>,
}

impl Destination {
    /// `/dev/stdout` and `/dev/stderr` are those of this process, whatever they are.
    pub(crate) fn of_path(path: &str) -> Self {
        match path {
            "/dev/stdout" => Self::Stdout,
            "/dev/stderr" => Self::Stderr,
            path => Self::File(path.into()),
        }
    }

    /// Opens the file to append to it.
    pub(crate) fn open(path: &str) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(path)
    }
}

impl Logs {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<(Arc<Self>, WriterThread)> {
        let (sender, receiver) = sync_channel(MOST_BATCHES);
        let shared = Arc::<Shared>::default();
        let writer = Writer {
            shared: shared.clone(),
            open: HashMap::new(),
        };
        let (runs, ended) = sync_channel(0);
        let thread = std::thread::Builder::new()
            .name("access-logs".to_owned())
            .spawn(move || {
                writer.run(&receiver);
                drop(runs);
            })?;
        let thread = WriterThread {
            thread,
            ended: Mutex::new(ended),
        };
        Ok((Arc::new(Self { sender, shared }), thread))
    }

    /// Hands over whole lines. Never waits: if too much does already, they are dropped and counted.
    pub(super) fn hand_over(&self, destination: Destination, bytes: Vec<u8>, lines: u64) {
        let shared = &*self.shared;
        let size = bytes.len();
        let batch = Message::Batch {
            destination,
            bytes,
            lines,
        };
        shared.waiting.fetch_add(lines, Ordering::Relaxed);
        let before = shared.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        if before + size > MOST_BYTES || self.sender.try_send(batch).is_err() {
            shared.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
            shared.lose(lines);
        }
    }

    /// Has the files opened anew before the next line is written, so that they can be rotated.
    pub(crate) fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
    }

    /// Ends the thread once it has written what was handed over, or after that time: what a destination does not
    /// take until then is lost. How many lines that are.
    pub(crate) fn stop(&self, writer: WriterThread, most: Duration) -> u64 {
        self.shared.stops.store(true, Ordering::Release);
        // If there is no room for it, there is something else to wake up for.
        let _ = self.sender.try_send(Message::Wake);
        let ended = writer.ended.into_inner();
        let ended = ended.unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(most) == Err(RecvTimeoutError::Disconnected) {
            // If it has panicked, the panic hook has said so.
            let _ = writer.thread.join();
        }
        let left = self.shared.waiting.load(Ordering::Relaxed);
        self.shared.lose(left);
        left
    }

    /// Shows the counts, by Envoy's names where it has one.
    pub(crate) fn visit(&self, show: &mut dyn FnMut(&'static str, u64)) {
        let shared = &*self.shared;
        for (name, count) in [
            ("access_log.lines_written", &shared.written),
            ("access_log.lines_dropped", &shared.dropped),
            ("filesystem.write_completed", &shared.write_completed),
            ("filesystem.write_failed", &shared.write_failed),
            ("filesystem.reopen_failed", &shared.reopen_failed),
        ] {
            show(name, count.load(Ordering::Relaxed));
        }
    }
}

impl Shared {
    fn lose(&self, lines: u64) {
        self.waiting.fetch_sub(lines, Ordering::Relaxed);
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }
}

struct Writer {
    shared: Arc<Shared>,
    open: HashMap<Arc<str>, Open>,
}

struct Open {
    file: File,
    used: Instant,
    /// A line was written in part: the next one must not go on with it.
    is_torn: bool,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let received = match self.shared.stops.load(Ordering::Acquire) {
                false => receiver.recv_timeout(IDLE),
                true => receiver
                    .try_recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
            };
            match received {
                Ok(Message::Batch {
                    destination,
                    bytes,
                    lines,
                }) => self.write(&destination, &bytes, lines),
                Err(RecvTimeoutError::Disconnected) => return,
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => {}
            }
            self.open.retain(|_, open| open.used.elapsed() < IDLE);
        }
    }

    fn write(&mut self, destination: &Destination, bytes: &[u8], lines: u64) {
        if self.shared.reopen.swap(false, Ordering::AcqRel) {
            self.open.clear();
        }
        let written = match destination {
            Destination::Stdout => write_and_flush(&mut io::stdout(), bytes),
            Destination::Stderr => write_and_flush(&mut io::stderr(), bytes),
            Destination::File(path) => self.write_to(path, bytes),
        };
        let shared = &*self.shared;
        shared
            .waiting_bytes
            .fetch_sub(bytes.len(), Ordering::Relaxed);
        match written {
            Ok(()) => {
                shared.write_completed.fetch_add(1, Ordering::Relaxed);
                shared.waiting.fetch_sub(lines, Ordering::Relaxed);
                shared.written.fetch_add(lines, Ordering::Relaxed);
            }
            Err(error) => {
                let before = shared.write_failed.fetch_add(1, Ordering::Relaxed);
                shared.lose(lines);
                // A full disk must not fill the other one.
                if before.is_power_of_two() || before == 0 {
                    tracing::warn!(?destination, %error, lines, "access log lines are lost");
                }
            }
        }
    }

    fn write_to(&mut self, path: &Arc<str>, bytes: &[u8]) -> io::Result<()> {
        let open = match self.open.get_mut(path) {
            Some(open) => open,
            None => {
                let opened = Destination::open(path).inspect_err(|_| {
                    self.shared.reopen_failed.fetch_add(1, Ordering::Relaxed);
                })?;
                widen(&opened);
                self.open.entry(path.clone()).or_insert(Open {
                    file: opened,
                    used: Instant::now(),
                    is_torn: false,
                })
            }
        };
        open.used = Instant::now();
        if open.is_torn {
            open.file.write_all(b"\n")?;
            open.is_torn = false;
        }
        open.file
            .write_all(bytes)
            .inspect_err(|_| open.is_torn = true)
    }
}

/// Gives a pipe the room for whole batches. What is no pipe, or may have no more, stays as it is.
fn widen(out: impl AsFd) {
    if fcntl_getpipe_size(&out).is_ok_and(|size| size < PIPE) {
        let _ = fcntl_setpipe_size(&out, PIPE);
    }
}

fn write_and_flush(out: &mut (impl Write + AsFd), bytes: &[u8]) -> io::Result<()> {
    // Only where lines go: the pipe may be somebody else's too.
    widen(&*out);
    out.write_all(bytes)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_room_and_never_less() {
        let (reads, writes) = rustix::pipe::pipe().expect("a pipe");
        widen(&writes);
        assert_eq!(fcntl_getpipe_size(&reads), Ok(PIPE));
        fcntl_setpipe_size(&writes, 4 * PIPE).expect("more room");
        widen(&writes);
        assert_eq!(fcntl_getpipe_size(&reads), Ok(4 * PIPE));
        widen(File::open("/dev/null").expect("no pipe"));
    }

    #[test]
    fn what_waits_is_limited_in_bytes_too() {
        let (sender, receiver) = sync_channel(MOST_BATCHES);
        let logs = Logs {
            sender,
            shared: Arc::default(),
        };
        let megabyte = || vec![b'x'; 1024 * 1024];
        for _ in 0..10 {
            logs.hand_over(Destination::Stdout, megabyte(), 100);
        }
        assert_eq!(receiver.try_iter().count(), 8);
        assert_eq!(logs.shared.dropped.load(Ordering::Relaxed), 200);
        assert_eq!(logs.shared.waiting.load(Ordering::Relaxed), 800);
    }
}
