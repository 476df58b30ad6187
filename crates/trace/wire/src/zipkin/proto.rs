//! Version 2 protobuf ⇄ model (zipkin-api `zipkin.proto`, package `zipkin.proto3`).

use std::net::IpAddr;

use periplus_model::{Batch, Span, SpanId, SpanKind, TraceId};

use super::endpoint::{Endpoint, Host, port};
use super::error::{DecodeError, Encoding, SpanProblem};
use super::ids::{some_parent, some_span_id, some_trace_id};
use super::parts::Parts;
use super::span::{Groups, ZipkinSpan};
use crate::protobuf::{
    Payload, Reader, WireError, push_bytes, push_fixed64, push_message, push_varint_field,
};

const ENCODING: Encoding = Encoding::Proto3;

/// Decodes a `ListOfSpans`, the body of `POST /api/v2/spans` as `application/x-protobuf` and the
/// message of `SpanService/Report`. An empty body is an empty list.
///
/// # Errors
///
/// The body is no such message, or one of the spans breaks a rule.
pub fn decode_proto(body: &[u8]) -> Result<Batch, DecodeError> {
    // The first byte tells JSON and Thrift from protobuf, as in Zipkin.
    if body
        .first()
        .is_some_and(|first| matches!(first, b'[' | b'{' | 12))
    {
        return Err(DecodeError::NotAList(ENCODING));
    }
    let malformed = |error| DecodeError::malformed(ENCODING, &error);
    let mut groups = Groups::default();
    let mut list = Reader::new("ListOfSpans", body);
    let mut index = 0;
    while let Some((field, payload)) = list.next().map_err(malformed)? {
        if field != 1 {
            continue;
        }
        let bytes = payload.bytes("ListOfSpans.spans").map_err(malformed)?;
        span(bytes)
            .and_then(|span| Ok(groups.add(span)?))
            .map_err(|error| match error {
                Fault::Wire(error) => DecodeError::malformed(ENCODING, &error),
                Fault::Rule(problem) => DecodeError::span(ENCODING, index, problem),
            })?;
        index += 1;
    }
    Ok(groups.batch)
}

enum Fault {
    Wire(WireError),
    Rule(SpanProblem),
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<SpanProblem> for Fault {
    fn from(problem: SpanProblem) -> Self {
        Self::Rule(problem)
    }
}

fn span(bytes: &[u8]) -> Result<ZipkinSpan, Fault> {
    let mut reader = Reader::new("Span", bytes);
    let mut span = ZipkinSpan::default();
    let (mut trace_id, mut id) = (None, None);
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => {
                let number = u128::from_be_bytes(id_bytes("traceId", payload.bytes("trace_id")?)?);
                trace_id = Some(TraceId::from_bytes(number.to_be_bytes()));
            }
            2 => {
                let bytes = payload.bytes("parent_id")?;
                if !bytes.is_empty() {
                    span.parent_id = some_parent(SpanId::from_bytes(id_bytes("parentId", bytes)?));
                }
            }
            3 => id = Some(SpanId::from_bytes(id_bytes("id", payload.bytes("id")?)?)),
            4 => span.kind = kind(payload.varint("kind")?),
            5 => span.name = payload.text("name")?,
            6 => span.timestamp = signed(payload.fixed64("timestamp")?),
            7 => span.duration = signed(payload.varint("duration")?),
            8 => span.local = host(payload, "local_endpoint")?,
            9 => span.remote = host(payload, "remote_endpoint")?,
            10 => span.annotations.push(annotation(payload)?),
            11 => span.tags.push(tag(payload)?),
            12 => span.debug = payload.varint("debug")? != 0,
            13 => span.shared = payload.varint("shared")? != 0,
            _ => {}
        }
    }
    span.trace_id = some_trace_id(trace_id.ok_or(SpanProblem::Missing("traceId"))?)?;
    span.id = some_span_id(id.ok_or(SpanProblem::Missing("id"))?)?;
    Ok(span)
}

/// Zipkin pads what is shorter.
fn id_bytes<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], SpanProblem> {
    if bytes.is_empty() {
        return Err(SpanProblem::EmptyId(field));
    }
    let mut id = [0; N];
    let padding = N
        .checked_sub(bytes.len())
        .ok_or(SpanProblem::LongId { field, max: 2 * N })?;
    id[padding..].copy_from_slice(bytes);
    Ok(id)
}

