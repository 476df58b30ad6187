use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How the engine's threads are woken.
#[derive(Debug, Default)]
pub(super) struct Signal {
    wanted: Mutex<Wanted>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    flush: bool,
    keep: bool,
    stop: bool,
}

impl Signal {
    /// There is a table to be written.
    pub(super) fn flush(&self) {
        self.set(|wanted| wanted.flush = true);
    }

    /// There are segments to be looked after.
    pub(super) fn keep(&self) {
        self.set(|wanted| wanted.keep = true);
    }

    /// It is time to end.
    pub(super) fn stop(&self) {
        self.set(|wanted| wanted.stop = true);
    }

    /// Whether it is time to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stop
    }

    /// Waits for a table to be written, or for so long; `false` when it is time to end.
    pub(super) fn wait_for_flush(&self, timeout: Duration) -> bool {
        self.wait(timeout, |wanted| &mut wanted.flush)
    }

    /// Waits for segments to be looked after, or for so long; `false` when it is time to end.
    pub(super) fn wait_for_keep(&self, timeout: Duration) -> bool {
        self.wait(timeout, |wanted| &mut wanted.keep)
    }

    fn wait(&self, timeout: Duration, flag: fn(&mut Wanted) -> &mut bool) -> bool {
        let idle = |wanted: &mut Wanted| !wanted.stop && !*flag(wanted);
        let waited = self.wake.wait_timeout_while(self.lock(), timeout, idle);
        let mut wanted = waited.unwrap_or_else(PoisonError::into_inner).0;
        *flag(&mut wanted) = false;
        !wanted.stop
    }

    fn set(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.lock());
        self.wake.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
