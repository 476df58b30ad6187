//! What the supervisor tells.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::Exit;

/// Something that happened to a part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Its process runs.
    Started {
        /// The part.
        part: String,
        /// The process.
        pid: u32,
    },
    /// It is ready.
    Ready {
        /// The part.
        part: String,
        /// Since its start.
        took: Duration,
    },
    /// It ended by itself, or had to be ended because it did not become ready again.
    Crashed {
        /// The part.
        part: String,
        /// How; nothing when its process could not even be made.
        exit: Option<Exit>,
        /// What it said last.
        last_lines: Vec<String>,
        /// When it is started again; never, if nothing.
        restart_in: Option<Duration>,
    },
    /// Everything is about to be stopped.
    Stopping,
    /// It has been stopped.
    Stopped {
        /// The part.
        part: String,
        /// How it ended.
        exit: Exit,
        /// It did not heed a SIGTERM in time.
        killed: bool,
    },
}

/// The events, in order.
#[derive(Debug)]
pub struct Events(mpsc::UnboundedReceiver<Event>);

impl Events {
    pub(super) fn new(receiver: mpsc::UnboundedReceiver<Event>) -> Self {
        Self(receiver)
    }

    /// The next one; nothing when everything has been stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}
