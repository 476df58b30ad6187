use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use envoy_types::pb::envoy::config::core::v3::Node;

use super::measures::Measures;

/// A connected proxy, as it stands now.
#[derive(Clone, Debug)]
pub struct ProxyStatus {
    /// Who it says it is.
    pub node: Node,
    /// Where it connects from.
    pub peer: Option<SocketAddr>,
    /// Since when.
    pub connected_at: SystemTime,
    /// What it subscribed to, by type URL.
    pub types: BTreeMap<String, TypeStatus>,
}

/// How far one type of one proxy is.
#[derive(Clone, Debug, Default)]
pub struct TypeStatus {
    /// The nonce of the newest response; empty before the first.
    pub sent_nonce: String,
    /// Its version.
    pub sent_version: String,
    /// When it was sent.
    pub sent_at: Option<SystemTime>,
    /// The newest nonce that was acknowledged; equal to `sent_nonce` when the proxy is in sync.
    pub acked_nonce: String,
    /// The version that it runs on.
    pub acked_version: String,
    /// Its newest refusal; cleared by the next acknowledgement.
    pub last_error: Option<Nack>,
    /// How many names it asked for; none for all.
    pub names: Option<usize>,
}

/// A refused response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// Of which response.
    pub nonce: String,
    /// The proxy's words; they name the resource and the field.
    pub message: String,
    /// When.
    pub at: SystemTime,
}

/// What the server counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Streams that were opened.
    pub streams: u64,
    /// Streams that were refused, by the limit or by the gate.
    pub streams_refused: u64,
    /// Responses that were sent.
    pub pushes: u64,
    /// Responses that were acknowledged.
    pub acks: u64,
    /// Responses that were refused.
    pub nacks: u64,
    /// Requests that answered an outdated response (`pilot_xds_expired_nonce`).
    pub stale_nonces: u64,
    /// Streams that were ended because nobody took what was sent.
    pub write_timeouts: u64,
    /// Clusters that clients lost although their routes might name them, because there were too many.
    pub clusters_let_go: u64,
}

/// The books over all streams.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    proxies: HashMap<u64, ProxyStatus>,
    counters: Counters,
    measures: Measures,
}

impl Registry {
    /// Lists a proxy for as long as the entry lives.
    pub(crate) fn enter(self: &Arc<Self>, status: ProxyStatus) -> Entry {
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        inner.proxies.insert(id, status);
        Entry {
            registry: Arc::clone(self),
            id,
        }
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.lock().counters);
    }

    pub(crate) fn measure(&self, change: impl FnOnce(&mut Measures)) {
        change(&mut self.lock().measures);
    }

    pub(crate) fn measures(&self) -> Measures {
        self.lock().measures.clone()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.lock().counters
    }

    pub(crate) fn proxies(&self) -> Vec<ProxyStatus> {
        let mut proxies: Vec<_> = self.lock().proxies.values().cloned().collect();
        proxies.sort_by(|a, b| (&a.node.id, a.connected_at).cmp(&(&b.node.id, b.connected_at)));
        proxies
    }

    pub(crate) fn node_ids(&self) -> HashSet<String> {
        let inner = self.lock();
        let ids = inner.proxies.values().map(|proxy| proxy.node.id.clone());
        ids.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listed proxy.
#[derive(Debug)]
pub(crate) struct Entry {
    registry: Arc<Registry>,
    id: u64,
}

impl Entry {
    pub(crate) fn update(&self, type_url: &str, change: impl FnOnce(&mut TypeStatus)) {
        let mut inner = self.registry.lock();
        if let Some(proxy) = inner.proxies.get_mut(&self.id) {
            change(proxy.types.entry(type_url.to_owned()).or_default());
        }
    }

    pub(crate) fn forget(&self, type_url: &str) {
        let mut inner = self.registry.lock();
        if let Some(proxy) = inner.proxies.get_mut(&self.id) {
            proxy.types.remove(type_url);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.lock().proxies.remove(&self.id);
    }
}
