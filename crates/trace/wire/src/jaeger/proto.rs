//! Protobuf → model (`jaeger.api_v2`, `model.proto` and `collector.proto`).

use std::collections::HashMap;
use std::sync::Arc;

use periplus_model::{Resource, SpanId, TraceId};

use super::DecodeError;
use super::error::SpanProblem;
use super::groups::Groups;
use super::process::to_resource;
use super::project::RefType;
use super::raw::{RawLog, RawProcess, RawReference, RawSpan, RawTag, RawValue};
use crate::otlp::Decoded;
use crate::protobuf::{Reader, WireError};

/// Decodes a `PostSpansRequest`. A span that brings its own process belongs to that one.
///
/// # Errors
///
/// The bytes are no such message.
pub fn decode_post_spans(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut batch = Batch::default();
    let mut request = Reader::new("PostSpansRequest", bytes);
    while let Some((field, payload)) = request.next()? {
        if field == 1 {
            batch.read(payload.bytes("PostSpansRequest.batch")?)?;
        }
    }
    Ok(batch.finish())
}

/// The number of the batch's own process; those of the spans follow.
const OF_BATCH: usize = 0;

#[derive(Default)]
struct Batch<'a> {
    process: RawProcess<'a>,
    /// The processes that spans bring, by their bytes: a sender repeats them.
    others: HashMap<&'a [u8], usize>,
    resources: Vec<Arc<Resource>>,
    groups: Groups,
}

impl<'a> Batch<'a> {
    fn read(&mut self, bytes: &'a [u8]) -> Result<(), WireError> {
        let mut message = Reader::new("Batch", bytes);
        while let Some((field, payload)) = message.next()? {
            match field {
                1 => self.add(payload.bytes("Batch.spans")?)?,
                2 => self.process = process(payload.bytes("Batch.process")?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, bytes: &'a [u8]) -> Result<(), WireError> {
        let (span, own) = span(bytes)?;
        let process = match own {
            Some(bytes) => self.number(bytes)?,
            None => OF_BATCH,
        };
        self.groups.add(process, &span);
        Ok(())
    }

    fn number(&mut self, bytes: &'a [u8]) -> Result<usize, WireError> {
        if let Some(number) = self.others.get(bytes) {
            return Ok(*number);
        }
        self.resources.push(Arc::new(to_resource(&process(bytes)?)));
        let number = OF_BATCH + self.resources.len();
        self.others.insert(bytes, number);
        Ok(number)
    }

    fn finish(self) -> Decoded {
        let of_batch = Arc::new(to_resource(&self.process));
        self.groups.finish(|number| match number.checked_sub(1) {
            None => Arc::clone(&of_batch),
            Some(other) => Arc::clone(&self.resources[other]),
        })
    }
}

fn process(bytes: &[u8]) -> Result<RawProcess<'_>, WireError> {
    let mut process = RawProcess::default();
    let mut message = Reader::new("Process", bytes);
    while let Some((field, payload)) = message.next()? {
        match field {
            1 => process.service_name = payload.bytes("Process.service_name")?,
            2 => process.tags.push(tag(payload.bytes("Process.tags")?)?),
            _ => {}
        }
    }
    Ok(process)
}

/// The span, and the bytes of the process that it brings.
fn span(bytes: &[u8]) -> Result<(RawSpan<'_>, Option<&[u8]>), WireError> {
    let mut span = RawSpan::default();
    let mut own = None;
    let mut message = Reader::new("Span", bytes);
    while let Some((field, payload)) = message.next()? {
        match field {
            1 => match trace_id(payload.bytes("Span.trace_id")?) {
                Ok(id) => span.trace_id = id,
                Err(problem) => span.breaks(problem),
            },
            2 => match span_id(payload.bytes("Span.span_id")?) {
                Ok(id) => span.span_id = id,
                Err(problem) => span.breaks(problem),
            },
            3 => span.operation_name = payload.bytes("Span.operation_name")?,
            4 => match reference(payload.bytes("Span.references")?)? {
                Ok(reference) => span.push_reference(reference),
                Err(problem) => span.breaks(problem),
            },
            5 => span.flags = payload.uint32("Span.flags")?,
            6 => match timestamp("Timestamp", payload.bytes("Span.start_time")?)? {
                Some(start) => span.start_unix_nano = start,
                None => span.breaks(SpanProblem::OutOfRange("start_time")),
            },
            7 => span.duration_nano = nanos("Duration", payload.bytes("Span.duration")?)?,
            8 => span.tags.push(tag(payload.bytes("Span.tags")?)?),
            9 => match log(payload.bytes("Span.logs")?)? {
                Some(log) => span.push_log(log),
                None => span.breaks(SpanProblem::OutOfRange("a log's timestamp")),
            },
            10 => own = Some(payload.bytes("Span.process")?),
            _ => {}
        }
    }
    Ok((span, own))
}

fn reference(bytes: &[u8]) -> Result<Result<RawReference, SpanProblem>, WireError> {
    let (mut trace, mut id) = (&b""[..], &b""[..]);
    let mut ref_type = 0;
    let mut message = Reader::new("SpanRef", bytes);
    while let Some((field, payload)) = message.next()? {
        match field {
            1 => trace = payload.bytes("SpanRef.trace_id")?,
            2 => id = payload.bytes("SpanRef.span_id")?,
            3 => ref_type = payload.uint32("SpanRef.ref_type")?.cast_signed(),
            _ => {}
        }
    }
    Ok(trace_id(trace).and_then(|trace_id| {
        Ok(RawReference {
            ref_type: RefType::from_number(ref_type),
            trace_id,
            span_id: span_id(id)?,
        })
    }))
}

/// None if its time cannot be held.
fn log(bytes: &[u8]) -> Result<Option<RawLog<'_>>, WireError> {
    let mut time = Some(0);
    let mut log = RawLog::default();
    let mut message = Reader::new("Log", bytes);
    while let Some((field, payload)) = message.next()? {
        match field {
            1 => time = timestamp("Timestamp", payload.bytes("Log.timestamp")?)?,
            2 => log.fields.push(tag(payload.bytes("Log.fields")?)?),
            _ => {}
        }
    }
    Ok(time.map(|time_unix_nano| RawLog {
        time_unix_nano,
        ..log
    }))
}

fn tag(bytes: &[u8]) -> Result<RawTag<'_>, WireError> {
    let (mut key, mut kind) = (&b""[..], 0);
    let (mut text, mut boolean, mut int) = (&b""[..], false, 0);
    let (mut double, mut binary) = (0.0, &b""[..]);
    let mut message = Reader::new("KeyValue", bytes);
    while let Some((field, payload)) = message.next()? {
        match field {
            1 => key = payload.bytes("KeyValue.key")?,
            2 => kind = payload.uint32("KeyValue.v_type")?.cast_signed(),
            3 => text = payload.bytes("KeyValue.v_str")?,
            4 => boolean = payload.varint("KeyValue.v_bool")? != 0,
            5 => int = payload.varint("KeyValue.v_int64")?.cast_signed(),
            6 => double = f64::from_bits(payload.fixed64("KeyValue.v_float64")?),
            7 => binary = payload.bytes("KeyValue.v_binary")?,
            _ => {}
        }
    }
    Ok(RawTag {
        key,
        value: match kind {
            0 => RawValue::Text(text),
            1 => RawValue::Bool(boolean),
            2 => RawValue::Int(int),
            3 => RawValue::Double(double),
            4 => RawValue::Binary(binary),
            other => RawValue::Unknown(other),
        },
    })
}

