//! What a process uses: CPU time of all its threads, memory, and where it may run.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;

/// The unit of CPU times in `/proc`: `USER_HZ`, which is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// How often memory is looked at.
const EVERY: Duration = Duration::from_millis(50);

/// CPU time of the process and of its threads, those that have ended included: unlike the
/// scheduler's books of the single threads, this forgets none.
pub(crate) fn cpu_of(pid: u32) -> anyhow::Result<Duration> {
    let fields = stat(&pid.to_string())?;
    Ok(TICK * (fields[0] + fields[1]))
}

/// CPU time of all children of this process that have ended and were waited for.
pub(super) fn cpu_of_ended_children() -> anyhow::Result<Duration> {
    let fields = stat("self")?;
    Ok(TICK * (fields[2] + fields[3]))
}

/// `utime`, `stime`, `cutime` and `cstime`.
fn stat(pid: &str) -> anyhow::Result<[u32; 4]> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The name, in brackets, may hold anything.
    let (_, rest) = line.rsplit_once(')').context("no name in stat")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse().ok());
    [next(), next(), next(), next()]
        .into_iter()
        .collect::<Option<Vec<u32>>>()
        .and_then(|fields| fields.try_into().ok())
        .context("stat has no CPU times")
}

/// Watches the memory of a process until it is asked.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    peak_kib: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let peak_kib = Arc::new(AtomicU64::new(0));
        let thread = {
            let (stop, peak_kib) = (Arc::clone(&stop), Arc::clone(&peak_kib));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(kib) = resident_kib(pid) {
                        peak_kib.fetch_max(kib, Ordering::Relaxed);
                    }
                    std::thread::park_timeout(EVERY);
                }
            })
        };
        Self {
            stop,
            peak_kib,
            thread,
        }
    }

    /// The most resident memory since the start, MiB.
    pub(super) fn peak_mib(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // It cannot panic.
        let _ = self.thread.join();
        self.peak_kib.load(Ordering::Relaxed) as f64 / 1024.0
    }
}

/// Resident memory now, files that are mapped included, KiB.
pub(super) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    crate::cpu::resident_kib(pid)
}
