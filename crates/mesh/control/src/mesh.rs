//! The newest state of the mesh, as the ADS server asks for it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_resources::Host;
use periplus_xds::server::{NodeRefused, Peer, Source};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use prost::{Message, Name};
use tokio::sync::watch;

use crate::generate::generate;
use crate::index::{Index, Problem};
use crate::proxy::Proxy;
use crate::trust;

/// What is made for proxies that came and went since the last change is forgotten beyond this many classes.
const MAX_MADE: usize = 20_000;

/// One state of the mesh.
#[derive(Debug, Default)]
pub struct State {
    /// The resources.
    pub index: Index,
    /// What is wrong with them and with the files that they come from.
    pub problems: Vec<Problem>,
}

/// The newest state, and the resources that were made from it. A change makes them all anew, once for
/// all proxies of a class; what comes out the same is shared with the state before.
#[derive(Debug)]
pub struct Mesh {
    inner: Mutex<Inner>,
    generation: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Arc<State>,
    made: HashMap<Class, Made>,
    shared: Shared,
}

/// What resources depend on: proxies that agree in it, as the replicas of a workload do, have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Class {
    /// Without its id. Without its address, too, if that only says what it serves.
    proxy: Proxy,
    /// The services that it is an endpoint of, each with the ports that stand behind the service's.
    serves: Vec<(Host, Vec<u16>)>,
}

