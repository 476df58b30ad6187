//! Deadlines of connections: one lazy timer each, on a wheel per worker.
//!
//! A request has several deadlines (its head, its route's timeout, idleness), and nearly none of
//! them ever passes. So moving one must cost nothing: it is a store. The wheel visits each entry at
//! the latest every [`REVISIT`] ticks, and only then looks at what the deadline has become; just a
//! deadline that is nearer than the next visit needs a second place on the wheel.
//!
//! When the proxy ends, all deadlines pass at once, also of those timers that have none.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use crate::clock::{Clock, Micros};

/// The wheel's resolution; deadlines pass up to this much late.
const TICK: Micros = 10_000;
const SLOTS: u64 = 128;
const REVISIT: u64 = 100;
const NEVER: u64 = u64::MAX;

/// The wheel of a worker.
#[derive(Debug)]
pub(crate) struct Timers {
    /// All timers, on the wheel or not.
    all: RefCell<Slab<Rc<Entry>>>,
    /// No timer waits any more.
    is_cut: Cell<bool>,
    slots: RefCell<Vec<Vec<Rc<Entry>>>>,
    /// The last tick that was visited.
    visited: Cell<u64>,
    /// The tick at which the driver wakes by itself.
    driver_wakes: Cell<u64>,
    driver: RefCell<Option<Waker>>,
}

/// A deadline that can be moved at no cost.
#[derive(Debug)]
pub(crate) struct Timer {
    timers: Rc<Timers>,
    entry: Rc<Entry>,
    /// Its place among all.
    key: usize,
}

#[derive(Debug)]
struct Entry {
    /// The tick of the deadline.
    deadline: Cell<u64>,
    /// The tick at which the wheel visits this entry; other visits are stale.
    visit: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Timers {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            all: RefCell::default(),
            is_cut: Cell::new(false),
            slots: RefCell::new((0..SLOTS).map(|_| Vec::new()).collect()),
            visited: Cell::new(0),
            driver_wakes: Cell::new(NEVER),
            driver: RefCell::new(None),
        })
    }

    /// A timer without a deadline.
    pub(crate) fn timer(self: &Rc<Self>) -> Timer {
        let entry = Rc::new(Entry {
            deadline: Cell::new(NEVER),
            visit: Cell::new(NEVER),
            waker: RefCell::new(None),
        });
        Timer {
            timers: self.clone(),
            key: self.all.borrow_mut().insert(entry.clone()),
            entry,
        }
    }

    /// Lets all deadlines pass, those that are set later too: whoever waits has to end.
    pub(crate) fn cut(&self) {
        self.is_cut.set(true);
        let all = self.all.borrow();
        let wakers = all.iter().filter_map(|(_, entry)| entry.waker.take());
        let wakers: Vec<Waker> = wakers.collect();
        drop(all);
        for waker in wakers {
            waker.wake();
        }
    }

    /// Whether deadlines pass since everybody has to end.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Does some work, unless everybody has to end before it is done: then there is nothing.
    pub(crate) async fn unless_cut<T>(self: &Rc<Self>, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut timer = None;
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => {
                let timer = timer.get_or_insert_with(|| self.timer());
                timer.poll_cut(cx).map(|()| None)
            }
        })
        .await
    }

    /// Turns the wheel, for ever.
    pub(crate) async fn drive(self: Rc<Self>, clock: &Clock) {
        loop {
            let next = self.next_visit();
            self.driver_wakes.set(next);
            let mut first = true;
            let changed = poll_fn(|cx| {
                if std::mem::take(&mut first) {
                    *self.driver.borrow_mut() = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(())
            });
            if next == NEVER {
                changed.await;
            } else {
                let at = clock.instant((next + 1) * TICK);
                let _ = tokio::time::timeout_at(at.into(), changed).await;
            }
            self.turn(clock.now() / TICK);
        }
    }

    fn next_visit(&self) -> u64 {
        let slots = self.slots.borrow();
        let from = self.visited.get() + 1;
        (from..from + SLOTS)
            .find(|tick| !slots[(tick % SLOTS) as usize].is_empty())
            .unwrap_or(NEVER)
    }

    /// Visits all slots up to, and without, the current tick.
    fn turn(&self, now: u64) {
        let first = self.visited.get() + 1;
        for tick in first.max(now.saturating_sub(SLOTS))..now {
            self.visited.set(tick);
            let mut due = std::mem::take(&mut self.slots.borrow_mut()[(tick % SLOTS) as usize]);
            for entry in due.drain(..) {
                self.visit(entry, tick, now);
            }
            let mut slots = self.slots.borrow_mut();
            let slot = &mut slots[(tick % SLOTS) as usize];
            due.append(slot);
            *slot = due;
        }
    }

    fn visit(&self, entry: Rc<Entry>, tick: u64, now: u64) {
        let visit = entry.visit.get();
        if visit > tick {
            // Either it has another place by now, or this is its place in a later round: the wheel was held
            // up, and goes through many ticks at once.
            if visit != NEVER && visit % SLOTS == tick % SLOTS {
                self.slots.borrow_mut()[(tick % SLOTS) as usize].push(entry);
            }
            return;
        }
        let deadline = entry.deadline.get();
        if deadline == NEVER || Rc::strong_count(&entry) == 1 {
            entry.visit.set(NEVER);
        } else if deadline < now {
            entry.visit.set(NEVER);
            if let Some(waker) = entry.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        } else {
            self.place(entry, deadline.min(now + REVISIT));
        }
    }

    fn place(&self, entry: Rc<Entry>, tick: u64) {
        entry.visit.set(tick);
        self.slots.borrow_mut()[(tick % SLOTS) as usize].push(entry);
        if tick < self.driver_wakes.get() {
            self.driver_wakes.set(tick);
            if let Some(driver) = self.driver.borrow().as_ref() {
                driver.wake_by_ref();
            }
        }
    }
}

