//! A worker: one thread, one current-thread runtime, and all the state of its requests.
//!
//! Nothing here is shared with other workers on the request path; the exceptions are written once
//! per configuration (counts and limits are registered by name) or are off by default (circuit
//! breakers count over all workers).

mod drain;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::drain::Leaving;
use crate::balance::{self, Chance};
use crate::buffer::{Blocks, Texts};
use crate::call::Parts;
use crate::clock::Clock;
use crate::export::{Exporter, Reported};
use crate::http2::Tasks;
use crate::in_flight::InFlight;
use crate::listener;
use crate::overload::{Accounts, Actions, Open, Overload};
use crate::registry::Connections;
use crate::snapshot::{Direction, Listener, Node, Snapshot, TokenBucket};
use crate::stats::Registry;
use crate::telemetry::istio::{Metrics, bounds_of, greeting};
use crate::telemetry::{Destination, Logs, Sink};
use crate::timer::Timers;
use crate::trace::Scratch;
use crate::upstream::Usages;
use crate::view::{ListenerView, View};
use crate::{Options, Published};

/// How long the last spans and lines may take to be sent, at the least.
pub(crate) const FLUSH: Duration = Duration::from_millis(500);
/// How long those may take to end that are still under way when the time is over.
const CUT: Duration = Duration::from_millis(250);
/// How often idle upstream connections are looked after.
const SWEEP: Duration = Duration::from_secs(1);
/// What a worker is given when it starts.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) published: Arc<Published>,
    pub(crate) node: Arc<Node>,
    /// The proxy's own address: stands in for a loopback client in `x-forwarded-for`, and is the
    /// `localEndpoint` of Zipkin spans.
    pub(crate) own_address: Option<IpAddr>,
    pub(crate) options: Options,
    pub(crate) registry: Arc<Registry>,
    pub(crate) usages: Arc<Usages>,
    pub(crate) open: Arc<Open>,
    pub(crate) in_flight: Arc<[Arc<InFlight>]>,
    /// Which worker it is.
    pub(crate) index: usize,
    pub(crate) logs: Arc<Logs>,
    pub(crate) trace_limit: Option<Arc<TokenBucket>>,
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept on a socket.
    Listen {
        name: String,
        socket: std::net::TcpListener,
    },
    /// Close the socket of a listener and let its connections go.
    Unlisten { name: String },
    /// Look at the newest snapshot, then answer.
    Refresh(oneshot::Sender<()>),
    /// Let connections end, while new ones are still taken.
    Drain(Scope),
    /// Close the sockets of listeners; their connections stay.
    Stop(Scope),
    /// Do what there is to do about too much work.
    Shed(Actions),
    /// Let all connections end, flush the spans, and end: how many connections were left.
    End(Ending, oneshot::Sender<usize>),
}

/// How long a worker that is to end goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// New connections are taken at least until then, even if there are none,
    pub(crate) not_before: Instant,
    /// and at the most until then.
    pub(crate) deadline: Instant,
}

/// Some of the listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    /// Those whose `traffic_direction` is INBOUND.
    Inbound,
}

impl Scope {
    pub(crate) fn has(self, listener: &Listener) -> bool {
        self == Self::All || listener.direction == Direction::Inbound
    }
}