impl Class {
    fn of(index: &Index, proxy: &Proxy) -> Self {
        let sidecar = index.sidecar_for(proxy);
        let listens = sidecar.is_some_and(|sidecar| !sidecar.spec.ingress.is_empty());
        let ip = match proxy.ip {
            ip if proxy.interception.is_none() || listens => ip,
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self {
            proxy: Proxy {
                id: String::new(),
                ip,
                ..proxy.clone()
            },
            serves: index.served_by(proxy),
        }
    }
}

/// What a proxy has.
#[derive(Clone, Debug)]
struct Made {
    snapshot: Arc<Snapshot>,
    notes: Arc<[String]>,
}

/// What was made, before it is compared with what others have.
struct Encoded {
    types: [(&'static str, Vec<Resource>); 5],
    notes: Vec<String>,
}

impl Encoded {
    fn of(index: &Index, proxy: &Proxy) -> Self {
        fn encoded<M: Message + Name>(messages: &[M], name: fn(&M) -> &str) -> Vec<Resource> {
            let messages = messages.iter();
            messages.map(|it| Resource::new(name(it), it)).collect()
        }
        let generated = generate(index, proxy);
        Self {
            types: [
                (CLUSTER, encoded(&generated.clusters, |m| &m.name)),
                (ENDPOINT, encoded(&generated.endpoints, |m| &m.cluster_name)),
                (LISTENER, encoded(&generated.listeners, |m| &m.name)),
                (ROUTE, encoded(&generated.routes, |m| &m.name)),
                (SECRET, encoded(&generated.secrets, |m| &m.name)),
            ],
            notes: generated.notes,
        }
    }
}

/// Equal resources of several proxies are kept once.
#[derive(Debug, Default)]
struct Shared {
    resources: HashMap<(&'static str, String, u64), Arc<Resource>>,
}

impl Shared {
    /// Takes what was made; what is the same as before stays what it was.
    fn take(&mut self, encoded: Encoded, before: Option<&Made>) -> Made {
        let mut snapshot = Snapshot::default();
        for (type_url, resources) in encoded.types {
            let resources = resources.into_iter().map(|resource| {
                let key = (type_url, resource.name().to_owned(), resource.version());
                let kept = self.resources.entry(key);
                Arc::clone(kept.or_insert_with(|| Arc::new(resource)))
            });
            let mut set: ResourceSet = resources.collect();
            if let Some(before) = before.map(|before| before.snapshot.of_type(type_url))
                && is_equal(before, &set)
            {
                set = before.clone();
            }
            snapshot = snapshot.with(type_url, set);
        }
        Made {
            snapshot: Arc::new(snapshot),
            notes: encoded.notes.into(),
        }
    }

    /// Lets go what nobody has any more.
    fn sweep(&mut self) {
        self.resources
            .retain(|_, resource| Arc::strong_count(resource) > 1);
    }
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
        let Ok(proxy) = Proxy::from_node(node) else {
            return Vec::new();
        };
        self.lock().make(&proxy).notes.to_vec()
    }

    /// Replaces the state. Says how many of the connected proxies get something new.
    pub fn publish(&self, state: State, connected: &[Node]) -> usize {
        let proxies: Vec<Proxy> = connected.iter().flat_map(Proxy::from_node).collect();
        let state = Arc::new(state);
        let classes: Vec<Class> = (proxies.iter())
            .map(|proxy| Class::of(&state.index, proxy))
            .collect();
        // Nobody has to wait while this is computed.
        let encoded = encode(&state.index, classes.iter().zip(&proxies));

        let mut inner = self.lock();
        let before_state = std::mem::replace(&mut inner.state, state);
        let before = std::mem::take(&mut inner.made);
        for (class, encoded) in encoded {
            let made = inner.shared.take(encoded, before.get(&class));
            inner.made.insert(class, made);
        }
        let is_notified = |(proxy, class): &(&Proxy, &Class)| {
            let had = before.get(&Class::of(&before_state.index, proxy));
            !had.zip(inner.made.get(class))
                .is_some_and(|(had, has)| same(&had.snapshot, &has.snapshot))
        };
        let notified = proxies.iter().zip(&classes).filter(is_notified).count();
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
        let proxy = Proxy::from_node(node).map_err(|reason| NodeRefused {
            node: node.id.clone(),
            reason,
        })?;
        Ok(self.lock().make(&proxy).snapshot)
    }

    fn may_have_secrets(&self, node: &Node, peer: &Peer) -> bool {
        trust::may_have_secrets(node, peer)
    }

    fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

impl Inner {
    /// Makes a proxy's resources, unless those of its class are made already.
    fn make(&mut self, proxy: &Proxy) -> Made {
        let class = Class::of(&self.state.index, proxy);
        if let Some(made) = self.made.get(&class) {
            return made.clone();
        }
        let encoded = Encoded::of(&self.state.index, proxy);
        warn(proxy, &encoded);
        let made = self.shared.take(encoded, None);
        if self.made.len() >= MAX_MADE {
            self.made.clear();
            self.shared.sweep();
        }
        self.made.insert(class, made.clone());
        made
    }
}

/// Makes the resources of each class, on all cores.
fn encode<'a>(
    index: &Index,
    proxies: impl Iterator<Item = (&'a Class, &'a Proxy)>,
) -> Vec<(Class, Encoded)> {
    let classes: HashMap<&Class, &Proxy> = proxies.collect();
    let classes: Vec<(&Class, &Proxy)> = classes.into_iter().collect();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let make = |(class, proxy): &(&Class, &Proxy)| {
        let encoded = Encoded::of(index, proxy);
        warn(proxy, &encoded);
        ((*class).clone(), encoded)
    };
    thread::scope(|scope| {
        let parts = classes.chunks(classes.len().div_ceil(cores).max(1));
        let parts: Vec<_> = parts
            .map(|part| scope.spawn(move || part.iter().map(make).collect::<Vec<_>>()))
            .collect();
        let made = parts.into_iter().map(|part| match part.join() {
            Ok(made) => made,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        made.flatten().collect()
    })
}

fn warn(proxy: &Proxy, encoded: &Encoded) {
    for note in &encoded.notes {
        tracing::warn!(proxy = %proxy.id, "{note}");
    }
}

/// Whether both have the very same resources.
fn is_equal(a: &ResourceSet, b: &ResourceSet) -> bool {
    a.is_same(b) || a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| Arc::ptr_eq(a, b))
}

fn same(a: &Snapshot, b: &Snapshot) -> bool {
    a.types()
        .zip(b.types())
        .all(|((_, a), (_, b))| is_equal(a, b))
}
