//! Series: counters and histograms under one set of labels.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::exposition::Sums;
use super::tcp::TcpSeries;
use super::{Custom, MOST_SERIES, Metric, Observation, Peer, Protocol};
use crate::snapshot::Direction;
use crate::stats::{BOUNDS, Bounds, Count, push_label};

/// The most bytes of a label's value: names in DNS have at most 253.
const MOST_LABEL: usize = 256;

/// The most series that have gone and are kept until somebody asks.
const MOST_RETIRED: usize = 4 * MOST_SERIES;

/// As much of a value as becomes a label's.
#[inline]
pub(super) fn cut(value: &str) -> &str {
    match value.len() <= MOST_LABEL {
        true => value,
        false => &value[..value.floor_char_boundary(MOST_LABEL)],
    }
}

/// Envoy's bounds, for milliseconds and bytes alike, of whole numbers, and behind them ones that nothing is above: of a power
/// of two of bounds each index is within, which need not be checked.
const LIMITS: [u64; BOUNDS.len().next_power_of_two()] = {
    let mut limits = [u64::MAX; BOUNDS.len().next_power_of_two()];
    let mut at = 0;
    while at < BOUNDS.len() {
        limits[at] = BOUNDS[at].1;
        at += 1;
    }
    limits
};
pub(super) const HISTOGRAMS: [Metric; 3] = [
    Metric::Duration,
    Metric::RequestBytes,
    Metric::ResponseBytes,
];
pub(super) const MESSAGES: [Metric; 2] = [Metric::RequestMessages, Metric::ResponseMessages];

/// The metrics of one set of labels, written by one worker.
#[derive(Debug)]
pub(crate) struct Series {
    /// As Prometheus has them, without braces; none of a metric that is left out.
    pub(super) requests_labels: Option<Arc<str>>,
    pub(super) requests: Count,
    /// As [`HISTOGRAMS`] has them.
    pub(super) histograms_labels: [Option<Arc<str>>; 3],
    pub(super) histograms: [Histogram; 3],
    /// Those whose bounds are not Envoy's own, and what is counted between them.
    bounded: Option<Box<[Option<Bounded>; 3]>>,
    /// As [`MESSAGES`] has them.
    pub(super) messages_labels: [Option<Arc<str>>; 2],
    pub(super) messages: [Count; 2],
}

#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// By bound, the last one without; not cumulative.
    pub(super) buckets: [Count; BOUNDS.len() + 1],
    pub(super) sum: Count,
}

impl Histogram {
    fn add(&self, value: u64) {
        self.buckets[bucket_of(value)].increment();
        self.sum.add(value);
    }
}

/// Bounds other than Envoy's own, by [`HISTOGRAMS`]; none where they are these.
pub(crate) type OtherBounds = [Option<Arc<Bounds>>; 3];

/// The buckets of a histogram between other bounds.
#[derive(Debug)]
struct Bounded {
    bounds: Arc<Bounds>,
    /// Not cumulative.
    buckets: Box<[Count]>,
}

impl Bounded {
    fn new(bounds: &Arc<Bounds>) -> Self {
        Self {
            bounds: bounds.clone(),
            buckets: (0..=bounds.len()).map(|_| Count::default()).collect(),
        }
    }
}

/// The bucket of a value. Between two powers of two there is at most one bound, so that one comparison
/// tells.
#[inline]
fn bucket_of(value: u64) -> usize {
    /// The bucket of a power of two, by its number of bits.
    const OF_BITS: [u8; 65] = {
        let mut of_bits = [0; 65];
        let mut bits = 1;
        while bits < 65 {
            let least = 1_u64 << (bits - 1);
            let mut bucket = 0;
            while LIMITS[bucket] < least {
                bucket += 1;
            }
            of_bits[bits] = bucket as u8;
            bits += 1;
        }
        of_bits
    };
    let at = usize::from(OF_BITS[(u64::BITS - value.leading_zeros()) as usize]);
    at + usize::from(LIMITS[at % LIMITS.len()] < value)
}

