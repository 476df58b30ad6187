//! Listening sockets: bound when a snapshot brings them, closed when it takes them away.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::Published;
use crate::accept;
use crate::snapshot::{Listener, SocketKind};
use crate::worker::{Command, Scope, Worker};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// How often a listener that could not bind is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long accepting rests after an error such as too many open files.
const REST: Duration = Duration::from_millis(100);

/// What the listeners' task reports.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The newest generation that all workers have applied.
    pub(crate) applied: AtomicU64,
    errors: Mutex<Vec<(String, SocketAddr, String)>>,
    stopped: Mutex<Option<Scope>>,
}

impl Progress {
    /// Listeners of this kind are not opened any more.
    pub(crate) fn stop(&self, scope: Scope) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if *stopped != Some(Scope::All) {
            *stopped = Some(scope);
        }
    }

    fn has_stopped(&self, listener: &Listener) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.is_some_and(|scope| scope.has(listener))
    }

    /// Listeners that could not bind.
    pub(crate) fn errors(&self) -> Vec<(String, SocketAddr, String)> {
        self.errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Keeps the sockets of all workers at what is published.
#[derive(Debug)]
pub(crate) struct Listeners {
    published: Arc<Published>,
    workers: Vec<mpsc::UnboundedSender<Command>>,
    progress: Arc<Progress>,
    placed: HashMap<String, Place>,
}

/// Where a listener is, and how: when any of it changes, it is opened anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    address: SocketAddr,
    /// None if it has no socket.
    socket: Option<SocketKind>,
}

impl Place {
    fn of(listener: &Listener) -> Self {
        Self {
            address: listener.address,
            socket: listener.socket,
        }
    }
}

impl Listeners {
    pub(crate) fn new(
        published: Arc<Published>,
        workers: Vec<mpsc::UnboundedSender<Command>>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            published,
            workers,
            progress,
            placed: HashMap::new(),
        }
    }

    /// Follows the publications until `stop` is dropped.
    pub(crate) async fn follow(mut self, mut stop: oneshot::Receiver<()>) {
        let mut changes = self.published.subscribe();
        loop {
            changes.mark_unchanged();
            let failed = self.apply().await;
            let retry = async {
                if failed {
                    tokio::time::sleep(RETRY).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                _ = &mut stop => return,
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                () = retry => {}
            }
        }
    }

    /// Brings the sockets to the newest snapshot: whether any could not be bound.
    async fn apply(&mut self) -> bool {
        let snapshot = self.published.load();
        let wanted: HashMap<&str, Place> = snapshot
            .listeners
            .iter()
            .map(|listener| {
                let mut place = Place::of(listener);
                let is_new = self.placed.get(&listener.name) != Some(&place);
                if is_new && self.progress.has_stopped(listener) {
                    place.socket = None;
                }
                (listener.name.as_str(), place)
            })
            .collect();
        let gone: Vec<String> = self
            .placed
            .iter()
            .filter(|(name, place)| wanted.get(name.as_str()) != Some(place))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &gone {
            self.placed.remove(name);
            self.tell(|| Command::Unlisten { name: name.clone() });
        }
        // Addresses that are given up are free again only after this, and workers know the new
        // listeners before the first connection comes.
        self.refresh().await;
        let mut errors = Vec::new();
        for (name, place) in wanted {
            if self.placed.contains_key(name) {
                continue;
            }
            let Some(kind) = place.socket else {
                self.placed.insert(name.to_owned(), place);
                continue;
            };
            match bind(place.address, kind, self.workers.len()) {
                Ok(sockets) => {
                    for (worker, socket) in self.workers.iter().zip(sockets) {
                        let name = name.to_owned();
                        // A worker that has ended needs no socket.
                        let _ = worker.send(Command::Listen { name, socket });
                    }
                    self.placed.insert(name.to_owned(), place);
                }
                Err(error) => errors.push((name.to_owned(), place.address, error.to_string())),
            }
        }
        self.refresh().await;
        let failed = !errors.is_empty();
        *self
            .progress
            .errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = errors;
        self.progress
            .applied
            .store(snapshot.generation, Ordering::Release);
        failed
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            let _ = worker.send(command());
        }
    }

    /// Waits until all workers have done what they were told, and use the newest snapshot.
    async fn refresh(&self) {
        let answers: Vec<_> = self
            .workers
            .iter()
            .map(|worker| {
                let (done, answer) = oneshot::channel();
                let _ = worker.send(Command::Refresh(done));
                answer
            })
            .collect();
        for answer in answers {
            let _ = answer.await;
        }
    }
}

/// One listening socket per worker.
///
/// Several need SO_REUSEPORT, which would also let a stranger of the same user share the port: so a
/// first socket without it finds out whether the port is free.
fn bind(
    address: SocketAddr,
    kind: SocketKind,
    workers: usize,
) -> io::Result<Vec<std::net::TcpListener>> {
    let first = listen(address, kind, false)?;
    if workers < 2 {
        return Ok(vec![first]);
    }
    drop(first);
    (0..workers).map(|_| listen(address, kind, true)).collect()
}

fn listen(address: SocketAddr, kind: SocketKind, share: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // `::` also takes IPv4, as Envoy's `ipv4_compat` would say.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    if kind.transparent {
        if address.is_ipv6() {
            socket.set_ip_transparent_v6(true)?;
        } else {
            socket.set_ip_transparent_v4(true)?;
        }
    }
    if kind.freebind {
        if address.is_ipv6() {
            socket.set_freebind_v6(true)?;
        } else {
            socket.set_freebind_v4(true)?;
        }
    }
    if let Some(keepalive) = &kind.keepalive {
        socket.set_tcp_keepalive(&keepalive.of_socket())?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections in a task of this worker.
pub(crate) fn accept(
    worker: Rc<Worker>,
    name: String,
    socket: std::net::TcpListener,
) -> io::Result<AbortHandle> {
    let socket = TcpListener::from_std(socket)?;
    let name: Rc<str> = name.into();
    let stats = worker.registry.listener(&name);
    let task = tokio::task::spawn_local(async move {
        loop {
            let (stream, peer) = match poll_fn(|cx| poll_accept(&worker, &name, &socket, cx)).await
            {
                Ok(accepted) => accepted,
                Err(error) => {
                    stats.accept_error.increment();
                    tracing::warn!(listener = &*name, %error, "cannot accept a connection");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let Some(view) = worker.listener(&name) else {
                continue;
            };
            let exempt = view.listener.exempt;
            if worker.open.count() >= worker.options.max_connections && !exempt.from_limit {
                stats.cx_total.increment();
                stats.cx_global_overflow.increment();
                continue;
            }
            let rejects = worker.overload.actions().get().reject_connections;
            if rejects.hits(|| worker.random()) && !exempt.from_overload {
                stats.cx_overload_reject.increment();
                continue;
            }
            accept::take(&worker, &view, stream, peer);
        }
    });
    Ok(task.abort_handle())
}

/// The next connection, unless there is too much to do for one.
fn poll_accept(
    worker: &Worker,
    name: &str,
    socket: &TcpListener,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    let is_exempt = || {
        let view = worker.listener(name);
        view.is_some_and(|view| view.listener.exempt.from_overload)
    };
    if worker.overload.stops_connections() && !is_exempt() {
        worker.overload.wait_for_change(cx);
        return Poll::Pending;
    }
    socket.poll_accept(cx)
}
