//! Arrays and maps as JSON that keeps every type: what has no JSON of its own is an object whose one
//! key begins with `$`, and a key that begins with `$` gets another one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use periplus_model::{Attribute, Value};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};

const BYTES: &str = "$bytes";
const DOUBLE: &str = "$double";

/// The most arrays and maps around a value; above it, the JSON could not be read back.
pub(crate) const MAX_DEPTH: usize = 100;

/// How many arrays and maps are within one another.
pub(crate) fn is_too_deep(value: &Value) -> bool {
    fn within(value: &Value, room: usize) -> bool {
        match value {
            Value::Array(values) => room > 0 && values.iter().all(|v| within(v, room - 1)),
            Value::Map(entries) => room > 0 && entries.iter().all(|e| within(&e.value, room - 1)),
            _ => true,
        }
    }
    !within(value, MAX_DEPTH)
}

/// A value to be written.
pub(crate) struct Json<'a>(pub(crate) &'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Empty => serializer.serialize_unit(),
            Value::String(v) => serializer.serialize_str(v),
            Value::Bool(v) => serializer.serialize_bool(*v),
            Value::Int(v) => serializer.serialize_i64(*v),
            Value::Double(v) if v.is_finite() => serializer.serialize_f64(*v),
            Value::Double(v) => one(serializer, DOUBLE, &format!("{:016x}", v.to_bits())),
            Value::Bytes(v) => one(serializer, BYTES, &STANDARD.encode(v)),
            Value::Array(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&Self(value))?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for Attribute { key, value } in entries {
                    match key.starts_with('$') {
                        true => map.serialize_entry(&format!("${key}"), &Self(value))?,
                        false => map.serialize_entry(key, &Self(value))?,
                    }
                }
                map.end()
            }
        }
    }
}

fn one<S: Serializer>(serializer: S, key: &str, text: &str) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(key, text)?;
    map.end()
}

/// A value that was read.
pub(crate) struct Read(pub(crate) Value);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadVisitor).map(Self)
    }
}

struct ReadVisitor;

impl<'de> Visitor<'de> for ReadVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute's value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Empty)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int(v))
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Value, E> {
        i64::try_from(v)
            .map(Value::Int)
            .map_err(|_| E::custom("an integer above 2^63 - 1"))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Double(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Read(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(mut key) = map.next_key::<String>()? {
            if key == BYTES || key == DOUBLE {
                let text: String = map.next_value()?;
                let alone = entries.is_empty() && map.next_key::<String>()?.is_none();
                let special = match alone {
                    true => special(&key, &text),
                    false => None,
                };
                return special.ok_or_else(|| {
                    de::Error::custom(format_args!("{key} is not alone, or not well-formed"))
                });
            }
            if key.starts_with('$') {
                key.remove(0);
                if !key.starts_with('$') {
                    return Err(de::Error::custom(format_args!("unknown ${key}")));
                }
            }
            let Read(value) = map.next_value()?;
            entries.push(Attribute { key, value });
        }
        Ok(Value::Map(entries))
    }
}

fn special(key: &str, text: &str) -> Option<Value> {
    if key == BYTES {
        return STANDARD.decode(text).ok().map(Value::Bytes);
    }
    let bits = u64::from_str_radix(text, 16).ok()?;
    Some(Value::Double(f64::from_bits(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_are_plain_json_where_json_has_them() {
        let value = Value::Map(vec![
            Attribute::new("a", 1),
            Attribute::new("a", 2.0),
            Attribute::new(
                "$b",
                Value::Array(vec![
                    Value::Empty,
                    true.into(),
                    "text".into(),
                    Value::Bytes(vec![0xff, 0]),
                    f64::INFINITY.into(),
                    (-0.0).into(),
                ]),
            ),
        ]);
        let json = serde_json::to_string(&Json(&value)).expect("it is written");
        assert_eq!(
            json,
            r#"{"a":1,"a":2.0,"$$b":[null,true,"text",{"$bytes":"/wA="},{"$double":"7ff0000000000000"},-0.0]}"#
        );
        let Read(read) = serde_json::from_str(&json).expect("it is read");
        assert_eq!(read, value);
    }

    #[test]
    fn what_no_export_writes_is_refused() {
        for json in [
            r#"{"$bytes":"/wA=","a":1}"#,
            r#"{"a":1,"$bytes":"/wA="}"#,
            r#"{"$bytes":"?"}"#,
            r#"{"$double":"one"}"#,
            r#"{"$other":1}"#,
            "9223372036854775808",
            "[1",
        ] {
            assert!(serde_json::from_str::<Read>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nest = |depth| (0..depth).fold(Value::Empty, |v, _| Value::Array(vec![v]));
        assert!(!is_too_deep(&nest(MAX_DEPTH)));
        assert!(is_too_deep(&nest(MAX_DEPTH + 1)));
        let json = serde_json::to_string(&Json(&nest(MAX_DEPTH))).expect("it is written");
        assert!(serde_json::from_str::<Read>(&json).is_ok());
    }
}
