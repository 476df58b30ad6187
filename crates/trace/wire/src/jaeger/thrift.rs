//! Thrift → model (`jaeger.thrift`, `agent.thrift`).

use std::sync::Arc;

use periplus_model::{SpanId, TraceId};

use super::DecodeError;
use super::error::SpanProblem;
use super::groups::Groups;
use super::process::to_resource;
use super::project::RefType;
use super::raw::{RawLog, RawProcess, RawReference, RawSpan, RawTag, RawTags, RawValue};
use crate::otlp::Decoded;
use crate::thrift::{Binary, Compact, Field, Kind, Protocol, ThriftError, expect};

/// One of Thrift's wire formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThriftProtocol {
    /// `TBinaryProtocol`, messages with strict and with old heads.
    Binary,
    /// `TCompactProtocol`.
    Compact,
}

/// Decodes the body of `POST /api/traces`: a `Batch` in the binary protocol, without a message's
/// head. What follows it is ignored.
///
/// # Errors
///
/// The bytes are no such struct, or one of its required fields is missing.
pub fn decode_thrift_batch(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    Ok(batch(&mut Binary::new(bytes))?)
}

/// Decodes a message to an agent, as a datagram brings it: a call of `Agent.emitBatch`.
///
/// # Errors
///
/// The bytes are no message, or one of another method.
pub fn decode_agent_message(
    bytes: &[u8],
    protocol: ThriftProtocol,
) -> Result<Decoded, DecodeError> {
    match protocol {
        ThriftProtocol::Binary => message(&mut Binary::new(bytes)),
        ThriftProtocol::Compact => message(&mut Compact::new(bytes)),
    }
}

fn message<'a>(input: &mut impl Protocol<'a>) -> Result<Decoded, DecodeError> {
    /// A call, with and without an answer; this agent answers neither.
    const CALL: u8 = 1;
    const ONEWAY: u8 = 4;
    const MAX_NAME: usize = 100;
    let message = input.message()?;
    if message.kind != CALL && message.kind != ONEWAY {
        return Err(DecodeError::NoCall(message.kind));
    }
    if message.name != b"emitBatch" {
        let name = &message.name[..message.name.len().min(MAX_NAME)];
        return Err(DecodeError::Method(name.escape_ascii().to_string()));
    }
    let mut decoded = None;
    let mut last = 0;
    while let Some(field) = input.field(&mut last)? {
        match field.id {
            1 => {
                expect("emitBatch.batch", field.kind, Kind::Struct)?;
                decoded = Some(batch(input)?);
            }
            _ => input.skip(field.kind)?,
        }
    }
    Ok(decoded.ok_or(ThriftError::Missing("emitBatch.batch"))?)
}

fn batch<'a>(input: &mut impl Protocol<'a>) -> Result<Decoded, ThriftError> {
    let mut process_seen = None;
    let mut spans_seen = false;
    let mut groups = Groups::default();
    let mut last = 0;
    while let Some(field) = input.field(&mut last)? {
        match field.id {
            1 => {
                expect("Batch.process", field.kind, Kind::Struct)?;
                process_seen = Some(process(input)?);
            }
            2 => {
                spans_seen = true;
                for _ in 0..input.structs_of(field, "Batch.spans")? {
                    groups.add(0, &span(input)?);
                }
            }
            _ => input.skip(field.kind)?,
        }
    }
    let process = process_seen.ok_or(ThriftError::Missing("Batch.process"))?;
    required("Batch.spans", spans_seen)?;
    let resource = Arc::new(to_resource(&process));
    Ok(groups.finish(|_| Arc::clone(&resource)))
}

fn process<'a>(input: &mut impl Protocol<'a>) -> Result<RawProcess<'a>, ThriftError> {
    let mut service_name = None;
    let mut tags = RawTags::default();
    let mut last = 0;
    while let Some(field) = input.field(&mut last)? {
        match field.id {
            1 => service_name = Some(input.bytes_of(field, "Process.serviceName")?),
            2 => read_tags(input, field, "Process.tags", &mut tags)?,
            _ => input.skip(field.kind)?,
        }
    }
    Ok(RawProcess {
        service_name: service_name.ok_or(ThriftError::Missing("Process.serviceName"))?,
        tags,
    })
}

fn span<'a>(input: &mut impl Protocol<'a>) -> Result<RawSpan<'a>, ThriftError> {
    /// The required fields, by id.
    const REQUIRED: [(i16, &str); 8] = [
        (1, "Span.traceIdLow"),
        (2, "Span.traceIdHigh"),
        (3, "Span.spanId"),
        (4, "Span.parentSpanId"),
        (5, "Span.operationName"),
        (7, "Span.flags"),
        (8, "Span.startTime"),
        (9, "Span.duration"),
    ];
    let mut span = RawSpan::default();
    let (mut low, mut high) = (0, 0);
    let mut seen = 0_u16;
    let mut last = 0;
    while let Some(field) = input.field(&mut last)? {
        match field.id {
            1 => low = input.i64_of(field, "Span.traceIdLow")?,
            2 => high = input.i64_of(field, "Span.traceIdHigh")?,
            3 => span.span_id = span_id(input.i64_of(field, "Span.spanId")?),
            4 => {
                let parent = span_id(input.i64_of(field, "Span.parentSpanId")?);
                span.parent_span_id = Some(parent).filter(|id| !id.is_zero());
            }
            5 => span.operation_name = input.bytes_of(field, "Span.operationName")?,
            6 => {
                for _ in 0..input.structs_of(field, "Span.references")? {
                    span.push_reference(reference(input)?);
                }
            }
            7 => span.flags = input.i32_of(field, "Span.flags")?.cast_unsigned(),
            8 => match nanos(input.i64_of(field, "Span.startTime")?) {
                Some(start) => span.start_unix_nano = start,
                None => span.breaks(SpanProblem::OutOfRange("startTime")),
            },
            9 => span.duration_nano = i128::from(input.i64_of(field, "Span.duration")?) * 1_000,
            10 => read_tags(input, field, "Span.tags", &mut span.tags)?,
            11 => {
                for _ in 0..input.structs_of(field, "Span.logs")? {
                    match log(input)? {
                        Some(log) => span.push_log(log),
                        None => span.breaks(SpanProblem::OutOfRange("a log's timestamp")),
                    }
                }
            }
            _ => input.skip(field.kind)?,
        }
        if let 1..=11 = field.id {
            seen |= 1 << field.id;
        }
    }
    for (id, name) in REQUIRED {
        required(name, seen & 1 << id != 0)?;
    }
    span.trace_id = trace_id(high, low);
    Ok(span)
}

