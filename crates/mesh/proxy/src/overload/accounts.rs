//! What exchanges over HTTP/2 hold in memory, if that is to be known: those that hold the most are reset when
//! memory runs short (`envoy.overload_actions.reset_high_memory_stream`).

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::overload::Share;

/// How many classes of sizes there are, each of twice the size of the one before.
const CLASSES: u32 = 8;
/// How many exchanges are reset in one go at the most.
const MOST_AT_ONCE: usize = 50;

/// The accounts of a worker.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// Which power of two an account must reach to be looked at.
    least: u32,
    list: RefCell<Slab<Rc<Account>>>,
}

/// What an exchange holds.
#[derive(Debug, Default)]
struct Account {
    bytes: Cell<u64>,
    is_over: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// An exchange's account; closed when dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    accounts: Rc<Accounts>,
    key: usize,
    account: Rc<Account>,
}

impl Accounts {
    pub(crate) fn new(least: u32) -> Self {
        Self {
            least,
            list: RefCell::default(),
        }
    }

    pub(crate) fn open(self: &Rc<Self>) -> Entry {
        let account = Rc::<Account>::default();
        Entry {
            accounts: self.clone(),
            key: self.list.borrow_mut().insert(account.clone()),
            account,
        }
    }

    /// Resets those of the greatest classes, the more of them the greater the pressure: how many.
    pub(crate) fn reset(&self, pressure: Share) -> usize {
        let classes = pressure.part_of(CLASSES) + 1;
        let from = CLASSES.saturating_sub(classes);
        let list = self.list.borrow();
        let is_due = |account: &&Rc<Account>| {
            let class = self.class(account.bytes.get());
            !account.is_over.get() && class.is_some_and(|class| class >= from)
        };
        let accounts = list.iter().map(|(_, account)| account);
        let mut due: Vec<_> = accounts.filter(is_due).collect();
        due.sort_by_key(|account| Reverse(account.bytes.get()));
        due.truncate(MOST_AT_ONCE);
        for account in &due {
            account.is_over.set(true);
        }
        // The others note anew what they hold: who waits for its client does not see what comes from the endpoint.
        for (_, account) in &*list {
            if let Some(waker) = account.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
        due.len()
    }

    fn class(&self, bytes: u64) -> Option<u32> {
        let power = bytes.checked_ilog2()?;
        let class = power.checked_sub(self.least)?;
        Some(class.min(CLASSES - 1))
    }
}

impl Entry {
    /// Notes how much the exchange holds now. Ready once it must end.
    pub(crate) fn poll_over(&self, bytes: usize, cx: &Context<'_>) -> Poll<()> {
        self.account.bytes.set(bytes as u64);
        if self.account.is_over.get() {
            return Poll::Ready(());
        }
        let mut waker = self.account.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.accounts.list.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_hold_the_most_go_first() {
        let cx = Context::from_waker(Waker::noop());
        // With at least 1 KiB: below that nobody is touched, however great the pressure.
        for (pressure, expected) in [
            (0.0, [false, false, false, true, true]),
            (0.2, [false, false, false, true, true]),
            (0.8, [false, false, true, true, true]),
            (1.0, [false, true, true, true, true]),
        ] {
            let accounts = Rc::new(Accounts::new(10));
            let sizes = [1023, 1024, 2048, 1 << 17, 1 << 30];
            let entries = sizes.map(|bytes| {
                let entry = accounts.open();
                assert!(entry.poll_over(bytes, &cx).is_pending());
                entry
            });
            let over = expected.iter().filter(|over| **over).count();
            assert_eq!(accounts.reset(Share::of(pressure)), over, "{pressure}");
            for (entry, over) in entries.iter().zip(expected) {
                assert_eq!(entry.poll_over(0, &cx).is_ready(), over, "{pressure}");
            }
            assert_eq!(accounts.reset(Share::of(1.0)), 0, "each once");
            drop(entries);
            assert!(accounts.list.borrow().is_empty());
        }
    }

    #[test]
    fn at_most_so_many_at_once() {
        let accounts = Rc::new(Accounts::new(10));
        let cx = Context::from_waker(Waker::noop());
        let entries: Vec<_> = (0..60).map(|_| accounts.open()).collect();
        for entry in &entries {
            assert!(entry.poll_over(4096, &cx).is_pending());
        }
        let all = Share::of(1.0);
        assert_eq!((accounts.reset(all), accounts.reset(all)), (50, 10));
    }
}
