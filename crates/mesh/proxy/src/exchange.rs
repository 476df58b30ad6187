//! One request's life: from its head to the record that counters and spans are made of.

mod attempt;
mod rare;

use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::Duration;

pub(crate) use self::rare::{NOTHING, Rare, Said, Told};
use crate::balance::{Ask, Criteria, Verdict};
use crate::call::{Call, Protocol};
use crate::clock::Micros;
use crate::edit::{self, Sent};
use crate::flags::Flags;
use crate::grpc::{self, GrpcStatus};
use crate::http1::edit::{Names, append_field};
use crate::http1::name::Name;
use crate::http1::status::append_status_line;
use crate::in_flight::{self, Place};
use crate::overload::HeadBytes;
use crate::reply::{Reply, append_common};
use crate::route::RouteAt;
use crate::snapshot::{ConnectionManager, Wanted};
use crate::trace::{Attempt, RequestId, TraceContext, Tracer, Waited};
use crate::upstream::ClusterState;

/// What an answer of the proxy's own says about itself whatever a route wants.
const OF_REPLIES: Names = Names::of(&[Name::Date, Name::Server]);

/// The record of a request: what happened, and when.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) begin: Micros,
    /// When it went on to an endpoint: at once, unless a filter has taken its time. Once the endpoint has had all
    /// of it, when that was: the route's timeout counts from then on.
    pub(crate) onward: Micros,
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
    /// For the response, from the moment when the request is complete; zero is no limit.
    pub(crate) timeout: Option<Duration>,
    /// The request is gRPC,
    pub(crate) is_grpc: bool,
    /// and the endpoint is told how much time it has.
    pub(crate) sets_grpc_timeout: bool,
    /// What the route's hash policies made of the request.
    pub(crate) hash: Option<NonZeroU64>,
    /// The subset of the cluster that the route asks for.
    pub(crate) criteria: Option<Rc<Criteria>>,
    /// The route's priority.
    pub(crate) is_high_priority: bool,
    /// The route changes something about heads.
    pub(crate) edits: bool,
    /// Only a bridge can do what it needs.
    pub(crate) bridges: bool,
    /// Copies of the request are still to be sent.
    pub(crate) mirrors: bool,
    /// The request may be tried again,
    pub(crate) retries: bool,
    /// so many times more.
    pub(crate) retries_left: u16,
    /// Which attempt this is; the first is 1.
    pub(crate) tries: u16,
    /// It counts among those that may be under way at once.
    pub(crate) is_counted: bool,
    /// So do the bytes of its head.
    pub(crate) head_bytes: Option<HeadBytes>,
    /// The endpoint, or the first of several, has had the whole request: then the route's timeout counts.
    pub(crate) completed: bool,
    /// How the call ended, if the response says so as gRPC does.
    pub(crate) grpc: Option<Box<GrpcStatus>>,
    /// Messages of gRPC, if they are counted: those of the request, and those of the response.
    pub(crate) messages: [u32; 2],
    /// Requests that the workload sends meanwhile may be due to it.
    in_flight: Option<Place>,
    /// What access logs tell, if they do.
    pub(crate) told: Option<Box<Told>>,
    /// What most requests do not have; boxed, so that a connection does not hold the memory for it.
    pub(crate) rare: Option<Box<Rare>>,
}

impl Exchange {
    fn new(begin: Micros, id: RequestId, trace: Option<TraceContext>, is_grpc: bool) -> Self {
        Self {
            begin,
            onward: begin,
            id,
            trace,
            route: None,
            cluster: None,
            attempt: None,
            status: 0,
            flags: Flags::default(),
            request_bytes: 0,
            response_bytes: 0,
            timeout: None,
            is_grpc,
            sets_grpc_timeout: false,
            hash: None,
            criteria: None,
            is_high_priority: false,
            edits: false,
            bridges: false,
            mirrors: false,
            retries: false,
            retries_left: 0,
            tries: 1,
            is_counted: false,
            head_bytes: None,
            completed: false,
            grpc: None,
            messages: [0; 2],
            in_flight: None,
            told: None,
            rare: None,
        }
    }

    /// That of a copy of the request, which is the one with this index among its route's.
    pub(crate) fn mirrored(&self, call: &Call, cluster: &Rc<ClusterState>, index: usize) -> Self {
        let now = call.worker.clock.now();
        let mut trace = self.trace;
        if let Some(trace) = &mut trace {
            trace.span = trace.span.child(call.worker.random());
            trace.span.sampled &= call.traces_mirror(self, index);
        }
        let mut copy = Self::new(now, self.id, trace, self.is_grpc);
        copy.route = self.route;
        copy.cluster = Some(cluster.clone());
        copy.timeout = self.timeout;
        copy.sets_grpc_timeout = self.sets_grpc_timeout;
        copy.hash = self.hash;
        // At least the host may be another one.
        copy.edits = true;
        copy.rare().mirror = Some(index);
        copy
    }

