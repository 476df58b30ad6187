use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use periplus_model::{Attribute, Value};
use serde::ser::{SerializeMap, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

/// The largest integer that JavaScript holds exactly.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// `{"key", "type", "value"}`.
#[derive(Debug)]
pub(super) struct TypedAttribute<'a>(pub(super) &'a Attribute);

impl Serialize for TypedAttribute<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Attribute", 3)?;
        out.serialize_field("key", &self.0.key)?;
        out.serialize_field("type", type_name(&self.0.value))?;
        out.serialize_field("value", &Json(&self.0.value))?;
        out.end()
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Empty | Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Double(_) => "double",
        Value::Bytes(_) => "bytes",
        Value::Array(_) => "array",
        Value::Map(_) => "map",
    }
}

/// The JSON form of a value: integers that JavaScript would round, and numbers that JSON does not
/// have, are text.
struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Empty => serializer.serialize_str(""),
            Value::String(text) => serializer.serialize_str(text),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(number) if number.unsigned_abs() <= MAX_SAFE_INTEGER => {
                serializer.serialize_i64(*number)
            }
            Value::Int(number) => serializer.collect_str(number),
            Value::Double(number) if number.is_finite() => serializer.serialize_f64(*number),
            Value::Double(number) if number.is_nan() => serializer.serialize_str("NaN"),
            Value::Double(number) if *number > 0.0 => serializer.serialize_str("Infinity"),
            Value::Double(_) => serializer.serialize_str("-Infinity"),
            Value::Bytes(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
            Value::Array(values) => {
                let mut out = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    out.serialize_element(&Json(value))?;
                }
                out.end()
            }
            Value::Map(entries) => {
                let mut out = serializer.serialize_map(Some(entries.len()))?;
                for entry in entries {
                    out.serialize_entry(&entry.key, &Json(&entry.value))?;
                }
                out.end()
            }
        }
    }
}
