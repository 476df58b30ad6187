//! The lines of one worker for one destination, until they are handed over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::writer::{Destination, Logs};

/// Lines are handed over when there are this many bytes of them (a write of 128 KiB costs the kernel two thirds of what
/// four of 32 KiB do, and wakes the thread once),
const FULL: usize = 128 * 1024;
/// or when the first of them has waited this long.
const INTERVAL: Duration = Duration::from_millis(100);
/// A buffer has room for that, and for a long line at the end. What is not written to takes no memory.
const ROOM: usize = FULL + 16 * 1024;

/// Where the lines of one worker for one destination wait.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) destination: Destination,
    logs: Arc<Logs>,
    bytes: RefCell<Vec<u8>>,
    lines: Cell<u64>,
    closed: Cell<bool>,
    changed: Notify,
}

impl Sink {
    /// A sink with the task that hands over its lines.
    pub(crate) fn new(destination: Destination, logs: Arc<Logs>) -> Rc<Self> {
        let sink = Rc::new(Self {
            destination,
            logs,
            bytes: RefCell::default(),
            lines: Cell::new(0),
            closed: Cell::new(false),
            changed: Notify::new(),
        });
        tokio::task::spawn_local(sink.clone().run());
        sink
    }

    /// Appends a line.
    pub(super) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes.borrow_mut();
        let lines = self.lines.get() + 1;
        if lines == 1 {
            // Growing would copy what there is.
            bytes.reserve_exact(ROOM);
        }
        write(&mut bytes);
        self.lines.set(lines);
        if bytes.len() >= FULL {
            drop(bytes);
            self.flush();
        } else if lines == 1 {
            self.changed.notify_one();
        }
    }

    /// Hands over what there is.
    pub(crate) fn flush(&self) {
        let lines = self.lines.take();
        if lines > 0 {
            let bytes = std::mem::take(&mut *self.bytes.borrow_mut());
            self.logs.hand_over(self.destination.clone(), bytes, lines);
        }
    }

    /// No line will come any more: the task hands over what is left and ends.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.changed.notify_one();
    }

    async fn run(self: Rc<Self>) {
        while !self.closed.get() {
            self.changed.notified().await;
            if !self.closed.get() {
                tokio::time::sleep(INTERVAL).await;
            }
            self.flush();
        }
    }
}