impl Timer {
    /// Sets the deadline to `after` from `now`, or removes it.
    #[inline]
    pub(crate) fn set(&self, now: Micros, after: Option<Duration>) {
        self.set_at(after.map(|after| now.saturating_add(after.as_micros() as u64)));
    }

    /// Sets the deadline, or removes it.
    #[inline]
    pub(crate) fn set_at(&self, at: Option<Micros>) {
        let deadline = at.map_or(NEVER, |at| at / TICK);
        if self.entry.deadline.replace(deadline) == deadline {
            // It may have been visited: setting it again must not make it wait for another visit.
            return;
        }
        if deadline < self.entry.visit.get() {
            self.reach(deadline);
        }
    }

    /// Removes the deadline, and forgets whom it would wake.
    pub(crate) fn rest(&self) {
        self.entry.deadline.set(NEVER);
        self.entry.waker.borrow_mut().take();
    }

    fn reach(&self, deadline: u64) {
        let visited = self.timers.visited.get();
        let soonest = visited + 1;
        let visit = deadline.clamp(soonest, visited + REVISIT);
        if visit < self.entry.visit.get() {
            self.timers.place(self.entry.clone(), visit);
        }
    }

    /// Ready once the deadline has passed.
    #[inline]
    pub(crate) fn poll_passed(&self, now: impl FnOnce() -> Micros, cx: &Context<'_>) -> Poll<()> {
        let deadline = self.entry.deadline.get();
        if deadline != NEVER && self.entry.visit.get() == NEVER && deadline < now() / TICK {
            return Poll::Ready(());
        }
        self.poll_cut(cx)
    }

    /// Ready once everybody has to end, whatever the deadline is.
    #[inline]
    fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waker = self.entry.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            if self.timers.is_cut() {
                return Poll::Ready(());
            }
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.rest();
        self.timers.all.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed(timer: &Timer, clock: &Clock) -> Micros {
        poll_fn(|cx| timer.poll_passed(|| clock.now(), cx)).await;
        clock.now()
    }