impl Series {
    pub(super) fn new(labels: &Labels, custom: Option<&Custom<'_>>, bounds: &OtherBounds) -> Self {
        let requests = labels.of_metric(Metric::Requests, custom);
        let is_bounded = bounds.iter().any(Option::is_some);
        let bounded = || bounds.each_ref().map(|it| it.as_ref().map(Bounded::new));
        Self {
            histograms_labels: match custom {
                Some(_) => HISTOGRAMS.map(|metric| labels.of_metric(metric, custom)),
                None => HISTOGRAMS.map(|_| requests.clone()),
            },
            messages_labels: match labels.is_grpc {
                true => MESSAGES.map(|metric| labels.of_metric(metric, custom)),
                false => [None, None],
            },
            requests_labels: requests,
            requests: Count::default(),
            histograms: Default::default(),
            bounded: is_bounded.then(|| Box::new(bounded())),
            messages: Default::default(),
        }
    }

    /// The bounds of a histogram's buckets if they are not Envoy's own, and the buckets.
    pub(super) fn buckets(&self, histogram: usize) -> (Option<&Arc<Bounds>>, &[Count]) {
        let bounded = self.bounded.as_ref();
        match bounded.and_then(|bounded| bounded[histogram].as_ref()) {
            Some(bounded) => (Some(&bounded.bounds), &bounded.buckets),
            None => (None, &self.histograms[histogram].buckets),
        }
    }

    #[cold]
    fn add_bounded(&self, bounded: &[Option<Bounded>; 3], values: [u64; 3]) {
        let each = self.histograms.iter().zip(bounded).zip(values);
        for ((histogram, bounded), value) in each {
            match bounded {
                None => histogram.add(value),
                Some(bounded) => {
                    bounded.buckets[bounded.bounds.bucket_of(value)].increment();
                    histogram.sum.add(value);
                }
            }
        }
    }

    /// It is of calls that go on, which are no requests yet.
    pub(super) fn has_messages_only(&mut self) {
        self.requests_labels = None;
        self.histograms_labels = [None, None, None];
    }

    pub(super) fn add(&self, seen: &Observation<'_>) {
        self.requests.increment();
        let values = [seen.millis, seen.request_bytes, seen.response_bytes];
        match &self.bounded {
            None => {
                for (histogram, value) in self.histograms.iter().zip(values) {
                    histogram.add(value);
                }
            }
            Some(bounded) => self.add_bounded(bounded, values),
        }
        for (count, messages) in self.messages.iter().zip(seen.messages) {
            count.add(messages);
        }
    }
}

/// The series of one worker, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct SeriesList {
    all: Mutex<Vec<Arc<Series>>>,
    tcp: Mutex<Vec<Arc<TcpSeries>>>,
    is_on: AtomicBool,
    /// What series had counted that have gone.
    retired: Mutex<Sums>,
    forgotten: AtomicU64,
    overflow: AtomicU64,
    cut: AtomicU64,
}

