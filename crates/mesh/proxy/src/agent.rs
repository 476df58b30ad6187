//! One proxy, from its bootstrap file to its workers: the ADS stream feeds the configuration, the
//! configuration is published to the workers, the admin pages tell how it stands.

mod cache;
pub(crate) mod dns;
mod files;
mod follow;
mod identity;
mod overload;
mod pages;
mod sds;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use envoy_types::pb::google::protobuf::Any;
use periplus_identity::agent::{OWN, ROOTS};
use periplus_xds::client::{self, Config};
use periplus_xds::type_url::{NAME_TABLE, SECRET};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use self::cache::{Cache, Cached};
use self::dns::Names;
use self::follow::Follower;
use self::overload::Pressures;
pub(crate) use self::overload::resident_bytes;
use self::pages::Pages;
use crate::admin::{Levels, Turns};
use crate::bootstrap::{Bootstrap, StaticSecret};
use crate::config::{Lookup, SecretServer, Store};
use crate::snapshot::{Listener, Node, Snapshot};
use crate::stats::Sums;
use crate::worker::Scope;
use crate::{Left, Options, Proxy, Published, StartError, admin};

/// How often it is looked whether the workers have taken a new configuration, at first and in the end.
const MIN_POLL: Duration = Duration::from_millis(2);
const MAX_POLL: Duration = Duration::from_millis(250);

/// A running proxy with everything that it needs.
///
/// Dropping it ends it at once; [`Agent::shutdown`] lets requests finish.
#[derive(Debug)]
pub struct Agent {
    shared: Arc<Shared>,
    admin: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    status: Option<SocketAddr>,
    /// The stream, the clock of the configuration, the resolver and the admin pages.
    _tasks: JoinSet<()>,
}

/// Why a proxy could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Pages have no address to be served at.
    #[error("cannot listen on {address} for {what}")]
    Pages {
        /// Which pages, and what says so.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The application's metrics would be this proxy's own.
    #[error("the application's metrics cannot be on port {port}, which is the proxy's own")]
    OwnMetrics {
        /// The port.
        port: u16,
    },
    /// A secret of the bootstrap file is not usable.
    #[error("secret {name:?} of the bootstrap file: {problem}")]
    Secret {
        /// Which.
        name: String,
        /// The field, and what is wrong with it.
        problem: String,
    },
    /// The node's metadata ask for something that they do not say rightly.
    #[error("node.metadata: {problem}")]
    Metadata {
        /// The key, and what is wrong with its value.
        problem: String,
    },
    /// The control plane will ask who this is, and there is nothing to show.
    #[error(
        "the control plane at {endpoint} asks its clients who they are: give the workload's token with --token-file"
    )]
    Unknown {
        /// The control plane.
        endpoint: String,
    },
    /// The workers could not start.
    #[error(transparent)]
    Workers(#[from] StartError),
}

/// What the tasks of an agent share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) bootstrap: Bootstrap,
    pub(crate) workers: usize,
    pub(crate) started: Instant,
    pub(crate) drain_time: Duration,
    /// Somebody has asked for the listeners to be drained.
    drains: AtomicBool,
    state: Mutex<State>,
    published: Arc<Published>,
    pub(crate) proxy: Proxy,
    /// The proxy shuts down, or has done so.
    ends: AtomicBool,
    /// Counts up when the configuration changed: someone may have to wait for something else.
    changes: watch::Sender<u64>,
    /// Counts up when there is something new to be kept on disk.
    accepted: watch::Sender<u64>,
    is_ready: watch::Sender<bool>,
    quit: watch::Sender<bool>,
    /// Somebody wants no new requests to come here.
    fails_checks: AtomicBool,
    /// It gets a certificate for itself.
    has_identity: bool,
    /// What is logged.
    pub(crate) levels: Levels,
    /// What an application's questions are answered from.
    pub(crate) names: Arc<Names>,
    /// What the counters were when they were reset.
    baseline: Mutex<Sums>,
    /// Who may have a page of metrics made; the status port has turns of its own.
    pub(crate) turns: Turns,
    /// Those that did not get a turn,
    pub(crate) refused_pages: Arc<AtomicU64>,
    /// and connections to all pages for which there was no place.
    pub(crate) refused_connections: Arc<AtomicU64>,
}