    /// Which of its route's copies it is, if it is one.
    pub(crate) fn mirror(&self) -> Option<usize> {
        self.rare.as_ref()?.mirror
    }

    /// What decides about the endpoint.
    #[inline]
    pub(crate) fn ask(&self, call: &Call) -> Ask<'_> {
        Ask {
            original: call.client.original,
            looked_up: self.rare.as_ref().and_then(|rare| rare.looked_up),
            source: call.client.source(),
            hash: self.hash.map(NonZeroU64::get),
            passed_over: 0,
            criteria: self.criteria.as_deref(),
            is_high_priority: self.is_high_priority,
            wanted: self.wanted(),
        }
    }

    /// The endpoint that its session has; another attempt may go anywhere.
    #[inline]
    fn wanted(&self) -> Option<&Wanted> {
        let session = self.rare.as_ref()?.session.as_ref()?;
        session.wanted.as_ref().filter(|_| self.tries == 1)
    }

    /// For the whole of it; zero is no limit.
    pub(crate) fn stream_timeout(&self) -> Option<Duration> {
        self.rare.as_ref()?.stream_timeout
    }

    /// The tunnel that it asks for ends here: its bytes are all that the endpoint gets.
    pub(crate) fn is_terminated(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.is_terminated)
    }

    /// The request as the endpoint gets it, if its route changes heads.
    pub(crate) fn sent(&self) -> Option<&Sent> {
        self.rare.as_ref()?.sent.as_deref()
    }

    /// For the response to one attempt.
    #[inline]
    pub(crate) fn per_try(&self) -> Option<Duration> {
        self.rare.as_ref()?.per_try
    }

    /// How long nothing may move; zero is no limit.
    #[inline]
    pub(crate) fn idle_timeout(&self, manager: &ConnectionManager) -> Option<Duration> {
        let of_route = self.rare.as_ref().and_then(|rare| rare.idle);
        of_route.or(manager.stream_idle_timeout)
    }

    /// The endpoint has the whole request.
    #[inline]
    pub(crate) fn is_complete(&mut self, now: Micros) {
        if !self.completed {
            self.completed = true;
            self.onward = now;
        }
    }

    #[cold]
    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whether its attempt is measured, for its span.
    pub(crate) fn is_measured(&self) -> bool {
        let attempt = self.attempt.as_ref();
        attempt.is_some_and(|attempt| attempt.measured.is_some())
    }

    /// Notes for what the attempt has waited.
    pub(crate) fn waited(&self, note: impl FnOnce(&Waited)) {
        let measured = self
            .attempt
            .as_ref()
            .and_then(|attempt| attempt.measured.as_ref());
        if let Some(measured) = measured {
            note(&measured.waited);
        }
    }

    /// The endpoint has answered with this status.
    #[inline]
    pub(crate) fn answered(&mut self, status: u16, now: Micros) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        attempt.status = status;
        if let Some(measured) = &mut attempt.measured {
            measured.first_byte = now;
        }
        if let Some(cluster) = &self.cluster
            && cluster.watches()
        {
            cluster.observe(&attempt.address, now.saturating_sub(attempt.begin));
            if !self.is_grpc {
                cluster.report(&attempt.address, Verdict::Answered(status));
            }
        }
    }

    /// The outcome of a call of gRPC: what was said, else what the HTTP status means; none before an answer, and of other
    /// requests.
    #[inline]
    pub(crate) fn call_status(&self) -> Option<u32> {
        if !self.is_grpc {
            return None;
        }
        match &self.grpc {
            Some(said) => said.number(),
            None => (self.status != 0).then(|| grpc::status_of(self.status).into()),
        }
    }

    /// The call has ended as far as the endpoint is concerned, and only now it is known how.
    #[cold]
    pub(crate) fn report_grpc(&self) {
        if let (Some(attempt), Some(cluster)) = (&self.attempt, &self.cluster)
            && attempt.status != 0
            && cluster.watches()
        {
            let told = self.grpc.as_ref().and_then(|told| told.code.parse().ok());
            let status = told.map_or(attempt.status, grpc::http_status);
            cluster.report(&attempt.address, Verdict::Answered(status));
        }
    }
}

impl Call {
    #[inline]
    pub(crate) fn begin_exchange(&self, begin: Micros) -> Exchange {
        let head = self.buffer.head();
        let fields = &self.request.fields;
        let manager = &self.view.manager;
        let random = || self.worker.random();
        let mut id = RequestId::on_arrival(manager, fields, head, random);
        let tracer = match &self.view.tracer {
            Some(tracer) if tracer.varies => Some(self.tracer_at_first(tracer)),
            tracer => tracer.as_ref(),
        };
        let trace =
            tracer.and_then(|tracer| tracer.begin(&mut id, fields, head, &self.view.http, random));
        // Nothing is changed afterwards, so that it is made where it stays.
        Exchange::new(begin, id, trace, self.is_grpc())
    }

