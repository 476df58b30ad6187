//! The end of an exchange: counters and spans are made from its record.

use std::borrow::Cow;

use crate::call::Call;
use crate::clock::Micros;
use crate::exchange::{Exchange, Rare};
use crate::http1::name::Name;
use crate::snapshot::Decorator;
use crate::telemetry::log::Template;
use crate::trace::{Details, Finished, RequestId, Scratch, TraceContext, Tracer, text};

/// What spans tell that takes more to be found out.
#[derive(Clone, Copy, Default)]
struct More<'a> {
    details: Option<&'a Details<'a>>,
    formats: &'a [String],
    /// The convention of the context that came and was not read.
    ignored: Option<&'static str>,
}

impl Exchange {
    /// Counts it for its cluster.
    #[inline]
    fn count_for_cluster(&self, took_ms: u64) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        let stats = &cluster.stats;
        match &self.attempt {
            Some(attempt) => {
                stats.rq.count(self.status);
                if attempt.status != 0 {
                    stats.rq_time.add(took_ms);
                }
            }
            None if self.flags.is_of_cluster() => stats.rq.count(self.status),
            None => {}
        }
    }
}

impl Call {
    /// Counts the exchange and reports its spans.
    #[inline]
    pub(crate) fn finish(&self, exchange: &mut Exchange, end: Micros) {
        let http = &self.view.http;
        let took_ms = end.saturating_sub(exchange.begin) / 1000;
        let mut is_check = false;
        if let Some(rare) = &exchange.rare {
            is_check = rare.is_health_check;
            if rare.is_upgrade {
                http.cx_upgrades_active.decrement();
            }
        }
        // As in Envoy, whoever asks only how the proxy is does not count.
        if !is_check {
            http.rq.count(exchange.status);
            self.view.listener_http.rq.count(exchange.status);
            exchange.count_for_cluster(took_ms);
        }
        http.rq_time.add(took_ms);
        if exchange.is_counted {
            self.worker.open.remove_stream();
        }
        if exchange.is_grpc {
            exchange.report_grpc();
        }
        let telemetry = self.view.telemetry.as_ref();
        if let Some(telemetry) = telemetry {
            self.tell(telemetry, exchange, end);
        }
        self.report(exchange, end);
        if let Some((telemetry, told)) = telemetry.zip(exchange.told.take()) {
            telemetry.keep_for_next(told);
        }
    }

    /// Reports the spans of an exchange.
    #[inline]
    fn report(&self, exchange: &mut Exchange, end: Micros) {
        let (Some(tracer), Some(trace)) = (self.tracer(exchange), &exchange.trace) else {
            return;
        };
        if tracer.tells_more(trace) {
            return self.report_with(exchange, end, Tracer::report);
        }
        let more = More {
            ignored: tracer.ignored(&self.request.fields),
            ..More::default()
        };
        let finished = self.finished(exchange, end, tracer.egress, more);
        tracer.report(trace, &finished, &mut self.worker.scratch.borrow_mut());
    }

    /// The same for a copy of a request, which is nobody's but its cluster's.
    #[cold]
    pub(crate) fn finish_mirrored(&self, exchange: &mut Exchange) {
        let end = self.worker.clock.now();
        exchange.count_for_cluster(end.saturating_sub(exchange.begin) / 1000);
        if exchange.is_grpc {
            exchange.report_grpc();
        }
        self.report_with(exchange, end, Tracer::report_mirrored);
    }

    /// Reports the span of an attempt that is not the last one.
    #[cold]
    pub(crate) fn report_attempt(&self, exchange: &mut Exchange, end: Micros) {
        self.report_with(exchange, end, Tracer::report_try);
    }

