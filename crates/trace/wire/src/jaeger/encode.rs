//! Jaeger's view → protobuf (`jaeger.api_v2`, `model.proto`).

use super::project::{Process, Reference, Span, Tag, TagValue};
use crate::protobuf::{push_bytes, push_fixed64, push_message, push_varint_field};

/// The numbers of `ValueType`; Thrift has others.
const BOOL: u64 = 1;
const INT64: u64 = 2;
const FLOAT64: u64 = 3;
const BINARY: u64 = 4;

/// Appends a `jaeger.api_v2.Span` as the length-delimited field `field`, with its process inline, as
/// the query service sends it: as field 1 it is an element of a `SpansResponseChunk`.
///
/// Fields of their default are left out.
pub fn append_span(
    out: &mut Vec<u8>,
    field: u32,
    span: &Span<'_>,
    process: &Process<'_>,
    warnings: &[String],
) {
    push_message(out, field, |out| {
        push_bytes(out, 1, &span.trace_id.to_bytes());
        push_bytes(out, 2, &span.span_id.to_bytes());
        push_text(out, 3, span.operation_name);
        for it in &span.references {
            push_message(out, 4, |out| reference(out, it));
        }
        push_nanos(out, 6, span.start_unix_nano);
        push_nanos(out, 7, span.duration_nano);
        push_tags(out, 8, &span.tags);
        for log in &span.logs {
            push_message(out, 9, |out| {
                push_nanos(out, 1, log.time_unix_nano);
                push_tags(out, 2, &log.fields);
            });
        }
        push_message(out, 10, |out| {
            push_text(out, 1, process.service_name);
            push_tags(out, 2, &process.tags);
        });
        for warning in warnings {
            push_bytes(out, 12, warning.as_bytes());
        }
    });
}

fn reference(out: &mut Vec<u8>, reference: &Reference) {
    push_bytes(out, 1, &reference.trace_id.to_bytes());
    push_bytes(out, 2, &reference.span_id.to_bytes());
    match reference.ref_type as u64 {
        0 => {}
        number => push_varint_field(out, 3, number),
    }
}

fn push_tags(out: &mut Vec<u8>, field: u32, tags: &[Tag<'_>]) {
    for tag in tags {
        push_message(out, field, |out| {
            push_text(out, 1, tag.key);
            match &tag.value {
                TagValue::Text(text) => push_text(out, 3, text),
                TagValue::Bool(value) => {
                    push_varint_field(out, 2, BOOL);
                    if *value {
                        push_varint_field(out, 4, 1);
                    }
                }
                TagValue::Int(number) => {
                    push_varint_field(out, 2, INT64);
                    if *number != 0 {
                        push_varint_field(out, 5, number.cast_unsigned());
                    }
                }
                TagValue::Double(number) => {
                    push_varint_field(out, 2, FLOAT64);
                    if number.to_bits() != 0 {
                        push_fixed64(out, 6, number.to_bits());
                    }
                }
                TagValue::Binary(bytes) => {
                    push_varint_field(out, 2, BINARY);
                    if !bytes.is_empty() {
                        push_bytes(out, 7, bytes);
                    }
                }
            }
        });
    }
}

fn push_text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        push_bytes(out, field, text.as_bytes());
    }
}

/// A `Timestamp` or a `Duration`.
fn push_nanos(out: &mut Vec<u8>, field: u32, nanos: u64) {
    push_message(out, field, |out| {
        for (field, value) in [(1, nanos / 1_000_000_000), (2, nanos % 1_000_000_000)] {
            if value != 0 {
                push_varint_field(out, field, value);
            }
        }
    });
}