/// Counts are never left half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SeriesList {
    pub(super) fn push(&self, series: Arc<Series>) {
        lock(&self.all).push(series);
    }

    /// Series have gone, others are left. What they have counted is kept as long as another worker has a series with
    /// their labels: the sum of both must not become less.
    pub(super) fn retire(&self, gone: &[Arc<Series>], left: impl Iterator<Item = Arc<Series>>) {
        let mut all = lock(&self.all);
        *all = left.collect();
        let mut retired = self.retired(gone.len());
        for series in gone {
            retired.add(series);
        }
    }

    pub(super) fn push_tcp(&self, series: Arc<TcpSeries>) {
        lock(&self.tcp).push(series);
    }

    /// The same as [`Self::retire`].
    pub(super) fn retire_tcp(
        &self,
        gone: &[Arc<TcpSeries>],
        left: impl Iterator<Item = Arc<TcpSeries>>,
    ) {
        let mut all = lock(&self.tcp);
        *all = left.collect();
        let mut retired = self.retired(gone.len());
        for series in gone {
            retired.add_tcp(series);
        }
    }

    /// With room for so many more.
    fn retired(&self, more: usize) -> MutexGuard<'_, Sums> {
        let mut retired = lock(&self.retired);
        if retired.series() + more > MOST_RETIRED {
            // Nobody has asked for a long time.
            self.forgotten
                .fetch_add(retired.series() as u64, Ordering::Relaxed);
            *retired = Sums::default();
        }
        retired
    }

    /// Adds all series to the sums; what those have counted that have gone, if any have.
    pub(super) fn add_to(&self, sums: &mut Sums) -> Option<Sums> {
        // While both are locked no series goes from here to there.
        let (all, tcp) = (lock(&self.all), lock(&self.tcp));
        for series in &*all {
            sums.add(series);
        }
        for series in &*tcp {
            sums.add_tcp(series);
        }
        let retired = lock(&self.retired);
        (!retired.is_empty()).then(|| retired.clone())
    }

    /// Forgets what is of labels that nobody has any more.
    pub(super) fn forget_retired(&self, known: &Sums) {
        lock(&self.retired).retain_known(known);
    }

    pub(super) fn count_overflow(&self) {
        self.overflow.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_cut(&self, labels: usize) {
        self.cut.fetch_add(labels as u64, Ordering::Relaxed);
    }

    /// Labels of series whose values were longer than they may be.
    pub(crate) fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }

    /// Notes that somebody counts here.
    pub(super) fn begin(&self) {
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// Whether somebody does, though there may be nothing yet.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Whether there is any series.
    pub(crate) fn is_used(&self) -> bool {
        !lock(&self.all).is_empty()
    }

    /// Series that had gone while others had their labels, and that were forgotten since nobody asked.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Requests that were counted without their labels, since there were too many sets of them.
    pub(crate) fn overflow(&self) -> u64 {
        self.overflow.load(Ordering::Relaxed)
    }
}

/// A set of labels, with Istio's names and fallbacks.
#[derive(Debug, Default)]
pub(super) struct Labels {
    all: Vec<(Cow<'static, str>, String)>,
    /// How many of them say who has talked to whom.
    of_sides: usize,
    is_grpc: bool,
    /// How many were too long.
    pub(super) cut: usize,
}

impl Labels {
    pub(super) fn of(own: &Peer, seen: &Observation<'_>) -> Self {
        let is_outbound = seen.direction == Direction::Outbound;
        let unknown = Peer::default();
        let peer = seen.peer.as_deref().unwrap_or(&unknown);
        let mut labels = Self {
            is_grpc: seen.protocol == Protocol::Grpc,
            cut: seen.custom.as_ref().map_or(0, Custom::cut),
            ..Self::default()
        };
        labels.push(
            "reporter",
            if is_outbound { "source" } else { "destination" },
        );
        let sides = [("source", is_outbound), ("destination", !is_outbound)];
        for (side, is_own) in sides {
            let (who, principal) = match is_own {
                true => (own, seen.own_principal),
                false => (peer, seen.peer_principal),
            };
            labels.push_side(side, who, principal, is_own);
        }
        labels.push_service(own, peer, seen);
        labels.of_sides = labels.all.len();
        labels.push("request_protocol", seen.protocol.as_str());
        if seen.protocol != Protocol::Tcp {
            labels.push("response_code", &seen.status.to_string());
            let grpc = seen.grpc.map(|status| status.to_string());
            labels.push("grpc_response_status", grpc.as_deref().unwrap_or_default());
        }
        labels.push("response_flags", &seen.flags.to_string());
        let is_mutual = seen.peer_principal.is_some() && seen.own_principal.is_some();
        labels.push(
            "connection_security_policy",
            match (is_outbound, is_mutual) {
                (true, _) => "unknown",
                (false, true) => "mutual_tls",
                (false, false) => "none",
            },
        );
        labels
    }

