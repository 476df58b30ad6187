//! The supervisor.
//!
//! Each part has a *keeper*, a task that alone starts, watches, restarts and stops its process. A
//! keeper waits for the keepers of the parts that come before it; the supervisor only tells all of
//! them when to begin, and each of them, in reverse order, when to stop. So it does not matter at
//! which point somebody gives up: [`Supervisor::stop`] ends whatever runs.

mod child;
mod event;
mod keeper;
mod order;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::{Exit, Part};
use keeper::{Keeper, State};

pub use event::{Event, Events};

/// Limits of the supervisor.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a part may take to become ready.
    pub ready_within: Duration,
    /// How long a part may take to end after a SIGTERM; then it gets a SIGKILL.
    pub stop_within: Duration,
    /// The pause before the first restart; it doubles with each crash.
    pub first_pause: Duration,
    /// The longest pause before a restart.
    pub longest_pause: Duration,
    /// A part that has run for so long since it was ready counts as sound again.
    pub sound_after: Duration,
    /// The size of a log file; there are at most two for each part.
    pub log_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ready_within: Duration::from_secs(30),
            stop_within: Duration::from_secs(6),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
            sound_after: Duration::from_secs(30),
            log_bytes: 8 * 1024 * 1024,
        }
    }
}

/// Parts that make no plan.
#[derive(Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum PlanningError {
    /// Two parts have the same name.
    #[error("two parts have the name {0}")]
    Duplicate(String),
    /// A part comes after one that is not there.
    #[error("part {part} is to start after {missing}, which is no part")]
    Missing {
        /// The part.
        part: String,
        /// What it waits for.
        missing: String,
    },
    /// Parts wait for each other.
    #[error("these parts wait for each other: {}", .0.join(", "))]
    Cycle(Vec<String>),
}

/// Why not all parts could be started. Each names the part.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
#[non_exhaustive]
pub enum StartError {
    /// The process could not be made.
    #[error("{part} cannot be started: {cause}")]
    Spawn {
        /// The part.
        part: String,
        /// What went wrong.
        cause: String,
    },
    /// The process ended before it was ready.
    #[error("{part} ended before it was ready ({exit})")]
    Exited {
        /// The part.
        part: String,
        /// How.
        exit: Exit,
        /// What it said last.
        last_lines: Vec<String>,
    },
    /// The process runs but is not ready in time.
    #[error("{part} was not ready within {} s: {probe}", waited.as_secs_f64())]
    NotReady {
        /// The part.
        part: String,
        /// How long was waited.
        waited: Duration,
        /// What its probe says.
        probe: String,
        /// What it said last.
        last_lines: Vec<String>,
    },
}

impl StartError {
    /// The part.
    pub fn part(&self) -> &str {
        match self {
            Self::Spawn { part, .. } | Self::Exited { part, .. } | Self::NotReady { part, .. } => {
                part
            }
        }
    }

    /// What the part said last.
    pub fn last_lines(&self) -> &[String] {
        match self {
            Self::Spawn { .. } => &[],
            Self::Exited { last_lines, .. } | Self::NotReady { last_lines, .. } => last_lines,
        }
    }
}

/// Runs parts.
#[derive(Debug)]
pub struct Supervisor {
    /// In the order of their start.
    parts: Vec<Kept>,
    events: mpsc::UnboundedSender<Event>,
    begin: watch::Sender<bool>,
}

#[derive(Debug)]
struct Kept {
    name: String,
    /// Parts of one level do not depend on each other.
    level: usize,
    state: watch::Receiver<State>,
    stop: watch::Sender<bool>,
    again: watch::Sender<()>,
    keeper: JoinHandle<()>,
}

impl Supervisor {
    /// Plans; nothing runs yet. What happens later is told by the events.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(parts: Vec<Part>, limits: Limits) -> Result<(Self, Events), PlanningError> {
        let order = order::levels(&parts)?;
        let (events, receiver) = mpsc::unbounded_channel();
        let (begin, begun) = watch::channel(false);
        let limits = Arc::new(limits);

        let mut states: HashMap<String, watch::Receiver<State>> = HashMap::new();
        let mut senders: HashMap<String, watch::Sender<State>> = HashMap::new();
        for part in &parts {
            let (sender, receiver) = watch::channel(State::Waiting);
            states.insert(part.name.clone(), receiver);
            senders.insert(part.name.clone(), sender);
        }
        let mut kept: Vec<Kept> = Vec::with_capacity(parts.len());
        for (part, level) in parts.into_iter().zip(order) {
            let (stop, stopping) = watch::channel(false);
            let (again, wanted_again) = watch::channel(());
            let name = part.name.clone();
            let before = part.after.iter().map(|name| states[name].clone()).collect();
            let Some(state) = senders.remove(&name) else {
                continue;
            };
            let keeper = Keeper {
                part,
                limits: Arc::clone(&limits),
                before,
                state,
                begin: begun.clone(),
                stop: stopping,
                again: wanted_again,
                events: events.clone(),
            };
            kept.push(Kept {
                state: states[&name].clone(),
                name,
                level,
                stop,
                again,
                keeper: tokio::spawn(keeper.run()),
            });
        }
        kept.sort_by_key(|kept| kept.level);
        let supervisor = Self {
            parts: kept,
            events,
            begin,
        };
        Ok((supervisor, Events::new(receiver)))
    }

    /// Starts everything; returns when all parts are ready or one cannot be.
    ///
    /// Dropping the future does not undo what has begun: [`Supervisor::stop`] does.
    pub async fn start(&self) -> Result<(), StartError> {
        self.begin.send_replace(true);
        let mut waiting: Vec<_> = self.parts.iter().map(|part| part.state.clone()).collect();
        let waits = waiting
            .iter_mut()
            .map(|state| Box::pin(async move { keeper::first_ready(state).await }));
        futures_util::future::try_join_all(waits).await.map(drop)
    }

    /// Stops a part and starts it again, at once if it was about to be; `false` if there is none of this name.
    /// Those that come after it go on.
    pub fn restart(&self, part: &str) -> bool {
        let part = self.parts.iter().find(|kept| kept.name == part);
        part.map(|part| part.again.send_replace(())).is_some()
    }

    /// Stops everything that runs, the last that started first, and waits until it is gone.
    pub async fn stop(self) {
        self.events.send(Event::Stopping).ok();
        let mut parts = self.parts;
        while let Some(level) = parts.last().map(|part| part.level) {
            let first = parts.partition_point(|part| part.level < level);
            let last = parts.split_off(first);
            for part in &last {
                part.stop.send_replace(true);
            }
            for part in last {
                if let Err(error) = part.keeper.await {
                    tracing::error!(part = part.name, %error, "the keeper of a part failed");
                }
            }
        }
    }
}
