//! Context: read from the request, written into the upstream request.

use periplus_model::propagation::{self, B3Format, B3Headers, Extracted, SpanContext, w3c};

use crate::http1::edit::{Names, append_field};
use crate::http1::head::Fields;
use crate::http1::name::Name;
use crate::stats::HttpStats;
use crate::trace::{B3_MULTI, Format, RequestId, Tracer};

/// The context of a request's span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TraceContext {
    /// The ids of the request's span.
    pub(crate) span: SpanContext,
    /// How context came, with B3.
    b3: B3Format,
    /// The caller sent a valid context, so that its `tracestate` counts.
    pub(super) continues: bool,
}

impl Tracer {
    /// Decides about a request and reads its context. None if the context is malformed: then no
    /// span is made and the headers go on untouched.
    pub(crate) fn begin(
        &self,
        id: &mut RequestId,
        fields: &Fields,
        head: &[u8],
        stats: &HttpStats,
        mut random: impl FnMut() -> u64,
    ) -> Option<TraceContext> {
        let own = self.decide(id, fields, head, stats, &mut random);
        let (extracted, b3) = self.extract(fields, head);
        if extracted == Extracted::Malformed {
            return None;
        }
        let incoming = extracted.context();
        let span = match self.format {
            Format::B3 { mode, .. } => {
                let sampled = extracted.sampled_by_zipkin(own);
                SpanContext::begin_zipkin(incoming, self.kind, sampled, mode, random)
            }
            Format::W3c => {
                SpanContext::begin_w3c(incoming, extracted.sampled_by_opentelemetry(own), random)
            }
        };
        Some(TraceContext {
            span,
            b3,
            continues: incoming.is_some(),
        })
    }

    fn extract(&self, fields: &Fields, head: &[u8]) -> (Extracted, B3Format) {
        let value = |name| fields.value(name, head);
        match self.format {
            Format::B3 { with_w3c, .. } => {
                let headers = B3Headers {
                    b3: value(Name::B3),
                    trace_id: value(Name::XB3TraceId),
                    span_id: value(Name::XB3SpanId),
                    parent_span_id: value(Name::XB3ParentSpanId),
                    sampled: value(Name::XB3Sampled),
                };
                let extracted = if with_w3c {
                    headers.extract_or_w3c(value(Name::TraceParent))
                } else {
                    headers.extract()
                };
                (extracted, headers.format())
            }
            Format::W3c => (w3c::extract(value(Name::TraceParent)), B3Format::Multi),
        }
    }

    /// The names of the headers that [`Tracer::inject`] writes instead.
    pub(crate) fn replaced(&self, context: &TraceContext, current: &SpanContext) -> Names {
        let mut names = Names::default();
        match self.format {
            Format::B3 { with_w3c, .. } => {
                match context.b3 {
                    B3Format::Single => names.add(Name::B3),
                    B3Format::Multi => {
                        names = names.with(Names::of(&B3_MULTI));
                        if current.parent_span_id.is_some() {
                            names.add(Name::XB3ParentSpanId);
                        }
                    }
                }
                if with_w3c {
                    names.add(Name::TraceParent);
                }
            }
            Format::W3c => {
                names.add(Name::TraceParent);
                names.add(Name::TraceState);
            }
        }
        names
    }

    /// Appends the context of `current`, the span under which the upstream works.
    pub(crate) fn inject(
        &self,
        context: &TraceContext,
        current: &SpanContext,
        fields: &Fields,
        head: &[u8],
        out: &mut Vec<u8>,
    ) {
        match self.format {
            Format::B3 { with_w3c, .. } => {
                match context.b3 {
                    B3Format::Single => append_field(out, propagation::B3, &current.b3_single()),
                    B3Format::Multi => append_multi(current, out),
                }
                if with_w3c {
                    append_field(out, propagation::TRACEPARENT, &current.traceparent());
                }
            }
            Format::W3c => {
                append_field(out, propagation::TRACEPARENT, &current.traceparent());
                out.extend_from_slice(b"tracestate: ");
                if context.continues {
                    w3c::join_tracestate(fields.all(Name::TraceState, head), out);
                }
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}

fn append_multi(current: &SpanContext, out: &mut Vec<u8>) {
    append_field(out, propagation::X_B3_TRACE_ID, &current.b3_trace_id());
    append_field(out, propagation::X_B3_SPAN_ID, &current.b3_span_id());
    if let Some(parent) = current.b3_parent_span_id() {
        append_field(out, propagation::X_B3_PARENT_SPAN_ID, &parent);
    }
    append_field(out, propagation::X_B3_SAMPLED, current.b3_sampled());
}
