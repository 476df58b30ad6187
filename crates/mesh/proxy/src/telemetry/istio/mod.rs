//! Istio's standard metrics of requests, and the exchange of metadata between proxies that labels them.
//!
//! What a label set is made of is looked up once: peers are remembered where their metadata came from, services
//! at their clusters, and a series under a key of hashes.

mod exposition;
mod greeting;
mod peer;
mod rules;
mod series;
mod service;
mod tcp;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub(crate) use self::exposition::exposition;
pub(crate) use self::greeting::{HEAD, Heard, greeting, hear, passed_over};
pub use self::peer::Peer;
pub(crate) use self::peer::{PeerCell, text_of};
pub use self::rules::MetricRules;
pub(crate) use self::rules::{Custom, LabelValue, Metric, RulesView};
pub(crate) use self::series::SeriesList;
use self::series::{HISTOGRAMS, Labels, OtherBounds, Series};
pub(crate) use self::service::{Named, Service};
pub(crate) use self::tcp::TcpSeries;
use crate::bootstrap::HistogramBounds;
use crate::clock::Micros;
use crate::flags::Flags;
use crate::route::Mix;
use crate::snapshot::Direction;
use crate::stats::{Bounds, USUAL};

/// The most series of one worker.
const MOST_SERIES: usize = 2_000;
/// When there are too many series, those that nothing was added to for this long go.
const IDLE: Micros = 300_000_000;

/// The metrics of one worker.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// This proxy's workload.
    own: Rc<Peer>,
    /// Lines of a head that tell it to the other side.
    lines: Vec<u8>,
    series: RefCell<ByKey<Series>>,
    shared: Arc<SeriesList>,
    /// The bounds of its histograms, if they are not Envoy's own.
    bounds: OtherBounds,
    connections: RefCell<ByKey<TcpSeries>>,
    /// Whatever there was no room for.
    rest: RefCell<HashMap<Direction, Arc<Series>>>,
    rest_tcp: RefCell<HashMap<Direction, Arc<TcpSeries>>>,
    refreshed: Cell<Micros>,
    /// How long nobody may have added to a series that is kept though there is room for it; for ever if it is none.
    expiry: Option<Micros>,
}

/// The hashes of a key are keyed ones, so nobody can make two keys collide on purpose.
type ByKey<T> = HashMap<Key, Entry<T>, BuildHasherDefault<Mix>>;

#[derive(Debug)]
struct Entry<T> {
    series: Arc<T>,
    used: Cell<Micros>,
}

/// Whether a connection has it: otherwise it is known here and in the list.
fn is_open(entry: &Entry<TcpSeries>) -> bool {
    Arc::strong_count(&entry.series) > 2
}

/// What tells one series from another: names as [`id_of`] has them, 0 for those that are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    direction: Direction,
    peer: u64,
    service: u64,
    peer_principal: u64,
    own_principal: u64,
    status: u16,
    /// 0 is none, else one more than gRPC's status.
    grpc: u32,
    protocol: Protocol,
    flags: Flags,
    /// What the listener's rules make of it.
    custom: u64,
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

impl Key {
    #[inline]
    fn of(seen: &Observation<'_>) -> Self {
        let id = |text: Option<&str>| text.map_or(0, |text| id_of(text.as_bytes()));
        Self {
            direction: seen.direction,
            peer: seen.peer.as_ref().map_or(0, |peer| peer.id()),
            service: seen.service.id(),
            peer_principal: id(seen.peer_principal),
            own_principal: id(seen.own_principal),
            status: seen.status,
            grpc: seen.grpc.map_or(0, |status| status + 1),
            protocol: seen.protocol,
            flags: seen.flags,
            custom: seen.custom.as_ref().map_or(0, Custom::id),
        }
    }
}

/// A hash of a name that stands for it: nobody outside knows its key, and among the names that a proxy sees in
/// its life no two have the same. Never 0.
pub(crate) fn id_of(name: &[u8]) -> u64 {
    static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEYED.hash_one(name).max(1)
}

/// The bounds of a histogram, if they are not Envoy's own: those of its name, which labels follow in Istio's proxies.
pub(crate) fn bounds_of(all: &HistogramBounds, metric: Metric) -> Option<Arc<Bounds>> {
    let bounds = all.of(&format!("istiocustom.{}.", metric.name()));
    (!Arc::ptr_eq(bounds, &USUAL)).then(|| bounds.clone())
}

/// In place of a status: what is counted are the messages of calls that go on.
const OF_CALLS: u16 = u16::MAX;

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
    /// Of gRPC: those of the request, and those of the response.
    pub(crate) messages: [u64; 2],
    /// What the listener's rules make of it.
    pub(crate) custom: Option<Custom<'a>>,
    pub(crate) now: Micros,
}

