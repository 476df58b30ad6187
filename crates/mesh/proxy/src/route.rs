//! Route lookup: host, path and headers to a route and its clusters, without allocation.

mod asking;
mod index;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use periplus_wire::export::FixedTags;

pub(crate) use self::asking::{Asking, joined, matches_header, meets};
use crate::balance::Criteria;
use crate::filter::{Active, Chain, Maker};
use crate::http1::edit::{Names, append_field, append_number};
use crate::http1::name::Name;
use crate::http1::request::Tunnel;
use crate::snapshot::{
    FieldName, Forward, PathMatch, Route, RouteAction, RouteTable, RouteTracing, VirtualHost,
    WeightedCluster, choose, overlay,
};
use crate::trace::{Tracer, route_tags};
use crate::upstream::ClusterState;

use index::Index;

/// The longest host name that is looked up (RFC 1035 §2.3.4 allows 253 characters), with a port.
const LONGEST_HOST: usize = 264;

/// A route table with the clusters of this worker at its routes.
#[derive(Debug)]
pub(crate) struct Router {
    table: Arc<RouteTable>,
    exact: HashMap<Box<[u8]>, usize, BuildHasherDefault<Mix>>,
    /// By virtual host and route.
    plans: Vec<Vec<RoutePlan>>,
    /// By virtual host.
    indices: Vec<Option<Index>>,
    /// The filters of requests without a route.
    filters: Chain,
    none: Chain,
}

/// What the requests of a route need, worked out beforehand.
#[derive(Debug)]
pub(crate) struct RoutePlan {
    /// By choice: the cluster, unless there is none of that name.
    clusters: Vec<Option<ClusterChoice>>,
    /// By copy: the cluster, unless there is none of that name.
    mirrors: Vec<Option<Rc<ClusterState>>>,
    /// By choice, if they are not the same for all: the filters of its requests.
    filters: Vec<Chain>,
    /// Something is changed about heads.
    pub(crate) edits: bool,
    /// `include_attempt_count_in_response`.
    pub(crate) tells_attempts: bool,
    /// Lines that every upstream request gets,
    pub(crate) lines: Vec<u8>,
    /// Where the line begins that tells the route's timeout.
    untimed: usize,
    /// and the fields that they replace.
    pub(crate) replaced: Names,
    /// What spans tell of it, once one has.
    told: OnceCell<FixedTags>,
    /// Its tracing, if it says how.
    pub(crate) tracer: Option<Box<Tracer>>,
}

/// A cluster that a route may forward to.
#[derive(Debug)]
pub(crate) struct ClusterChoice {
    pub(crate) cluster: Rc<ClusterState>,
    /// The subset of it, if it has subsets.
    pub(crate) criteria: Option<Rc<Criteria>>,
    /// The subset in words.
    subset: Option<Box<str>>,
}

/// Where a route is in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteAt {
    host: u32,
    route: u32,
    /// Which of the route's clusters was chosen; the first of those beyond the last number.
    choice: Choice,
}

/// Which of a route's clusters was chosen.
type Choice = Option<NonZeroU16>;

impl RouteAt {
    /// Which of the route's clusters was chosen.
    pub(crate) fn choice(self) -> usize {
        self.choice.map_or(0, |choice| choice.get().into())
    }
}

