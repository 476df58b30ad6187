//! What becomes of a request: its route is found, filters are asked, then the route says where it goes.

use std::rc::Rc;
use std::time::Duration;

use crate::acquire::Waits;
use crate::call::Call;
use crate::exchange::{Exchange, Rare};
use crate::filter::pass;
use crate::flags::Flag;
use crate::grpc;
use crate::http1::framing::Framing;
use crate::http1::name::Name;
use crate::http1::request::Tunnel;
use crate::policy::authz;
use crate::reply::{Failure, Reply};
use crate::route::{Asking, RouteAt};
use crate::snapshot::{Forward, GrpcTimeouts, Redirect, RouteAction, Upgrade};
use crate::upstream::ClusterState;

/// What a request leads to.
pub(crate) enum Plan {
    /// An answer of the proxy's own.
    Reply(Reply<'static>),
    /// What is answered where nobody is to forward to.
    Nowhere(Nowhere),
    /// A request to this cluster.
    Forward(Rc<ClusterState>),
}

/// Why a request cannot go anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nowhere {
    /// No route is for it.
    NoRoute,
    /// The cluster of its route is missing, for which the route has this answer.
    NoCluster(Option<u16>),
}

/// What becomes of a request: whether there is room for it, which route is its, what the filters have to say,
/// and then what the route says.
#[inline]
pub(crate) async fn decide(
    client: &mut impl Waits,
    exchange: &mut Exchange,
) -> Result<Plan, Failure> {
    let call = client.call_mut();
    if call.is_shed() || call.is_one_too_many(exchange) || call.has_head_too_many(exchange) {
        return Ok(Plan::Reply(Reply::new(503, "envoy overloaded")));
    }
    if let Some(answer) = call.form_path(exchange) {
        return Ok(Plan::Reply(answer));
    }
    if let Err(refused) = call.locate(exchange) {
        return Ok(Plan::Reply(refused));
    }
    if !call.view.filters(exchange).is_empty()
        && let Some(reply) = pass(client, exchange).await?
    {
        return Ok(Plan::Reply(reply));
    }
    Ok(client.call().plan(exchange))
}

/// Limits the time of each attempt, unless all of them together have no more; the endpoint is told that time then.
#[cold]
fn limit_try(exchange: &mut Exchange, time: Duration, forward: &Forward) {
    let all = exchange.timeout.filter(|all| !all.is_zero());
    if all.is_none_or(|all| time < all) {
        exchange.rare().per_try = Some(time);
        exchange.sets_grpc_timeout |= exchange.is_grpc && forward.grpc.max.is_some();
    }
}

impl Call {
    /// Whether the request is refused because there is too much to do, which is counted.
    #[inline]
    fn is_shed(&self) -> bool {
        let share = self.worker.overload.actions().get().stop_requests;
        let shed = share.hits(|| self.worker.random()) && !self.view.bypasses_overload;
        if shed {
            self.view.http.rq_overload_close.increment();
        }
        shed
    }

    /// Whether the request is refused because too many are under way, which is counted.
    #[inline]
    fn is_one_too_many(&self, exchange: &mut Exchange) -> bool {
        match self.worker.options.max_streams {
            Some(most) if !self.view.bypasses_overload => {
                exchange.is_counted = self.worker.open.add_stream(most.get());
                if !exchange.is_counted {
                    self.view.http.rq_overload_close.increment();
                }
                !exchange.is_counted
            }
            _ => false,
        }
    }

    /// Whether the request is refused because there are too many bytes of heads, which is counted.
    #[inline]
    fn has_head_too_many(&self, exchange: &mut Exchange) -> bool {
        match self.worker.options.max_header_bytes {
            Some(most) if !self.view.bypasses_overload => {
                let bytes = self.buffer.head().len();
                exchange.head_bytes = self.worker.open.add_head(bytes, most.get());
                if exchange.head_bytes.is_none() {
                    self.view.http.rq_overload_close.increment();
                }
                exchange.head_bytes.is_none()
            }
            _ => false,
        }
    }

