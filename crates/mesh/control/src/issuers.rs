//! The keys of issuers of requests' tokens, where a RequestAuthentication does not say where they are: whoever runs the
//! control plane looks them up at the issuer, and proxies get them with their configuration.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use periplus_identity::Standing;
use tokio::sync::{Notify, watch};

use crate::index::{Index, Problem, attribute, code};

/// Issuers, and how long each fetch may take.
pub type Wanted = BTreeMap<String, Duration>;

/// The keys of issuers, as JSON (RFC 7517).
pub(crate) type Found = Arc<BTreeMap<String, Arc<str>>>;

/// Whose keys are wanted, and those that were found.
#[derive(Debug, Default)]
pub struct IssuerKeys {
    wanted: watch::Sender<Wanted>,
    inner: Mutex<Inner>,
    /// There are others than before, or it was tried for the first time.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    found: Found,
    standings: BTreeMap<String, Standing>,
}

impl IssuerKeys {
    /// Whose keys are to be looked up, again and again.
    pub fn wanted(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }

    /// Uses these keys of an issuer from now on, or says why there are none; then those before stay.
    pub fn take(&self, issuer: &str, outcome: Result<String, String>) {
        if !self.wanted.borrow().contains_key(issuer) {
            return;
        }
        let (keys, trouble) = match outcome {
            Ok(keys) => (Some(keys), None),
            Err(trouble) => (None, Some(trouble)),
        };
        let mut inner = self.lock();
        if let Some(keys) = keys
            && inner.found.get(issuer).map(|known| &**known) != Some(keys.as_str())
        {
            let mut found = BTreeMap::clone(&inner.found);
            found.insert(issuer.to_owned(), keys.into());
            inner.found = Arc::new(found);
        }
        let standing = inner.standings.entry(issuer.to_owned()).or_default();
        standing.note(trouble, SystemTime::now());
        drop(inner);
        self.changed.notify_one();
    }

    /// Those that are known.
    pub(crate) fn found(&self) -> Found {
        Arc::clone(&self.lock().found)
    }

    /// How it goes with those that were looked up.
    pub(crate) fn standings(&self) -> BTreeMap<String, Standing> {
        self.lock().standings.clone()
    }

    /// Wants those of the newest state, and forgets those that nobody needs any more.
    pub(crate) fn want(&self, index: &Index) {
        let wanted = index.wanted_keys();
        let mut inner = self.lock();
        inner
            .standings
            .retain(|issuer, _| wanted.contains_key(issuer));
        if inner
            .found
            .keys()
            .any(|issuer| !wanted.contains_key(issuer))
        {
            let mut found = BTreeMap::clone(&inner.found);
            found.retain(|issuer, _| wanted.contains_key(issuer));
            inner.found = Arc::new(found);
        }
        drop(inner);
        self.wanted.send_if_modified(|known| {
            let differs = *known != wanted;
            *known = wanted;
            differs
        });
    }

    /// Until there is something new.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Until each that is wanted was looked up once, however that went.
    pub(crate) async fn settled(&self) {
        loop {
            let is_known = {
                let inner = self.lock();
                let wanted = self.wanted.borrow();
                wanted
                    .keys()
                    .all(|issuer| inner.standings.contains_key(issuer))
            };
            if is_known {
                return;
            }
            self.changed().await;
        }
    }

    /// A problem for each RequestAuthentication whose keys could not be had.
    pub(crate) fn problems(&self, index: &Index) -> Vec<Problem> {
        let (found, standings) = {
            let inner = self.lock();
            (Arc::clone(&inner.found), inner.standings.clone())
        };
        let mut problems = Vec::new();
        for (entry, issuer) in index.discovering() {
            let standing = standings.get(issuer);
            let Some(trouble) = standing.and_then(|standing| standing.trouble.as_ref()) else {
                continue;
            };
            let source = &entry.meta.source;
            let what = format!("the keys of issuer `{issuer}` cannot be had: {trouble}");
            let problem = match found.contains_key(issuer) {
                true => {
                    let message =
                        format!("{what}; its tokens are checked with those that were had before");
                    Problem::warning(source, source.position, message)
                }
                false => {
                    let message = format!("{what}; all of its tokens are refused");
                    Problem::error(source, source.position, message)
                }
            };
            problems.push(problem.code(code::KEYS_MISSING));
        }
        let metas = index.request_authentications().iter();
        attribute(&mut problems, metas.map(|entry| &entry.meta));
        problems
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
