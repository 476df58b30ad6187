//! Context: read from the request, written into the upstream request.

use periplus_model::propagation::{self, B3Format, B3Headers, Extracted, SpanContext, w3c};

use crate::http1::edit::{Names, append_field};
use crate::http1::head::Fields;
use crate::http1::name::Name;
use crate::snapshot::Sampler;
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
        let (extracted, b3) = self.extract(fields, head);
        let own = self.decide(id, fields, head, (stats, &extracted), &mut random);
        if extracted == Extracted::Malformed {
            return None;
        }
        let incoming = extracted.context();
        let span = match self.format {
            Format::B3 { mode, .. } => {
                let sampled = extracted.sampled_by_zipkin(own);
                SpanContext::begin_zipkin(incoming, self.kind, sampled, mode, random)
            }
            Format::W3c { sampler, .. } => {
                let sampled = extracted.sampled_by_opentelemetry(own);
                let mut span = SpanContext::begin_w3c(incoming, sampled, random);
                // It has a say only about what is traced at all.
                if let Some(sampler) = sampler
                    && own
                {
                    span.sampled = sampler.samples(&span, incoming.is_some());
                }
                span
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
        let b3_headers = || B3Headers {
            b3: value(Name::B3),
            trace_id: value(Name::XB3TraceId),
            span_id: value(Name::XB3SpanId),
            parent_span_id: value(Name::XB3ParentSpanId),
            sampled: value(Name::XB3Sampled),
        };
        match self.format {
            Format::B3 { with_w3c, .. } => {
                let headers = b3_headers();
                let extracted = if with_w3c {
                    headers.extract_or_w3c(value(Name::TraceParent))
                } else {
                    headers.extract()
                };
                (extracted, headers.format())
            }
            Format::W3c { with_b3, .. } => {
                let traceparent = value(Name::TraceParent);
                if !with_b3 {
                    return (w3c::extract(traceparent), B3Format::Multi);
                }
                let headers = b3_headers();
                let extracted = match traceparent {
                    Some(_) => w3c::extract(traceparent),
                    None => headers.extract(),
                };
                (extracted, headers.format())
            }
        }
    }

    /// The convention of a context that came in headers that this tracer does not read, if none came in those that
    /// it reads.
    pub(crate) fn ignored(&self, fields: &Fields) -> Option<&'static str> {
        let has_b3 = fields.has(Name::B3) || fields.has(Name::XB3TraceId);
        let has_w3c = fields.has(Name::TraceParent);
        match self.format {
            Format::W3c { with_b3, .. } => (has_b3 && !has_w3c && !with_b3).then_some("b3"),
            Format::B3 { with_w3c, .. } => (has_w3c && !has_b3 && !with_w3c).then_some("w3c"),
        }
    }

    /// The names of the headers that [`Tracer::inject`] writes instead.
    pub(crate) fn replaced(&self, context: &TraceContext, current: &SpanContext) -> Names {
        let mut names = Names::default();
        let writes_b3 = match self.format {
            Format::B3 { with_w3c, .. } => {
                if with_w3c {
                    names.add(Name::TraceParent);
                }
                true
            }
            Format::W3c { with_b3, .. } => {
                names.add(Name::TraceParent);
                names.add(Name::TraceState);
                with_b3
            }
        };
        match context.b3 {
            _ if !writes_b3 => {}
            B3Format::Single => names.add(Name::B3),
            B3Format::Multi => {
                names = names.with(Names::of(&B3_MULTI));
                if current.parent_span_id.is_some() {
                    names.add(Name::XB3ParentSpanId);
                }
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
                append_b3(context.b3, current, out);
                if with_w3c {
                    append_field(out, propagation::TRACEPARENT, &current.traceparent());
                }
            }
            Format::W3c { with_b3, .. } => {
                append_field(out, propagation::TRACEPARENT, &current.traceparent());
                out.extend_from_slice(b"tracestate: ");
                if context.continues {
                    w3c::join_tracestate(fields.all(Name::TraceState, head), out);
                }
                out.extend_from_slice(b"\r\n");
                if with_b3 {
                    append_b3(context.b3, current, out);
                }
            }
        }
    }
}

impl Sampler {
    fn samples(self, span: &SpanContext, has_caller: bool) -> bool {
        if self.is_parent_based && has_caller {
            return span.sampled;
        }
        let Some((share, of)) = self.ratio else {
            return true;
        };
        // As Envoy does: by the first half of the id.
        span.trace_id.high() % u64::from(of) < u64::from(share)
    }
}

fn append_b3(format: B3Format, current: &SpanContext, out: &mut Vec<u8>) {
    match format {
        B3Format::Single => append_field(out, propagation::B3, &current.b3_single()),
        B3Format::Multi => append_multi(current, out),
    }
}

/// The `x-b3-*` lines. With a 128-bit trace id, as usual, they have one length: then they are made
/// on the stack and copied once.
fn append_multi(current: &SpanContext, out: &mut Vec<u8>) {
    let span_id = current.b3_span_id();
    if current.trace_id.is_64_bit() {
        append_field(out, propagation::X_B3_TRACE_ID, &current.b3_trace_id());
        append_field(out, propagation::X_B3_SPAN_ID, &span_id);
        append_field(out, propagation::X_B3_SAMPLED, current.b3_sampled());
    } else {
        let mut lines = *b"x-b3-traceid: 00000000000000000000000000000000\r\n\
            x-b3-spanid: 0000000000000000\r\nx-b3-sampled: 0\r\n";
        lines[14..46].copy_from_slice(&current.trace_id.to_hex());
        lines[61..77].copy_from_slice(&span_id);
        lines[93] = current.b3_sampled()[0];
        out.extend_from_slice(&lines);
    }
    if let Some(parent) = current.b3_parent_span_id() {
        append_field(out, propagation::X_B3_PARENT_SPAN_ID, &parent);
    }
}

#[cfg(test)]
mod tests {
    use periplus_model::{SpanId, TraceId};

    use super::*;

    #[test]
    fn b3_lines_of_either_width() {
        let mut context = SpanContext {
            trace_id: TraceId::from_halves(0x463a_c35c_9f64_13ad, 0x4848_5a39_53bb_6124),
            span_id: SpanId::from_u64(0xa2fb_4a1d_1a96_d312),
            parent_span_id: Some(SpanId::from_u64(5)),
            sampled: true,
            shared: false,
            parent_is_remote: false,
        };
        let lines = |context: &SpanContext| {
            let mut out = Vec::new();
            append_multi(context, &mut out);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(
            lines(&context),
            "x-b3-traceid: 463ac35c9f6413ad48485a3953bb6124\r\nx-b3-spanid: a2fb4a1d1a96d312\r\n\
             x-b3-sampled: 1\r\nx-b3-parentspanid: 0000000000000005\r\n"
        );
        context.trace_id = TraceId::from_halves(0, 7);
        context.parent_span_id = None;
        context.sampled = false;
        assert_eq!(
            lines(&context),
            "x-b3-traceid: 0000000000000007\r\nx-b3-spanid: a2fb4a1d1a96d312\r\nx-b3-sampled: 0\r\n"
        );
    }
}
