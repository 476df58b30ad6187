//! One request's life: from its head to the record that counters and spans are made of.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::clock::Micros;
use crate::connection::{Connection, Next};
use crate::conversation::{Conversation, Ended};
use crate::flags::{Flag, Flags};
use crate::http1::framing::Framing;
use crate::relay::{Relay, poll_flush};
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
enum Plan {
    /// An answer of the proxy's own.
    Reply(Reply<'static>),
    /// A request to this cluster.
    Forward(Rc<ClusterState>),
}

impl Connection {
    /// Has the pinned request answered.
    pub(crate) async fn exchange(&mut self, begin: Micros) -> Next {
        let mut exchange = self.begin_exchange(begin);
        let next = match self.plan(&mut exchange) {
            Plan::Forward(cluster) => self.forward(&mut exchange, &cluster).await,
            Plan::Reply(reply) => {
                let mut body = Relay::new(self.request.framing, false);
                self.reply(&mut exchange, &mut body, &reply).await
            }
        };
        let end = match next {
            Next::Abort => self.worker.clock.now(),
            // A tunnel ends when it closes, which may be long after its last byte.
            Next::Close if exchange.status == 101 => self.worker.clock.now(),
            // The client cannot have read the last bytes before they were written: so this span lies
            // within the span of whoever waits for them, however late this thread goes on.
            Next::Continue | Next::Close => self.answered_at,
        };
        self.finish(&exchange, end);
        next
    }

    fn begin_exchange(&self, begin: Micros) -> Exchange {
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
    fn plan(&self, exchange: &mut Exchange) -> Plan {
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

    async fn forward(&mut self, exchange: &mut Exchange, cluster: &Rc<ClusterState>) -> Next {
        let mut body = Relay::new(
            self.request.framing,
            self.request.framing == Framing::Chunked,
        );
        let Some(endpoint) = cluster.pick(|| self.worker.random()).cloned() else {
            cluster.stats.cx_none_healthy.increment();
            return self.fail(exchange, &mut body, &Failure::NoEndpoint).await;
        };
        let Some(_permit) = cluster.request_permit() else {
            cluster.stats.rq_pending_overflow.increment();
            return self.fail(exchange, &mut body, &Failure::Overflow).await;
        };
        cluster.stats.rq_total.increment();
        cluster.stats.rq_active.increment();
        endpoint.active.set(endpoint.active.get() + 1);
        let next = self.attempt(exchange, cluster, &endpoint, &mut body).await;
        endpoint.active.set(endpoint.active.get() - 1);
        cluster.stats.rq_active.decrement();
        next
    }

    /// Sends the request to an endpoint and its response to the client.
    async fn attempt(
        &mut self,
        exchange: &mut Exchange,
        cluster: &Rc<ClusterState>,
        endpoint: &Rc<EndpointState>,
        body: &mut Relay,
    ) -> Next {
        self.begin_attempt(exchange, endpoint);
        let mut request = self.worker.blocks.lend_output();
        self.write_request(exchange, &mut request.bytes);
        if let Err(error) = body.fill(&mut self.buffer, &mut request) {
            self.worker.blocks.give_back_output(request);
            let failure = Conversation::client_failure(error);
            return self.fail(exchange, body, &failure).await;
        }
        let mut fresh = false;
        let result = loop {
            let mut upstream = match self.acquire(exchange, cluster, endpoint, fresh).await {
                Ok(upstream) => upstream,
                Err(failure) => break Err(failure),
            };
            if !upstream.buffer.has_block() {
                upstream.buffer = crate::buffer::Buffer::on(self.worker.blocks.lend());
            }
            let ended = Conversation::new(self, exchange, &mut upstream, body, &mut request)
                .run()
                .await;
            exchange.request_bytes = body.body_bytes;
            match ended {
                Ended::Complete { reusable, next } => {
                    if reusable {
                        upstream.release(self.answered_at, &self.worker.blocks);
                    } else {
                        let block = upstream.buffer.take_block();
                        self.worker.blocks.give_back(block);
                    }
                    break Ok(next);
                }
                Ended::Stale => {
                    cluster.stats.rq_stale_retry.increment();
                    request.rewind();
                    fresh = true;
                }
                Ended::Failed(failure) => break Err(failure),
            }
        };
        self.worker.blocks.give_back_output(request);
        match result {
            Ok(next) => next,
            Err(failure) => self.fail(exchange, body, &failure).await,
        }
    }

    fn begin_attempt(&self, exchange: &mut Exchange, endpoint: &Rc<EndpointState>) {
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

    /// Ends the exchange with a failure: answers it if nothing was answered yet.
    async fn fail(&mut self, exchange: &mut Exchange, body: &mut Relay, failure: &Failure) -> Next {
        exchange.flags.set(failure.flag());
        exchange.request_bytes = body.body_bytes;
        self.fail_attempt(exchange, failure);
        let half_written = !self.out.is_untouched() && !self.out.is_written();
        if exchange.status != 0 || half_written {
            // Part of a response has gone out: it must not look complete.
            return Next::Abort;
        }
        match failure.reply() {
            Some(reply) => self.reply(exchange, body, &reply).await,
            None => Next::Abort,
        }
    }

    fn fail_attempt(&self, exchange: &mut Exchange, failure: &Failure) {
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

    /// Answers without the upstream.
    async fn reply(
        &mut self,
        exchange: &mut Exchange,
        body: &mut Relay,
        reply: &Reply<'_>,
    ) -> Next {
        exchange.status = reply.status;
        let request_complete = self.skip_body(body);
        exchange.request_bytes = body.body_bytes;
        let keep = self.request.keep_alive
            && request_complete
            && !self.registered.is_draining()
            && self.request.minor_version == 1;
        self.out.clear();
        let server = &self.view.listener.manager.server_name;
        let out = &mut self.out.bytes;
        reply.append_head(out, &self.worker.clock, server, !keep);
        self.append_response_context(exchange);
        self.out.bytes.extend_from_slice(b"\r\n");
        if !self.request.is_head {
            self.out.bytes.extend_from_slice(reply.body.as_bytes());
            exchange.response_bytes = reply.body.len() as u64;
        }
        let timeout = self.view.listener.manager.stream_idle_timeout;
        self.answered_at = self.worker.clock.now();
        self.timer.set(self.answered_at, timeout);
        let mut progress = false;
        let written = poll_fn(|cx| {
            let flushed = poll_flush(cx, &mut self.stream, &mut self.out, &mut progress);
            if let Poll::Ready(flushed) = flushed {
                return Poll::Ready(flushed.is_ok());
            }
            self.timer
                .poll_passed(|| self.worker.clock.now(), cx)
                .map(|()| false)
        })
        .await;
        match (written, keep) {
            (false, _) => Next::Abort,
            (true, true) => Next::Continue,
            (true, false) => Next::Close,
        }
    }

    /// Passes over a body that nobody will read: whether all of it is there already.
    fn skip_body(&mut self, body: &mut Relay) -> bool {
        if body.is_taken() {
            return true;
        }
        let mut sink = self.worker.blocks.lend_output();
        while !body.is_taken() && !self.buffer.is_empty() {
            let before = self.buffer.unread().len();
            sink.clear();
            if body.fill(&mut self.buffer, &mut sink).is_err()
                || self.buffer.unread().len() == before
            {
                break;
            }
        }
        self.worker.blocks.give_back_output(sink);
        body.is_taken()
    }
}
