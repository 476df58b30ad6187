//! Istio's standard metrics of requests, and the exchange of metadata between proxies that labels them.
//!
//! What a label set is made of is looked up once: peers are remembered where their metadata came from, services
//! at their clusters, and a series under a key of numbers.

mod peer;
mod series;
mod tcp;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;
use std::sync::Arc;

pub use self::peer::Peer;
pub(crate) use self::peer::PeerCell;
use self::series::{Labels, Series};
pub(crate) use self::series::{SeriesList, exposition};
pub(crate) use self::tcp::TcpSeries;
use crate::clock::Micros;
use crate::flags::Flags;
use crate::route::Mix;
use crate::snapshot::Direction;

/// The most series of one worker.
const MOST_SERIES: usize = 2_000;
/// The most peers, services and principals that one worker knows by number.
const MOST_NAMES: usize = 4_096;
/// When there are too many series, those that nothing was added to for this long go.
const IDLE: Micros = 300_000_000;

/// The metrics of one worker.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// This proxy's workload.
    own: Rc<Peer>,
    /// Lines of a head that tell it to the other side.
    lines: Vec<u8>,
    names: RefCell<HashMap<Box<[u8]>, u32>>,
    /// The names of clusters. They come from the configuration, and the numbers of a key from here: so
    /// nobody can make these two collide on purpose.
    clusters: RefCell<HashMap<Box<str>, u32, BuildHasherDefault<Mix>>>,
    series: RefCell<HashMap<Key, Entry, BuildHasherDefault<Mix>>>,
    shared: Arc<SeriesList>,
    connections: RefCell<HashMap<Key, Arc<TcpSeries>>>,
    /// Whatever there was no room for.
    rest: RefCell<HashMap<Direction, Arc<Series>>>,
    rest_tcp: RefCell<HashMap<Direction, Arc<TcpSeries>>>,
    refreshed: Cell<Micros>,
}

#[derive(Debug)]
struct Entry {
    series: Arc<Series>,
    used: Cell<Micros>,
}

/// What tells one series from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    direction: Direction,
    peer: u32,
    service: u32,
    peer_principal: u32,
    own_principal: u32,
    status: u16,
    /// 0 is none, else one more than gRPC's status.
    grpc: u32,
    protocol: Protocol,
    flags: Flags,
}

/// `request_protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Http,
    Grpc,
    Tcp,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

/// A request that has ended.
#[derive(Debug)]
pub(crate) struct Observation<'a> {
    pub(crate) direction: Direction,
    /// The other side, if it has told who it is.
    pub(crate) peer: Option<Rc<Peer>>,
    pub(crate) service: Service<'a>,
    pub(crate) peer_principal: Option<&'a str>,
    pub(crate) own_principal: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) grpc: Option<u32>,
    pub(crate) protocol: Protocol,
    pub(crate) flags: Flags,
    pub(crate) millis: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) now: Micros,
}