    /// The tracer of the route to which the request goes as it has come: as in Envoy, that one decides, although
    /// filters may choose another.
    #[cold]
    fn tracer_at_first<'a>(&'a self, of_all: &'a Tracer) -> &'a Tracer {
        let asking = self.asking_as(self.is_grpc());
        let router = self.view.router.as_ref();
        let tracer = router.and_then(|router| {
            let at = router.find(&asking, || self.worker.random())?;
            router.plan(at).tracer.as_deref()
        });
        tracer.unwrap_or(of_all)
    }

    /// The tracer that knows the tags of the request's route.
    #[inline]
    pub(crate) fn tracer(&self, exchange: &Exchange) -> Option<&Tracer> {
        let tracer = self.view.tracer.as_ref()?;
        if !tracer.varies {
            return Some(tracer);
        }
        let router = self.view.router.as_ref().zip(exchange.route);
        let of_route = router.and_then(|(router, at)| router.plan(at).tracer.as_deref());
        Some(of_route.unwrap_or(tracer))
    }

    /// Lets requests of this workload know that it is working on this one, or finds out which of them have led to this
    /// one.
    #[inline]
    pub(crate) fn follow_causes(&self, exchange: &mut Exchange) {
        let tracer = self.view.tracer.as_ref();
        if tracer.is_some_and(Tracer::follows_causes) {
            self.note_causes(exchange);
        }
    }

    #[cold]
    fn note_causes(&self, exchange: &mut Exchange) {
        let (Some(tracer), Some(trace)) = (&self.view.tracer, &exchange.trace) else {
            return;
        };
        if tracer.keeps_in_flight() {
            let id = exchange.id.get(&self.request.fields, self.buffer.head());
            let begin = self.worker.clock.wall(exchange.begin);
            let place = self.worker.own_in_flight().enter(&trace.span, id, begin);
            exchange.in_flight = Some(place);
        } else if tracer.seeks_causes(trace)
            && let Some(causes) = in_flight::candidates(self.worker.in_flight.iter())
        {
            exchange.rare().causes = Some(causes);
        }
    }

    /// Whether the connection is given up because there is too much to do, which is counted.
    #[inline]
    pub(crate) fn gives_up_connection(&self) -> bool {
        let share = self.worker.overload.actions().get().no_keepalive;
        let gives_up = share.hits(|| self.worker.random()) && !self.view.bypasses_overload;
        if gives_up {
            self.view.http.cx_overload_disable_keepalive.increment();
        }
        gives_up
    }

    /// Whether the request is gRPC.
    #[inline]
    fn is_grpc(&self) -> bool {
        let content_type = self
            .request
            .fields
            .value(Name::ContentType, self.buffer.head());
        content_type.is_some_and(grpc::is_grpc)
    }

    /// Writes the head of an answer of the proxy's own, and notes it as what the client gets: the
    /// body that follows.
    #[cold]
    pub(crate) fn write_reply<'r>(
        &mut self,
        exchange: &mut Exchange,
        reply: &'r Reply<'_>,
        close: bool,
    ) -> &'r [u8] {
        self.out.clear();
        let mut out = std::mem::take(&mut self.out.bytes);
        let is_head = self.request.is_head;
        let grpc = exchange.is_grpc.then(|| reply.grpc(is_head));
        match grpc {
            Some(_) => append_status_line(&mut out, 200),
            None => reply.append_start(&mut out),
        }
        let mut has_type = false;
        if exchange.edits {
            self.edit_response(exchange, OF_REPLIES, &mut out, 0);
            has_type = edit::has(&out, "content-type");
        }
        let body = match grpc {
            Some(status) => {
                exchange.status = 200;
                reply.append_grpc_rest(&status, &mut out);
                if self.protocol == Protocol::Http1 {
                    append_field(&mut out, "content-length", b"0");
                }
                exchange.grpc = Some(Box::new(status));
                ""
            }
            None => {
                exchange.status = reply.status;
                reply.append_rest(&mut out, self.protocol, has_type);
                reply.content()
            }
        };
        if let Some(rare) = &exchange.rare
            && !rare.challenge.is_empty()
        {
            append_field(&mut out, "www-authenticate", rare.challenge.as_bytes());
        }
        let server = &self.view.manager.server_name;
        append_common(&mut out, &self.worker.clock, server, close);
        self.out.bytes = out;
        self.append_response_context(exchange, 0);
        self.out.bytes.extend_from_slice(b"\r\n");
        self.keep_response(exchange, 0, b"");
        let body = if is_head { "" } else { body };
        exchange.response_bytes = body.len() as u64;
        body.as_bytes()
    }
}
