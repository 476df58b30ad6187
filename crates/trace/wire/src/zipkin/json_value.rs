//! Typed values ⇄ plain JSON, as they travel in a tag's or an annotation's text.

use std::borrow::Cow;
use std::fmt;

use periplus_model::{Attribute, Value};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::base64;
use crate::json_text::{Object, push_double, push_list, push_string};
use crate::otlp::within_limits;

/// The text of a tag with this value: texts as they are, everything else as JSON.
pub(super) fn to_text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Empty => Cow::Borrowed(""),
        Value::Bytes(bytes) => {
            let mut out = Vec::new();
            base64::push(&mut out, bytes);
            Cow::Owned(into_text(out))
        }
        // A text has no type, so a whole number looks like one: clients in JavaScript know no others.
        Value::Double(number) if !number.is_finite() || is_whole(*number) => {
            Cow::Owned(number.to_string())
        }
        _ => {
            let mut out = Vec::new();
            push_value(&mut out, value);
            Cow::Owned(into_text(out))
        }
    }
}

/// Whether it is a whole number that is written in digits alone.
fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() < 1e21
}

/// `{"key":value,…}`.
pub(super) fn to_object(attributes: &[Attribute]) -> String {
    let mut out = Vec::new();
    push_object(&mut out, attributes);
    into_text(out)
}

/// The attributes of a text that is a JSON object; None if it is not one, or one beyond the limits.
pub(super) fn from_object(text: &str) -> Option<Vec<Attribute>> {
    match serde_json::from_str(text) {
        Ok(JsonValue(Value::Map(attributes))) if within_limits(&attributes) => Some(attributes),
        _ => None,
    }
}

fn push_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Empty => out.extend_from_slice(b"null"),
        Value::String(text) => push_string(out, text),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => {
            out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
        }
        Value::Double(number) if number.is_finite() => push_double(out, *number),
        Value::Double(number) => push_string(out, &number.to_string()),
        Value::Bytes(bytes) => {
            out.push(b'"');
            base64::push(out, bytes);
            out.push(b'"');
        }
        Value::Array(values) => push_list(out, values, push_value),
        Value::Map(attributes) => push_object(out, attributes),
    }
}

fn push_object(out: &mut Vec<u8>, attributes: &[Attribute]) {
    let mut object = Object::begin(out);
    for attribute in attributes {
        push_value(object.key(&attribute.key), &attribute.value);
    }
    object.end();
}

fn into_text(json: Vec<u8>) -> String {
    String::from_utf8(json).expect("JSON that was made of texts is UTF-8")
}

/// Any JSON, as the model's value.
struct JsonValue(Value);

impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonVisitor;

        impl<'de> Visitor<'de> for JsonVisitor {
            type Value = JsonValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E: Error>(self) -> Result<JsonValue, E> {
                Ok(JsonValue(Value::Empty))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<JsonValue, E> {
                Ok(JsonValue(Value::Bool(value)))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<JsonValue, E> {
                Ok(JsonValue(Value::Int(number)))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<JsonValue, E> {
                Ok(JsonValue(match i64::try_from(number) {
                    Ok(number) => Value::Int(number),
                    Err(_) => Value::Double(number as f64),
                }))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<JsonValue, E> {
                Ok(JsonValue(Value::Double(number)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<JsonValue, E> {
                Ok(JsonValue(Value::String(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<JsonValue, A::Error> {
                let mut values = Vec::new();
                while let Some(JsonValue(value)) = seq.next_element()? {
                    values.push(value);
                }
                Ok(JsonValue(Value::Array(values)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonValue, A::Error> {
                let mut attributes = Vec::new();
                while let Some((key, JsonValue(value))) = map.next_entry()? {
                    attributes.push(Attribute { key, value });
                }
                Ok(JsonValue(Value::Map(attributes)))
            }
        }

        deserializer.deserialize_any(JsonVisitor)
    }
}
