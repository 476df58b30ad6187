//! The newest state of the mesh, as the ADS server asks for it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
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

use crate::generate::{Generated, generate, generate_clusters, generate_routing};
use crate::index::{Change, Index, Problem, Stale};
use crate::names;
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

/// What resources depend on: proxies that agree in it, as the replicas of a workload do, have the same.
#[derive(Clone, Debug)]
struct Class {
    traits: Arc<Traits>,
    hash: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Traits {
    /// Without its id. Without its address, too, if that only says what it serves.
    proxy: Proxy,
    /// The services that it is an endpoint of, each with the ports that stand behind the service's.
    serves: Vec<(Host, Vec<u16>)>,
}

impl Class {
    /// The class of a proxy, which was in another state of this one.
    fn of(index: &Index, proxy: &Proxy, before: Option<&Self>) -> Self {
        let sidecar = index.sidecar_for(proxy);
        let listens = sidecar.is_some_and(|sidecar| !sidecar.spec.ingress.is_empty());
        let ip = match proxy.ip {
            ip if proxy.interception.is_none() || listens => ip,
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let serves = index.served_by(proxy);
        if let Some(before) = before
            && (before.traits.proxy.ip, &before.traits.serves) == (ip, &serves)
        {
            return before.clone();
        }
        let traits = Traits {
            proxy: Proxy {
                id: String::new(),
                ip,
                ..proxy.clone()
            },
            serves,
        };
        let mut hasher = DefaultHasher::new();
        traits.hash(&mut hasher);
        Self {
            traits: Arc::new(traits),
            hash: hasher.finish(),
        }
    }
}

impl Hash for Class {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl PartialEq for Class {
    fn eq(&self, other: &Self) -> bool {
        let is_one = || Arc::ptr_eq(&self.traits, &other.traits);
        self.hash == other.hash && (is_one() || self.traits == other.traits)
    }
}

impl Eq for Class {}

/// What a proxy has.
#[derive(Clone, Debug)]
struct Made {
    snapshot: Arc<Snapshot>,
    notes: Arc<[String]>,
}

impl Made {
    /// Whether there are clusters of a service.
    fn has_cluster(&self, host: &Host) -> bool {
        let mut clusters = self.snapshot.of_type(CLUSTER).iter();
        clusters.any(|cluster| names::service_of(cluster.name()) == Some(host.as_str()))
    }
}

/// What was made, before it is compared with what others have.
struct Encoded {
    /// All of these types.
    whole: Vec<(&'static str, Vec<Resource>)>,
    /// Of these types some, which stand in place of what there was of these services.
    parts: Vec<(&'static str, Vec<Resource>)>,
    hosts: Vec<Host>,
    /// None if they stay what they were.
    notes: Option<Vec<String>>,
}

impl Encoded {
    fn of(index: &Index, proxy: &Proxy) -> Self {
        let made = generate(index, proxy);
        let mut whole = clusters(&made);
        whole.extend(routing(&made));
        whole.push((SECRET, encoded(&made.secrets, |m| &m.name)));
        Self {
            whole,
            parts: Vec::new(),
            hosts: Vec::new(),
            notes: Some(made.notes),
        }
    }

    /// What is stale of what a proxy has; nothing if all may stay.
    fn of_stale(index: &Index, proxy: &Proxy, stale: Stale<'_>) -> Option<Self> {
        let (hosts, is_routing) = match stale {
            Stale::All => return Some(Self::of(index, proxy)),
            Stale::Some(hosts, false) if hosts.is_empty() => return None,
            // What clients without a proxy take is made in one piece.
            Stale::Some(..) if proxy.is_proxyless => return Some(Self::of(index, proxy)),
            Stale::Some(hosts, is_routing) => (hosts, is_routing),
        };
        let routed = is_routing.then(|| generate_routing(index, proxy));
        Some(Self {
            whole: routed.as_ref().map(routing).unwrap_or_default(),
            parts: match hosts.is_empty() {
                true => Vec::new(),
                false => clusters(&generate_clusters(index, proxy, &hosts)),
            },
            hosts: hosts.into_iter().cloned().collect(),
            notes: routed.map(|made| made.notes),
        })
    }
}

fn clusters(made: &Generated) -> Vec<(&'static str, Vec<Resource>)> {
    vec![
        (CLUSTER, encoded(&made.clusters, |m| &m.name)),
        (ENDPOINT, encoded(&made.endpoints, |m| &m.cluster_name)),
    ]
}

fn routing(made: &Generated) -> Vec<(&'static str, Vec<Resource>)> {
    vec![
        (LISTENER, encoded(&made.listeners, |m| &m.name)),
        (ROUTE, encoded(&made.routes, |m| &m.name)),
    ]
}

fn encoded<M: Message + Name>(messages: &[M], name: fn(&M) -> &str) -> Vec<Resource> {
    let messages = messages.iter();
    messages.map(|it| Resource::new(name(it), it)).collect()
}

/// Equal resources of several proxies are kept once.
#[derive(Debug, Default)]
struct Shared {
    resources: HashMap<(&'static str, String, u64), Arc<Resource>>,
}

impl Shared {
    /// Takes what was made; what is the same as before stays what it was.
    fn take(&mut self, encoded: Encoded, before: Option<&Made>) -> Made {
        let nothing = || {
            let types = [CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET].into_iter();
            types.fold(Snapshot::default(), |all, it| {
                all.with(it, ResourceSet::default())
            })
        };
        let mut snapshot = before.map_or_else(nothing, |made| (*made.snapshot).clone());
        for (type_url, resources) in encoded.whole {
            let set = resources.into_iter().map(|one| self.share(type_url, one));
            snapshot = replace(snapshot, type_url, set.collect());
        }
        for (type_url, resources) in encoded.parts {
            let is_replaced = |one: &&Arc<Resource>| {
                let service = names::service_of(one.name());
                service.is_some_and(|name| encoded.hosts.iter().any(|host| host.as_str() == name))
            };
            let others = snapshot.of_type(type_url).iter();
            let others = others.filter(|one| !is_replaced(one)).cloned();
            let resources = resources.into_iter().map(|one| self.share(type_url, one));
            let set = others.chain(resources).collect();
            snapshot = replace(snapshot, type_url, set);
        }
        Made {
            snapshot: Arc::new(snapshot),
            notes: match (encoded.notes, before) {
                (None, Some(before)) => Arc::clone(&before.notes),
                (notes, _) => notes.unwrap_or_default().into(),
            },
        }
    }

    fn share(&mut self, type_url: &'static str, resource: Resource) -> Arc<Resource> {
        let key = (type_url, resource.name().to_owned(), resource.version());
        let kept = self.resources.entry(key);
        Arc::clone(kept.or_insert_with(|| Arc::new(resource)))
    }

    /// Lets go what nobody has any more.
    fn sweep(&mut self) {
        self.resources
            .retain(|_, resource| Arc::strong_count(resource) > 1);
    }
}

fn replace(snapshot: Snapshot, type_url: &str, set: ResourceSet) -> Snapshot {
    match is_equal(snapshot.of_type(type_url), &set) {
        true => snapshot,
        false => snapshot.with(type_url, set),
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
        for one in &mut proxies {
            one.class = Class::of(index, &one.proxy, Some(&one.class));
        }
        let change = Change::between(&before_state.index, index);
        let encoded = encode((index, &change), &proxies, &before);

        let mut inner = self.lock();
        inner.state = Arc::clone(&state);
        inner.made = HashMap::with_capacity(encoded.len());
        for (class, encoded) in encoded {
            let had = before.get(&class);
            let made = match (encoded, had) {
                (None, Some(had)) => had.clone(),
                (None, None) => continue,
                (Some(encoded), had) => inner.shared.take(encoded, had),
            };
            inner.made.insert(class, made);
        }
        inner.proxies.clear();
        let mut notified = 0;
        for mut one in proxies {
            let Some(made) = inner.made.get(&one.class) else {
                continue;
            };
            notified += usize::from(!same(&one.made.snapshot, &made.snapshot));
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

/// Makes what is stale of each class, on all cores; nothing where all may stay.
fn encode(
    (index, change): (&Index, &Change<'_>),
    proxies: &[Connected],
    before: &HashMap<Class, Made>,
) -> Vec<(Class, Option<Encoded>)> {
    let mut members: HashMap<&Class, Vec<&Proxy>> = HashMap::new();
    for one in proxies {
        members.entry(&one.class).or_default().push(&one.proxy);
    }
    let members: Vec<(&Class, Vec<&Proxy>)> = members.into_iter().collect();
    let make = |(class, members): &(&Class, Vec<&Proxy>)| {
        let had = before.get(class);
        let proxy = members[0];
        let stale = |had: &Made| {
            // They differ in their addresses only.
            let all = members[1..].iter().any(|it| change.is_about(it));
            match all {
                true => Stale::All,
                false => change.stale(index, proxy, |host| had.has_cluster(host)),
            }
        };
        let encoded = Encoded::of_stale(index, proxy, had.map_or(Stale::All, stale));
        if let Some(notes) = encoded.as_ref().and_then(|encoded| encoded.notes.as_ref()) {
            warn(proxy, notes, had);
        }
        ((*class).clone(), encoded)
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let parts = members.chunks(members.len().div_ceil(cores).max(1));
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

/// Says what a proxy lacks, unless that was so before.
fn warn(proxy: &Proxy, notes: &[String], had: Option<&Made>) {
    let known = had.map(|had| &*had.notes).unwrap_or_default();
    for note in notes.iter().filter(|note| !known.contains(note)) {
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
