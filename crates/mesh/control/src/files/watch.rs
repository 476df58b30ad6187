use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

/// How often the files are looked at although nothing was reported: file systems without
/// notifications, links that lead through other links.
const UNREPORTED: Duration = Duration::from_secs(2);

/// When a burst of events is over.
#[derive(Clone, Copy, Debug)]
pub struct Debounce {
    /// After this long without another event.
    pub quiet: Duration,
    /// After this long at the latest.
    pub longest: Duration,
}

impl Default for Debounce {
    /// Half of Istio's quiet time, and a tenth of its longest: what changes is made anew alone, and who
    /// edits ten times a second must not wait ten seconds for the first of them.
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(50),
            longest: Duration::from_secs(1),
        }
    }
}

/// Says when files may have changed.
pub(crate) struct Watcher {
    inner: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    happened: Arc<Notify>,
    debounce: Debounce,
}

impl Watcher {
    pub(crate) fn new(debounce: Debounce) -> Self {
        let happened = Arc::new(Notify::new());
        let signal = Arc::clone(&happened);
        let inner = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !is_reading(event.kind)) {
                signal.notify_one();
            }
        });
        let inner = inner
            .inspect_err(|error| {
                tracing::warn!(
                    %error,
                    "the system reports no file changes, files are looked at every {} s",
                    UNREPORTED.as_secs()
                );
            })
            .ok();
        Self {
            inner,
            watched: BTreeSet::new(),
            happened,
            debounce,
        }
    }

    /// Watches these directories and no others. Those that are watched already are watched anew: a
    /// directory may have been replaced by another of its name.
    pub(crate) fn watch(&mut self, directories: BTreeSet<PathBuf>) {
        let Some(inner) = &mut self.inner else { return };
        for gone in self.watched.difference(&directories) {
            // It is gone, and with it the watch.
            let _ = inner.unwatch(gone);
        }
        for directory in &directories {
            if let Err(error) = inner.watch(directory, RecursiveMode::NonRecursive) {
                let directory = directory.display();
                tracing::debug!(%directory, %error, "cannot watch");
            }
        }
        self.watched = directories;
    }

    /// Waits until something may have changed and a burst of events is over. Says when its first event was.
    pub(crate) async fn changed(&self) -> std::time::Instant {
        let reported = timeout(UNREPORTED, self.happened.notified()).await;
        let first = std::time::Instant::now();
        if reported.is_err() {
            return first;
        }
        let latest = Instant::now() + self.debounce.longest;
        loop {
            let quiet = (Instant::now() + self.debounce.quiet).min(latest);
            tokio::select! {
                biased;
                () = sleep_until(latest) => return first,
                () = self.happened.notified() => {}
                () = sleep_until(quiet) => return first,
            }
        }
    }
}

/// Reading is what the scan itself does.
fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}
