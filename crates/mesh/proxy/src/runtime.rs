//! The workers: one thread, one current-thread runtime and one set of listening sockets each.

use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::bootstrap::HistogramBounds;
use crate::listener::{Listeners, Progress};
use crate::overload::{Actions, Open};
use crate::snapshot::{Node, TokenBucket};
use crate::stats::{Registry, Sums};
use crate::telemetry::istio::exposition;
use crate::telemetry::{Logs, WriterThread};
use crate::upstream::{Usages, add_gauges};
use crate::worker::{self, Command, Ending, Scope, Setup};
use crate::{ApplicationMetrics, LogControl};
use crate::{Published, health};

/// How many exchanges were reset for the memory that they held.
const RESETS: &str = "overload.envoy.overload_actions.reset_high_memory_stream.count";

/// How the workers run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many workers; each listens with SO_REUSEPORT and shares nothing on the request path. Zero is as
    /// many as the CPU quota of this process gives.
    pub workers: usize,
    /// The most downstream connections of all workers; more are closed at once and counted.
    pub max_connections: usize,
    /// The most requests of all workers that are under way at once, tunnels too; more get 503 and are counted.
    pub max_streams: Option<NonZeroUsize>,
    /// The most bytes that the heads of requests under way may have in all workers together, and those of heads over
    /// 16 KiB that are still to come; what is more gets 503 and is counted.
    pub max_header_bytes: Option<NonZeroUsize>,
    /// The power of two of bytes that an exchange over HTTP/2 must hold to be reset when memory runs short; none
    /// is reset without. [`Agent`](crate::Agent) takes it from the bootstrap file.
    pub least_account: Option<u32>,
    /// How clients are told to go.
    pub drain_strategy: DrainStrategy,
    /// How long connections may go on after [`Agent`](crate::Agent)'s `POST /drain_listeners?graceful`, until
    /// their listeners' sockets are closed.
    pub drain_time: Duration,
    /// How long new connections are taken when the proxy is to end, though none may be left.
    pub min_drain_time: Duration,
    /// Spans tell more than Envoy's do: the attributes `periplus.*`.
    pub span_details: bool,
    /// Tracers of OpenTelemetry's kind read B3 where there is no `traceparent`, and write it too.
    pub otel_b3: bool,
    /// How many traces may begin here in a second; of more no span is made, and they are counted.
    pub max_traces_per_second: Option<NonZeroU32>,
    /// The most spans that wait for export in one worker; more are dropped and counted.
    pub max_pending_spans: usize,
    /// The most bytes of them, as they are to be sent; more are dropped and counted.
    pub max_pending_span_bytes: usize,
    /// How long nobody may have added to a series of Istio's metrics before it goes; none goes while there is room for
    /// it otherwise.
    pub metric_expiry: Option<Duration>,
    /// Which bounds the buckets of Istio's histograms have. [`Agent`](crate::Agent) takes it from the bootstrap file.
    pub histogram_bounds: HistogramBounds,
    /// Where [`crate::Agent`] keeps the last good configuration, for a start without a control plane.
    pub config_cache: Option<PathBuf>,
    /// Where [`crate::Agent`] serves its metrics alone: port 15090 of Istio's sidecars.
    pub metrics_address: Option<SocketAddr>,
    /// Where it serves its readiness, and its metrics with those of the application: port 15020 of Istio's sidecars.
    pub status_address: Option<SocketAddr>,
    /// How [`crate::Agent`] changes what is logged, if it can.
    pub log_control: Option<LogControl>,
    /// Where the application's metrics are.
    pub application_metrics: ApplicationMetrics,
    /// Where its own certificate comes from, which it keeps under the names that Istio's agent gives them; without
    /// it they come by SDS, if at all.
    pub identity: Option<periplus_identity::Config>,
}

/// How the clients of listeners that drain are told to go (Envoy's `--drain-strategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainStrategy {
    /// All of them at the beginning of the drain time.
    Immediate,
    /// One after the other, evenly over the drain time, so that they do not all come back elsewhere at once.
    Gradual,
}

/// What had to be given up at the end, since there was no more time for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Connections that were closed.
    pub connections: usize,
    /// Spans that no collector has taken.
    pub spans: u64,
    /// Lines of access logs that were not written, and records of them that no collector has taken.
    pub log_lines: u64,
}

impl Options {
    /// How many workers there will be.
    pub(crate) fn worker_count(&self) -> usize {
        if self.workers > 0 {
            return self.workers;
        }
        // It knows of affinity and of the quota of control groups.
        std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 1,
            max_connections: 16 * 1024,
            max_streams: None,
            max_header_bytes: None,
            least_account: None,
            drain_strategy: DrainStrategy::Immediate,
            drain_time: Duration::from_secs(5),
            min_drain_time: Duration::ZERO,
            span_details: false,
            otel_b3: false,
            max_traces_per_second: None,
            max_pending_spans: 16 * 1024,
            max_pending_span_bytes: 16 * 1024 * 1024,
            metric_expiry: None,
            histogram_bounds: HistogramBounds::default(),
            config_cache: None,
            metrics_address: None,
            status_address: None,
            log_control: None,
            application_metrics: ApplicationMetrics::default(),
            identity: None,
        }
    }
}

