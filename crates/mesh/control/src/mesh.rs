//! The newest state of the mesh, as the ADS server asks for it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use envoy_types::pb::envoy::config::core::v3::Node;
use periplus_resources::Host;
use periplus_xds::server::{NodeRefused, Source};
use periplus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use prost::{Message, Name};
use tokio::sync::watch;

use crate::generate::{Generated, generate, generate_clusters, generate_routing};
use crate::index::{Change, Index, Problem, Stale};
use crate::names;
use crate::proxy::Proxy;

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
            let types = [CLUSTER, ENDPOINT, LISTENER, ROUTE].into_iter();
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
        let Ok(proxy) = Proxy::from_node(node) else {
            return Vec::new();
        };
        self.lock().make(&proxy).notes.to_vec()
    }

    /// Replaces the state. Says how many of the connected proxies get something new.
    pub fn publish(&self, state: State, connected: &[Node]) -> usize {
        let proxies: Vec<Proxy> = connected.iter().flat_map(Proxy::from_node).collect();
        let state = Arc::new(state);
        let index = &state.index;
        let classes: Vec<Class> = proxies.iter().map(|it| Class::of(index, it)).collect();
        let (before_state, mut before) = {
            let inner = self.lock();
            (Arc::clone(&inner.state), inner.made.clone())
        };
        let change = Change::between(&before_state.index, index);
        // Nobody has to wait while this is computed.
        let encoded = encode((index, &change), &classes, &proxies, &before);

        let mut inner = self.lock();
        inner.state = Arc::clone(&state);
        inner.made = HashMap::with_capacity(encoded.len());
        for (class, encoded) in encoded {
            let had = before.get(class);
            let made = match (encoded, had) {
                (None, Some(had)) => had.clone(),
                (None, None) => continue,
                (Some(encoded), had) => inner.shared.take(encoded, had),
            };
            inner.made.insert(class.clone(), made);
        }
        let is_notified = |(proxy, class): &(&Proxy, &Class)| {
            let had = before.get(class);
            let had = had.or_else(|| before.get(&Class::of(&before_state.index, proxy)));
            !had.zip(inner.made.get(class))
                .is_some_and(|(had, has)| same(&had.snapshot, &has.snapshot))
        };
        let notified = proxies.iter().zip(&classes).filter(is_notified).count();
        before.clear();
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
        warn(proxy, encoded.notes.as_deref().unwrap_or_default(), None);
        let made = self.shared.take(encoded, None);
        if self.made.len() >= MAX_MADE {
            self.made.clear();
            self.shared.sweep();
        }
        self.made.insert(class, made.clone());
        made
    }
}

/// Makes what is stale of each class, on all cores; nothing where all may stay.
fn encode<'a>(
    (index, change): (&Index, &Change<'_>),
    classes: &'a [Class],
    proxies: &[Proxy],
    before: &HashMap<Class, Made>,
) -> Vec<(&'a Class, Option<Encoded>)> {
    let mut members: HashMap<&Class, Vec<&Proxy>> = HashMap::new();
    for (class, proxy) in classes.iter().zip(proxies) {
        members.entry(class).or_default().push(proxy);
    }
    let members: Vec<(&Class, Vec<&Proxy>)> = members.into_iter().collect();
    let make = |(class, members): &(&'a Class, Vec<&Proxy>)| {
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
        (*class, encoded)
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
