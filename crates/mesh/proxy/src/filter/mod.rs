//! HTTP filters: worked off one after the other, in the order of the connection manager, before a request goes
//! on.
//!
//! What a route's requests meet is worked out when routes are compiled; where that is nothing, a request
//! costs nothing here.

mod cors;
mod fault;
mod health;
mod limit;
mod names;
mod session;
mod strict;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use self::fault::Faults;
pub(crate) use self::session::Bound;
use crate::acquire::{Waits, wait_for_body};
use crate::call::Call;
use crate::exchange::Exchange;
use crate::http1::framing::Framing;
use crate::http1::request::Tunnel;
use crate::names::Names;
use crate::policy::authz::{self, AuthzView};
use crate::policy::jwt::{Demand, JwtView};
use crate::policy::quota::{self, QuotaView};
use crate::policy::{Decided, RBAC, RbacView};
use crate::reply::{Failure, Reply};
use crate::snapshot::{
    AccessLog, ConnectionManager, Cors, CustomTag, CustomTagValue, Fault, Filter, HealthFilter,
    HttpFilter, PerFilters, RateLimit, Session, SessionBy,
};
use crate::stats::{CorsStats, LimitStats, Registry};
use crate::upstream::Usages;
use crate::worker::Worker;

/// A filter as the requests of a worker meet it.
#[derive(Clone, Debug)]
pub(crate) enum Active {
    Fault(Arc<Fault>),
    Cors(Arc<Cors>),
    Limit(Arc<RateLimit>),
    Rbac(Rc<RbacView>),
    Jwt(Rc<JwtView>, Demand),
    Authz(Rc<AuthzView>),
    Quota(Rc<QuotaView>),
    Session(Arc<Session>),
    /// At most so many bytes of a body.
    Buffer(u32),
    Names(Arc<Names>),
    Health(Arc<HealthFilter>),
    Forget(Arc<[String]>),
    Strict(Arc<[String]>),
}

/// Filters that requests meet, in order.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    active: Vec<Active>,
    /// Which filter of the connection manager each one is.
    places: Vec<usize>,
}

impl Chain {
    #[inline]
    pub(crate) fn active(&self) -> &[Active] {
        &self.active
    }

    /// Which filter of the connection manager one is.
    pub(crate) fn place(&self, index: usize) -> usize {
        self.places.get(index).copied().unwrap_or_default()
    }

    /// The first that comes after a filter of the connection manager.
    pub(crate) fn behind(&self, place: usize) -> usize {
        self.places.partition_point(|other| *other <= place)
    }
}

/// What the filters of a connection manager have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    faults: Option<Rc<Faults>>,
    cors: Option<Arc<CorsStats>>,
    /// By their prefix, as far as they were asked for.
    limits: RefCell<Vec<(String, Arc<LimitStats>)>>,
    /// Those of requests for which there are no routes at all.
    unrouted: Chain,
}

impl Shared {
    pub(crate) fn new(manager: &ConnectionManager, maker: &Maker<'_>, worker: &Worker) -> Self {
        let (prefix, registry) = (&manager.stat_prefix, &worker.registry);
        let has = |is_it: fn(&Filter) -> bool| manager.filters.iter().any(|one| is_it(&one.filter));
        Self {
            faults: has(|filter| matches!(filter, Filter::Fault(_))).then(|| {
                Rc::new(Faults {
                    stats: registry.faults(prefix),
                    active: worker.usages.faults(prefix),
                })
            }),
            cors: has(|filter| matches!(filter, Filter::Cors(_))).then(|| registry.cors(prefix)),
            limits: RefCell::default(),
            unrouted: maker.active(&PerFilters::new()),
        }
    }
}

/// Makes lists of filters: what several lists have in common exists once.
#[derive(Debug)]
pub(crate) struct Maker<'a> {
    filters: &'a [HttpFilter],
    stat_prefix: &'a str,
    registry: &'a Registry,
    usages: &'a Usages,
    rbac: RefCell<Vec<Rc<RbacView>>>,
    jwt: RefCell<Vec<Rc<JwtView>>>,
    authz: RefCell<Vec<Rc<AuthzView>>>,
    quotas: RefCell<Vec<Rc<QuotaView>>>,
    /// What spans tell besides.
    tags: &'a [CustomTag],
    logs: &'a [Arc<AccessLog>],
}

impl<'a> Maker<'a> {
    pub(crate) fn new(
        manager: &'a ConnectionManager,
        registry: &'a Registry,
        usages: &'a Usages,
    ) -> Self {
        Self {
            filters: &manager.filters,
            stat_prefix: &manager.stat_prefix,
            registry,
            usages,
            rbac: RefCell::default(),
            jwt: RefCell::default(),
            authz: RefCell::default(),
            quotas: RefCell::default(),
            tags: manager
                .tracing
                .as_ref()
                .map_or(&[], |tracing| &tracing.custom_tags),
            logs: &manager.access_logs,
        }
    }