/// The state of a worker.
#[derive(Debug)]
pub(crate) struct Worker {
    me: Weak<Worker>,
    pub(crate) clock: Clock,
    pub(crate) timers: Rc<Timers>,
    pub(crate) blocks: Blocks,
    pub(crate) texts: Texts,
    pub(crate) registry: Arc<Registry>,
    pub(crate) usages: Arc<Usages>,
    pub(crate) node: Arc<Node>,
    pub(crate) own_address: Option<IpAddr>,
    pub(crate) options: Options,
    pub(crate) connections: Connections,
    /// The connections of all workers.
    pub(crate) open: Arc<Open>,
    /// Requests to this workload that are under way, by worker, if spans tell of them,
    pub(crate) in_flight: Arc<[Arc<InFlight>]>,
    /// and which worker this is.
    index: usize,
    pub(crate) overload: Overload,
    /// What exchanges hold in memory, if it is to be known.
    pub(crate) accounts: Option<Rc<Accounts>>,
    published: RefCell<Cache<Newest, Arc<Snapshot>>>,
    view: RefCell<Rc<View>>,
    /// Lent to whoever makes a span.
    pub(crate) scratch: RefCell<Scratch>,
    /// Where streams of HTTP/2 run.
    pub(crate) stream_tasks: Rc<Tasks>,
    /// Of calls that have ended.
    pub(crate) parts: RefCell<Vec<Parts>>,
    random: RefCell<fastrand::Rng>,
    exporters: RefCell<Vec<(Reported, Rc<Exporter>)>>,
    /// Those that the configuration no longer has, as long as they have something to send.
    closed_exporters: RefCell<Vec<Weak<Exporter>>>,
    logs: Arc<Logs>,
    /// How many traces may begin here, in all workers together.
    pub(crate) trace_limit: Option<Arc<TokenBucket>>,
    /// Istio's standard metrics, if the node says whose they are.
    pub(crate) metrics: Option<Rc<Metrics>>,
    /// What connections begin with on which both ends say who they are.
    pub(crate) greeting: Box<[u8]>,
    /// Where the lines of access logs wait.
    sinks: RefCell<Vec<Rc<Sink>>>,
    /// How many copies of requests are under way.
    pub(crate) mirrored: Cell<usize>,
    /// Whose connections are to end.
    draining: Cell<Option<Scope>>,
}

/// The cell of [`Published`], for a cache over it.
#[derive(Debug)]
struct Newest(Arc<Published>);

impl Deref for Newest {
    type Target = ArcSwap<Snapshot>;

    fn deref(&self) -> &Self::Target {
        self.0.swap()
    }
}