    fn run<F: Future>(test: impl FnOnce(Rc<Timers>, Rc<Clock>) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build_local(tokio::runtime::LocalOptions::default())
            .expect("a runtime");
        runtime.block_on(async {
            let (timers, clock) = (Timers::new(), Rc::new(Clock::new()));
            let (driven, time) = (timers.clone(), clock.clone());
            tokio::task::spawn_local(async move { driven.drive(&time).await });
            test(timers, clock).await;
        });
    }

    #[test]
    fn deadlines_pass_in_time_and_never_early() {
        run(|timers, clock| async move {
            for ms in [0, 5, 30, 1500] {
                let timer = timers.timer();
                let begin = clock.now();
                timer.set(begin, Some(Duration::from_millis(ms)));
                let late = passed(&timer, &clock).await - begin - ms * 1000;
                assert!(late < 500_000, "{ms} ms came {late} µs late");
            }
        });
    }

    #[test]
    fn a_wheel_that_was_held_up_loses_nobody() {
        for hold_ups in [&[200, 500, 1002][..], &[1002], &[150, 279, 408, 1002]] {
            let timers = Timers::new();
            let timer = timers.timer();
            timer.set_at(Some(1000 * TICK));
            for now in hold_ups {
                timers.turn(*now);
            }
            let cx = Context::from_waker(Waker::noop());
            let passed = timer.poll_passed(|| 1002 * TICK, &cx);
            assert!(passed.is_ready(), "{hold_ups:?}");
        }
    }

    #[test]
    fn deadlines_move_both_ways() {
        run(|timers, clock| async move {
            let timer = timers.timer();
            let begin = clock.now();
            timer.set(begin, Some(Duration::from_secs(3600)));
            timer.set(begin, Some(Duration::from_millis(20)));
            timer.set(begin, Some(Duration::from_millis(60)));
            assert!(passed(&timer, &clock).await - begin >= 60_000);
            // Passed once, it can be set again.
            let begin = clock.now();
            timer.set(begin, Some(Duration::from_millis(20)));
            assert!(passed(&timer, &clock).await - begin >= 20_000);
            timer.set_at(None);
            let never = tokio::time::timeout(Duration::from_millis(50), passed(&timer, &clock));
            assert!(never.await.is_err());
        });
    }

    #[test]
    fn all_timers_pass_when_they_are_cut() {
        run(|timers, clock| async move {
            let (never, late, later) = (timers.timer(), timers.timer(), timers.timer());
            late.set(clock.now(), Some(Duration::from_secs(3600)));
            let ends = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                assert!(!timers.is_cut());
                timers.cut();
            };
            let nothing = timers.unless_cut(std::future::pending::<()>());
            let waiting = async {
                tokio::join!(passed(&never, &clock), passed(&late, &clock), nothing, ends).2
            };
            let all = tokio::time::timeout(Duration::from_secs(10), waiting).await;
            assert_eq!(all, Ok(None));
            later.set(clock.now(), Some(Duration::from_secs(3600)));
            passed(&later, &clock).await;
            assert_eq!(timers.unless_cut(async { 1 }).await, Some(1));
            drop((never, late, later));
            assert!(timers.all.borrow().is_empty());
        });
    }

    #[test]
    fn many_timers_pass_each_in_its_turn() {
        run(|timers, clock| async move {
            let begin = clock.now();
            let all: Vec<_> = (0..500)
                .map(|i| {
                    let timer = timers.timer();
                    let after = Duration::from_millis(i % 50 * 4);
                    timer.set(begin, Some(after));
                    (timer, after)
                })
                .collect();
            for (timer, after) in &all {
                let at = passed(timer, &clock).await;
                assert!(at - begin >= after.as_micros() as u64);
            }
            drop(all);
        });
    }
}
