//! The downstream connections of a worker, so that they can be told to end.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::telemetry::LogView;
use crate::view::ListenerView;

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
    /// Endpoints see the client's own address, in packets of this mark.
    mark: Option<u32>,
    draining: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Who is told of the connection when it has ended.
    logs: Option<Rc<LogView>>,
    /// The name that the client asked for in TLS that passes through.
    server_name: OnceCell<Box<str>>,
    /// The other end of the connection, if that has said that it speaks for somebody else.
    direct: Cell<Option<SocketAddr>>,
}

/// A connection's place in the list; left when dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    /// Its number among all connections.
    pub(crate) id: u64,
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
        self.drain_some(is_of, || true);
    }

    /// The same for those of them that `chance` hits, and that were not told before.
    pub(crate) fn drain_some(
        &self,
        is_of: impl Fn(&str) -> bool,
        mut chance: impl FnMut() -> bool,
    ) {
        for (_, handle) in &*self.list.borrow() {
            if is_of(&handle.listener) && !handle.draining.get() && chance() {
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
    pub(crate) fn new(worker: &Rc<crate::worker::Worker>, listener: &ListenerView) -> Self {
        let handle = Rc::new(Handle {
            listener: listener.name.clone(),
            mark: listener.listener.original_source,
            draining: Cell::new(worker.drains(&listener.name)),
            waker: RefCell::default(),
            logs: listener.logs.clone(),
            server_name: OnceCell::new(),
            direct: Cell::new(None),
        });
        let key = worker.connections.list.borrow_mut().insert(handle.clone());
        worker.open.add();
        Self {
            id: worker.open.next_id().get(),
            worker: worker.clone(),
            key,
            handle,
        }
    }

    /// The name of the listener that accepted the connection.
    pub(crate) fn listener(&self) -> &str {
        &self.handle.listener
    }

    /// The mark of packets in which endpoints see the client's own address, if they do.
    pub(crate) fn mark(&self) -> Option<u32> {
        self.handle.mark
    }

    /// The access logs of the listener.
    pub(crate) fn logs(&self) -> Option<&Rc<LogView>> {
        self.handle.logs.as_ref()
    }

    /// The name that the client asked for in TLS that passes through.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.handle.server_name.get().map(|name| &**name)
    }

    /// Notes that name, which is known only once the connection was looked at.
    pub(crate) fn set_server_name(&self, name: Option<Box<str>>) {
        if let Some(name) = name {
            self.handle.server_name.get_or_init(|| name);
        }
    }

    /// The other end of the connection, if that has said that it speaks for somebody else (the PROXY protocol).
    pub(crate) fn direct(&self) -> Option<SocketAddr> {
        self.handle.direct.get()
    }

    /// Notes that other end.
    pub(crate) fn set_direct(&self, direct: SocketAddr) {
        self.handle.direct.set(Some(direct));
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
