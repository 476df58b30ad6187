//! The newest state of the mesh, as the ADS server asks for it.

mod anew;
mod class;
mod made;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_xds::Snapshot;
use periplus_xds::server::{NodeRefused, Peer, Source};
use tokio::sync::watch;

use self::anew::warn;
use self::class::Class;
use self::made::{Encoded, Made, Shared, is_same};
use crate::index::{Change, Index, Problem};
use crate::proxy::Proxy;
use crate::trust::{self, Known};

/// Beyond this many, proxies that came and went since the last change are forgotten with what was made for them.
const MAX_MADE: usize = 20_000;

/// One state of the mesh.
#[derive(Debug, Default)]
pub struct State {
    /// The resources.
    pub index: Index,
    /// What is wrong with them and with the files that they come from.
    pub problems: Vec<Problem>,
    /// The files for which everything is denied, because their policies could not be read since the start.
    pub closed: Vec<Arc<str>>,
}

/// The newest state, and the resources that were made from it, once for all proxies of a class. A change makes anew
/// what may depend on it; what comes out the same is shared with the state before.
#[derive(Debug)]
pub struct Mesh {
    inner: Mutex<Inner>,
    generation: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Arc<State>,
    made: HashMap<Class, Made>,
    /// Those that have asked and are connected, by the ids of their nodes.
    proxies: HashMap<String, Connected>,
    shared: Shared,
}

/// A proxy with what it has.
#[derive(Clone, Debug)]
struct Connected {
    node: Arc<Node>,
    proxy: Arc<Proxy>,
    class: Class,
    made: Made,
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

    /// Why this node lacks something that it may expect.
    pub fn notes(&self, node: &Node) -> Vec<String> {
        let made = self.lock().make(node);
        made.map_or_else(|_| Vec::new(), |made| made.notes.to_vec())
    }

    /// Replaces the state. Says how many of the proxies that have asked, and are connected, get something new.
    pub fn publish(&self, state: State, is_connected: impl Fn(&str) -> bool) -> usize {
        let state = Arc::new(state);
        let index = &state.index;
        let (before_state, before, mut proxies) = {
            let mut inner = self.lock();
            inner.proxies.retain(|id, _| is_connected(id));
            let proxies: Vec<Connected> = inner.proxies.values().cloned().collect();
            (Arc::clone(&inner.state), inner.made.clone(), proxies)
        };
        // Nobody has to wait while this is computed.
        let change = Change::between(&before_state.index, index);
        for one in &mut proxies {
            if change.may_reclass(&one.proxy) {
                one.class = Class::of(index, &one.proxy, Some(&one.class));
            }
        }
        let encoded = anew::encode((index, &change), &proxies, &before);

        let mut inner = self.lock();
        inner.state = Arc::clone(&state);
        inner.made = HashMap::with_capacity(before.len());
        for (classes, encoded) in encoded {
            let had = classes.iter().map(|class| before.get(class));
            let made = match encoded {
                Some(encoded) => inner.shared.take_for_all(encoded, &had.collect::<Vec<_>>()),
                // There is nothing to be made for those alone that have something.
                None => had.flatten().cloned().collect(),
            };
            inner.made.extend(classes.into_iter().zip(made));
        }
        inner.proxies.clear();
        let mut notified = 0;
        for mut one in proxies {
            let Some(made) = inner.made.get(&one.class) else {
                continue;
            };
            notified += usize::from(!is_same(&one.made.snapshot, &made.snapshot));
            one.made = made.clone();
            inner.proxies.insert(one.node.id.clone(), one);
        }
        drop(before);
        inner.shared.sweep();
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
        Ok(self.lock().make(node)?.snapshot)
    }

    fn may_have_secrets(&self, node: &Node, peer: &Peer) -> Result<(), String> {
        let known = Known::of(peer.fact(), peer.is_local());
        trust::may_have_secrets(&self.state().index, node, &known)
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

impl Inner {
    /// Makes a proxy's resources, unless those of its class are made already.
    fn make(&mut self, node: &Node) -> Result<Made, NodeRefused> {
        if let Some(known) = self.proxies.get(&node.id)
            && *known.node == *node
        {
            return Ok(known.made.clone());
        }
        let proxy = Proxy::from_node(node).map_err(|reason| NodeRefused {
            node: node.id.clone(),
            reason,
        })?;
        let class = Class::of(&self.state.index, &proxy, None);
        let made = match self.made.get(&class) {
            Some(made) => made.clone(),
            None => {
                let encoded = Encoded::of(&self.state.index, &proxy);
                warn(&proxy, encoded.notes.as_deref().unwrap_or_default(), None);
                self.shared.take(encoded, None)
            }
        };
        if self.proxies.len() >= MAX_MADE {
            self.proxies.clear();
            self.made.clear();
            self.shared.sweep();
        }
        self.made.insert(class.clone(), made.clone());
        let connected = Connected {
            node: Arc::new(node.clone()),
            proxy: Arc::new(proxy),
            class,
            made: made.clone(),
        };
        self.proxies.insert(node.id.clone(), connected);
        Ok(made)
    }
}
