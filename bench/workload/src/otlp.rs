//! As much of OTLP's protobuf encoding as the workloads need.

pub(crate) enum Value {
    Text(String),
    Int(i64),
    Double(f64),
    Bool(bool),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    tag(out, field, 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    tag(out, field, 5);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        tag(out, field, 0);
        varint(out, value);
    }
}

pub(crate) fn attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &Value) {
    let mut any = Vec::with_capacity(64);
    match value {
        Value::Text(text) => bytes(&mut any, 1, text.as_bytes()),
        Value::Bool(value) => {
            tag(&mut any, 2, 0);
            any.push(u8::from(*value));
        }
        Value::Int(value) => {
            tag(&mut any, 3, 0);
            varint(&mut any, *value as u64);
        }
        Value::Double(value) => fixed64(&mut any, 4, value.to_bits()),
    }
    let mut entry = Vec::with_capacity(96);
    bytes(&mut entry, 1, key.as_bytes());
    bytes(&mut entry, 2, &any);
    bytes(out, field, &entry);
}

/// A `ResourceSpans` of one scope.
pub(crate) fn resource_spans(resource: &[u8], scope: &[u8], spans: &[&[u8]]) -> Vec<u8> {
    let mut scope_spans = Vec::new();
    bytes(&mut scope_spans, 1, scope);
    for span in spans {
        bytes(&mut scope_spans, 2, span);
    }
    let mut out = Vec::new();
    bytes(&mut out, 1, resource);
    bytes(&mut out, 2, &scope_spans);
    out
}
