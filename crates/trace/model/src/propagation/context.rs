use super::w3c::TRACEPARENT_LENGTH;
use super::{Incoming, ShortText};
use crate::{SpanId, SpanKind, TraceId};

/// The ids of a span that this proxy makes, and what it tells the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Its parent; `None` on a root.
    pub parent_span_id: Option<SpanId>,
    /// Whether it is reported, and what the next hop is told. Unsampled requests carry context too.
    pub sampled: bool,
    /// Zipkin's `shared`: the span id is the caller's.
    pub shared: bool,
    /// Whether the parent came through headers (bit 9 of OTLP's flags).
    pub parent_is_remote: bool,
}

/// How the Zipkin tracer is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZipkinMode {
    /// `shared_span_context`: a server span takes the caller's id. Envoy's default is true, Istio
    /// sets false.
    pub shared_span_context: bool,
    /// `trace_id_128bit`: new trace ids have a random high half.
    pub trace_id_128bit: bool,
}

impl SpanContext {
    /// The ids of a request's span from the Zipkin tracer.
    ///
    /// `kind` is that of the span: SERVER on inbound listeners and wherever upstream attempts have
    /// spans of their own. The low half of a new trace id is the root span's id.
    pub fn begin_zipkin(
        incoming: Option<&Incoming>,
        kind: SpanKind,
        sampled: bool,
        mode: ZipkinMode,
        mut random: impl FnMut() -> u64,
    ) -> Self {
        let shared = mode.shared_span_context && kind == SpanKind::Server;
        let Some(incoming) = incoming else {
            let root = non_zero(random());
            let high = if mode.trace_id_128bit {
                non_zero(random())
            } else {
                0
            };
            return Self {
                trace_id: TraceId::from_halves(high, root),
                span_id: SpanId::from_u64(root),
                parent_span_id: None,
                sampled,
                shared,
                parent_is_remote: false,
            };
        };
        let (span_id, parent_span_id) = if shared {
            (incoming.span_id, incoming.parent_span_id)
        } else {
            (SpanId::from_u64(non_zero(random())), Some(incoming.span_id))
        };
        Self {
            trace_id: incoming.trace_id,
            span_id,
            parent_span_id,
            sampled,
            shared,
            parent_is_remote: parent_span_id.is_some(),
        }
    }

    /// The ids of a request's span from the OpenTelemetry tracer, which never shares ids.
    pub fn begin_w3c(
        incoming: Option<&Incoming>,
        sampled: bool,
        mut random: impl FnMut() -> u64,
    ) -> Self {
        let trace_id = match incoming {
            Some(incoming) => incoming.trace_id,
            None => TraceId::from_halves(non_zero(random()), non_zero(random())),
        };
        Self {
            trace_id,
            span_id: SpanId::from_u64(non_zero(random())),
            parent_span_id: incoming.map(|incoming| incoming.span_id),
            sampled,
            shared: false,
            parent_is_remote: incoming.is_some(),
        }
    }

    /// The ids of an upstream attempt's span within this one (`spawn_upstream_span`).
    pub fn child(&self, random: u64) -> Self {
        Self {
            span_id: SpanId::from_u64(non_zero(random)),
            parent_span_id: Some(self.span_id),
            shared: false,
            parent_is_remote: false,
            ..*self
        }
    }

    /// `x-b3-traceid`: 16 digits if the high half is zero, else 32.
    pub fn b3_trace_id(&self) -> ShortText<32> {
        let digits = self.trace_id.to_hex();
        let mut text = ShortText::new();
        text.push(if self.trace_id.is_64_bit() {
            &digits[16..]
        } else {
            &digits
        });
        text
    }

    /// `x-b3-spanid`.
    pub fn b3_span_id(&self) -> [u8; 16] {
        self.span_id.to_hex()
    }

    /// `x-b3-parentspanid`. None on a root: a stale header of the request is then left alone.
    pub fn b3_parent_span_id(&self) -> Option<[u8; 16]> {
        self.parent_span_id.map(SpanId::to_hex)
    }

    /// `x-b3-sampled`.
    pub const fn b3_sampled(&self) -> &'static [u8; 1] {
        if self.sampled { b"1" } else { b"0" }
    }

    /// `b3`: `trace-span-{0|1}[-parent]`.
    pub fn b3_single(&self) -> ShortText<68> {
        let mut text = ShortText::new();
        text.push(&self.b3_trace_id());
        text.push(b"-");
        text.push(&self.b3_span_id());
        text.push(b"-");
        text.push(self.b3_sampled());
        if let Some(parent) = self.b3_parent_span_id() {
            text.push(b"-");
            text.push(&parent);
        }
        text
    }

    /// `traceparent`, version 00; a 64-bit trace id is padded with zeros.
    pub fn traceparent(&self) -> [u8; TRACEPARENT_LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&self.trace_id.to_hex());
        text[36..52].copy_from_slice(&self.span_id.to_hex());
        text[54] = self.b3_sampled()[0];
        text
    }

    /// OTLP's `flags`: "sampled", "it is known whether the parent is remote", and if it is.
    pub const fn otlp_flags(&self) -> u32 {
        0x100 | ((self.parent_is_remote as u32) << 9) | self.sampled as u32
    }
}

/// Zero is no id: the next number stands in for it.
const fn non_zero(random: u64) -> u64 {
    if random == 0 { 1 } else { random }
}
