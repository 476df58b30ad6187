//! Questions to authorizers: they go on in the trace of their request, and have spans of their own.

use periplus_model::SpanKind;
use periplus_model::propagation::SpanContext;
use periplus_wire::export::SpanRef;

use crate::call::Call;
use crate::clock::Micros;
use crate::errand::Answer;
use crate::exchange::Exchange;
use crate::http1::edit::Names;
use crate::policy::authz::{Authz, Verdict};
use crate::trace::grpc::status_code;
use crate::trace::spans::digits;
use crate::trace::tags::Tags;

impl Call {
    /// Appends the context of a span below the request's.
    pub(crate) fn inject_child(
        &self,
        exchange: &Exchange,
        fields: &mut Vec<u8>,
    ) -> Option<SpanContext> {
        let (tracer, trace) = self.view.tracer.as_ref().zip(exchange.trace.as_ref())?;
        let span = trace.span.child(self.worker.random());
        let head = self.buffer.head();
        tracer.inject(trace, &span, &self.request.fields, head, fields);
        Some(span)
    }

    /// The fields of the request that such a context stands in place of.
    pub(crate) fn replaced_by_child(&self, exchange: &Exchange) -> Names {
        let traced = self.view.tracer.as_ref().zip(exchange.trace.as_ref());
        traced.map_or_else(Names::default, |(tracer, trace)| {
            tracer.replaced(trace, &trace.span.child(1))
        })
    }

    /// Reports the span of a question: when it was asked, what was answered, and what that means.
    pub(crate) fn report_child(
        &self,
        span: &SpanContext,
        authz: &Authz,
        (begin, answer, verdict): (Micros, &Answer, &Verdict),
    ) {
        let Some(tracer) = self.view.tracer.as_ref().filter(|_| span.sampled) else {
            return;
        };
        let cluster = &authz.service.cluster;
        let name = match authz.service.http {
            Some(_) => format!("async {cluster} egress"),
            None => "async envoy.service.auth.v3.Authorization.Check egress".to_owned(),
        };
        let mut code = Default::default();
        let mut tags = Tags::new();
        tags.push("upstream_cluster", cluster);
        tags.push("upstream_cluster.name", cluster);
        if let Some(endpoint) = &answer.endpoint {
            tags.push("upstream_address", &endpoint.text);
            tags.push("peer.address", &endpoint.text);
        }
        let status = answer.status();
        tags.push("http.status_code", digits(&mut code, status.into()));
        tags.push(
            "ext_authz_status",
            match verdict {
                Verdict::Allowed(_) => "ext_authz_ok",
                Verdict::Denied(_) => "ext_authz_unauthorized",
                Verdict::Failed(..) => "ext_authz_error",
            },
        );
        if let Verdict::Failed(reason, _) = verdict {
            tags.push("error", "true");
            tags.push("error.reason", reason);
        }
        let clock = &self.worker.clock;
        tracer.exporter.append(
            &[&tracer.attempt_tags],
            &SpanRef {
                trace_id: span.trace_id,
                span_id: span.span_id,
                parent_span_id: span.parent_span_id,
                kind: SpanKind::Client,
                name: &name,
                start_unix_micros: clock.wall(begin),
                duration_micros: clock.now().saturating_sub(begin),
                tags: tags.as_slice(),
                shared: false,
                trace_state: "",
                flags: span.otlp_flags(),
                status: status_code(SpanKind::Client, status, None),
            },
        );
    }
}
