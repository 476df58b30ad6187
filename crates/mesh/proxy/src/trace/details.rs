//! What spans tell besides Envoy's tags, if they are to: attributes whose names begin with `periplus.`.
//! `docs/semantic-conventions.md` names them all.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::rc::Rc;

use periplus_wire::export::{FixedTags, Tag};
use periplus_wire::tag;
use smallvec::SmallVec;

use crate::clock::Micros;
use crate::snapshot::{Cluster, HeaderMatch, PathMatch, Route, Thresholds, ValueMatch};
use crate::trace::Attempt;
use crate::trace::spans::{Finished, digits};
use crate::trace::tags::Tags;

/// Numbers of one span at the most.
const MOST_NUMBERS: usize = 24;

/// How long an attempt has waited for its connection, in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waited {
    queued: Cell<u32>,
    connecting: Cell<u32>,
}

impl Waited {
    /// It has waited for a connection of others.
    pub(crate) fn queued(&self, time: Micros) {
        add(&self.queued, time);
    }

    /// It has waited for one that was being opened.
    pub(crate) fn connecting(&self, time: Micros) {
        add(&self.connecting, time);
    }
}

fn add(sum: &Cell<u32>, time: Micros) {
    sum.set(
        sum.get()
            .saturating_add(time.try_into().unwrap_or(u32::MAX)),
    );
}

/// What was in use when an attempt began, itself included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Occupied {
    /// Of the cluster, in all workers; counted only where there is a limit.
    pub(crate) requests: u32,
    pub(crate) pending: u32,
    pub(crate) connections: u32,
    pub(crate) retries: u32,
    /// Requests at the endpoint, and connections to it, of this worker.
    pub(crate) active: u32,
    pub(crate) open: u32,
    /// Whose limits hold.
    pub(crate) is_high: bool,
}

/// What is measured of an attempt for its span.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// How long it has waited for its connection.
    pub(crate) waited: Waited,
    /// When the response began.
    pub(crate) first_byte: Micros,
    /// What was in use at its beginning.
    pub(crate) occupied: Option<Occupied>,
}

/// What is told of a request besides Envoy's tags.
#[derive(Debug)]
pub(crate) struct Details<'a> {
    pub(crate) route: Option<&'a FixedTags>,
    pub(crate) endpoint: Option<Rc<FixedTags>>,
    pub(crate) subset: Option<&'a str>,
    /// What is in use where the cluster itself has refused.
    pub(crate) occupied: Option<Occupied>,
    pub(crate) tries: u16,
    /// How the attempts before the last one ended.
    pub(crate) before: &'a str,
    /// How many requests to this workload are under way, and the newest of them.
    pub(crate) causes: Option<&'a (usize, String)>,
}

/// The tags of a span that were encoded before.
pub(super) struct Fixed<'t> {
    all: [&'t FixedTags; 5],
    count: usize,
}

impl<'t> Fixed<'t> {
    pub(super) fn new<const N: usize>(first: [&'t FixedTags; N]) -> Self {
        let mut all = [first[0]; 5];
        all[..N].copy_from_slice(&first);
        Self { all, count: N }
    }

    fn push(&mut self, tags: Option<&'t FixedTags>) {
        if let (Some(tags), Some(place)) = (tags, self.all.get_mut(self.count)) {
            *place = tags;
            self.count += 1;
        }
    }

    pub(super) fn as_slice(&self) -> &[&'t FixedTags] {
        &self.all[..self.count]
    }
}

/// Memory for texts that tags refer to.
#[derive(Default)]
pub(super) struct Memory {
    digits: [itoa::Buffer; MOST_NUMBERS],
    words: Option<Cow<'static, str>>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Details<'_> {
    /// Adds what the span of the request tells; of its attempt only if that has no span of its own.
    #[cold]
    #[inline(never)]
    pub(super) fn push<'t>(
        &'t self,
        finished: &'t Finished<'_>,
        spawns: bool,
        memory: &'t mut Memory,
        tags: &mut Tags<'t>,
        mut fixed: Fixed<'t>,
    ) -> Fixed<'t> {
        let cluster = finished.cluster.map(|cluster| &*cluster.cluster);
        let mut numbers = Numbers::default();
        memory.words = finished.flags.words();
        if let Some(words) = &memory.words {
            tags.push(tag!("periplus.response_flags", words));
        }
        fixed.push(self.route);
        if let Some(subset) = self.subset {
            tags.push(tag!("periplus.upstream.subset", subset));
        }
        if finished.attempt.is_some() && self.tries > 1 {
            numbers.push("periplus.attempts", self.tries);
        }
        if !self.before.is_empty() {
            tags.push(tag!("periplus.attempts.before", self.before));
        }
        if let Some((count, causes)) = self.causes {
            numbers.push("periplus.inbound.in_flight", *count as u64);
            tags.push(tag!("periplus.inbound.candidates", causes));
        }
        match (finished.attempt, cluster) {
            (Some(attempt), Some(cluster)) if !spawns => {
                fixed.push(self.endpoint.as_deref());
                numbers.push_attempt(attempt, cluster, finished.end);
            }
            (None, Some(cluster)) => {
                if let Some(occupied) = &self.occupied {
                    numbers.push_occupied(occupied, cluster);
                }
            }
            _ => {}
        }
        numbers.write(&mut memory.digits, tags);
        fixed
    }