impl Router {
    /// `tells_operations`: the upstream's proxy is told the decorator's operation.
    pub(crate) fn new(
        table: Arc<RouteTable>,
        (tells_operations, filters): (bool, &Maker<'_>),
        cluster: impl Fn(&str) -> Option<Rc<ClusterState>>,
    ) -> Self {
        Self {
            exact: table
                .exact
                .iter()
                .map(|(domain, at)| (domain.as_bytes().into(), *at))
                .collect(),
            plans: table
                .virtual_hosts
                .iter()
                .map(|host| {
                    host.routes
                        .iter()
                        .map(|route| RoutePlan {
                            filters: filters_of(route, filters),
                            ..RoutePlan::new(host, route, tells_operations, &cluster)
                        })
                        .collect()
                })
                .collect(),
            indices: table
                .virtual_hosts
                .iter()
                .map(|host| Index::new(&host.routes))
                .collect(),
            filters: filters.active(&table.filters),
            none: Chain::default(),
            table,
        }
    }

    /// Makes the tracers of the routes that say how they are traced; whether there is any.
    pub(crate) fn trace(&mut self, make: impl Fn(&RouteTracing) -> Tracer) -> bool {
        let mut any = false;
        for (host, plans) in self.table.virtual_hosts.iter().zip(&mut self.plans) {
            for (route, plan) in host.routes.iter().zip(plans) {
                plan.tracer = route.tracing.as_deref().map(|it| Box::new(make(it)));
                any |= plan.tracer.is_some();
            }
        }
        any
    }

    /// The first route that matches.
    pub(crate) fn find(&self, asking: &Asking<'_>, random: impl Fn() -> u64) -> Option<RouteAt> {
        let Asking { request, head, .. } = *asking;
        let host = self.host(if self.table.ignore_port {
            request.target.host.get(head)
        } else {
            request.target.authority.get(head)
        })?;
        // One for all shares of a request, as in Envoy.
        let drawn = OnceCell::new();
        let random = || *drawn.get_or_init(&random);
        let target = request.target.path.get(head);
        let path = memchr::memchr(b'?', target).map_or(target, |query| &target[..query]);
        let routes = &self.table.virtual_hosts.get(host)?.routes;
        let is_for = |route: &Route, has_prefix: bool| {
            let is_there = match request.tunnel {
                // It has no path.
                Tunnel::Connect => route.path == PathMatch::Connect,
                _ if has_prefix && matches!(route.path, PathMatch::Prefix(_)) => true,
                _ => route.path.matches(path),
            };
            is_there
                && route.headers.iter().all(|condition| asking.has(condition))
                && route
                    .conditions
                    .as_ref()
                    .is_none_or(|conditions| meets(conditions, asking, random))
        };
        let route = match &self.indices[host] {
            Some(index) if request.tunnel != Tunnel::Connect => {
                let values = |name: &FieldName| asking.values(name);
                index.first(path, values, |at, has_prefix| {
                    is_for(&routes[at], has_prefix)
                })
            }
            _ => routes.iter().position(|route| is_for(route, false)),
        }?;
        Some(RouteAt {
            host: host as u32,
            route: route as u32,
            choice: None,
        })
    }

    /// A route.
    #[inline]
    pub(crate) fn route(&self, at: RouteAt) -> &Route {
        &self.table.virtual_hosts[at.host as usize].routes[at.route as usize]
    }

    /// A route, and the name of its virtual host.
    pub(crate) fn named(&self, at: RouteAt) -> (String, Arc<Route>) {
        let host = &self.table.virtual_hosts[at.host as usize];
        (host.name.clone(), host.routes[at.route as usize].clone())
    }

    /// The filters of a request.
    #[inline]
    pub(crate) fn filters(&self, at: Option<RouteAt>) -> &[Active] {
        self.chain(at).active()
    }

    /// The same, with their places.
    #[inline]
    pub(crate) fn chain(&self, at: Option<RouteAt>) -> &Chain {
        let Some(at) = at else {
            return &self.filters;
        };
        let filters = &self.plan(at).filters;
        let of_choice = filters.get(at.choice()).or(filters.first());
        of_choice.unwrap_or(&self.none)
    }

    /// What the requests of a route need.
    #[inline]
    pub(crate) fn plan(&self, at: RouteAt) -> &RoutePlan {
        &self.plans[at.host as usize][at.route as usize]
    }

    /// What spans tell of a route.
    pub(crate) fn tags(&self, at: RouteAt) -> &FixedTags {
        let host = &self.table.virtual_hosts[at.host as usize];
        let told = &self.plan(at).told;
        told.get_or_init(|| route_tags(&host.name, self.route(at)))
    }

    /// The subset that a request goes to.
    pub(crate) fn subset(&self, at: RouteAt) -> Option<&str> {
        let choice = self.plan(at).clusters.get(at.choice())?.as_ref()?;
        choice.subset.as_deref()
    }

    /// Where one of a route's copies goes.
    pub(crate) fn mirror(&self, at: RouteAt, index: usize) -> Option<&Rc<ClusterState>> {
        self.plan(at).mirrors.get(index)?.as_ref()
    }

    /// One of the clusters of a forwarding route, by weight; `None` if its cluster is missing.
    #[inline]
    pub(crate) fn cluster(
        &self,
        at: &mut RouteAt,
        forward: &Forward,
        random: impl FnOnce() -> u64,
    ) -> Option<&ClusterChoice> {
        let choices = &self.plan(*at).clusters;
        let choice = if choices.len() < 2 {
            0
        } else {
            choose(&forward.clusters, forward.total_weight, random())
        };
        at.choice = u16::try_from(choice).ok().and_then(NonZeroU16::new);
        choices.get(choice)?.as_ref()
    }

    /// Exact, then the longest suffix, then the longest prefix, then `*`.
    #[inline]
    fn host(&self, named: &[u8]) -> Option<usize> {
        if named.len() > LONGEST_HOST {
            return self.table.any;
        }
        let mut lower;
        // All of it, since the compiler looks at many bytes at a time then.
        let has_capitals = |found, byte: &u8| found | byte.is_ascii_uppercase();
        let host = if named.iter().fold(false, has_capitals) {
            lower = [0; LONGEST_HOST];
            let lower = &mut lower[..named.len()];
            lower.copy_from_slice(named);
            lower.make_ascii_lowercase();
            &*lower
        } else {
            named
        };
        self.exact
            .get(host)
            .copied()
            .or_else(|| {
                let longest = self.table.suffixes.iter().find(|(suffix, _)| {
                    host.len() > suffix.len() && host.ends_with(suffix.as_bytes())
                });
                longest.map(|(_, at)| *at)
            })
            .or_else(|| {
                let longest = self.table.prefixes.iter().find(|(prefix, _)| {
                    host.len() > prefix.len() && host.starts_with(prefix.as_bytes())
                });
                longest.map(|(_, at)| *at)
            })
            .or(self.table.any)
    }
}

impl RoutePlan {
    /// The lines without that of the route's timeout.
    pub(crate) fn untimed_lines(&self) -> &[u8] {
        &self.lines[..self.untimed]
    }