/// 16 bytes, or 8 of an id of 64 bits.
fn trace_id(bytes: &[u8]) -> Result<TraceId, SpanProblem> {
    if let Ok(bytes) = <[u8; 16]>::try_from(bytes) {
        return Ok(TraceId::from_bytes(bytes));
    }
    <[u8; 8]>::try_from(bytes)
        .map(|low| TraceId::from_halves(0, u64::from_be_bytes(low)))
        .map_err(|_| SpanProblem::IdLength {
            field: "trace_id",
            found: bytes.len(),
            expected: "16 or 8",
        })
}

fn span_id(bytes: &[u8]) -> Result<SpanId, SpanProblem> {
    <[u8; 8]>::try_from(bytes)
        .map(SpanId::from_bytes)
        .map_err(|_| SpanProblem::IdLength {
            field: "span_id",
            found: bytes.len(),
            expected: "8",
        })
}

/// None if it cannot be held.
fn timestamp(message: &'static str, bytes: &[u8]) -> Result<Option<u64>, WireError> {
    Ok(u64::try_from(nanos(message, bytes)?).ok())
}

/// The nanoseconds of a `Timestamp` or a `Duration`: seconds and nanoseconds.
fn nanos(message: &'static str, bytes: &[u8]) -> Result<i128, WireError> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut fields = Reader::new(message, bytes);
    while let Some((field, payload)) = fields.next()? {
        match field {
            1 => seconds = payload.varint("seconds")?.cast_signed(),
            2 => nanos = payload.uint32("nanos")?.cast_signed(),
            _ => {}
        }
    }
    Ok(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
}