/// The configuration and the stream that brings it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) connected: bool,
    /// Streams from the control plane that there have been,
    pub(crate) streams: u64,
    /// and those that could not be had.
    pub(crate) failed_streams: u64,
    /// Why there is no stream.
    pub(crate) stream_error: Option<String>,
    /// Accepted and refused responses, by type.
    pub(crate) updates: BTreeMap<String, (u64, u64)>,
    /// When the proxy has started.
    pub(crate) started: SystemTime,
    /// The resources as they came, but for secrets: to be shown, and to be kept on disk.
    held: Cached,
    /// How it went with the file that they are kept in.
    pub(crate) cache: CacheState,
    /// How much there is to do.
    pub(crate) pressures: Pressures,
    /// How it went with the proxy's own certificate.
    pub(crate) identity: IdentityState,
    /// The servers of secrets that are asked, and why there is no stream.
    pub(crate) secret_servers: BTreeMap<SecretServer, Option<String>>,
}

/// How it went with the proxy's own certificate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdentityState {
    pub(crate) renewed: u64,
    pub(crate) failed: u64,
    /// When it ends.
    pub(crate) expires: Option<SystemTime>,
}

/// How it went with the file of the last good configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CacheState {
    /// The proxy has started on it.
    pub(crate) loaded: bool,
    /// It could not be used.
    pub(crate) rejected: u64,
    pub(crate) written: u64,
    pub(crate) write_failed: u64,
}

impl State {
    fn new() -> Self {
        Self {
            store: Store::default(),
            connected: false,
            streams: 0,
            failed_streams: 0,
            stream_error: None,
            updates: BTreeMap::new(),
            started: SystemTime::now(),
            held: Cached::default(),
            cache: CacheState::default(),
            pressures: Pressures::default(),
            identity: IdentityState::default(),
            secret_servers: BTreeMap::new(),
        }
    }

    /// The resources of a type that were accepted last: name, version, and as they came.
    pub(crate) fn accepted(&self, type_url: &str) -> impl Iterator<Item = (&str, &str, &Any)> {
        let held = self.held.types.get(type_url);
        let resources = held.into_iter().flat_map(|held| &held.resources);
        resources.filter_map(|(name, held)| {
            let body = held.body.as_ref()?;
            Some((name.as_str(), held.version.as_str(), body))
        })
    }
}

impl Agent {
    /// Starts the workers, the admin pages and the stream to the control plane, which is retried until
    /// it is there.
    pub async fn start(bootstrap: Bootstrap, options: Options) -> Result<Self, AgentError> {
        let Pages {
            admin,
            metrics,
            status,
        } = Pages::bind(&bootstrap, &options).await?;
        let application = options.application_metrics.clone();
        let node = bootstrap.telemetry_node();
        let mut config = Config::new(bootstrap.control_plane.clone(), bootstrap.node.clone());
        config.form = bootstrap.form;
        config.named_types.push(SECRET);
        let own = watch::Sender::new(None);
        config.secure = identity::secure(&bootstrap, &options, own.subscribe())?;
        let cache = options.config_cache.clone().map(Cache::new);
        let identity = options.identity.clone();
        let shared = Shared::start(bootstrap, node, options)?;
        let store = shared.new_store()?;
        shared.state().store = store;
        if shared.names.is_on() {
            config.wildcard_types.push(NAME_TABLE);
        }
        let questions = shared.names.bind().await;
        let questions = questions.map_err(|(address, source)| AgentError::Pages {
            what: "questions of the application (DNS_CAPTURE in node.metadata)",
            address,
            source,
        })?;
        if let Some(cache) = &cache {
            follow::restore(&shared, cache).await;
        }

        let mut tasks = JoinSet::new();
        let address = |listener: &TcpListener| listener.local_addr().ok();
        let [admin_address, metrics_address, status_address] =
            [&admin, &metrics, &status].map(|it| it.as_ref().and_then(address));
        if let Some(listener) = admin {
            tasks.spawn(admin::serve(listener, Arc::clone(&shared)));
        }
        if let Some(listener) = metrics {
            tasks.spawn(admin::serve_metrics(listener, Arc::clone(&shared)));
        }
        if let Some(listener) = status {
            let shared = Arc::clone(&shared);
            tasks.spawn(admin::serve_status(listener, shared, application));
        }
        let mut follower = Follower::new(&shared, cache.is_some());
        if let Some(identity) = identity {
            tasks.spawn(identity::keep(Arc::clone(&shared), identity, own));
        }
        if let Some(cache) = cache {
            tasks.spawn(follow::keep(Arc::clone(&shared), cache));
        }
        tasks.spawn(async move { match client::run(&config, &mut follower).await {} });
        tasks.spawn(keep_deadlines(Arc::clone(&shared)));
        tasks.spawn(dns::resolve(Arc::clone(&shared)));
        tasks.spawn(dns::serve(Arc::clone(&shared.names), questions));
        if !shared.bootstrap.secret_servers.is_empty() {
            tasks.spawn(sds::follow(Arc::clone(&shared)));
        }
        tasks.spawn(follow_checks(Arc::clone(&shared)));
        tasks.spawn(files::watch(Arc::clone(&shared)));
        tasks.spawn(watch_listeners(Arc::clone(&shared)));
        tasks.spawn(overload::watch(Arc::clone(&shared)));
        Ok(Self {
            shared,
            admin: admin_address,
            metrics: metrics_address,
            status: status_address,
            _tasks: tasks,
        })
    }

