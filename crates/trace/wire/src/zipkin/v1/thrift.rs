//! Version 1 Thrift: a list of structs in the binary protocol (zipkin-api `thrift/zipkinCore.thrift`).

use std::str;

use periplus_model::{Batch, SpanId, TraceId};

use super::super::endpoint::{Host, port};
use super::super::error::{DecodeError, Encoding, SpanProblem};
use super::super::ids::{some_parent, some_span_id, some_trace_id};
use super::super::span::Groups;
use super::convert::convert;
use super::{Annotation, BinaryAnnotation, Span};
use crate::base64;
use crate::thrift::{Binary, Field, Kind, Protocol, ThriftError, expect};

const ENCODING: Encoding = Encoding::Thrift;

/// Decodes the body of `POST /api/v1/spans` as `application/x-thrift`: a list of spans of version 1 in
/// Thrift's binary protocol, each of which becomes one span for each service that it names. An empty
/// body is an empty list.
///
/// Numbers and bytes, which Zipkin drops, become tags of their text, bytes in Base64.
///
/// # Errors
///
/// The body is no such list, or one of the spans breaks a rule.
pub fn decode_thrift(body: &[u8]) -> Result<Batch, DecodeError> {
    let mut input = match body {
        [] => return Ok(Batch::default()),
        // The type of the elements: structs. Old reporters write that of text.
        [11 | 12, ..] => Binary::new(body),
        _ => return Err(DecodeError::NotAList(ENCODING)),
    };
    let malformed = |error| DecodeError::malformed(ENCODING, &error);
    let (_, count) = input.list().map_err(malformed)?;
    let mut groups = Groups::default();
    for index in 0..count {
        span(&mut input)
            .and_then(|span| {
                (convert(span)?.into_iter()).try_for_each(|span| groups.add(span))?;
                Ok(())
            })
            .map_err(|error| match error {
                Fault::Bytes(error) => DecodeError::malformed(ENCODING, &error),
                Fault::NotUtf8(field) => {
                    DecodeError::malformed(ENCODING, &format!("{field} is not valid UTF-8"))
                }
                Fault::Rule(problem) => DecodeError::span(ENCODING, index, problem),
            })?;
    }
    Ok(groups.batch)
}

