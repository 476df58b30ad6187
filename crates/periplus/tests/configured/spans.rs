//! The same span in each format that is taken.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds.
pub(crate) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// `[{…}]` of Zipkin v2; the trace's id is `id` in hex.
pub(crate) fn zipkin(id: u64, service: &str) -> String {
    format!(
        r#"[{{"traceId":"{id:032x}","id":"{id:016x}","name":"get","timestamp":{},"duration":1000,
            "localEndpoint":{{"serviceName":"{service}"}}}}]"#,
        now_us()
    )
}

/// OTLP in JSON, with so many spans.
pub(crate) fn otlp_json(id: u64, service: &str, count: u64) -> String {
    let start = now_us() * 1_000;
    let spans = (0..count).map(|span| {
        format!(
            r#"{{"traceId":"{id:032x}","spanId":"{:016x}","name":"get","kind":2,
                "startTimeUnixNano":"{start}","endTimeUnixNano":"{}"}}"#,
            id + span,
            start + 1_000_000
        )
    });
    let spans = spans.collect::<Vec<_>>().join(",");
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name",
            "value":{{"stringValue":"{service}"}}}}]}},"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#
    )
}

/// `ExportTraceServiceRequest`.
pub(crate) fn otlp(id: u64, service: &str) -> Vec<u8> {
    let start = now_us() * 1_000;
    let span = [
        bytes(1, &u128::from(id).to_be_bytes()),
        bytes(2, &id.to_be_bytes()),
        bytes(5, b"get"),
        fixed64(7, start),
        fixed64(8, start + 1_000_000),
    ];
    let value = bytes(1, service.as_bytes());
    let name = [bytes(1, b"service.name"), bytes(2, &value)].concat();
    let resource = bytes(1, &name);
    let scope = bytes(2, &span.concat());
    bytes(1, &[bytes(1, &resource), bytes(2, &scope)].concat())
}

/// `jaeger.api_v2.PostSpansRequest`.
pub(crate) fn jaeger(id: u64, service: &str) -> Vec<u8> {
    let now = now_us();
    let start = [
        varint(1, now / 1_000_000),
        varint(2, now % 1_000_000 * 1_000),
    ];
    let span = [
        bytes(1, &u128::from(id).to_be_bytes()),
        bytes(2, &id.to_be_bytes()),
        bytes(3, b"get"),
        bytes(6, &start.concat()),
        bytes(7, &varint(2, 1_000_000)),
    ];
    let process = bytes(1, service.as_bytes());
    bytes(1, &[bytes(1, &span.concat()), bytes(2, &process)].concat())
}

/// `zipkin.proto3.ListOfSpans`.
pub(crate) fn zipkin_proto(id: u64, service: &str) -> Vec<u8> {
    let span = [
        bytes(1, &u128::from(id).to_be_bytes()),
        bytes(3, &id.to_be_bytes()),
        bytes(5, b"get"),
        fixed64(6, now_us()),
        varint(7, 1_000),
        bytes(8, &bytes(1, service.as_bytes())),
    ];
    bytes(1, &span.concat())
}

/// `Batch` of `jaeger.thrift`, in the binary protocol.
pub(crate) fn thrift(id: u64, service: &str) -> Vec<u8> {
    fn field(out: &mut Vec<u8>, kind: u8, id: i16) {
        out.push(kind);
        out.extend(id.to_be_bytes());
    }
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend(i32::try_from(text.len()).unwrap().to_be_bytes());
        out.extend(text.as_bytes());
    }
    let (i64s, string, structure, list) = (10, 11, 12, 15);
    let mut out = Vec::new();
    field(&mut out, structure, 1);
    field(&mut out, string, 1);
    text(&mut out, service);
    out.push(0);
    field(&mut out, list, 2);
    out.push(structure);
    out.extend(1_i32.to_be_bytes());
    for (number, value) in [(1, id), (2, 0), (3, id), (4, 0)] {
        field(&mut out, i64s, number);
        out.extend(value.to_be_bytes());
    }
    field(&mut out, string, 5);
    text(&mut out, "get");
    field(&mut out, 8, 7);
    out.extend(1_i32.to_be_bytes());
    for (number, value) in [(8, now_us()), (9, 1_000)] {
        field(&mut out, i64s, number);
        out.extend(value.to_be_bytes());
    }
    out.extend([0, 0]);
    out
}

/// A field of protobuf with bytes, text or a message.
pub(crate) fn bytes(field: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    base_128(&mut out, value.len() as u64);
    out.extend(value);
    out
}

fn fixed64(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![field << 3 | 1];
    out.extend(value.to_le_bytes());
    out
}

fn varint(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    base_128(&mut out, value);
    out
}

fn base_128(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
