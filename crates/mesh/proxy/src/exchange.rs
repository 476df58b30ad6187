//! One request's life: from its head to the record that counters and spans are made of.

use std::rc::Rc;

use crate::call::Call;
use crate::clock::Micros;
use crate::flags::{Flag, Flags};
use crate::reply::{Failure, Reply};
use crate::route::RouteAt;
use crate::snapshot::{Forward, RouteAction};
use crate::trace::{Attempt, RequestId, TraceContext};
use crate::upstream::{ClusterState, EndpointState};

/// The record of a request: what happened, and when.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) begin: Micros,
    pub(crate) id: RequestId,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) route: Option<RouteAt>,
    pub(crate) cluster: Option<Rc<ClusterState>>,
    pub(crate) attempt: Option<Attempt>,
    /// What the client was answered; 0 is nothing.
    pub(crate) status: u16,
    pub(crate) flags: Flags,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    /// The name that the other side gave to the span.
    pub(crate) renamed: Option<Vec<u8>>,
}

/// What a request leads to.
pub(crate) enum Plan {
    /// An answer of the proxy's own.
    Reply(Reply<'static>),
    /// A request to this cluster.
    Forward(Rc<ClusterState>),
}

impl Call {
    pub(crate) fn begin_exchange(&self, begin: Micros) -> Exchange {
        let head = self.buffer.head();
        let fields = &self.request.fields;
        let manager = &self.view.listener.manager;
        let random = || self.worker.random();
        let mut id = RequestId::on_arrival(manager, fields, head, random);
        let trace = self
            .view
            .tracer
            .as_ref()
            .and_then(|tracer| tracer.begin(&mut id, fields, head, &self.view.http, random));
        Exchange {
            begin,
            id,
            trace,
            route: None,
            cluster: None,
            attempt: None,
            status: 0,
            flags: Flags::default(),
            request_bytes: 0,
            response_bytes: 0,
            renamed: None,
        }
    }

    /// Finds the route and the cluster.
    pub(crate) fn plan(&self, exchange: &mut Exchange) -> Plan {
        let http = &self.view.http;
        let found = self.view.router.as_ref().and_then(|router| {
            let at = router.find(&self.request, self.buffer.head())?;
            Some((router, at))
        });
        let Some((router, at)) = found else {
            http.no_route.increment();
            exchange.flags.set(Flag::NR);
            return Plan::Reply(Reply::new(404, ""));
        };
        exchange.route = Some(at);
        match &router.route(at).action {
            RouteAction::Respond { status, body } => {
                http.rq_direct_response.increment();
                Plan::Reply(Reply::new(*status, body.clone()))
            }
            RouteAction::Forward(forward) => {
                match router.cluster(at, forward, || self.worker.random()) {
                    Some(cluster) => {
                        exchange.cluster = Some(cluster.clone());
                        Plan::Forward(cluster.clone())
                    }
                    None => {
                        http.no_cluster.increment();
                        exchange.flags.set(Flag::NC);
                        Plan::Reply(Reply::new(503, ""))
                    }
                }
            }
        }
    }

    /// The forwarding action of the exchange's route.
    pub(crate) fn forward_action(&self, exchange: &Exchange) -> Option<&Forward> {
        let router = self.view.router.as_ref()?;
        match &router.route(exchange.route?).action {
            RouteAction::Forward(forward) => Some(forward),
            RouteAction::Respond { .. } => None,
        }
    }

    pub(crate) fn begin_attempt(&self, exchange: &mut Exchange, endpoint: &Rc<EndpointState>) {
        let spawns = self
            .view
            .tracer
            .as_ref()
            .is_some_and(|tracer| tracer.spawns());
        exchange.attempt = Some(Attempt {
            span: exchange
                .trace
                .filter(|_| spawns)
                .map(|trace| trace.span.child(self.worker.random())),
            address: endpoint.clone(),
            begin: exchange.begin,
            connected: false,
            status: 0,
            flags: Flags::default(),
            reason: None,
            canceled: false,
        });
    }

    pub(crate) fn fail_attempt(&self, exchange: &mut Exchange, failure: &Failure) {
        let http = &self.view.http;
        if *failure == Failure::ClientGone {
            http.rq_rx_reset.increment();
            http.cx_destroy_remote_active_rq.increment();
        }
        if let Failure::Idle { .. } = failure {
            http.rq_idle_timeout.increment();
        }
        let Some(attempt) = &mut exchange.attempt else {
            return;
        };
        match failure.reset_reason() {
            Some(reason) => attempt.fail(failure.flag(), reason),
            None => attempt.canceled = true,
        }
        let Some(cluster) = &exchange.cluster else {
            return;
        };
        let stats = &cluster.stats;
        match failure {
            Failure::RouteTimeout => stats.rq_timeout.increment(),
            Failure::Terminated => stats.rq_rx_reset.increment(),
            Failure::Protocol(problem) => {
                stats.cx_protocol_error.increment();
                tracing::debug!(endpoint = attempt.address.text, problem, "bad response");
            }
            Failure::ClientGone | Failure::Idle { .. } => stats.rq_tx_reset.increment(),
            _ => {}
        }
    }
}