/// Runs a worker on this thread until it is told to end, or nobody is left to tell it.
pub(crate) fn run(
    setup: Setup,
    commands: mpsc::UnboundedReceiver<Command>,
    started: &std::sync::mpsc::SyncSender<io::Result<()>>,
) {
    let runtime = match Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
    {
        Ok(runtime) => runtime,
        Err(error) => {
            // Whoever started this thread waits for the answer.
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    runtime.block_on(Worker::new(setup).serve(commands));
}

impl Worker {
    fn new(setup: Setup) -> Rc<Self> {
        let mut seed = [0; 8];
        let random = match getrandom::fill(&mut seed) {
            Ok(()) => fastrand::Rng::with_seed(u64::from_ne_bytes(seed)),
            // Seeds itself from the clock and the thread: ids must be distinct, not secret.
            Err(_) => fastrand::Rng::new(),
        };
        let snapshot = setup.published.load();
        let node = &setup.node;
        let greeting = greeting(node.workload.as_ref(), &node.id).into();
        let metrics = Metrics::new(
            node.workload.as_ref(),
            &node.id,
            (setup.registry.istio.clone(), setup.options.metric_expiry),
            |metric| bounds_of(&setup.options.histogram_bounds, metric),
        );
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            clock: Clock::new(),
            timers: Timers::new(),
            blocks: Blocks::default(),
            texts: Texts::default(),
            registry: setup.registry,
            usages: setup.usages,
            node: setup.node,
            own_address: setup.own_address,
            accounts: setup
                .options
                .least_account
                .map(|least| Rc::new(Accounts::new(least))),
            options: setup.options,
            connections: Connections::default(),
            open: setup.open,
            in_flight: setup.in_flight,
            index: setup.index,
            overload: Overload::default(),
            published: RefCell::new(Cache::new(Newest(setup.published))),
            view: RefCell::new(View::empty(Arc::new(Snapshot {
                generation: snapshot.generation,
                listeners: Vec::new(),
                clusters: HashMap::new(),
            }))),
            scratch: RefCell::default(),
            stream_tasks: Rc::default(),
            parts: RefCell::default(),
            random: RefCell::new(random),
            exporters: RefCell::default(),
            closed_exporters: RefCell::default(),
            logs: setup.logs,
            trace_limit: setup.trace_limit,
            metrics: metrics.map(Rc::new),
            greeting,
            sinks: RefCell::default(),
            mirrored: Cell::new(0),
            draining: Cell::new(None),
        })
    }

    async fn serve(self: Rc<Self>, mut commands: mpsc::UnboundedReceiver<Command>) {
        let worker = self.clone();
        tokio::task::spawn_local(async move {
            worker.timers.clone().drive(&worker.clock).await;
        });
        tokio::task::spawn_local(self.clone().sweep());
        let mut accepting: HashMap<String, AbortHandle> = HashMap::new();
        while let Some(command) = commands.recv().await {
            let Some((ending, left)) = self.follow(command, &mut accepting).await else {
                continue;
            };
            let time = ending.deadline.saturating_duration_since(Instant::now());
            self.drain(Leaving::Scope(Scope::All), time);
            let mut ended = pin!(self.wait_for_end(ending));
            loop {
                tokio::select! {
                    () = &mut ended => break,
                    Some(command) = commands.recv() => {
                        self.follow(command, &mut accepting).await;
                    }
                }
            }
            for task in accepting.into_values() {
                task.abort();
            }
            // Whoever asked may have gone.
            let _ = left.send(self.connections.len());
            self.cut().await;
            self.flush(ending.deadline).await;
            break;
        }
        // Breaks the circle between endpoints and their idle connections.
        for cluster in self.view.borrow().clusters.values() {
            cluster.retire();
        }
    }

    /// Does what it is told, unless that is to end.
    async fn follow(
        self: &Rc<Self>,
        command: Command,
        accepting: &mut HashMap<String, AbortHandle>,
    ) -> Option<(Ending, oneshot::Sender<usize>)> {
        match command {
            Command::Listen { name, socket } => {
                match listener::accept(self.clone(), name.clone(), socket) {
                    Ok(task) => {
                        accepting.insert(name, task);
                    }
                    Err(error) => {
                        tracing::error!(listener = name, %error, "cannot accept");
                    }
                }
            }
            Command::Unlisten { name } => {
                if let Some(task) = accepting.remove(&name) {
                    task.abort();
                }
                // The aborted task drops its socket before the next command is answered.
                tokio::task::yield_now().await;
                self.drain(Leaving::Listener(name), self.options.drain_time);
            }
            Command::Refresh(done) => {
                self.view();
                let _ = done.send(());
            }
            Command::Drain(scope) => {
                self.drain(Leaving::Scope(scope), self.options.drain_time);
            }
            Command::Stop(scope) => {
                accepting.retain(|name, task| {
                    let stops = self.is_in(scope, name);
                    if stops {
                        task.abort();
                    }
                    !stops
                });
                // The aborted tasks drop their sockets.
                tokio::task::yield_now().await;
            }
            Command::Shed(actions) => self.shed(actions),
            Command::End(ending, left) => return Some((ending, left)),
        }
        None
    }

    fn shed(&self, actions: Actions) {
        self.overload.set(actions);
        if let Some(accounts) = &self.accounts
            && !actions.reset_streams.is_none()
        {
            let reset = accounts.reset(actions.reset_streams) as u64;
            self.open.resets.fetch_add(reset, Ordering::Relaxed);
        }
    }

    /// Waits until all connections have ended, or may no longer go on.
    async fn wait_for_end(&self, ending: Ending) {
        let gone = async {
            tokio::time::sleep_until(ending.not_before.min(ending.deadline)).await;
            self.connections.gone().await;
        };
        let _ = tokio::time::timeout_at(ending.deadline, gone).await;
    }

    /// Ends what is still under way, so that it is told of.
    async fn cut(&self) {
        self.drain_at_once(&Leaving::Scope(Scope::All));
        self.timers.cut();
        let _ = tokio::time::timeout(CUT, self.connections.gone()).await;
    }

    async fn flush(&self, deadline: Instant) {
        let deadline = deadline.max(Instant::now() + FLUSH);
        let exporters = self.all_exporters();
        // All at once: one that hangs must not take the time of the others.
        for exporter in &exporters {
            exporter.end_by(deadline.into_std());
        }
        for exporter in exporters {
            if tokio::time::timeout_at(deadline, exporter.flush())
                .await
                .is_err()
            {
                exporter.give_up();
            }
        }
        for sink in &*self.sinks.borrow() {
            sink.flush();
        }
    }

    /// Those of the configuration, and those that still have something to send.
    fn all_exporters(&self) -> Vec<Rc<Exporter>> {
        let exporters = self.exporters.borrow();
        let known = exporters.iter().map(|(_, exporter)| exporter.clone());
        let closed = self.closed_exporters.borrow();
        known
            .chain(closed.iter().filter_map(Weak::upgrade))
            .collect()
    }

    async fn sweep(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let view = self.view();
            let now = self.clock.now();
            for cluster in view.clusters.values() {
                cluster.sweep(now);
            }
            if let Some(metrics) = &self.metrics {
                metrics.sweep(now);
            }
        }
    }

    /// The newest configuration.
    #[inline]
    pub(crate) fn view(&self) -> Rc<View> {
        let mut cache = self.published.borrow_mut();
        let newest = cache.load();
        let view = self.view.borrow().clone();
        if Arc::ptr_eq(newest, &view.snapshot) {
            return view;
        }
        let newest = newest.clone();
        drop(cache);
        self.renew(newest, &view)
    }

    /// The newest configuration of a listener; none if it has gone.
    #[inline]
    pub(crate) fn listener(&self, name: &str) -> Option<Rc<ListenerView>> {
        self.view().listeners.get(name).cloned()
    }

    #[cold]
    fn renew(&self, snapshot: Arc<Snapshot>, previous: &View) -> Rc<View> {
        let view = View::build(snapshot, previous, self);
        *self.view.borrow_mut() = view.clone();
        let mut closed = self.closed_exporters.borrow_mut();
        closed.retain(|exporter| exporter.strong_count() > 0);
        self.exporters.borrow_mut().retain(|(_, exporter)| {
            let used = view.reports_to(exporter);
            if !used {
                exporter.close();
                closed.push(Rc::downgrade(exporter));
            }
            used
        });
        drop(closed);
        self.sinks.borrow_mut().retain(|sink| {
            let used = view.writes_to(sink);
            if !used {
                sink.close();
            }
            used
        });
        self.registry.prune();
        view
    }

    /// The sink for a destination: one per worker, however many logs go there.
    pub(crate) fn sink(&self, destination: &Destination) -> Rc<Sink> {
        let mut sinks = self.sinks.borrow_mut();
        if let Some(sink) = sinks.iter().find(|sink| sink.destination == *destination) {
            return sink.clone();
        }
        let sink = Sink::new(destination.clone(), self.logs.clone());
        sinks.push(sink.clone());
        sink
    }

    /// The exporter for a provider: one per worker, however many listeners report to it.
    pub(crate) fn exporter(&self, reported: &Reported) -> Rc<Exporter> {
        let mut exporters = self.exporters.borrow_mut();
        if let Some((_, exporter)) = exporters.iter().find(|(known, _)| known == reported) {
            return exporter.clone();
        }
        let exporter = Exporter::new(reported, self);
        exporters.push((reported.clone(), exporter.clone()));
        exporter
    }

    /// Those requests to this workload that are under way here.
    pub(crate) fn own_in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight[self.index]
    }

    /// 64 random bits.
    #[inline]
    pub(crate) fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    /// This worker, for tasks that must not keep it.
    pub(crate) fn weak(&self) -> Weak<Self> {
        self.me.clone()
    }
}

impl Chance for Worker {
    #[inline]
    fn random(&self) -> u64 {
        Worker::random(self)
    }

    fn now(&self) -> u64 {
        balance::now()
    }
}

/// The address from which this host reaches others, found without sending anything.
pub(crate) fn own_address() -> Option<IpAddr> {
    // Documentation addresses (RFC 5737): only the route to them matters.
    let remote: SocketAddr = ([192, 0, 2, 1], 9).into();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(remote).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