/// A kind that Zipkin does not know is none.
const fn kind(number: u64) -> SpanKind {
    match number {
        1 => SpanKind::Client,
        2 => SpanKind::Server,
        3 => SpanKind::Producer,
        4 => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}

/// What does not fit is out of range as microseconds as well.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn host(payload: Payload<'_>, field: &'static str) -> Result<Host, Fault> {
    let mut reader = Reader::new("Endpoint", payload.bytes(field)?);
    let mut host = Host::default();
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => host.service_name = payload.text("service_name")?,
            2 => host.take_address(payload.bytes("ipv4")?),
            3 => host.take_address(payload.bytes("ipv6")?),
            // An int32: like every protobuf decoder, this one drops higher bits.
            4 => host.port = port(i64::from(payload.varint("port")? as i32))?,
            _ => {}
        }
    }
    Ok(host)
}

fn annotation(payload: Payload<'_>) -> Result<(i64, String), Fault> {
    let mut reader = Reader::new("Annotation", payload.bytes("annotations")?);
    let (mut timestamp, mut value) = (0, String::new());
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => timestamp = signed(payload.fixed64("annotations.timestamp")?),
            2 => value = payload.text("annotations.value")?,
            _ => {}
        }
    }
    Ok((timestamp, value))
}

fn tag(payload: Payload<'_>) -> Result<(String, String), Fault> {
    let mut reader = Reader::new("Tag", payload.bytes("tags")?);
    let (mut key, mut value) = (String::new(), String::new());
    while let Some((field, payload)) = reader.next()? {
        match field {
            1 => key = payload.text("tags.key")?,
            2 => value = payload.text("tags.value")?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// Encodes a batch as a `ListOfSpans`.
pub fn encode_proto(batch: &Batch) -> Vec<u8> {
    let mut out = Vec::new();
    for group in &batch.groups {
        for span in &group.spans {
            let parts = Parts::of(&group.resource, &group.scope, span);
            push_message(&mut out, 1, |out| push_span(out, span, &parts));
        }
    }
    out
}

fn push_span(out: &mut Vec<u8>, span: &Span, parts: &Parts<'_>) {
    let trace_id = span.trace_id.to_bytes();
    let shown = if span.trace_id.is_64_bit() {
        &trace_id[8..]
    } else {
        &trace_id
    };
    push_bytes(out, 1, shown);
    if let Some(parent) = span.parent_span_id {
        push_bytes(out, 2, &parent.to_bytes());
    }
    push_bytes(out, 3, &span.span_id.to_bytes());
    match span.kind {
        SpanKind::Client => push_varint_field(out, 4, 1),
        SpanKind::Server => push_varint_field(out, 4, 2),
        SpanKind::Producer => push_varint_field(out, 4, 3),
        SpanKind::Consumer => push_varint_field(out, 4, 4),
        SpanKind::Internal | SpanKind::Unspecified => {}
    }
    if !parts.name.is_empty() {
        push_bytes(out, 5, parts.name.as_bytes());
    }
    if let Some(micros) = parts.timestamp {
        push_fixed64(out, 6, micros);
    }
    if let Some(micros) = parts.duration {
        push_varint_field(out, 7, micros);
    }
    for (field, endpoint) in [(8, &parts.local), (9, &parts.remote)] {
        if !endpoint.is_empty() {
            push_message(out, field, |out| push_endpoint(out, endpoint));
        }
    }
    for (micros, value) in &parts.annotations {
        push_message(out, 10, |out| {
            push_fixed64(out, 1, *micros);
            push_bytes(out, 2, value.as_bytes());
        });
    }
    for (key, value) in &parts.tags {
        push_message(out, 11, |out| {
            push_bytes(out, 1, key.as_bytes());
            push_bytes(out, 2, value.as_bytes());
        });
    }
    for (field, flag) in [(12, parts.debug), (13, parts.shared)] {
        if flag {
            push_varint_field(out, field, 1);
        }
    }
}

fn push_endpoint(out: &mut Vec<u8>, endpoint: &Endpoint<'_>) {
    if let Some(name) = &endpoint.service_name {
        push_bytes(out, 1, name.as_bytes());
    }
    for address in [endpoint.ipv4, endpoint.ipv6].into_iter().flatten() {
        match address {
            IpAddr::V4(address) => push_bytes(out, 2, &address.octets()),
            IpAddr::V6(address) => push_bytes(out, 3, &address.octets()),
        }
    }
    if let Some(port) = endpoint.port {
        push_varint_field(out, 4, port.into());
    }
}