    /// Reports spans that may tell more than Envoy's do.
    #[cold]
    fn report_with(
        &self,
        exchange: &mut Exchange,
        end: Micros,
        report: fn(&Tracer, &TraceContext, &Finished<'_>, &mut Scratch),
    ) {
        let (Some(tracer), Some(trace)) = (self.tracer(exchange), exchange.trace) else {
            return;
        };
        let mut formats = Vec::new();
        if trace.span.sampled && tracer.formats().next().is_some() {
            let sent = match tracer.formats().any(Template::needs_sent_head) {
                true => self.sent_head(exchange),
                false => Vec::new(),
            };
            let entry = self.entry(exchange, &sent, end);
            formats.extend(tracer.formats().map(|format| format.text(&entry)));
        }
        let exchange = &*exchange;
        let wanted = tracer.tells_details(&trace);
        let details = wanted.then(|| self.details(exchange));
        let more = More {
            details: details.as_ref(),
            formats: &formats,
            ignored: tracer.ignored(&self.request.fields),
        };
        let finished = self.finished(exchange, end, tracer.egress, more);
        let scratch = &mut self.worker.scratch.borrow_mut();
        report(tracer, &trace, &finished, scratch);
    }

    #[inline]
    fn finished<'a>(
        &'a self,
        exchange: &'a Exchange,
        end: Micros,
        egress: bool,
        more: More<'a>,
    ) -> Finished<'a> {
        let edge = self.view.manager.use_remote_address;
        // What a route has made of the request is what Envoy's spans tell.
        let (request, head, id, edge) = match exchange.sent() {
            Some(sent) => (&sent.head, &*sent.text, &RequestId::Received, false),
            None => (&self.request, self.buffer.head(), &exchange.id, edge),
        };
        Finished {
            clock: &self.worker.clock,
            peer: &self.client.text,
            secured: self.client.secured.as_deref(),
            request,
            head,
            id,
            host: self.request.target.authority.get(self.buffer.head()),
            edge,
            name: self.span_name(exchange, egress),
            begin: exchange.begin,
            end,
            status: exchange.status,
            flags: exchange.flags,
            request_bytes: exchange.request_bytes,
            response_bytes: exchange.response_bytes,
            cluster: exchange.cluster.as_deref(),
            attempt: exchange.attempt.as_ref(),
            protocol: self.protocol,
            is_grpc: exchange.is_grpc,
            grpc_timeout: (exchange.sets_grpc_timeout)
                .then(|| exchange.per_try().or(exchange.timeout))
                .flatten(),
            grpc: exchange.grpc.as_deref(),
            decided: self.decisions(exchange),
            asked: exchange.rare.as_ref().and_then(|rare| rare.asked.as_ref()),
            limited: exchange
                .rare
                .as_ref()
                .and_then(|rare| rare.limited.as_ref()),
            formats: more.formats,
            details: more.details,
            ignored: more.ignored,
            metadata: exchange.rare.as_deref().map(Rare::metadata),
        }
    }

    /// What is told besides.
    fn details<'a>(&'a self, exchange: &'a Exchange) -> Details<'a> {
        let route = self.view.router.as_ref().zip(exchange.route);
        let rare = exchange.rare.as_deref();
        let cluster = exchange.cluster.as_deref();
        let attempt = exchange.attempt.as_ref();
        let refused = cluster.filter(|_| attempt.is_none());
        Details {
            route: route.map(|(router, at)| router.tags(at)),
            endpoint: cluster
                .zip(attempt)
                .map(|(cluster, attempt)| cluster.endpoint_tags(&attempt.address)),
            // A copy goes to a cluster of its own.
            subset: match exchange.mirror() {
                None => route.and_then(|(router, at)| router.subset(at)),
                Some(_) => None,
            },
            occupied: refused.map(|cluster| cluster.occupied(None, exchange.is_high_priority)),
            tries: exchange.tries,
            before: rare.map_or("", |rare| &rare.tries.told),
            causes: rare.and_then(|rare| rare.causes.as_ref()),
        }
    }

    /// What names the span: the other side, else the route.
    fn span_name<'a>(&'a self, exchange: &'a Exchange, egress: bool) -> Option<Cow<'a, str>> {
        let rare = exchange.rare.as_ref();
        if let Some(renamed) = rare.and_then(|rare| rare.renamed.as_ref()) {
            return Some(text(renamed));
        }
        let by_caller = (!egress).then(|| self.decorated_by_caller()).flatten();
        by_caller.map(text).or_else(|| {
            let decorator = self.decorator(exchange)?;
            Some(Cow::Borrowed(&*decorator.operation))
        })
    }

    /// The operation that the caller's proxy names; an edge listener does not listen to it.
    pub(crate) fn decorated_by_caller(&self) -> Option<&[u8]> {
        if self.view.manager.use_remote_address {
            return None;
        }
        self.request
            .fields
            .value(Name::XEnvoyDecoratorOperation, self.buffer.head())
            .filter(|name| !name.is_empty())
    }

    /// The decorator of the exchange's route.
    pub(crate) fn decorator(&self, exchange: &Exchange) -> Option<&Decorator> {
        let router = self.view.router.as_ref()?;
        router
            .route(exchange.route?)
            .decorator
            .as_ref()
            .filter(|decorator| !decorator.operation.is_empty())
    }
}