    /// Where the admin pages are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where the metrics are, see [`Options::metrics_address`].
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Where the state is, see [`Options::status_address`].
    pub fn status_address(&self) -> Option<SocketAddr> {
        self.status
    }

    /// Waits until the first configuration is complete and all its listeners accept.
    pub async fn ready(&self) {
        let mut is_ready = self.shared.is_ready.subscribe();
        // The sender lives as long as `self`.
        let _ = is_ready.wait_for(|ready| *ready).await;
    }

    /// Waits until the admin pages were asked to end the proxy.
    pub async fn quit_requested(&self) {
        let mut quit = self.shared.quit.subscribe();
        // The sender lives as long as `self`.
        let _ = quit.wait_for(|quit| *quit).await;
    }

    /// The addresses that are accepted on, by listener name.
    pub fn listeners(&self) -> Vec<(String, SocketAddr)> {
        let snapshot = self.shared.published.load();
        let address = |listener: &Arc<Listener>| (listener.name.clone(), listener.address);
        let listeners = snapshot.listeners.iter();
        let bound = listeners.filter(|listener| listener.socket.is_some());
        bound.map(address).collect()
    }

    /// Lets connections end, and sends what spans there are: what was left at the end. See [`Proxy::shutdown`].
    pub async fn shutdown(self, most: Duration) -> Left {
        self.shared.ends.store(true, Ordering::Relaxed);
        self.shared.is_ready.send_replace(false);
        self.shared.proxy.end(most).await
    }
}

impl Shared {
    fn start(
        bootstrap: Bootstrap,
        node: Node,
        mut options: Options,
    ) -> Result<Arc<Self>, AgentError> {
        if let Some(most) = bootstrap.overload.max_connections {
            options.max_connections = usize::try_from(most).unwrap_or(usize::MAX);
        }
        options.least_account = bootstrap.overload.least_account;
        options.histogram_bounds = bootstrap.histogram_bounds.clone();
        let drain_time = options.drain_time;
        let has_identity = options.identity.is_some();
        let levels = Levels::new(options.log_control.clone());
        let workers = options.worker_count();
        let names = Names::of(&bootstrap.node);
        let names = names.map_err(|problem| AgentError::Metadata { problem })?;
        let published = Published::new(Snapshot {
            generation: 0,
            listeners: Vec::new(),
            clusters: HashMap::new(),
        });
        let proxy = Proxy::start(Arc::clone(&published), node, options)?;
        let refused_pages = Arc::default();
        Ok(Arc::new(Self {
            bootstrap,
            workers,
            started: Instant::now(),
            drain_time,
            drains: AtomicBool::new(false),
            levels,
            names: Arc::new(names),
            baseline: Mutex::default(),
            turns: Turns::new(&refused_pages),
            refused_pages,
            refused_connections: Arc::default(),
            state: Mutex::new(State::new()),
            published,
            proxy,
            ends: AtomicBool::new(false),
            changes: watch::Sender::new(0),
            accepted: watch::Sender::new(0),
            is_ready: watch::Sender::new(false),
            quit: watch::Sender::new(false),
            fails_checks: AtomicBool::new(false),
            has_identity,
        }))
    }