    /// Adds what the span of an attempt tells.
    #[cold]
    #[inline(never)]
    pub(super) fn push_attempt<'t>(
        &'t self,
        (attempt, finished): (&Attempt, &Finished<'_>),
        memory: &'t mut Memory,
        tags: &mut Tags<'t>,
        mut fixed: Fixed<'t>,
    ) -> Fixed<'t> {
        memory.words = attempt.flags.words();
        if let Some(words) = &memory.words {
            tags.push(tag!("periplus.response_flags", words));
        }
        fixed.push(self.endpoint.as_deref());
        let mut numbers = Numbers::default();
        if let Some(cluster) = finished.cluster {
            numbers.push_attempt(attempt, &cluster.cluster, finished.end);
        }
        numbers.write(&mut memory.digits, tags);
        fixed
    }
}

/// Numbers that become texts.
#[derive(Debug, Default)]
struct Numbers(SmallVec<[(&'static str, u64); MOST_NUMBERS]>);

impl Numbers {
    fn push(&mut self, name: &'static str, value: impl Into<u64>) {
        self.0.push((name, value.into()));
    }

    /// Those of an attempt that has ended then.
    fn push_attempt(&mut self, attempt: &Attempt, cluster: &Cluster, end: Micros) {
        let Some(measured) = &attempt.measured else {
            return;
        };
        if let Some(occupied) = &measured.occupied {
            self.push_occupied(occupied, cluster);
            self.push("periplus.pool.requests", occupied.active);
            self.push("periplus.pool.connections", occupied.open);
        }
        let Waited { queued, connecting } = &measured.waited;
        self.push("periplus.time.queued_us", queued.get());
        self.push("periplus.time.connecting_us", connecting.get());
        if attempt.status != 0 {
            let first = measured.first_byte.saturating_sub(attempt.begin);
            self.push("periplus.time.first_byte_us", first);
            let last = end.saturating_sub(attempt.begin);
            self.push("periplus.time.last_byte_us", last);
        }
    }

    /// Circuit breakers, those that have a limit.
    fn push_occupied(&mut self, occupied: &Occupied, cluster: &Cluster) {
        let Thresholds {
            max_requests,
            max_pending_requests,
            max_connections,
            max_retries,
            ..
        } = *cluster.limits.of(occupied.is_high);
        let all = [
            (
                [
                    "periplus.breaker.requests",
                    "periplus.breaker.requests.limit",
                ],
                (occupied.requests, max_requests),
            ),
            (
                ["periplus.breaker.pending", "periplus.breaker.pending.limit"],
                (occupied.pending, max_pending_requests),
            ),
            (
                [
                    "periplus.breaker.connections",
                    "periplus.breaker.connections.limit",
                ],
                (occupied.connections, max_connections),
            ),
            (
                ["periplus.breaker.retries", "periplus.breaker.retries.limit"],
                (occupied.retries, max_retries),
            ),
        ];
        for ([used, limited], (now, limit)) in all {
            if limit != u32::MAX {
                self.push(used, now);
                self.push(limited, limit);
            }
        }
    }

    fn write<'t>(&self, texts: &'t mut [itoa::Buffer], tags: &mut Tags<'t>) {
        for ((name, value), buffer) in self.0.iter().zip(texts) {
            tags.push(Tag::new(name, digits(buffer, *value)));
        }
    }
}

/// The tags of an endpoint at this place of its cluster's list; without one, it is what a client has asked for.
pub(crate) fn endpoint_tags(cluster: &Cluster, text: &str, index: Option<usize>) -> FixedTags {
    let mut tags = vec![("periplus.upstream.endpoint", text)];
    let (mut place, priority);
    if let Some(endpoint) = index.and_then(|index| cluster.endpoints.get(index)) {
        if !endpoint.hostname.is_empty() {
            tags.push(("periplus.upstream.hostname", &endpoint.hostname));
        }
        if let Some(locality) = cluster.localities.get(endpoint.locality) {
            place = locality.region.clone();
            for part in [&locality.zone, &locality.sub_zone] {
                if !part.is_empty() {
                    place.push('/');
                    place.push_str(part);
                }
            }
            if !place.is_empty() {
                tags.push(("periplus.upstream.locality", &place));
            }
        }
        if endpoint.priority > 0 {
            priority = endpoint.priority.to_string();
            tags.push(("periplus.upstream.priority", &priority));
        }
    }
    FixedTags::new(&tags)
}

/// The tags of a route.
pub(crate) fn route_tags(host: &str, route: &Route) -> FixedTags {
    let rule = rule(route);
    let mut tags = vec![
        ("periplus.route.host", host),
        ("periplus.route.match", rule.as_str()),
    ];
    if !route.name.is_empty() {
        tags.insert(0, ("periplus.route.name", &route.name));
    }
    FixedTags::new(&tags)
}

/// The conditions of a route in words.
fn rule(route: &Route) -> String {
    let mut text = String::new();
    push_path(&route.path, &mut text);
    for header in &route.headers {
        text.push_str(", ");
        push_header(header, &mut text);
    }
    if route.conditions.is_some() {
        text.push_str(", and others");
    }
    text
}

fn push_path(path: &PathMatch, text: &mut String) {
    // Writing to a `String` cannot fail.
    let _ = match path {
        PathMatch::Prefix(prefix) => write!(text, "prefix {prefix}"),
        PathMatch::Exact(exact) => write!(text, "path {exact}"),
        PathMatch::PathSeparatedPrefix(prefix) => write!(text, "prefix {prefix}/"),
        PathMatch::Regex(pattern) => write!(text, "regex {}", pattern.source()),
        PathMatch::Connect => write!(text, "CONNECT"),
        PathMatch::IgnoringCase(inner) => {
            push_path(inner, text);
            write!(text, " in any case")
        }
    };
}

fn push_header(header: &HeaderMatch, text: &mut String) {
    let not = if header.invert { "not " } else { "" };
    let _ = write!(text, "{not}header {}", header.name);
    push_value(&header.value, text);
}

fn push_value(value: &ValueMatch, text: &mut String) {
    let _ = match value {
        ValueMatch::Present => write!(text, " present"),
        ValueMatch::Exact(exact) => write!(text, " = {exact}"),
        ValueMatch::Prefix(prefix) => write!(text, " = {prefix}*"),
        ValueMatch::Suffix(suffix) => write!(text, " = *{suffix}"),
        ValueMatch::Contains(part) => write!(text, " = *{part}*"),
        ValueMatch::Regex(pattern) => write!(text, " ~ {}", pattern.source()),
        ValueMatch::Range(from, to) => write!(text, " in {from}..{to}"),
        ValueMatch::IgnoringCase(inner) => {
            push_value(inner, text);
            write!(text, " in any case")
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Pattern, RouteAction};

    #[test]
    fn rules_in_words() {
        let to = || RouteAction::Respond {
            status: 200,
            body: String::new(),
        };
        let header = |name: &str, value, invert| HeaderMatch {
            name: name.into(),
            value,
            invert,
            missing_is_empty: false,
        };
        let mut route = Route::new(PathMatch::Prefix("/reviews".to_owned()), to());
        route.headers = vec![
            header("end-user", ValueMatch::Exact("jason".to_owned()), false),
            header("x-debug", ValueMatch::Present, true),
            header(
                "cookie",
                ValueMatch::Regex(Pattern::new("a|b").expect("valid")),
                false,
            ),
        ];
        assert_eq!(
            rule(&route),
            "prefix /reviews, header end-user = jason, not header x-debug present, header cookie ~ a|b"
        );
        let any = PathMatch::IgnoringCase(Box::new(PathMatch::Exact("/x".to_owned())));
        assert_eq!(rule(&Route::new(any, to())), "path /x in any case");
    }
}
