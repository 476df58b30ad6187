//! Questions to authorizers: they go on in the trace of their request, and have spans of their own.

use periplus_model::SpanKind;
use periplus_model::propagation::SpanContext;
use periplus_wire::export::{SpanRef, Tag};
use periplus_wire::tag;

use crate::call::Call;
use crate::clock::Micros;
use crate::errand::Answer;
use crate::exchange::Exchange;
use crate::http1::edit::Names;
use crate::trace::grpc::status_code;
use crate::trace::spans::digits;
use crate::trace::tags::Tags;

/// A question to a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Child<'a> {
    /// The cluster of the service.
    pub(crate) cluster: &'a str,
    /// The name of the span.
    pub(crate) name: &'a str,
    /// What was answered.
    pub(crate) tag: Option<(&'static str, &'static str)>,
    /// Why there is no answer.
    pub(crate) trouble: Option<&'a str>,
}

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

    /// Reports the span of a question: what it was, when it was asked, and what was answered.
    pub(crate) fn report_child(
        &self,
        span: &SpanContext,
        child: &Child<'_>,
        (begin, answer): (Micros, &Answer),
    ) {
        let Some(tracer) = self.view.tracer.as_ref().filter(|_| span.sampled) else {
            return;
        };
        let Child {
            cluster,
            name,
            tag,
            trouble,
        } = *child;
        let mut code = Default::default();
        let mut tags = Tags::new();
        tags.push(tag!("upstream_cluster", cluster));
        tags.push(tag!("upstream_cluster.name", cluster));
        if let Some(endpoint) = &answer.endpoint {
            tags.push(tag!("upstream_address", &endpoint.text));
            tags.push(tag!("peer.address", &endpoint.text));
        }
        let status = answer.status();
        tags.push(tag!("http.status_code", digits(&mut code, status.into())));
        if let Some((name, value)) = tag {
            tags.push(Tag::new(name, value));
        }
        if let Some(reason) = trouble {
            tags.push(tag!("error", "true"));
            tags.push(tag!("error.reason", reason));
        }
        let clock = &self.worker.clock;
        tracer.exporter.append(
            &[&tracer.attempt_tags],
            &SpanRef {
                trace_id: span.trace_id,
                span_id: span.span_id,
                parent_span_id: span.parent_span_id,
                kind: SpanKind::Client,
                name,
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