    /// Whether there are no filters at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// The filters that the requests of a route meet.
    pub(crate) fn active(&self, wanted: &PerFilters) -> Chain {
        let of_route = |filter: &HttpFilter| {
            let of_route = match wanted.get(&filter.name) {
                Some(wanted) => wanted.apply(filter)?,
                None if filter.disabled => return None,
                None => filter.filter.clone(),
            };
            self.make(&of_route, &filter.filter)
        };
        let filters = self.filters.iter().enumerate();
        let active = filters.filter_map(|(place, filter)| Some((of_route(filter)?, place)));
        let (active, places) = active.unzip();
        Chain { active, places }
    }

    /// Whether a filter, a tag of spans or a log asks for what rules have decided.
    fn tells_decisions(&self) -> bool {
        let is_asked = |tag: &CustomTag| match &tag.value {
            CustomTagValue::Metadata { filter, .. } => filter == RBAC,
            CustomTagValue::Format(format) => format.0.tells_decisions(),
            CustomTagValue::Literal(_) | CustomTagValue::RequestHeader { .. } => false,
        };
        self.tags.iter().any(is_asked)
            || self.logs.iter().any(|log| log.format.tells_decisions())
            || self.filters.iter().any(|filter| match &filter.filter {
                Filter::Authz(authz) => authz
                    .enabled_by
                    .as_ref()
                    .is_some_and(|asked| asked.filter == RBAC),
                _ => false,
            })
    }

    /// The filter as a route wants it, where the connection manager has another one; none if it does nothing.
    fn make(&self, filter: &Filter, of_manager: &Filter) -> Option<Active> {
        match filter {
            Filter::Fault(fault) => (fault.delay.is_some() || fault.abort.is_some())
                .then(|| Active::Fault(fault.clone())),
            Filter::Limit(limit) => (limit.enabled > 0).then(|| Active::Limit(limit.clone())),
            Filter::Cors(cors) => (cors.enabled != Some(0) || cors.shadow.is_some())
                .then(|| Active::Cors(cors.clone())),
            Filter::Rbac(rbac) => {
                let is_it = |view: &RbacView| Arc::ptr_eq(&view.rbac, rbac);
                let new = || {
                    let named = match of_manager {
                        Filter::Rbac(named) => named,
                        _ => rbac,
                    };
                    let mut view = RbacView::new(rbac, named, self.stat_prefix, self.registry);
                    view.tells = self.tells_decisions();
                    view
                };
                Some(Active::Rbac(shared(&self.rbac, is_it, new)))
            }
            Filter::Jwt(jwt, required) => {
                let is_it = |view: &JwtView| Arc::ptr_eq(&view.jwt, jwt);
                let new = || JwtView::new(jwt, self.stat_prefix, self.registry);
                let view = shared(&self.jwt, is_it, new);
                Some(Active::Jwt(view, Demand::new(jwt, required)))
            }
            Filter::Authz(authz) => {
                let is_it = |view: &AuthzView| Arc::ptr_eq(&view.authz, authz);
                let new = || AuthzView::new(authz, self.stat_prefix, self.registry);
                Some(Active::Authz(shared(&self.authz, is_it, new)))
            }
            Filter::Quota(quota) => {
                let is_it = |view: &QuotaView| Arc::ptr_eq(&view.quota, quota);
                let new = || QuotaView::new(quota);
                (quota.enabled > 0).then(|| Active::Quota(shared(&self.quotas, is_it, new)))
            }
            Filter::Session(session) => {
                (session.by != SessionBy::Nothing).then(|| Active::Session(session.clone()))
            }
            Filter::Buffer(most) => Some(Active::Buffer(*most)),
            Filter::Names(cache) => {
                let names = self.usages.names(cache, self.registry);
                Some(Active::Names(names))
            }
            Filter::Health(health) => Some(Active::Health(health.clone())),
            Filter::Forget(names) => Some(Active::Forget(names.clone())),
            Filter::Strict(names) => Some(Active::Strict(names.clone())),
        }
    }
}

/// The one that is there, or a new one.
fn shared<T>(
    known: &RefCell<Vec<Rc<T>>>,
    is_it: impl Fn(&T) -> bool,
    new: impl FnOnce() -> T,
) -> Rc<T> {
    let mut known = known.borrow_mut();
    if let Some(view) = known.iter().find(|view| is_it(view)) {
        return view.clone();
    }
    let view = Rc::new(new());
    known.push(view.clone());
    view
}