/// What the request was for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service<'a> {
    /// A cluster of Istio's name: `outbound|9080|v1|reviews.default.svc.cluster.local`.
    Cluster(&'a str),
    /// What the client has called it.
    Host(&'a str),
    Unknown,
}

impl Metrics {
    /// None without Istio's metadata in the node: nobody would know whose the metrics are.
    pub(crate) fn new(own: Option<&Peer>, node_id: &str, shared: Arc<SeriesList>) -> Option<Self> {
        let own = Rc::new(own?.clone());
        Some(Self {
            lines: own.lines(node_id),
            own,
            names: RefCell::default(),
            clusters: RefCell::default(),
            series: RefCell::default(),
            shared,
            connections: RefCell::default(),
            rest: RefCell::default(),
            rest_tcp: RefCell::default(),
            refreshed: Cell::new(0),
        })
    }

    /// The lines of a head that tell the other side who this is.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Counts a request.
    pub(crate) fn observe(&self, seen: &Observation<'_>) {
        let key = self.key(seen);
        if let Some(entry) = self.series.borrow().get(&key) {
            entry.used.set(seen.now);
            entry.series.add(seen);
            return;
        }
        self.begin(key, seen).add(seen);
    }

    /// The series of a connection of the TCP proxy.
    #[cold]
    pub(crate) fn of_connection(&self, seen: &Observation<'_>) -> Arc<TcpSeries> {
        let key = self.key(seen);
        let mut all = self.connections.borrow_mut();
        if let Some(series) = all.get(&key) {
            return series.clone();
        }
        if all.len() >= MOST_SERIES && self.is_due(seen.now) {
            // Known here and in the list: no connection has it.
            all.retain(|_, series| Arc::strong_count(series) > 2);
            self.shared.replace_tcp(all.values().cloned());
        }
        if all.len() >= MOST_SERIES {
            self.shared.count_overflow();
            let mut rest = self.rest_tcp.borrow_mut();
            let series = rest.entry(seen.direction).or_insert_with(|| {
                let series = Arc::new(TcpSeries::new(Labels::overflow(seen.direction)));
                self.shared.push_tcp(series.clone());
                series
            });
            return series.clone();
        }
        let series = Arc::new(TcpSeries::new(Labels::of(&self.own, seen)));
        self.shared.push_tcp(series.clone());
        all.insert(key, series.clone());
        series
    }

    fn key(&self, seen: &Observation<'_>) -> Key {
        let service = match seen.service {
            Service::Cluster(name) => self.number_of_cluster(name),
            Service::Host(name) => self.number(name.as_bytes()),
            Service::Unknown => 0,
        };
        let number = |text: Option<&str>| text.map_or(0, |text| self.number(text.as_bytes()));
        Key {
            direction: seen.direction,
            peer: seen
                .peer
                .as_ref()
                .map_or(0, |peer| self.number(peer.text())),
            service,
            peer_principal: number(seen.peer_principal),
            own_principal: number(seen.own_principal),
            status: seen.status,
            grpc: seen.grpc.map_or(0, |status| status + 1),
            protocol: seen.protocol,
            flags: seen.flags,
        }
    }

    /// The number of a name; 0 if there are too many.
    fn number(&self, name: &[u8]) -> u32 {
        if let Some(number) = self.names.borrow().get(name) {
            return *number;
        }
        let number = self.next_number();
        if number != 0 {
            self.names.borrow_mut().insert(name.into(), number);
        }
        number
    }

    fn number_of_cluster(&self, name: &str) -> u32 {
        if let Some(number) = self.clusters.borrow().get(name) {
            return *number;
        }
        let number = self.next_number();
        if number != 0 {
            self.clusters.borrow_mut().insert(name.into(), number);
        }
        number
    }

    fn next_number(&self) -> u32 {
        let known = self.names.borrow().len() + self.clusters.borrow().len();
        if known >= MOST_NAMES {
            return 0;
        }
        known as u32 + 1
    }

    #[cold]
    fn begin(&self, key: Key, seen: &Observation<'_>) -> Arc<Series> {
        let mut all = self.series.borrow_mut();
        if all.len() >= MOST_SERIES && self.is_due(seen.now) {
            all.retain(|_, entry| entry.used.get() + IDLE > seen.now);
            self.shared
                .replace(all.values().map(|entry| entry.series.clone()));
        }
        let is_nameless = key.service == 0 && !matches!(seen.service, Service::Unknown);
        if all.len() >= MOST_SERIES || is_nameless {
            self.shared.count_overflow();
            let mut rest = self.rest.borrow_mut();
            let series = rest.entry(seen.direction).or_insert_with(|| {
                let series = Arc::new(Series::new(&Labels::overflow(seen.direction)));
                self.shared.push(series.clone());
                series
            });
            return series.clone();
        }
        let series = Arc::new(Series::new(&Labels::of(&self.own, seen)));
        self.shared.push(series.clone());
        let used = Cell::new(seen.now);
        all.insert(
            key,
            Entry {
                series: series.clone(),
                used,
            },
        );
        series
    }

    /// Looking for idle series takes long: once in ten seconds at most.
    fn is_due(&self, now: Micros) -> bool {
        let due = self.refreshed.get() + 10_000_000 <= now || self.refreshed.get() == 0;
        if due {
            self.refreshed.set(now.max(1));
        }
        due
    }
}