    fn new(
        host: &VirtualHost,
        route: &Route,
        tells_operations: bool,
        cluster: impl Fn(&str) -> Option<Rc<ClusterState>>,
    ) -> Self {
        let mut plan = Self {
            clusters: Vec::new(),
            mirrors: Vec::new(),
            filters: Vec::new(),
            edits: edits(route),
            tells_attempts: host.include_attempt_count_in_response,
            lines: Vec::new(),
            untimed: 0,
            replaced: Names::default(),
            told: OnceCell::new(),
            tracer: None,
        };
        if let Some(decorator) = &route.decorator
            && tells_operations
            && decorator.propagate
            && !decorator.operation.is_empty()
        {
            let operation = decorator.operation.as_bytes();
            append_field(&mut plan.lines, "x-envoy-decorator-operation", operation);
            plan.replaced.add(Name::XEnvoyDecoratorOperation);
        }
        if let RouteAction::Forward(forward) = &route.action {
            let choices = forward.clusters.iter();
            let choice = |choice: &WeightedCluster| {
                let cluster = cluster(&choice.name)?;
                let subsets = cluster.cluster.spread.subsets.as_ref();
                let criteria = subsets.map(|all| Rc::new(Criteria::new(&choice.labels, all)));
                let subset = subset(choice, &cluster.cluster.name);
                Some(ClusterChoice {
                    cluster,
                    criteria,
                    subset,
                })
            };
            plan.clusters = choices.map(choice).collect();
            let mirrors = forward.mirrors.iter();
            plan.mirrors = mirrors.map(|mirror| cluster(&mirror.cluster)).collect();
        }
        if host.include_request_attempt_count {
            plan.lines
                .extend_from_slice(b"x-envoy-attempt-count: 1\r\n");
            plan.replaced.add(Name::XEnvoyAttemptCount);
        }
        plan.untimed = plan.lines.len();
        if let RouteAction::Forward(forward) = &route.action
            && let Some(timeout) = forward.first_timeout()
        {
            append_timeout(&mut plan.lines, timeout);
        }
        plan
    }
}

/// The subset that a route asks for: by labels, or as Istio names its clusters (`outbound|9080|v1|HOST`).
fn subset(choice: &WeightedCluster, cluster: &str) -> Option<Box<str>> {
    if !choice.labels.is_empty() {
        let labels = choice.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| format!("{name}={}", value.trim_matches('"')))
            .collect();
        return Some(labels.join(",").into());
    }
    let mut parts = cluster.split('|');
    let (subset, host) = (parts.nth(2)?, parts.next()?);
    (!subset.is_empty() && !host.is_empty()).then(|| subset.into())
}

/// How long the proxy waits for the response.
pub(crate) fn append_timeout(out: &mut Vec<u8>, timeout: Duration) {
    if !timeout.is_zero() {
        let ms = timeout.as_millis() as u64;
        append_number(out, "x-envoy-expected-rq-timeout-ms", ms);
    }
}

/// The filters of a route: for each of its clusters if they want something, else one list for all.
fn filters_of(route: &Route, filters: &Maker<'_>) -> Vec<Chain> {
    if filters.is_empty() {
        return Vec::new();
    }
    let choices: &[WeightedCluster] = match &route.action {
        RouteAction::Forward(forward) => &forward.clusters,
        RouteAction::Respond { .. } | RouteAction::Redirect(_) => &[],
    };
    let of_route = route.filters.as_deref().cloned().unwrap_or_default();
    if choices.iter().all(|choice| choice.filters.is_none()) {
        return vec![filters.active(&of_route)];
    }
    let of = |choice: &WeightedCluster| {
        let mut wanted = of_route.clone();
        if let Some(own) = &choice.filters {
            overlay(&mut wanted, own);
        }
        filters.active(&wanted)
    };
    choices.iter().map(of).collect()
}

/// Whether a route changes something about heads.
fn edits(route: &Route) -> bool {
    let by_action = match &route.action {
        RouteAction::Forward(forward) => {
            let edits = |choice: &WeightedCluster| choice.edits.is_some() || choice.host.is_some();
            forward.rewrite.is_some() || forward.clusters.iter().any(edits)
        }
        RouteAction::Respond { .. } | RouteAction::Redirect(_) => false,
    };
    by_action || route.edits.is_some()
}

/// A multiplicative hash, 8 bytes at a time. Its keys come from the configuration, so nobody can make it
/// collide on purpose.
#[derive(Debug, Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        // Of more than a word, the last one overlaps the one before it.
        match bytes.last_chunk() {
            _ if rest.is_empty() => {}
            Some(last) => self.write_u64(u64::from_le_bytes(*last)),
            None => {
                let shift = |word: u64, byte: &u8| word << 8 | u64::from(*byte);
                self.write_u64(rest.iter().fold(0, shift));
            }
        }
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    #[inline]
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
