//! How connections end that are to end.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Scope, Worker};
use crate::DrainStrategy;
use crate::overload::Share;

/// In how many steps at the most connections are told to go that go gradually.
const DRAIN_STEPS: u32 = 100;
const LEAST_DRAIN_STEP: Duration = Duration::from_millis(5);
/// How much time those that are told last have at the least: idle ones stay for a second.
const DRAIN_TAIL: Duration = Duration::from_millis(1500);

/// Whose connections are to end.
#[derive(Debug)]
pub(super) enum Leaving {
    Listener(String),
    Scope(Scope),
}

impl Worker {
    /// Lets connections end: all of them now, or little by little until the time is over.
    pub(super) fn drain(&self, leaving: Leaving, time: Duration) {
        match (self.options.drain_strategy, self.me.upgrade()) {
            (DrainStrategy::Gradual, Some(worker)) => {
                tokio::task::spawn_local(worker.drain_gradually(leaving, time));
            }
            _ => self.drain_at_once(&leaving),
        }
    }

    /// Lets connections end, those that are still to come too.
    pub(super) fn drain_at_once(&self, leaving: &Leaving) {
        if let Leaving::Scope(scope) = leaving
            && self.draining.get() != Some(Scope::All)
        {
            self.draining.set(Some(*scope));
        }
        self.connections.drain(|name| self.leaves(leaving, name));
    }

    /// Lets an even share of connections end in each part of the time; the last of it is for those that go last.
    async fn drain_gradually(self: Rc<Self>, leaving: Leaving, time: Duration) {
        let mut last = Instant::now();
        let end = last + time.saturating_sub(DRAIN_TAIL.max(time / 4));
        let step = (time / DRAIN_STEPS).max(LEAST_DRAIN_STEP);
        while last + step < end {
            tokio::time::sleep(step).await;
            let now = Instant::now().min(end);
            let passed = (now - last).as_secs_f64() / (end - last).as_secs_f64();
            let share = Share::of(passed);
            let chance = || share.hits(|| self.random());
            self.connections
                .drain_some(|name| self.leaves(&leaving, name), chance);
            last = now;
        }
        self.drain_at_once(&leaving);
    }

    fn leaves(&self, leaving: &Leaving, listener: &str) -> bool {
        match leaving {
            Leaving::Listener(name) => name == listener,
            Leaving::Scope(scope) => self.is_in(*scope, listener),
        }
    }

    /// Whether the connections of a listener are to end.
    pub(crate) fn drains(&self, listener: &str) -> bool {
        self.draining
            .get()
            .is_some_and(|scope| self.is_in(scope, listener))
    }

    pub(super) fn is_in(&self, scope: Scope, listener: &str) -> bool {
        let view = self.view.borrow();
        // A listener that has gone drains by itself.
        let listener = view.listeners.get(listener);
        scope == Scope::All || listener.is_some_and(|view| scope.has(&view.listener))
    }
}
