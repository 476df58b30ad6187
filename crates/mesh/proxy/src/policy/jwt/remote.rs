//! Keys that are fetched from where their issuer publishes them.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::errand::{self, Answer, Errand};
use crate::policy::jwt::Keys;
use crate::stats::JwtStats;
use crate::worker::Worker;

/// The most bytes of a set of keys.
const MOST_BYTES: usize = 1024 * 1024;
/// After a failure nobody tries again for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// Where keys are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) cluster: String,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) timeout: Duration,
    /// How many times a failed fetch is tried again, and the pause before.
    pub(crate) retries: u32,
    pub(crate) pause: Duration,
}

impl Origin {
    fn errand(&self) -> Errand<'_> {
        Errand {
            cluster: &self.cluster,
            method: "GET",
            host: &self.host,
            path: &self.path,
            fields: b"user-agent: periplus-proxy\r\n",
            body: None,
            timeout: Some(self.timeout),
            most_bytes: MOST_BYTES,
        }
    }
}

/// Keys for all workers, fetched by one at a time. Those that are there stay until others have come.
#[derive(Debug)]
pub(crate) struct RemoteKeys {
    origin: Origin,
    /// How long keys are used before they are fetched again.
    duration: Duration,
    newest: ArcSwapOption<Fetched>,
    is_fetching: AtomicBool,
    /// When the last fetch failed, in microseconds since 1970.
    failed_at: AtomicU64,
    done: Notify,
}

#[derive(Debug)]
struct Fetched {
    keys: Arc<Keys>,
    /// In microseconds since 1970.
    at: u64,
}

/// The right to fetch, which nobody else has.
struct Turn(Arc<RemoteKeys>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.is_fetching.store(false, Ordering::Release);
        self.0.done.notify_waiters();
    }
}

impl RemoteKeys {
    pub(crate) fn new(origin: Origin, duration: Duration) -> Arc<Self> {
        Arc::new(Self {
            origin,
            duration,
            newest: ArcSwapOption::empty(),
            is_fetching: AtomicBool::new(false),
            failed_at: AtomicU64::new(0),
            done: Notify::new(),
        })
    }

    /// Where they are published: the cluster, the host and the path.
    pub(crate) fn place(&self) -> [&str; 3] {
        let Origin {
            cluster,
            host,
            path,
            ..
        } = &self.origin;
        [cluster, host, path]
    }

    /// Takes over what was fetched before, as old as it is, unless there is something already.
    pub(crate) fn adopt(&self, before: &Self) {
        if self.newest.load().is_none() {
            self.newest.store(before.newest.load_full());
        }
    }

    /// The keys; waits for them only if there have never been any. None if they cannot be fetched.
    pub(crate) async fn get(
        self: &Arc<Self>,
        worker: &Rc<Worker>,
        stats: &Arc<JwtStats>,
    ) -> Option<Arc<Keys>> {
        let now = worker.clock.wall(worker.clock.now());
        if let Some(fetched) = &*self.newest.load() {
            if now.saturating_sub(fetched.at) > self.duration.as_micros() as u64 {
                self.fetch(worker, stats, now);
            }
            return Some(fetched.keys.clone());
        }
        let done = self.done.notified();
        if self.fetch(worker, stats, now) || self.is_fetching.load(Ordering::Acquire) {
            done.await;
        }
        self.newest
            .load()
            .as_ref()
            .map(|fetched| fetched.keys.clone())
    }

    /// Begins to fetch, unless somebody does or has just failed: whether it has begun.
    fn fetch(self: &Arc<Self>, worker: &Rc<Worker>, stats: &Arc<JwtStats>, now: u64) -> bool {
        let failed_at = self.failed_at.load(Ordering::Relaxed);
        if now.saturating_sub(failed_at) < PAUSE.as_micros() as u64
            || self.is_fetching.swap(true, Ordering::AcqRel)
        {
            return false;
        }
        let turn = Turn(self.clone());
        let (worker, stats) = (worker.clone(), stats.clone());
        tokio::task::spawn_local(async move { turn.0.fetch_now(&worker, &stats).await });
        true
    }

    async fn fetch_now(&self, worker: &Rc<Worker>, stats: &JwtStats) {
        for attempt in 0..=self.origin.retries {
            if attempt > 0 {
                tokio::time::sleep(self.origin.pause).await;
            }
            let mut answer = Answer::default();
            let result = match errand::run(worker, self.origin.errand(), &mut answer).await {
                Ok(()) if answer.status() == 200 => Keys::parse_with_secrets(&answer.body),
                Ok(()) => Err(format!("the answer was {}", answer.status())),
                Err(trouble) => Err(trouble.to_string()),
            };
            let now = worker.clock.wall(worker.clock.now());
            match result {
                Ok(keys) => {
                    stats.fetch_success.increment();
                    let keys = Arc::new(keys);
                    self.newest.store(Some(Arc::new(Fetched { keys, at: now })));
                    return;
                }
                Err(reason) => {
                    stats.fetch_failed.increment();
                    self.failed_at.store(now, Ordering::Relaxed);
                    let Origin { cluster, path, .. } = &self.origin;
                    tracing::warn!(cluster, path, reason, "cannot fetch the keys of tokens");
                }
            }
        }
    }
}
