//! Ids: hex digits in JSON, bytes in protobuf, numbers in Thrift.

use periplus_model::{SpanId, TraceId};

use super::error::SpanProblem;

/// A trace's id of 1 to 32 digits.
pub(super) fn trace_id(text: Option<&str>) -> Result<TraceId, SpanProblem> {
    let text = digits("traceId", text.ok_or(SpanProblem::Missing("traceId"))?, 32)?;
    text.parse()
        .map_err(|_| SpanProblem::NotHex(text.to_owned()))
        .and_then(some_trace_id)
}

/// A span's id of 1 to 16 digits.
pub(super) fn span_id(text: Option<&str>) -> Result<SpanId, SpanProblem> {
    let text = digits("id", text.ok_or(SpanProblem::Missing("id"))?, 16)?;
    text.parse()
        .map_err(|_| SpanProblem::NotHex(text.to_owned()))
        .and_then(some_span_id)
}

/// A parent of zero is none.
pub(super) fn parent_id(text: Option<&str>) -> Result<Option<SpanId>, SpanProblem> {
    let Some(text) = text else {
        return Ok(None);
    };
    let text = digits("parentId", text, 16)?;
    text.parse()
        .map_err(|_| SpanProblem::NotHex(text.to_owned()))
        .map(some_parent)
}

/// An id that names a trace.
pub(super) fn some_trace_id(id: TraceId) -> Result<TraceId, SpanProblem> {
    match id.is_zero() {
        true => Err(SpanProblem::ZeroId("traceId")),
        false => Ok(id),
    }
}

/// An id that names a span.
pub(super) fn some_span_id(id: SpanId) -> Result<SpanId, SpanProblem> {
    match id.is_zero() {
        true => Err(SpanProblem::ZeroId("id")),
        false => Ok(id),
    }
}

/// A parent, unless it is zero.
pub(super) fn some_parent(id: SpanId) -> Option<SpanId> {
    Some(id).filter(|id| !id.is_zero())
}

fn digits<'a>(field: &'static str, text: &'a str, max: usize) -> Result<&'a str, SpanProblem> {
    match text.len() {
        0 => Err(SpanProblem::EmptyId(field)),
        length if length > max => Err(SpanProblem::LongId { field, max }),
        _ => Ok(text),
    }
}
