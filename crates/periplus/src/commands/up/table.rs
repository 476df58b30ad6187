//! How each part is, as its events tell.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use periplus_local::{Event, Part};
use serde::{Deserialize, Serialize};

/// All parts, in the order of the plan.
#[derive(Debug)]
pub(super) struct Parts(RefCell<Vec<Row>>);

#[derive(Debug)]
struct Row {
    name: String,
    state: State,
    pid: Option<u32>,
    restarts: u32,
    since: Instant,
}

/// How a part is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// For others to be ready.
    Waiting,
    Starting,
    Ready,
    /// It is down, and will be started again.
    Crashed,
    /// It is down.
    Down,
}

/// What is told of a part.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) name: String,
    pub(super) state: State,
    /// Its process, while it runs.
    pub(super) pid: Option<u32>,
    /// How often it was started again.
    pub(super) restarts: u32,
    /// How long it has been so, milliseconds.
    pub(super) for_ms: u64,
}

impl State {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Crashed => "crashed",
            Self::Down => "down",
        }
    }
}

impl Status {
    pub(super) const fn time(&self) -> Duration {
        Duration::from_millis(self.for_ms)
    }
}

impl Parts {
    pub(super) fn new(parts: &[Part]) -> Self {
        let row = |part: &Part| Row {
            name: part.name.clone(),
            state: State::Waiting,
            pid: None,
            restarts: 0,
            since: Instant::now(),
        };
        Self(RefCell::new(parts.iter().map(row).collect()))
    }

    pub(super) fn see(&self, event: &Event) {
        let (part, state, pid) = match event {
            Event::Started { part, pid } => (part, State::Starting, Some(*pid)),
            Event::Ready { part, .. } => (part, State::Ready, None),
            Event::Crashed {
                part, restart_in, ..
            } => match restart_in {
                Some(_) => (part, State::Crashed, None),
                None => (part, State::Down, None),
            },
            Event::Stopped { part, .. } => (part, State::Down, None),
            Event::Stopping => return,
        };
        let mut rows = self.0.borrow_mut();
        let Some(row) = rows.iter_mut().find(|row| row.name == *part) else {
            return;
        };
        if state == State::Starting && row.state != State::Waiting {
            row.restarts += 1;
        }
        if state != State::Ready {
            row.pid = pid;
        }
        row.state = state;
        row.since = Instant::now();
    }

    pub(super) fn status(&self) -> Vec<Status> {
        let status = |row: &Row| Status {
            name: row.name.clone(),
            state: row.state,
            pid: row.pid,
            restarts: row.restarts,
            for_ms: row.since.elapsed().as_millis() as u64,
        };
        self.0.borrow().iter().map(status).collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.borrow().iter().map(|row| row.name.clone()).collect()
    }
}