impl Metrics {
    /// None without Istio's metadata in the node: nobody would know whose the metrics are.
    pub(crate) fn new(
        own: Option<&Peer>,
        node_id: &str,
        (shared, expiry): (Arc<SeriesList>, Option<Duration>),
        bounds: impl Fn(Metric) -> Option<Arc<Bounds>>,
    ) -> Option<Self> {
        let own = Rc::new(own?.clone());
        shared.begin();
        Some(Self {
            lines: own.lines(node_id),
            own,
            series: RefCell::default(),
            shared,
            bounds: HISTOGRAMS.map(bounds),
            connections: RefCell::default(),
            rest: RefCell::default(),
            rest_tcp: RefCell::default(),
            refreshed: Cell::new(0),
            expiry: expiry.map(|longest| longest.as_micros() as Micros),
        })
    }

    /// The lines of a head that tell the other side who this is.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Counts a request.
    pub(crate) fn observe(&self, seen: &Observation<'_>) {
        let key = Key::of(seen);
        if let Some(entry) = self.series.borrow().get(&key) {
            entry.used.set(seen.now);
            entry.series.add(seen);
            return;
        }
        self.begin(key, seen).add(seen);
    }

    /// Counts messages of a call that goes on: they are told apart by who talks to whom, and not by how it ends.
    #[cold]
    pub(crate) fn observe_messages(&self, seen: Observation<'_>) {
        self.observe(&Observation {
            status: OF_CALLS,
            grpc: None,
            flags: Flags::default(),
            ..seen
        });
    }

    /// The series of a connection of the TCP proxy.
    #[cold]
    pub(crate) fn of_connection(&self, seen: &Observation<'_>) -> Arc<TcpSeries> {
        let key = Key::of(seen);
        let mut all = self.connections.borrow_mut();
        if let Some(entry) = all.get(&key) {
            entry.used.set(seen.now);
            return entry.series.clone();
        }
        if all.len() >= MOST_SERIES && self.is_due(seen.now) {
            self.retire_connections(&mut all, |_| true);
        }
        if all.len() >= MOST_SERIES {
            self.shared.count_overflow();
            let mut rest = self.rest_tcp.borrow_mut();
            let series = rest.entry(seen.direction).or_insert_with(|| {
                let series = Arc::new(TcpSeries::new(&Labels::overflow(seen.direction), None));
                self.shared.push_tcp(series.clone());
                series
            });
            return series.clone();
        }
        let labels = Labels::of(&self.own, seen);
        self.shared.count_cut(labels.cut);
        let series = Arc::new(TcpSeries::new(&labels, seen.custom.as_ref()));
        self.shared.push_tcp(series.clone());
        let used = Cell::new(seen.now);
        let entry = Entry {
            series: series.clone(),
            used,
        };
        all.insert(key, entry);
        series
    }

    /// Gives up what nobody has added to for as long as there is to be no idle series.
    pub(crate) fn sweep(&self, now: Micros) {
        let Some(longest) = self.expiry.filter(|_| self.is_due(now)) else {
            return;
        };
        self.retire(&mut self.series.borrow_mut(), longest, now);
        self.retire_connections(&mut self.connections.borrow_mut(), |entry| {
            entry.used.get() + longest <= now
        });
        for entry in self.connections.borrow().values() {
            if is_open(entry) {
                entry.used.set(now);
            }
        }
    }

    fn retire(&self, all: &mut ByKey<Series>, longest: Micros, now: Micros) {
        let gone = all.extract_if(|_, entry| entry.used.get() + longest <= now);
        let gone: Vec<_> = gone.map(|(_, entry)| entry.series).collect();
        if !gone.is_empty() {
            let left = all.values().map(|entry| entry.series.clone());
            let rest = self.rest.borrow();
            let left = left.chain(rest.values().cloned());
            self.shared.retire(&gone, left);
        }
    }

    /// Gives up those of no open connection that may go.
    fn retire_connections(
        &self,
        all: &mut ByKey<TcpSeries>,
        may_go: impl Fn(&Entry<TcpSeries>) -> bool,
    ) {
        let gone = all.extract_if(|_, entry| !is_open(entry) && may_go(entry));
        let gone: Vec<_> = gone.map(|(_, entry)| entry.series).collect();
        if !gone.is_empty() {
            let left = all.values().map(|entry| entry.series.clone());
            let rest = self.rest_tcp.borrow();
            let left = left.chain(rest.values().cloned());
            self.shared.retire_tcp(&gone, left);
        }
    }

    #[cold]
    fn begin(&self, key: Key, seen: &Observation<'_>) -> Arc<Series> {
        let mut all = self.series.borrow_mut();
        if all.len() >= MOST_SERIES && self.is_due(seen.now) {
            self.retire(&mut all, IDLE, seen.now);
        }
        if all.len() >= MOST_SERIES {
            self.shared.count_overflow();
            let mut rest = self.rest.borrow_mut();
            let series = rest.entry(seen.direction).or_insert_with(|| {
                let series = Arc::new(Series::new(
                    &Labels::overflow(seen.direction),
                    None,
                    &self.bounds,
                ));
                self.shared.push(series.clone());
                series
            });
            return series.clone();
        }
        let labels = Labels::of(&self.own, seen);
        self.shared.count_cut(labels.cut);
        let mut series = Series::new(&labels, seen.custom.as_ref(), &self.bounds);
        if seen.status == OF_CALLS {
            series.has_messages_only();
        }
        let series = Arc::new(series);
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
