//! OTLP protobuf of log records (`opentelemetry.proto.logs.v1`), as Envoy's OpenTelemetry access logger reports them.
//!
//! Records are appended to a run as spans are, and the same [`Envelope`](super::otlp::Envelope) goes before it: what
//! surrounds them in an `ExportLogsServiceRequest` has the same field numbers.
//!
//! Values are written by whoever knows them, without a copy of their own:
//!
//! ```
//! use periplus_wire::export::otlp_logs::{append_record, attribute, body, text};
//!
//! let mut run = Vec::new();
//! append_record(&mut run, 1_700_000_000_000_000_000, None, |record| {
//!     body(record, |value| text(value, |out| out.extend_from_slice(b"GET / 200")));
//!     attribute(record, "method", |value| text(value, |out| out.extend_from_slice(b"GET")));
//! });
//! ```

use periplus_model::{SpanId, TraceId};

use crate::protobuf::{push_bytes, push_fixed64, push_message};

/// Appends a record to a run of records: `ScopeLogs.log_records`, with key and length. `write` appends its body and
/// its attributes; the ids are those of the span that it belongs to.
pub fn append_record(
    out: &mut Vec<u8>,
    time_unix_nano: u64,
    ids: Option<(TraceId, SpanId)>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    push_message(out, 2, |record| {
        push_fixed64(record, 1, time_unix_nano);
        write(record);
        if let Some((trace, span)) = ids {
            push_bytes(record, 9, &trace.to_bytes());
            push_bytes(record, 10, &span.to_bytes());
        }
    });
}

/// Appends `LogRecord.body`.
pub fn body(record: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    push_message(record, 5, value);
}

/// Appends one of `LogRecord.attributes`.
pub fn attribute(record: &mut Vec<u8>, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    key_value(record, 6, key, value);
}

/// Appends `AnyValue.string_value`; what `write` appends that is no UTF-8 becomes U+FFFD, as no collector takes a
/// request with anything else in a text.
pub fn text(value: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    push_message(value, 1, |out| {
        let begin = out.len();
        write(out);
        let text = &out[begin..];
        if !text.is_ascii() && std::str::from_utf8(text).is_err() {
            let text = String::from_utf8_lossy(text).into_owned();
            out.truncate(begin);
            out.extend_from_slice(text.as_bytes());
        }
    });
}

/// Appends `AnyValue.array_value`, of which `write` appends each [`element`].
pub fn list(value: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    push_message(value, 5, write);
}

/// Appends an element of a [`list`].
pub fn element(list: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    push_message(list, 1, value);
}

/// Appends `AnyValue.kvlist_value`, of which `write` appends each [`member`].
pub fn map(value: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    push_message(value, 6, write);
}

/// Appends a member of a [`map`].
pub fn member(map: &mut Vec<u8>, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    key_value(map, 1, key, value);
}

/// `KeyValue`.
fn key_value(out: &mut Vec<u8>, field: u32, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    push_message(out, field, |out| {
        push_bytes(out, 1, key.as_bytes());
        push_message(out, 2, value);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::otlp::Envelope;

    fn of(bytes: &'static [u8]) -> impl FnOnce(&mut Vec<u8>) {
        move |value| text(value, |out| out.extend_from_slice(bytes))
    }

    /// Byte for byte what the fields of `logs.proto` and `common.proto` say.
    #[test]
    fn records_are_those_of_the_schema() {
        let mut run = Vec::new();
        let ids = (TraceId::from_bytes([7; 16]), SpanId::from_bytes([9; 8]));
        append_record(&mut run, 0x0102_0304_0506_0708, Some(ids), |record| {
            body(record, of(b"line"));
            attribute(record, "k", of(b"v"));
        });
        let expected = [
            &[0x12, 55][..],
            &[0x09, 8, 7, 6, 5, 4, 3, 2, 1],
            b"\x2a\x06\x0a\x04line",
            b"\x32\x08\x0a\x01k\x12\x03\x0a\x01v",
            &[0x4a, 16],
            &[7; 16],
            &[0x52, 8],
            &[9; 8],
        ];
        assert_eq!(run, expected.concat());

        let envelope = Envelope::of_resource(b"\x0a\x08\x0a\x01r\x12\x03\x0a\x01x");
        let mut request = Vec::new();
        envelope.append_head(&mut request, run.len());
        let head = b"\x0a\x47\x0a\x0a\x0a\x08\x0a\x01r\x12\x03\x0a\x01x\x12\x39";
        assert_eq!(request, head);
    }

    #[test]
    fn values_nest_and_long_ones_have_long_lengths() {
        let mut value = Vec::new();
        map(&mut value, |out| {
            member(out, "m", |value| {
                list(value, |out| {
                    element(out, of(b"a"));
                    element(out, of(&[b'x'; 300]));
                });
            });
        });
        let long = [&b"\x0a\xaf\x02\x0a\xac\x02"[..], &[b'x'; 300]].concat();
        let elements = [&b"\x0a\x03\x0a\x01a"[..], &long].concat();
        let list = [&b"\x2a\xb7\x02"[..], &elements].concat();
        let member = [&b"\x0a\x01m\x12\xba\x02"[..], &list].concat();
        let map = [&b"\x32\xc3\x02\x0a\xc0\x02"[..], &member].concat();
        assert_eq!(value, map);
    }

    #[test]
    fn what_is_no_utf8_does_not_spoil_the_request() {
        for (given, expected) in [
            (&b"gr\xfcn"[..], "gr\u{fffd}n"),
            ("grün".as_bytes(), "grün"),
            (b"", ""),
        ] {
            let mut value = Vec::new();
            text(&mut value, |out| out.extend_from_slice(given));
            let length = expected.len() as u8;
            assert_eq!(value, [&[0x0a, length], expected.as_bytes()].concat());
        }
    }
}
