//! Version 2 JSON → model.

use periplus_model::{Batch, SpanKind};

use super::error::{DecodeError, Encoding, SpanProblem, shorten};
use super::ids::{parent_id, span_id, trace_id};
use super::raw::{Number, RawAnnotation, RawList, RawSpan};
use super::span::{Groups, ZipkinSpan};
use crate::json_text::error_text;

/// Decodes the body of `POST /api/v2/spans`: a list of spans. An empty body is an empty list.
///
/// Spans are grouped by who made them; within a group they keep their order.
///
/// # Errors
///
/// The body is no list of version 2 spans, or one of the spans breaks a rule.
pub fn decode_json(body: &[u8]) -> Result<Batch, DecodeError> {
    const ENCODING: Encoding = Encoding::JsonV2;
    let version_1 = || DecodeError::Received {
        expected: ENCODING,
        received: Encoding::JsonV1,
    };
    if !begins_a_list(body, ENCODING)? {
        return Ok(Batch::default());
    }
    let RawList(spans) = serde_json::from_slice(body).map_err(|error| {
        // The mark that Zipkin looks for.
        if contains(body, b"yAnnotations\"") {
            version_1()
        } else {
            DecodeError::malformed(ENCODING, &error_text(&error))
        }
    })?;
    let mut groups = Groups::default();
    for (index, span) in spans.into_iter().enumerate() {
        if span.binary_annotations {
            return Err(version_1());
        }
        to_span(span)
            .and_then(|span| groups.add(span))
            .map_err(|problem| DecodeError::span(ENCODING, index, problem))?;
    }
    Ok(groups.batch)
}

/// Whether a body of JSON is a list; false if there is none at all.
pub(super) fn begins_a_list(body: &[u8], encoding: Encoding) -> Result<bool, DecodeError> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Ok(false),
        Some(b'[') => Ok(true),
        Some(_) => Err(DecodeError::NotAList(encoding)),
    }
}

/// Whether a body that cannot be read has the mark of another version.
pub(super) fn contains(body: &[u8], mark: &[u8]) -> bool {
    body.windows(mark.len()).any(|window| window == mark)
}

fn to_span(raw: RawSpan) -> Result<ZipkinSpan, SpanProblem> {
    let zero = Number(0);
    Ok(ZipkinSpan {
        trace_id: trace_id(raw.trace_id.as_deref())?,
        id: span_id(raw.id.as_deref())?,
        parent_id: parent_id(raw.parent_id.as_deref())?,
        kind: kind(raw.kind.as_deref())?,
        name: raw.name.unwrap_or_default(),
        timestamp: raw.timestamp.unwrap_or(zero).0,
        duration: raw.duration.unwrap_or(zero).0,
        local: raw.local_endpoint.unwrap_or_default().into_host()?,
        remote: raw.remote_endpoint.unwrap_or_default().into_host()?,
        annotations: annotations(raw.annotations.unwrap_or_default())?,
        tags: (raw.tags.unwrap_or_default().0.into_iter())
            .map(|(key, value)| match value {
                Some(value) => Ok((key, value)),
                None => Err(SpanProblem::NullTag(shorten(&key))),
            })
            .collect::<Result<_, _>>()?,
        dropped_tags: 0,
        debug: raw.debug == Some(true),
        shared: raw.shared == Some(true),
    })
}

fn annotations(raw: Vec<RawAnnotation>) -> Result<Vec<(i64, String)>, SpanProblem> {
    let annotations = raw.into_iter().enumerate();
    annotations
        .map(|(i, raw)| match (raw.timestamp, raw.value) {
            (Some(Number(timestamp)), Some(value)) => Ok((timestamp, value)),
            _ => Err(SpanProblem::IncompleteAnnotation(i)),
        })
        .collect()
}

fn kind(text: Option<&str>) -> Result<SpanKind, SpanProblem> {
    Ok(match text {
        None => SpanKind::Unspecified,
        Some("CLIENT") => SpanKind::Client,
        Some("SERVER") => SpanKind::Server,
        Some("PRODUCER") => SpanKind::Producer,
        Some("CONSUMER") => SpanKind::Consumer,
        Some(other) => return Err(SpanProblem::UnknownKind(shorten(other))),
    })
}