    /// Finds the route and the cluster: an answer, if the protocol is not to be changed as the request asks.
    #[inline]
    fn locate(&self, exchange: &mut Exchange) -> Result<(), Reply<'static>> {
        let found = self.view.router.as_ref().and_then(|router| {
            let asking = self.asking(exchange);
            router.find(&asking, || self.worker.random())
        });
        self.settle(exchange, found)
    }

    /// Chooses the route again, after filters have found something out; `next` is the place of the next filter.
    #[cold]
    pub(crate) fn relocate(
        &mut self,
        exchange: &mut Exchange,
        next: &mut usize,
    ) -> Option<Reply<'static>> {
        let view = self.view.clone();
        let router = view.router.as_ref()?;
        let before = router.chain(exchange.route);
        let asking = Asking {
            metadata: exchange.rare.as_deref().map(Rare::metadata),
            ..self.asking(exchange)
        };
        let found = router.find(&asking, || self.worker.random());
        let had_none = exchange.route.take().is_none();
        exchange.cluster = None;
        exchange.criteria = None;
        exchange.edits = false;
        let refused = self.settle(exchange, found).err();
        let after = router.chain(exchange.route);
        *next = after.behind(before.place(*next - 1));
        self.decided.follow(before.active(), after.active());
        if had_none && exchange.route.is_some() && refused.is_none() {
            return authz::refuse_unasked(self, exchange, &after.active()[..*next]);
        }
        refused
    }

    /// Takes the route that was found.
    #[inline]
    fn settle(
        &self,
        exchange: &mut Exchange,
        found: Option<RouteAt>,
    ) -> Result<(), Reply<'static>> {
        let Some((router, mut at)) = self.view.router.as_ref().zip(found) else {
            self.may_change(exchange, None);
            return Ok(());
        };
        exchange.edits = router.plan(at).edits;
        let action = &router.route(at).action;
        if self.request.tunnel != Tunnel::None && !self.may_change(exchange, Some(action)) {
            exchange.route = Some(at);
            self.view.http.rq_upgrade_refused.increment();
            return Err(Reply::new(403, ""));
        }
        if let RouteAction::Forward(forward) = action
            && let Some(choice) = router.cluster(&mut at, forward, || self.worker.random())
        {
            exchange.cluster = Some(choice.cluster.clone());
            exchange.criteria.clone_from(&choice.criteria);
        }
        exchange.route = Some(at);
        Ok(())
    }

    /// What the route says.
    #[inline]
    fn plan(&self, exchange: &mut Exchange) -> Plan {
        let http = &self.view.http;
        let Some((router, at)) = self.view.router.as_ref().zip(exchange.route) else {
            return Plan::Nowhere(Nowhere::NoRoute);
        };
        match &router.route(at).action {
            RouteAction::Respond { status, body } => {
                http.rq_direct_response.increment();
                // As in Envoy, whoever is sent elsewhere or told of something new is told where.
                let location = matches!(status, 201 | 300..400)
                    .then(|| self.redirection(exchange, &Redirect::default()).into());
                Plan::Reply(Reply {
                    location,
                    ..Reply::new(*status, body.clone())
                })
            }
            RouteAction::Redirect(redirect) => {
                http.rq_direct_response.increment();
                let location = self.redirection(exchange, redirect);
                Plan::Reply(Reply {
                    location: Some(location.into()),
                    ..Reply::new(redirect.status, "")
                })
            }
            RouteAction::Forward(forward) => {
                self.limit_time(exchange, forward);
                let Some(cluster) = exchange.cluster.clone() else {
                    return Plan::Nowhere(Nowhere::NoCluster(forward.missing_status));
                };
                exchange.is_high_priority = forward.is_high_priority;
                if cluster.cluster.max_stream_duration.is_some() {
                    exchange.rare().attempt_time = cluster.cluster.max_stream_duration;
                    exchange.bridges = true;
                }
                if cluster.cluster.balancing.is_by_hash() {
                    self.hash_request(exchange, &forward.hash_policies);
                }
                if let Some(policy) = &forward.retry {
                    exchange.retries = self.may_retry(exchange, policy);
                    exchange.retries_left = policy.retries.try_into().unwrap_or(u16::MAX);
                    if let Some(time) = policy.per_try_timeout {
                        limit_try(exchange, time, forward);
                    }
                    if policy.per_try_idle_timeout.is_some() {
                        exchange.rare().per_try_idle = policy.per_try_idle_timeout;
                        exchange.bridges = true;
                    }
                }
                if !forward.mirrors.is_empty() && self.request.tunnel == Tunnel::None {
                    self.choose_mirrors(exchange);
                }
                Plan::Forward(cluster)
            }
        }
    }

    /// Whether the protocol may be changed as the request asks: what its route says goes before what
    /// the connection manager does.
    #[cold]
    fn may_change(&self, exchange: &mut Exchange, action: Option<&RouteAction>) -> bool {
        let protocol = match self.request.tunnel {
            Tunnel::None => return false,
            Tunnel::Connect => b"CONNECT",
            Tunnel::Upgrade => self.upgrade_protocol(),
        };
        let by_route = match action {
            Some(RouteAction::Forward(forward)) => Upgrade::find(&forward.upgrades, protocol),
            _ => None,
        };
        let by_manager = || Upgrade::find(&self.view.manager.upgrades, protocol);
        let Some(found) = by_route.or_else(by_manager).filter(|one| one.is_enabled) else {
            return false;
        };
        let rare = exchange.rare();
        // Another route does not make it another one.
        if !rare.is_upgrade {
            self.view.http.cx_upgrades_total.increment();
            self.view.http.cx_upgrades_active.increment();
        }
        rare.is_upgrade = true;
        rare.is_terminated = found.is_terminated;
        true
    }

    /// What the request wants to change to.
    pub(crate) fn upgrade_protocol(&self) -> &[u8] {
        let asked = self.request.fields.value(Name::Upgrade, self.buffer.head());
        asked.unwrap_or_default()
    }

    /// What the answer is where nobody is to forward to.
    #[cold]
    pub(crate) fn nowhere(&self, exchange: &mut Exchange, why: Nowhere) -> Reply<'static> {
        let http = &self.view.http;
        match why {
            Nowhere::NoRoute => {
                http.no_route.increment();
                exchange.flags.set(Flag::NR);
                Reply::new(404, "")
            }
            Nowhere::NoCluster(status) => {
                http.no_cluster.increment();
                exchange.flags.set(Flag::NC);
                Reply::new(status.unwrap_or(503), "")
            }
        }
    }

    /// What conditions may ask about the request.
    #[inline]
    pub(crate) fn asking(&self, exchange: &Exchange) -> Asking<'_> {
        self.asking_as(exchange.is_grpc)
    }

    /// The same for one that is gRPC or not.
    #[inline]
    pub(crate) fn asking_as(&self, is_grpc: bool) -> Asking<'_> {
        Asking {
            request: &self.request,
            head: self.buffer.head(),
            scheme: self.scheme(),
            is_grpc,
            presented: self.has_certificate(),
            metadata: None,
        }
    }

    fn has_certificate(&self) -> bool {
        let secured = self.client.secured.as_ref();
        secured.is_some_and(|secured| secured.peer.is_some())
    }

    /// How much time the exchange has: the route's, unless a gRPC client says something else.
    #[inline]
    fn limit_time(&self, exchange: &mut Exchange, forward: &Forward) {
        exchange.timeout = forward.timeout;
        if forward.idle_timeout.is_some() {
            exchange.rare().idle = forward.idle_timeout;
        }
        let manager = &self.view.manager;
        let stream = forward.max_stream_duration.or(manager.max_stream_duration);
        if stream.is_some_and(|time| !time.is_zero()) {
            exchange.rare().stream_timeout = stream;
            exchange.bridges = true;
        }
        // What is there as a whole is in time.
        exchange.bridges |=
            manager.request_timeout.is_some() && self.request.framing != Framing::None;
        if exchange.is_grpc {
            self.limit_grpc_time(exchange, forward.grpc);
        }
    }

    #[cold]
    fn limit_grpc_time(&self, exchange: &mut Exchange, timeouts: GrpcTimeouts) {
        let cut = |timeout: Duration, max: Duration| {
            if max.is_zero() {
                timeout
            } else {
                timeout.min(max)
            }
        };
        let asked = self
            .request
            .fields
            .value(Name::GrpcTimeout, self.buffer.head())
            .and_then(grpc::timeout);
        if let Some(max) = timeouts.max {
            let asked = asked.unwrap_or_default();
            // The offset applies only if something is left.
            let asked = match asked.checked_sub(timeouts.offset) {
                Some(rest) if !rest.is_zero() => rest,
                _ => asked,
            };
            let endless = asked.is_zero();
            let timeout = if endless { max } else { cut(asked, max) };
            exchange.timeout = Some(timeout);
            exchange.sets_grpc_timeout = !timeout.is_zero();
        }
        if let (Some(max), Some(asked)) = (timeouts.stream_max, asked) {
            let time = cut(asked, max).saturating_sub(timeouts.stream_offset);
            // A deadline that has come already is one, and not the lack of one.
            exchange.rare().stream_timeout = Some(time.max(Duration::from_millis(1)));
        }
    }
}
