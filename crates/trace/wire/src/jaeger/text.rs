//! Tags → attributes, with what Jaeger does to texts that are not UTF-8.

use periplus_model::{Attribute, Value};

use super::raw::{RawTag, RawValue};

const INVALID_KEY: &str = "invalid-tag-key";

/// Makes the attributes of one list.
#[derive(Default)]
pub(super) struct Attributes {
    pub(super) list: Vec<Attribute>,
    /// How many keys were no texts.
    invalid_keys: usize,
}

impl Attributes {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self {
            list: Vec::with_capacity(capacity),
            invalid_keys: 0,
        }
    }

    pub(super) fn push(&mut self, tag: &RawTag<'_>) {
        let attribute = match std::str::from_utf8(tag.key) {
            Ok(key) => Attribute {
                key: key.to_owned(),
                value: value(tag.value),
            },
            Err(_) => {
                self.invalid_keys += 1;
                Attribute {
                    key: format!("{INVALID_KEY}-{}", self.invalid_keys),
                    value: Value::Bytes(key_and_value(tag)),
                }
            }
        };
        self.list.push(attribute);
    }

    /// A name that must be text: if these bytes are none, `placeholder`, and the bytes become the
    /// attribute of that name.
    pub(super) fn name(&mut self, bytes: &[u8], placeholder: &str) -> String {
        match std::str::from_utf8(bytes) {
            Ok(name) => name.to_owned(),
            Err(_) => {
                self.list.push(Attribute {
                    key: placeholder.to_owned(),
                    value: Value::Bytes(bytes.to_vec()),
                });
                placeholder.to_owned()
            }
        }
    }
}

fn value(raw: RawValue<'_>) -> Value {
    match raw {
        RawValue::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::String(text.to_owned()),
            Err(_) => Value::Bytes(bytes.to_vec()),
        },
        RawValue::Bool(value) => Value::Bool(value),
        RawValue::Int(number) => Value::Int(number),
        RawValue::Double(number) => Value::Double(number),
        RawValue::Binary(bytes) => Value::Bytes(bytes.to_vec()),
        RawValue::Unknown(kind) => Value::String(format!("<Unknown Jaeger TagType \"{kind}\">")),
    }
}

fn key_and_value(tag: &RawTag<'_>) -> Vec<u8> {
    let mut out = tag.key.to_vec();
    out.push(b':');
    match tag.value {
        RawValue::Text(bytes) | RawValue::Binary(bytes) => out.extend_from_slice(bytes),
        RawValue::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        RawValue::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
        RawValue::Double(number) => out.extend_from_slice(number.to_string().as_bytes()),
        RawValue::Unknown(_) => {}
    }
    out
}