/// Why the workers could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A worker's thread or runtime could not be made.
    #[error("worker {worker} could not start")]
    Worker {
        /// Which.
        worker: usize,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The thread that looks after the endpoints' health could not be made.
    #[error("the thread of health checks could not start")]
    Health {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The thread that writes the access logs could not be made.
    #[error("the thread of access logs could not start")]
    Logs {
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The thread that binds the listeners could not be made.
    #[error("the listeners' thread could not start")]
    Listeners {
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The running workers.
///
/// Dropping it ends them at once; [`Proxy::shutdown`] lets them finish.
#[derive(Debug)]
pub struct Proxy {
    published: Arc<Published>,
    usages: Arc<Usages>,
    open: Arc<Open>,
    /// Exchanges may be reset for the memory that they hold.
    resets_streams: bool,
    min_drain_time: Duration,
    workers: Vec<Told>,
    progress: Arc<Progress>,
    logs: Arc<Logs>,
    /// Whoever ends the proxy takes them.
    threads: Mutex<Option<Threads>>,
}

/// A worker that can be told what to do.
#[derive(Debug)]
struct Told {
    commands: mpsc::UnboundedSender<Command>,
    registry: Arc<Registry>,
}

/// All threads of a proxy.
#[derive(Debug)]
struct Threads {
    workers: Vec<JoinHandle<()>>,
    /// Dropped to end the listeners' thread.
    stop: oneshot::Sender<()>,
    listeners: JoinHandle<()>,
    /// Dropped to end the health checks.
    stop_health: oneshot::Sender<()>,
    health: JoinHandle<()>,
    /// The thread that writes the access logs.
    log_writer: WriterThread,
}

impl Proxy {
    /// Starts the workers on what is published; they follow every later publication.
    ///
    /// A listener that cannot bind does not stop the others: it is retried, and
    /// [`Proxy::bind_errors`] names it.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the proxy owns what it runs on for as long as it runs"
    )]
    pub fn start(
        published: Arc<Published>,
        node: Node,
        options: Options,
    ) -> Result<Self, StartError> {
        let node = Arc::new(node);
        let own_address = worker::own_address();
        let usages = Arc::<Usages>::default();
        let open = Arc::<Open>::default();
        let in_flight: Arc<[_]> = (0..options.worker_count())
            .map(|_| Arc::default())
            .collect();
        let (logs, log_writer) = Logs::start().map_err(|source| StartError::Logs { source })?;
        let trace_limit = options.max_traces_per_second.map(|most| {
            let second = Duration::from_secs(1);
            Arc::new(TokenBucket::new(most.get(), most.get(), second))
        });
        let workers = (0..options.worker_count())
            .map(|index| {
                let registry = Arc::<Registry>::default();
                let setup = Setup {
                    published: published.clone(),
                    node: node.clone(),
                    own_address,
                    options: options.clone(),
                    registry: registry.clone(),
                    usages: usages.clone(),
                    open: open.clone(),
                    in_flight: in_flight.clone(),
                    index,
                    logs: logs.clone(),
                    trace_limit: trace_limit.clone(),
                };
                let (commands, thread) =
                    start_worker(index, setup).map_err(|source| StartError::Worker {
                        worker: index,
                        source,
                    })?;
                Ok((Told { commands, registry }, thread))
            })
            .collect::<Result<Vec<_>, StartError>>()?;
        let (workers, worker_threads): (Vec<_>, Vec<_>) = workers.into_iter().unzip();
        let progress = Arc::<Progress>::default();
        let senders = workers.iter().map(|told| told.commands.clone()).collect();
        let listeners = Listeners::new(published.clone(), senders, progress.clone());
        let (stop, stopped) = oneshot::channel();
        let listeners = start_listeners(listeners, stopped)
            .map_err(|source| StartError::Listeners { source })?;
        let (stop_health, stopped) = oneshot::channel();
        let health = health::start(published.clone(), stopped)
            .map_err(|source| StartError::Health { source })?;
        Ok(Self {
            published,
            usages,
            open,
            resets_streams: options.least_account.is_some(),
            min_drain_time: options.min_drain_time,
            workers,
            progress,
            logs,
            threads: Mutex::new(Some(Threads {
                workers: worker_threads,
                stop,
                listeners,
                stop_health,
                health,
                log_writer,
            })),
        })
    }

    /// The newest generation whose listeners all workers have applied.
    pub fn applied_generation(&self) -> u64 {
        self.progress.applied.load(Ordering::Acquire)
    }

    /// Listeners that could not bind: name, address, error.
    pub fn bind_errors(&self) -> Vec<(String, SocketAddr, String)> {
        self.progress.errors()
    }

    /// All counters and gauges, summed over the workers, by Envoy's names where Envoy has one
    /// (`http.PREFIX.downstream_rq_total`, `cluster.NAME.upstream_cx_active`, …), sorted.
    pub fn stats(&self) -> Vec<(String, u64)> {
        self.sums().numbers()
    }

    /// The same with the histograms, by parts of their names.
    pub(crate) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for worker in &self.workers {
            worker.registry.add_to(&mut sums);
        }
        for cluster in self.published.load().clusters.values() {
            add_gauges(cluster, &self.usages.of(&cluster.name), &mut sums);
        }
        if self.resets_streams {
            sums.counter(RESETS, self.open.resets.load(Ordering::Relaxed));
        }
        self.logs
            .visit(&mut |name, value| sums.counter(name, value));
        sums
    }

    /// Istio's standard metrics of all workers, in the text format of Prometheus.
    pub fn istio_metrics(&self) -> String {
        let mut text = String::new();
        self.add_istio_metrics(&mut text);
        text
    }

    pub(crate) fn add_istio_metrics(&self, text: &mut String) {
        let workers = self.workers.iter().map(|worker| &*worker.registry.istio);
        exposition(workers, text);
    }

    /// Has the files of access logs opened anew, so that they can be rotated.
    pub fn reopen_logs(&self) {
        self.logs.reopen();
    }

    /// The downstream connections of all workers.
    pub(crate) fn connections(&self) -> usize {
        self.open.count()
    }

    /// Asks the connections of listeners to end, while new ones are still taken.
    pub(crate) fn drain(&self, scope: Scope) {
        self.tell(|| Command::Drain(scope));
    }

    /// Has whoever asks for the proxy's health be told that it is to get no requests, or that it is again.
    pub(crate) fn fail_checks(&self, fails: bool) {
        self.open.fail_checks(fails);
    }

    /// Closes the sockets of listeners for good; their connections stay.
    pub(crate) fn stop(&self, scope: Scope) {
        self.progress.stop(scope);
        self.tell(|| Command::Stop(scope));
    }

    /// Has the workers do what there is to do about too much work.
    pub(crate) fn shed(&self, actions: Actions) {
        self.tell(|| Command::Shed(actions));
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // A worker that has ended has nothing to do.
            let _ = worker.commands.send(command());
        }
    }

    /// Lets all connections end, and flushes the spans and the logs: what was left at the end.
    ///
    /// New connections are taken until there are none any more, at least for [`Options::min_drain_time`] and
    /// at most for `most`: those who send requests here may learn only now that they should not.
    pub async fn shutdown(self, most: Duration) -> Left {
        self.end(most).await
    }

    /// The same for a proxy that tells how it stands until it has ended. It ends once.
    pub(crate) async fn end(&self, most: Duration) -> Left {
        let threads = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            threads.take()
        };
        let Some(threads) = threads else {
            return Left::default();
        };
        drop((threads.stop, threads.stop_health));
        let now = Instant::now();
        let ending = Ending {
            not_before: now + self.min_drain_time,
            deadline: now + most,
        };
        let left = self.workers.iter().filter_map(|worker| {
            let (left, answer) = oneshot::channel();
            worker.commands.send(Command::End(ending, left)).ok()?;
            Some(answer)
        });
        let left: Vec<_> = left.collect();
        let mut closed = 0;
        for left in left {
            // A worker that panicked has been reported by the panic hook.
            closed += left.await.unwrap_or_default();
        }
        let others = [threads.listeners, threads.health];
        for thread in threads.workers.into_iter().chain(others) {
            // A worker that panicked has been reported by the panic hook.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        // Only now has everybody handed over what there was to be written.
        let (logs, writer) = (self.logs.clone(), threads.log_writer);
        let time = ending.deadline.saturating_duration_since(Instant::now());
        let end = move || logs.stop(writer, time.max(worker::FLUSH));
        let log_lines = tokio::task::spawn_blocking(end).await.unwrap_or_default();
        let registries = self.workers.iter().map(|worker| &worker.registry);
        let mut left = Left {
            connections: closed,
            spans: 0,
            log_lines,
        };
        for [spans, records] in registries.map(|registry| registry.left()) {
            left.spans += spans;
            left.log_lines += records;
        }
        left
    }
}

fn start_worker(
    index: usize,
    setup: Setup,
) -> io::Result<(mpsc::UnboundedSender<Command>, JoinHandle<()>)> {
    let (commands, receiver) = mpsc::unbounded_channel();
    let (started, start) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || worker::run(setup, receiver, &started))?;
    start
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("the thread ended")))?;
    Ok((commands, thread))
}

fn start_listeners(
    listeners: Listeners,
    stopped: oneshot::Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    std::thread::Builder::new()
        .name("listeners".to_owned())
        .spawn(move || runtime.block_on(listeners.follow(stopped)))
}
