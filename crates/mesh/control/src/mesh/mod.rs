//! The newest state of the mesh, as the ADS server asks for it.

mod anew;
mod class;
mod made;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_xds::Snapshot;
use periplus_xds::server::{Generation, NodeRefused, Peer, Source};
use tokio::sync::watch;

use self::anew::warn;
use self::class::Class;
use self::made::{Encoded, Made, Shared, is_same};
use crate::generate::Conflict;
use crate::index::{About, Change, Index, Problem};
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
    /// The resources that hold in their last good form, because their documents are wrong now.
    pub last_good: Vec<About>,
}

/// The newest state, and the resources that were made from it, once for all proxies of a class. A change makes anew
/// what may depend on it; what comes out the same is shared with the state before.
#[derive(Debug)]
pub struct Mesh {
    inner: Mutex<Inner>,
    generation: watch::Sender<Generation>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Arc<State>,
    made: HashMap<Class, Made>,
    /// What is being made of the newest state, by whoever asked first: others like it wait.
    making: HashMap<Class, Arc<OnceLock<Made>>>,
    cache: Cache,
    /// Those that have asked and are connected, by the ids of their nodes.
    proxies: HashMap<String, Connected>,
    shared: Shared,
    missing_secrets: u64,
}

/// How often what a proxy gets was there already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cache {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// For how many different proxies something is kept.
    pub(crate) size: usize,
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
            generation: watch::Sender::default(),
        }
    }

    /// The newest state.
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.lock().state)
    }

    /// Why this node lacks something that it may expect.
    pub fn notes(&self, node: &Node) -> Vec<String> {
        let made = self.make(node);
        made.map_or_else(
            |_| Vec::new(),
            |made| made.told().map(str::to_owned).collect(),
        )
    }

    /// Replaces the state. Says how many of the proxies that have asked, and are connected, get something new.
    pub fn publish(&self, state: State, is_connected: impl Fn(&str) -> bool) -> usize {
        self.publish_since(Instant::now(), state, is_connected)
    }

    /// The same where the change was noticed before.
    pub(crate) fn publish_since(
        &self,
        noticed: Instant,
        state: State,
        is_connected: impl Fn(&str) -> bool,
    ) -> usize {
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
        inner.making.clear();
        inner.made = HashMap::with_capacity(before.len());
        for (classes, encoded) in encoded {
            let had = classes.iter().map(|class| before.get(class));
            let made = match encoded {
                Some(encoded) => {
                    inner.missing_secrets += encoded.missing_secrets;
                    inner.shared.take_for_all(encoded, &had.collect::<Vec<_>>())
                }
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
        self.generation.send_replace(Generation::since(noticed));
        notified
    }

    /// How often what a proxy gets was there already.
    pub(crate) fn cache(&self) -> Cache {
        let inner = self.lock();
        Cache {
            size: inner.made.len(),
            ..inner.cache
        }
    }

    /// How many services lack a listener that another one has, at any proxy, by why.
    pub(crate) fn conflicts(&self) -> BTreeMap<Conflict, usize> {
        let inner = self.lock();
        let all = inner.made.values().flat_map(|made| &made.notes.conflicts);
        let mut counts = BTreeMap::new();
        for (kind, _) in all.collect::<BTreeSet<_>>() {
            *counts.entry(*kind).or_default() += 1;
        }
        counts
    }

    /// How often a proxy was to have a certificate or authorities that are not there.
    pub(crate) fn missing_secrets(&self) -> u64 {
        self.lock().missing_secrets
    }

    /// Makes a proxy's resources, unless those of its class are made already, without holding up others. If there is
    /// another state in the end, its generation has everybody ask again.
    fn make(&self, node: &Node) -> Result<Made, NodeRefused> {
        let state = {
            let inner = self.lock();
            if let Some(known) = inner.proxies.get(&node.id)
                && *known.node == *node
            {
                return Ok(known.made.clone());
            }
            Arc::clone(&inner.state)
        };
        let proxy = Proxy::from_node(node).map_err(|reason| NodeRefused {
            node: node.id.clone(),
            reason,
        })?;
        let class = Class::of(&state.index, &proxy, None);
        let make = || {
            let encoded = Encoded::of(&state.index, &proxy);
            warn(&proxy, &encoded, None);
            let mut inner = self.lock();
            inner.missing_secrets += encoded.missing_secrets;
            inner.shared.take(encoded, None)
        };
        let making = {
            let mut inner = self.lock();
            match inner.made.get(&class).cloned() {
                _ if !Arc::ptr_eq(&inner.state, &state) => None,
                Some(made) => {
                    inner.cache.hits += 1;
                    inner.connect(node, proxy, class, &made);
                    return Ok(made);
                }
                None => {
                    inner.cache.misses += 1;
                    Some(Arc::clone(inner.making.entry(class.clone()).or_default()))
                }
            }
        };
        let made = making.map_or_else(make, |making| making.get_or_init(make).clone());
        let mut inner = self.lock();
        if Arc::ptr_eq(&inner.state, &state) {
            inner.making.remove(&class);
            inner.connect(node, proxy, class, &made);
        }
        Ok(made)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Mesh {
    fn snapshot(&self, node: &Node) -> Result<Arc<Snapshot>, NodeRefused> {
        Ok(self.make(node)?.snapshot)
    }

    fn may_have_secrets(&self, node: &Node, peer: &Peer) -> Result<(), String> {
        let known = Known::of(peer.fact(), peer.is_local());
        trust::may_have_secrets(&self.state().index, node, &known)
    }

    fn subscribe(&self) -> watch::Receiver<Generation> {
        self.generation.subscribe()
    }
}

impl Inner {
    /// Notes that a proxy has this, as all of its class.
    fn connect(&mut self, node: &Node, proxy: Proxy, class: Class, made: &Made) {
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
    }
}
