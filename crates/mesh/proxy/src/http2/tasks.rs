//! The tasks that streams run in. One whose stream has ended takes another: to make a task of this size costs more
//! than the routing of a request.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::http2::connection::Opened;

/// How many tasks without a stream a worker keeps.
const MOST_IDLE: usize = 256;

/// The tasks of a worker that have no stream.
#[derive(Default)]
pub(crate) struct Tasks {
    idle: RefCell<Vec<Rc<Seat>>>,
}

/// Where a task gets its next stream from.
#[derive(Default)]
struct Seat {
    next: RefCell<Option<Opened>>,
    waker: RefCell<Option<Waker>>,
}

impl Tasks {
    /// Has a stream served by a task that has none, or by a new one.
    pub(super) fn serve(self: &Rc<Self>, opened: Opened) {
        let idle = self.idle.borrow_mut().pop();
        if let Some(seat) = idle {
            seat.give(opened);
            return;
        }
        let (tasks, seat) = (self.clone(), Rc::<Seat>::default());
        seat.give(opened);
        tokio::task::spawn_local(async move {
            loop {
                let opened = poll_fn(|cx| seat.poll_take(cx)).await;
                opened.serve().await;
                if !tasks.keep(&seat) {
                    return;
                }
            }
        });
    }

    /// Whether a task whose stream has ended may wait for another.
    fn keep(&self, seat: &Rc<Seat>) -> bool {
        let mut idle = self.idle.borrow_mut();
        let keeps = idle.len() < MOST_IDLE;
        if keeps {
            idle.push(seat.clone());
        }
        keeps
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").finish_non_exhaustive()
    }
}

impl Seat {
    fn give(&self, opened: Opened) {
        *self.next.borrow_mut() = Some(opened);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn poll_take(&self, cx: &Context<'_>) -> Poll<Opened> {
        if let Some(opened) = self.next.borrow_mut().take() {
            return Poll::Ready(opened);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}