    /// Those of a metric, as Prometheus has them; none if it is left out. Messages are told apart by who has talked
    /// to whom only.
    pub(super) fn of_metric(
        &self,
        metric: Metric,
        custom: Option<&Custom<'_>>,
    ) -> Option<Arc<str>> {
        let all = match MESSAGES.contains(&metric) {
            true => &self.all[..self.of_sides],
            false => &self.all[..],
        };
        let mut text = String::with_capacity(1024);
        let Some((custom, rule)) = custom.map(|custom| (custom, custom.rule(metric))) else {
            for (name, value) in all {
                push_label(&mut text, name, value);
            }
            return Some(text.into());
        };
        if rule.is_dropped {
            return None;
        }
        for (name, value) in all
            .iter()
            .filter(|(name, _)| !rule.removed.contains(&**name))
        {
            let other = rule.set.get(&**name).map(|other| custom.value(other));
            push_label(&mut text, name, other.unwrap_or(value));
        }
        let is_new = |name: &str| all.iter().all(|(known, _)| known != name);
        for (name, value) in rule.set.iter().filter(|(name, _)| is_new(name)) {
            push_label(&mut text, name, custom.value(value));
        }
        Some(text.into())
    }

    /// Of whatever there was no room for.
    pub(super) fn overflow(direction: Direction) -> Self {
        let mut labels = Self::default();
        let is_outbound = direction == Direction::Outbound;
        labels.push(
            "reporter",
            if is_outbound { "source" } else { "destination" },
        );
        labels.push("overflow", "true");
        labels
    }

    /// What is this proxy's own is used as it is, what is told may be missing.
    fn push_side(&mut self, side: &str, who: &Peer, principal: Option<&str>, is_own: bool) {
        let or = |value: &str, fallback: &'static str| match value {
            "" if !is_own => fallback.to_owned(),
            value => value.to_owned(),
        };
        // A proven identity is better than what somebody says.
        let proven = principal.filter(|_| !is_own).and_then(namespace_of);
        let namespace = proven.map_or_else(|| or(&who.namespace, "unknown"), str::to_owned);
        let named = [
            ("workload", or(&who.workload, "unknown")),
            ("canonical_service", or(&who.canonical_service, "unknown")),
            ("canonical_revision", or(&who.canonical_revision, "latest")),
            ("workload_namespace", namespace),
            ("principal", principal.unwrap_or("unknown").to_owned()),
            ("app", or(&who.app, "unknown")),
            ("version", or(&who.version, "unknown")),
            ("cluster", or(&who.cluster, "unknown")),
        ];
        for (name, value) in named {
            self.push(format!("{side}_{name}"), &value);
        }
    }

    /// As in Istio, a workload that serves what has no name calls it by its own.
    fn push_service(&mut self, own: &Peer, peer: &Peer, seen: &Observation<'_>) {
        let is_outbound = seen.direction == Direction::Outbound;
        let (host, name, namespace) = seen.service.names();
        let fallback = match is_outbound {
            true => "unknown",
            false => &own.canonical_service,
        };
        let proven = seen.peer_principal.and_then(namespace_of);
        let namespace = match (is_outbound, namespace) {
            (false, _) => &own.namespace,
            (true, "") => proven.unwrap_or(&peer.namespace),
            (true, told) => told,
        };
        let or = |value: &str, other: &str| if value.is_empty() { other } else { value }.to_owned();
        self.push("destination_service", &or(host, fallback));
        self.push("destination_service_name", &or(name, fallback));
        self.push("destination_service_namespace", &or(namespace, "unknown"));
    }

    fn push(&mut self, name: impl Into<Cow<'static, str>>, value: &str) {
        self.cut += usize::from(value.len() > MOST_LABEL);
        self.all.push((name.into(), cut(value).to_owned()));
    }
}

/// The namespace of a SPIFFE id of Istio's form: `spiffe://cluster.local/ns/default/sa/reviews`.
fn namespace_of(principal: &str) -> Option<&str> {
    let (_, rest) = principal.split_once("/ns/")?;
    rest.split('/').next()
}
