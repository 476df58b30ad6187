//! The newest state of the mesh, as the ADS server asks for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_xds::server::{NodeRefused, Source};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use prost::{Message, Name};
use tokio::sync::watch;

use crate::generate::generate;
use crate::index::{Index, Problem};
use crate::proxy::Proxy;

/// Proxies that came and went since the last change are forgotten beyond this many.
const MAX_MADE: usize = 20_000;

/// One state of the mesh.
#[derive(Debug, Default)]
pub struct State {
    /// The resources.
    pub index: Index,
    /// What is wrong with them and with the files that they come from.
    pub problems: Vec<Problem>,
}

/// The newest state, and the resources that were made from it. A change makes them all anew; what
/// comes out the same is shared with the state before.
#[derive(Debug)]
pub struct Mesh {
    inner: Mutex<Inner>,
    generation: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Arc<State>,
    made: HashMap<Proxy, Made>,
    shared: HashMap<(&'static str, String, u64), Arc<Resource>>,
}

/// What a proxy has.
#[derive(Clone, Debug)]
struct Made {
    snapshot: Arc<Snapshot>,
    notes: Vec<String>,
}

impl Mesh {
    /// A mesh in its first state.
    pub fn new(state: State) -> Self {
        Self {
            inner: Mutex::new(Inner {
                state: Arc::new(state),
                ..Inner::default()
            }),
            generation: watch::Sender::new(0),
        }
    }

    /// The newest state.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.lock().state)
    }

    /// Why proxies lack something that they may expect, by `node.id`.
    pub fn notes(&self) -> HashMap<String, Vec<String>> {
        let inner = self.lock();
        let made = inner.made.iter();
        made.map(|(proxy, made)| (proxy.id.clone(), made.notes.clone()))
            .collect()
    }

    /// Replaces the state. Says how many of the connected proxies get something new.
    pub fn publish(&self, state: State, connected: &[Node]) -> usize {
        let mut inner = self.lock();
        inner.state = Arc::new(state);
        let before = std::mem::take(&mut inner.made);
        let mut notified = 0;
        for proxy in connected.iter().flat_map(Proxy::from_node) {
            let after = inner.make(proxy.clone());
            let unchanged = before
                .get(&proxy)
                .is_some_and(|before| same(&before.snapshot, &after.snapshot));
            notified += usize::from(!unchanged);
        }
        drop(before);
        inner
            .shared
            .retain(|_, resource| Arc::strong_count(resource) > 1);
        drop(inner);
        self.generation.send_modify(|generation| *generation += 1);
        notified
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Mesh {
    fn snapshot(&self, node: &Node) -> Result<Arc<Snapshot>, NodeRefused> {
        let proxy = Proxy::from_node(node).map_err(|reason| NodeRefused {
            node: node.id.clone(),
            reason,
        })?;
        Ok(self.lock().make(proxy).snapshot)
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

impl Inner {
    /// Makes a proxy's resources, unless they are made already.
    fn make(&mut self, proxy: Proxy) -> Made {
        if let Some(made) = self.made.get(&proxy) {
            return made.clone();
        }
        let generated = generate(&self.state.index, &proxy);
        for note in &generated.notes {
            tracing::warn!(proxy = %proxy.id, "{note}");
        }
        let snapshot = Snapshot::default()
            .with(
                CLUSTER,
                self.share(CLUSTER, &generated.clusters, |m| &m.name),
            )
            .with(
                ENDPOINT,
                self.share(ENDPOINT, &generated.endpoints, |m| &m.cluster_name),
            )
            .with(
                LISTENER,
                self.share(LISTENER, &generated.listeners, |m| &m.name),
            )
            .with(ROUTE, self.share(ROUTE, &generated.routes, |m| &m.name));
        let made = Made {
            snapshot: Arc::new(snapshot),
            notes: generated.notes,
        };
        if self.made.len() >= MAX_MADE {
            self.made.clear();
        }
        self.made.insert(proxy, made.clone());
        made
    }

    /// Encodes messages; equal ones of several proxies are kept once.
    fn share<M: Message + Name>(
        &mut self,
        type_url: &'static str,
        messages: &[M],
        name: impl Fn(&M) -> &str,
    ) -> ResourceSet {
        let mut share = |message: &M| {
            let resource = Resource::new(name(message), message);
            let key = (type_url, name(message).to_owned(), resource.version());
            Arc::clone(self.shared.entry(key).or_insert_with(|| Arc::new(resource)))
        };
        messages.iter().map(&mut share).collect()
    }
}

fn same(a: &Snapshot, b: &Snapshot) -> bool {
    a.types().zip(b.types()).all(|((_, a), (_, b))| {
        let versions = |set: &ResourceSet| -> Vec<_> {
            let resources = set.iter();
            resources
                .map(|r| (r.name().to_owned(), r.version()))
                .collect()
        };
        versions(a) == versions(b)
    })
}
