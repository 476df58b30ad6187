//! CPU time of a process tree, exact to the nanosecond, from the scheduler's own books.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// The CPU time that all threads of the process and of its children have used.
pub(crate) fn time_of(pid: u32) -> anyhow::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")? {
        let task = task?.path();
        // A thread may end between the listing and the reading: its time is then lost to us, as
        // it is to every peer.
        if let Ok(books) = fs::read_to_string(task.join("schedstat")) {
            let nanos = books.split(' ').next().and_then(|field| field.parse().ok());
            total += Duration::from_nanos(nanos.context("schedstat has no CPU time")?);
        }
        if let Ok(children) = fs::read_to_string(task.join("children")) {
            for child in children
                .split_whitespace()
                .filter_map(|child| child.parse().ok())
            {
                total += time_of(child)?;
            }
        }
    }
    Ok(total)
}

/// The CPU time of each thread whose name begins like this, in seconds.
pub(crate) fn of_threads(pid: u32, name: &str) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")? {
        let task = task?.path();
        if !fs::read_to_string(task.join("comm"))?.starts_with(name) {
            continue;
        }
        let books = fs::read_to_string(task.join("schedstat"))?;
        let nanos = books
            .split(' ')
            .next()
            .and_then(|field| field.parse::<u64>().ok());
        times.push(nanos.context("schedstat has no CPU time")? as f64 / 1e9);
    }
    Ok(times)
}

/// Resident memory of the process in KiB.
pub(crate) fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse().ok())
        .context("the process has no VmRSS")
}
