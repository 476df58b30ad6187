//! W3C Trace Context, as Envoy's OpenTelemetry tracer reads it.

use super::hex::parse_digits;
use super::{Extracted, Incoming};
use crate::{SpanId, TraceId};

/// The length of a `traceparent`.
pub const TRACEPARENT_LENGTH: usize = 55;

/// Reads the first `traceparent` of a request.
///
/// It must have exactly 55 characters; any version is accepted, upper case too. Of the flags only
/// "sampled" counts. An empty, zero or otherwise bad one is malformed, not absent.
pub fn extract(traceparent: Option<&[u8]>) -> Extracted {
    let Some(traceparent) = traceparent else {
        return Extracted::Absent { sampled: None };
    };
    match parse(traceparent) {
        Some(incoming) => Extracted::Context(incoming),
        None => Extracted::Malformed,
    }
}

fn parse(text: &[u8]) -> Option<Incoming> {
    let text: &[u8; TRACEPARENT_LENGTH] = text.try_into().ok()?;
    if text[2] != b'-' || text[35] != b'-' || text[52] != b'-' {
        return None;
    }
    parse_digits(&text[..2])?;
    let trace_id = TraceId::from_halves(parse_digits(&text[3..19])?, parse_digits(&text[19..35])?);
    let span_id = SpanId::from_u64(parse_digits(&text[36..52])?);
    let flags = parse_digits(&text[53..])?;
    if trace_id.is_zero() || span_id.is_zero() {
        return None;
    }
    Some(Incoming {
        trace_id,
        span_id,
        parent_span_id: None,
        sampled: Some(flags & 1 == 1),
    })
}

/// Joins the `tracestate` headers of a request with commas, in order, into `out`; nothing is
/// checked. Only a valid `traceparent` makes it count: without one it is dropped.
pub fn join_tracestate<'a>(values: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let begin = out.len();
    for value in values {
        if out.len() > begin {
            out.push(b',');
        }
        out.extend_from_slice(value);
    }
}