/// How far the filters have come.
enum Passed {
    All,
    /// One of them answers.
    Answer(Reply<'static>),
    /// The next one may have to wait.
    Until(Active),
}

/// Works the filters off: an answer, if one of them has one.
pub(crate) async fn pass(
    client: &mut impl Waits,
    exchange: &mut Exchange,
) -> Result<Option<Reply<'static>>, Failure> {
    let mut next = 0;
    loop {
        let filter = match client.call_mut().pass_ready(exchange, &mut next) {
            Passed::All => return Ok(None),
            Passed::Answer(reply) => return Ok(Some(reply)),
            Passed::Until(filter) => filter,
        };
        // What is rare is boxed, so that the usual request does not hold the memory for it.
        let timers = client.call().worker.timers.clone();
        let waiting = Box::pin(wait(client, exchange, &filter, &mut next));
        let answer = timers.unless_cut(waiting).await;
        let answer = answer.unwrap_or(Err(Failure::Ending))?;
        exchange.onward = client.call().worker.clock.now();
        if answer.is_some() {
            return Ok(answer);
        }
    }
}

/// Works off a filter that may have to wait.
async fn wait(
    client: &mut impl Waits,
    exchange: &mut Exchange,
    filter: &Active,
    next: &mut usize,
) -> Result<Option<Reply<'static>>, Failure> {
    match filter {
        Active::Fault(fault) => fault::run(client, exchange, fault).await,
        Active::Jwt(tokens, demand) => {
            let checked = tokens.check(client.call(), exchange, demand).await;
            let call = client.call_mut();
            Ok(call.take_tokens(exchange, tokens, checked, next))
        }
        Active::Authz(view) => authz::run(client, exchange, view, next).await,
        Active::Quota(view) => quota::run(client, exchange, view).await,
        Active::Buffer(most) => buffer(client, exchange, *most as usize).await,
        Active::Names(names) => names::run(client, exchange, names).await,
        Active::Cors(_)
        | Active::Limit(_)
        | Active::Rbac(_)
        | Active::Session(_)
        | Active::Forget(_)
        | Active::Strict(_)
        | Active::Health(_) => Ok(None),
    }
}

/// Waits for the whole body: an answer, if it has more than so many bytes.
async fn buffer(
    client: &mut impl Waits,
    exchange: &mut Exchange,
    most: usize,
) -> Result<Option<Reply<'static>>, Failure> {
    let request = &client.call().request;
    if request.framing == Framing::None || request.tunnel != Tunnel::None {
        return Ok(None);
    }
    let body = wait_for_body(client, exchange, most + 1).await?;
    if body.is_within(most) {
        return Ok(None);
    }
    exchange.request_bytes = body.data.len() as u64;
    Ok(Some(client.call().too_large(exchange)))
}

impl Call {
    /// Works off filters until one may have to wait.
    fn pass_ready(&mut self, exchange: &mut Exchange, next: &mut usize) -> Passed {
        let view = self.view.clone();
        if *next == 0 {
            self.decided = Decided::default();
        }
        let filters = view.filters(exchange);
        while let Some(filter) = filters.get(*next) {
            let place = *next;
            *next += 1;
            let answer = match filter {
                Active::Cors(policy) => self.cors(exchange, policy),
                Active::Health(health) => self.tell_health(exchange, health),
                Active::Limit(limit) => self.limit_rate(exchange, limit),
                Active::Rbac(rules) => self.ask_rules(rules, place, exchange),
                Active::Session(session) => {
                    self.bind(exchange, session);
                    None
                }
                Active::Forget(names) => self.edit_head(names, &[]),
                Active::Strict(names) => self.check_strictly(exchange, names),
                Active::Fault(_)
                | Active::Jwt(..)
                | Active::Authz(_)
                | Active::Quota(_)
                | Active::Buffer(_)
                | Active::Names(_) => {
                    return Passed::Until(filter.clone());
                }
            };
            if let Some(reply) = answer {
                return Passed::Answer(reply);
            }
        }
        Passed::All
    }

    /// Whether a request is one of a share.
    pub(crate) fn is_in(&self, per_million: u32) -> bool {
        self.worker.random() % 1_000_000 < u64::from(per_million)
    }

    /// The counts of a rate limit.
    fn limit_stats(&self, prefix: &str) -> Arc<LimitStats> {
        let mut known = self.view.filters.limits.borrow_mut();
        if let Some((_, stats)) = known.iter().find(|(of, _)| of == prefix) {
            return stats.clone();
        }
        let stats = self.worker.registry.limit(prefix);
        known.push((prefix.to_owned(), stats.clone()));
        stats
    }
}

impl crate::view::HttpView {
    /// The filters that a request meets.
    #[inline]
    pub(crate) fn filters(&self, exchange: &Exchange) -> &[Active] {
        match &self.router {
            Some(router) => router.filters(exchange.route),
            None => self.filters.unrouted.active(),
        }
    }
}