fn reference<'a>(input: &mut impl Protocol<'a>) -> Result<RawReference, ThriftError> {
    let (mut kind, mut low, mut high, mut id) = (None, None, None, None);
    let mut last = 0;
    while let Some(field) = input.field(&mut last)? {
        match field.id {
            1 => kind = Some(input.i32_of(field, "SpanRef.refType")?),
            2 => low = Some(input.i64_of(field, "SpanRef.traceIdLow")?),
            3 => high = Some(input.i64_of(field, "SpanRef.traceIdHigh")?),
            4 => id = Some(input.i64_of(field, "SpanRef.spanId")?),
            _ => input.skip(field.kind)?,
        }
    }
    let high = high.ok_or(ThriftError::Missing("SpanRef.traceIdHigh"))?;
    let low = low.ok_or(ThriftError::Missing("SpanRef.traceIdLow"))?;
    Ok(RawReference {
        ref_type: RefType::from_number(kind.ok_or(ThriftError::Missing("SpanRef.refType"))?),
        trace_id: trace_id(high, low),
        span_id: span_id(id.ok_or(ThriftError::Missing("SpanRef.spanId"))?),
    })
}

/// None if its time cannot be held.
fn log<'a>(input: &mut impl Protocol<'a>) -> Result<Option<RawLog<'a>>, ThriftError> {
    let mut timestamp = None;
    let mut fields = None;
    let mut last = 0;
    while let Some(field) = input.field(&mut last)? {
        match field.id {
            1 => timestamp = Some(input.i64_of(field, "Log.timestamp")?),
            2 => {
                let list = fields.get_or_insert_default();
                read_tags(input, field, "Log.fields", list)?;
            }
            _ => input.skip(field.kind)?,
        }
    }
    let timestamp = timestamp.ok_or(ThriftError::Missing("Log.timestamp"))?;
    let fields = fields.ok_or(ThriftError::Missing("Log.fields"))?;
    Ok(nanos(timestamp).map(|time_unix_nano| RawLog {
        time_unix_nano,
        fields,
    }))
}

fn read_tags<'a>(
    input: &mut impl Protocol<'a>,
    field: Field,
    name: &'static str,
    tags: &mut RawTags<'a>,
) -> Result<(), ThriftError> {
    for _ in 0..input.structs_of(field, name)? {
        tags.push(tag(input)?);
    }
    Ok(())
}

fn tag<'a>(input: &mut impl Protocol<'a>) -> Result<RawTag<'a>, ThriftError> {
    let (mut key, mut kind) = (None, None);
    let (mut text, mut double, mut boolean) = (&b""[..], 0.0, false);
    let (mut long, mut binary) = (0, &b""[..]);
    let mut last = 0;
    while let Some(field) = input.field(&mut last)? {
        match field.id {
            1 => key = Some(input.bytes_of(field, "Tag.key")?),
            2 => kind = Some(input.i32_of(field, "Tag.vType")?),
            3 => text = input.bytes_of(field, "Tag.vStr")?,
            4 => double = input.double_of(field, "Tag.vDouble")?,
            5 => boolean = input.bool_of(field, "Tag.vBool")?,
            6 => long = input.i64_of(field, "Tag.vLong")?,
            7 => binary = input.bytes_of(field, "Tag.vBinary")?,
            _ => input.skip(field.kind)?,
        }
    }
    Ok(RawTag {
        key: key.ok_or(ThriftError::Missing("Tag.key"))?,
        value: match kind.ok_or(ThriftError::Missing("Tag.vType"))? {
            0 => RawValue::Text(text),
            1 => RawValue::Double(double),
            2 => RawValue::Bool(boolean),
            3 => RawValue::Int(long),
            4 => RawValue::Binary(binary),
            other => RawValue::Unknown(other),
        },
    })
}

fn required(name: &'static str, seen: bool) -> Result<(), ThriftError> {
    if seen {
        Ok(())
    } else {
        Err(ThriftError::Missing(name))
    }
}

const fn trace_id(high: i64, low: i64) -> TraceId {
    TraceId::from_halves(high.cast_unsigned(), low.cast_unsigned())
}

const fn span_id(id: i64) -> SpanId {
    SpanId::from_u64(id.cast_unsigned())
}

fn nanos(micros: i64) -> Option<u64> {
    u64::try_from(micros).ok()?.checked_mul(1_000)
}