enum Fault {
    Bytes(ThriftError),
    NotUtf8(&'static str),
    Rule(SpanProblem),
}

impl From<ThriftError> for Fault {
    fn from(error: ThriftError) -> Self {
        Self::Bytes(error)
    }
}

impl From<SpanProblem> for Fault {
    fn from(problem: SpanProblem) -> Self {
        Self::Rule(problem)
    }
}

fn span(input: &mut Binary<'_>) -> Result<Span, Fault> {
    let mut span = Span::default();
    let (mut low, mut high, mut id) = (None, 0, None);
    let mut last = 0;
    while let Some(field) = input.field(&mut last)? {
        match field.id {
            1 => low = Some(input.i64_of(field, "Span.trace_id")?),
            3 => span.name = text(input, field, "Span.name")?,
            4 => id = Some(input.i64_of(field, "Span.id")?),
            5 => {
                let parent = input.i64_of(field, "Span.parent_id")?;
                span.parent_id = some_parent(SpanId::from_u64(parent as u64));
            }
            6 => {
                for _ in 0..input.structs_of(field, "Span.annotations")? {
                    let annotation = annotation(input)?;
                    // As in Zipkin.
                    if annotation.timestamp != 0 && !annotation.value.is_empty() {
                        span.annotations.push(annotation);
                    }
                }
            }
            8 => {
                for _ in 0..input.structs_of(field, "Span.binary_annotations")? {
                    match binary_annotation(input)? {
                        Some(annotation) => span.binary_annotations.push(annotation),
                        None => span.dropped_tags = span.dropped_tags.saturating_add(1),
                    }
                }
            }
            9 => span.debug = input.bool_of(field, "Span.debug")?,
            10 => span.timestamp = input.i64_of(field, "Span.timestamp")?.max(0),
            11 => span.duration = input.i64_of(field, "Span.duration")?.max(0),
            12 => high = input.i64_of(field, "Span.trace_id_high")?,
            _ => input.skip(field.kind)?,
        }
    }
    let low = low.ok_or(SpanProblem::Missing("traceId"))?;
    let id = id.ok_or(SpanProblem::Missing("id"))?;
    span.trace_id = some_trace_id(TraceId::from_halves(high as u64, low as u64))?;
    span.id = some_span_id(SpanId::from_u64(id as u64))?;
    Ok(span)
}

fn annotation(input: &mut Binary<'_>) -> Result<Annotation, Fault> {
    let mut annotation = Annotation {
        timestamp: 0,
        value: String::new(),
        host: None,
    };
    let mut last = 0;
    while let Some(field) = input.field(&mut last)? {
        match field.id {
            1 => annotation.timestamp = input.i64_of(field, "Annotation.timestamp")?,
            2 => annotation.value = text(input, field, "Annotation.value")?,
            3 => annotation.host = host(input, field, "Annotation.host")?,
            _ => input.skip(field.kind)?,
        }
    }
    Ok(annotation)
}

/// None if no text stands for the value.
fn binary_annotation(input: &mut Binary<'_>) -> Result<Option<BinaryAnnotation>, Fault> {
    let (mut key, mut value, mut kind, mut at) = (String::new(), &[][..], 0, None);
    let mut last = 0;
    while let Some(field) = input.field(&mut last)? {
        match field.id {
            1 => key = text(input, field, "BinaryAnnotation.key")?,
            2 => value = input.bytes_of(field, "BinaryAnnotation.value")?,
            3 => kind = input.i32_of(field, "BinaryAnnotation.annotation_type")?,
            4 => at = host(input, field, "BinaryAnnotation.host")?,
            _ => input.skip(field.kind)?,
        }
    }
    Ok(to_text(kind, value).map(|value| BinaryAnnotation {
        key,
        value,
        host: at,
    }))
}

/// The text of a value of this `AnnotationType`; numbers are big-endian.
fn to_text(kind: i32, value: &[u8]) -> Option<String> {
    Some(match kind {
        0 => (*value.first()? != 0).to_string(),
        1 => {
            let mut out = Vec::new();
            base64::push(&mut out, value);
            String::from_utf8(out).ok()?
        }
        2 => i16::from_be_bytes(value.try_into().ok()?).to_string(),
        3 => i32::from_be_bytes(value.try_into().ok()?).to_string(),
        4 => i64::from_be_bytes(value.try_into().ok()?).to_string(),
        5 => f64::from_be_bytes(value.try_into().ok()?).to_string(),
        6 => String::from_utf8_lossy(value).into_owned(),
        _ => return None,
    })
}

fn host(input: &mut Binary<'_>, field: Field, name: &'static str) -> Result<Option<Host>, Fault> {
    expect(name, field.kind, Kind::Struct)?;
    let mut host = Host::default();
    let mut last = 0;
    while let Some(field) = input.field(&mut last)? {
        match field.id {
            1 => match input.i32_of(field, "Endpoint.ipv4")? {
                0 => {}
                address => host.take_address(&address.to_be_bytes()),
            },
            // Unsigned, though Thrift has no such type.
            2 => {
                expect("Endpoint.port", field.kind, Kind::I16)?;
                host.port = port((input.i16()? as u16).into())?;
            }
            3 => host.service_name = text(input, field, "Endpoint.service_name")?,
            4 => host.take_address(input.bytes_of(field, "Endpoint.ipv6")?),
            _ => input.skip(field.kind)?,
        }
    }
    Ok(host.or_none())
}

fn text(input: &mut Binary<'_>, field: Field, name: &'static str) -> Result<String, Fault> {
    let bytes = input.bytes_of(field, name)?;
    let text = str::from_utf8(bytes).map_err(|_| Fault::NotUtf8(name))?;
    Ok(text.to_owned())
}
