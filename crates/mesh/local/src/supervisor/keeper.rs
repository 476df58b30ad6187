//! The keeper of one part.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::child::Child;
use super::{Event, Limits, StartError};
use crate::log::Log;
use crate::{Exit, Part, Restart};

/// The pause between two questions whether a part is ready.
const PROBE_PAUSE: Duration = Duration::from_millis(15);

/// How far the first start of a part has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum State {
    Waiting,
    Ready,
    Failed(StartError),
    /// Stopped before it was ready.
    Abandoned,
}

/// Resolves when a part has become ready for the first time, or failed to. A part that was stopped
/// before never resolves: whoever has stopped it does not wait for it.
pub(super) async fn first_ready(state: &mut watch::Receiver<State>) -> Result<(), StartError> {
    let settled = state
        .wait_for(|state| matches!(state, State::Ready | State::Failed(_)))
        .await
        .map(|state| state.clone());
    match settled {
        Ok(State::Failed(error)) => Err(error),
        Ok(_) => Ok(()),
        Err(_) => std::future::pending().await,
    }
}

#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) part: Part,
    pub(super) limits: Arc<Limits>,
    pub(super) before: Vec<watch::Receiver<State>>,
    pub(super) state: watch::Sender<State>,
    pub(super) begin: watch::Receiver<bool>,
    pub(super) stop: watch::Receiver<bool>,
    /// Changes when it is to be stopped and started again.
    pub(super) again: watch::Receiver<()>,
    pub(super) events: mpsc::UnboundedSender<Event>,
}

/// How one run of the part ended.
enum Run {
    /// It was stopped.
    Stopped,
    /// It was stopped, to be started again.
    Again,
    /// It failed; it had been ready for so long.
    Failed(StartError, Option<Duration>),
}

impl Keeper {
    pub(super) async fn run(mut self) {
        let mut stop = self.stop.clone();
        let stopped = async move {
            // An error means that the supervisor is gone without a word: stop all the same.
            stop.wait_for(|&stop| stop).await.ok();
        };
        tokio::pin!(stopped);

        tokio::select! {
            () = &mut stopped => {}
            ready = self.turn() => if ready {
                self.keep(stopped.as_mut()).await;
            } else {
                // A part before this one failed: there is nothing to keep.
                stopped.await;
            }
        }
        self.state.send_if_modified(|state| {
            let waiting = *state == State::Waiting;
            if waiting {
                *state = State::Abandoned;
            }
            waiting
        });
    }

    /// Waits until it is this part's turn.
    async fn turn(&mut self) -> bool {
        if self.begin.wait_for(|&begin| begin).await.is_err() {
            return false;
        }
        for before in &mut self.before {
            if first_ready(before).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn keep(&self, mut stopped: std::pin::Pin<&mut impl Future<Output = ()>>) {
        let log = match Log::create(&self.part.log, self.limits.log_bytes) {
            Ok(log) => Arc::new(Mutex::new(log)),
            Err(error) => {
                let cause = format!("cannot write {} ({error})", self.part.log.display());
                self.fail(StartError::Spawn {
                    part: self.part.name.clone(),
                    cause,
                });
                return stopped.await;
            }
        };
        let mut pause = self.limits.first_pause;
        loop {
            let (error, ready_for) = match self.run_once(&log, stopped.as_mut()).await {
                Run::Stopped => return,
                Run::Again => {
                    pause = self.limits.first_pause;
                    continue;
                }
                Run::Failed(error, ready_for) => (error, ready_for),
            };
            if *self.state.borrow() == State::Waiting {
                self.fail(error);
                return stopped.await;
            }
            if ready_for.is_some_and(|time| time >= self.limits.sound_after) {
                pause = self.limits.first_pause;
            }
            let restart_in = (self.part.restart == Restart::Always).then_some(pause);
            self.tell(Event::Crashed {
                part: self.part.name.clone(),
                exit: match &error {
                    StartError::Exited { exit, .. } => Some(*exit),
                    _ => None,
                },
                last_lines: match &error {
                    StartError::Spawn { cause, .. } => vec![cause.clone()],
                    error => error.last_lines().to_vec(),
                },
                restart_in,
            });
            let next = async {
                match restart_in {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut stopped => return,
                () = self.wanted_again() => {}
                () = next => {}
            }
            pause = (pause * 2).min(self.limits.longest_pause);
        }
    }

    async fn run_once(
        &self,
        log: &Arc<Mutex<Log>>,
        mut stopped: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Run {
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .begin_run();
        let part = self.part.name.clone();
        let begun = Instant::now();
        let mut child = match Child::spawn(&self.part, Arc::clone(log)) {
            Ok(child) => child,
            Err(error) => {
                let cause = format!("{}: {error}", self.part.program.display());
                return Run::Failed(StartError::Spawn { part, cause }, None);
            }
        };
        self.tell(Event::Started {
            part: part.clone(),
            pid: child.id().unwrap_or_default(),
        });

        let again = self.wanted_again();
        tokio::pin!(again);
        let ready = tokio::select! {
            () = &mut stopped => return self.stop_child(child).await,
            () = &mut again => return self.stop_for_another(child).await,
            exit = child.wait() => return self.exited(child, exit, None).await,
            ready = self.ready() => ready,
        };
        if let Err(probe) = ready {
            child.stop(self.limits.stop_within).await;
            let error = StartError::NotReady {
                part,
                waited: self.limits.ready_within,
                probe,
                last_lines: child.last_lines().await,
            };
            return Run::Failed(error, None);
        }
        self.tell(Event::Ready {
            part,
            took: begun.elapsed(),
        });
        self.state.send_replace(State::Ready);
        let ready_since = Instant::now();

        tokio::select! {
            () = &mut stopped => self.stop_child(child).await,
            () = again => self.stop_for_another(child).await,
            exit = child.wait() => {
                self.exited(child, exit, Some(ready_since.elapsed())).await
            }
        }
    }

    /// Asks until the part is ready or its time is over; the error is the last answer.
    async fn ready(&self) -> Result<(), String> {
        let mut last = "it was not asked".to_owned();
        let asking = async {
            while let Err(answer) = self.part.ready.ask().await {
                last = answer;
                tokio::time::sleep(PROBE_PAUSE).await;
            }
        };
        match tokio::time::timeout(self.limits.ready_within, asking).await {
            Ok(()) => Ok(()),
            Err(_) => Err(last),
        }
    }

    async fn exited(&self, mut child: Child, exit: Exit, ready_for: Option<Duration>) -> Run {
        let error = StartError::Exited {
            part: self.part.name.clone(),
            exit,
            last_lines: child.last_lines().await,
        };
        Run::Failed(error, ready_for)
    }

    /// Resolves when somebody wants it to be started again from now on.
    async fn wanted_again(&self) {
        let mut again = self.again.clone();
        again.mark_unchanged();
        if again.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn stop_for_another(&self, child: Child) -> Run {
        self.stop_child(child).await;
        Run::Again
    }

    async fn stop_child(&self, mut child: Child) -> Run {
        let (exit, killed) = child.stop(self.limits.stop_within).await;
        self.tell(Event::Stopped {
            part: self.part.name.clone(),
            exit,
            killed,
        });
        Run::Stopped
    }

    fn fail(&self, error: StartError) {
        self.state.send_replace(State::Failed(error));
    }

    fn tell(&self, event: Event) {
        // Nobody may be listening any more.
        self.events.send(event).ok();
    }
}