    /// A configuration that has nothing but the secrets of the bootstrap file.
    fn new_store(&self) -> Result<Store, AgentError> {
        let mut store = Store::default();
        if self.has_identity {
            store.reserve_secrets(&[OWN, ROOTS]);
        }
        store.add_secret_servers(self.bootstrap.secret_servers.keys());
        for StaticSecret(secret) in &self.bootstrap.secrets {
            let taken = store.put_static_secret(secret.clone());
            taken.map_err(|refused| AgentError::Secret {
                name: secret.name.clone(),
                problem: refused.to_string(),
            })?;
        }
        Ok(store)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the counters were when they were reset.
    pub(crate) fn baseline(&self) -> MutexGuard<'_, Sums> {
        self.baseline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_ready(&self) -> bool {
        *self.is_ready.borrow()
    }

    /// Whether new requests had better go elsewhere.
    pub(crate) fn is_draining(&self) -> bool {
        self.fails_checks.load(Ordering::Relaxed) || self.ends.load(Ordering::Relaxed)
    }

    /// Tells whoever asks whether the proxy is ready that it is not, or that it is again.
    pub(crate) fn fail_checks(&self, fails: bool) {
        self.fails_checks.store(fails, Ordering::Relaxed);
        self.proxy.fail_checks(fails);
    }

    /// Lets the connections of listeners end, and closes their sockets: at once, or after the drain time if
    /// `graceful`, unless they are to stay.
    pub(crate) fn drain_listeners(self: &Arc<Self>, scope: Scope, graceful: bool, stays: bool) {
        if !graceful {
            self.proxy.stop(scope);
            return;
        }
        if self.drains.swap(true, Ordering::Relaxed) {
            // As Envoy does, which drains once.
            return;
        }
        self.proxy.drain(scope);
        if stays {
            return;
        }
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            sleep(shared.drain_time).await;
            shared.proxy.stop(scope);
        });
    }

    pub(crate) fn quit(&self) {
        self.quit.send_replace(true);
    }

    /// Publishes what has become ready, and wakes whoever waits for a change.
    fn advance(&self) {
        let (next, to_check) = {
            let mut state = self.state();
            let next = state.store.advance(Instant::now());
            (next, state.store.to_check())
        };
        if let Some(next) = next {
            tracing::debug!(
                generation = next.generation,
                listeners = next.listeners.len(),
                clusters = next.clusters.len(),
                "configuration published"
            );
            self.published.publish(next);
        }
        self.published.warm(to_check);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Whether all of the newest configuration is in use.
    fn is_in_use(&self) -> bool {
        let generation = {
            let state = self.state();
            let ends = self.ends.load(Ordering::Relaxed);
            if ends || !state.store.is_complete() || !self.names.is_told() {
                return false;
            }
            state.store.generation()
        };
        self.proxy.applied_generation() >= generation && self.proxy.bind_errors().is_empty()
    }
}

/// Takes into use what has waited for long enough.
async fn keep_deadlines(shared: Arc<Shared>) {
    let mut changes = shared.changes.subscribe();
    loop {
        let deadline = shared.state().store.next_deadline();
        let over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => shared.advance(),
            changed = changes.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Takes clusters into use whose endpoints have been checked.
async fn follow_checks(shared: Arc<Shared>) {
    let mut checked = shared.published.checked();
    while checked.changed().await.is_ok() {
        shared.advance();
    }
}

/// Tells when the proxy has become ready, and which listeners cannot accept.
///
/// Once ready is ready for good: a later configuration that is refused or cannot bind leaves the others at
/// work.
async fn watch_listeners(shared: Arc<Shared>) {
    let mut changes = shared.changes.subscribe();
    let mut told = BTreeSet::new();
    let mut pause = MIN_POLL;
    loop {
        let errors: BTreeSet<_> = shared.proxy.bind_errors().into_iter().collect();
        for (listener, address, error) in errors.difference(&told) {
            tracing::warn!(%listener, %address, %error, "cannot listen, trying again");
        }
        told = errors;
        if shared.is_in_use() {
            shared.is_ready.send_replace(true);
            pause = MIN_POLL;
            if changes.changed().await.is_err() {
                return;
            }
        } else {
            sleep(pause).await;
            pause = (pause * 2).min(MAX_POLL);
        }
    }
}
