//! The downstream connections of a worker, so that they can be told to end.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// All downstream connections of a worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    list: RefCell<Slab<Rc<Handle>>>,
    /// Who waits until none is left.
    waiting: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Handle {
    listener: Rc<str>,
    draining: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A connection's place in the list; left when dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    worker: Rc<crate::worker::Worker>,
    key: usize,
    handle: Rc<Handle>,
}

impl Connections {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.borrow().len()
    }

    /// Tells the connections of some listeners to end after their current exchange.
    pub(crate) fn drain(&self, is_of: impl Fn(&str) -> bool) {
        for (_, handle) in &*self.list.borrow() {
            if is_of(&handle.listener) {
                handle.draining.set(true);
                if let Some(waker) = handle.waker.borrow().as_ref() {
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// Waits until none is left.
    pub(crate) async fn gone(&self) {
        poll_fn(|cx| {
            if self.list.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Registered {
    /// Enters a connection into its worker's list.
    pub(crate) fn new(worker: &Rc<crate::worker::Worker>, listener: Rc<str>) -> Self {
        let draining = Cell::new(worker.drains(&listener));
        let handle = Rc::new(Handle {
            listener,
            draining,
            waker: RefCell::default(),
        });
        let key = worker.connections.list.borrow_mut().insert(handle.clone());
        worker.open.add();
        Self {
            worker: worker.clone(),
            key,
            handle,
        }
    }

    /// The name of the listener that accepted the connection.
    pub(crate) fn listener(&self) -> &str {
        &self.handle.listener
    }

    /// Whether the connection is to end after its current exchange.
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.handle.draining.get()
    }

    /// Wakes this task when the connection is told to end.
    #[inline]
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        let mut waker = self.handle.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let connections = &self.worker.connections;
        connections.list.borrow_mut().remove(self.key);
        self.worker.open.remove();
        if connections.len() == 0
            && let Some(waiting) = connections.waiting.borrow_mut().take()
        {
            waiting.wake();
        }
    }
}
