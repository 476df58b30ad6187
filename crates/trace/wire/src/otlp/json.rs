//! How single JSON values of OTLP are read: null counts as absent, numbers may be texts, enums may
//! be names, as the receivers in the field take them.

use std::fmt;
use std::marker::PhantomData;

use periplus_model::{Attribute, SpanKind, StatusCode, Value};
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

/// The default for `null`.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A JSON object. (By itself, what serde derives for a struct also takes a list of its fields.)
#[derive(Default)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A 64-bit or narrower integer: a number, or its decimal digits as a text.
pub(super) fn integer<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i128> + Default,
{
    let Integer(number) = nullable(deserializer)?;
    T::try_from(number).map_err(|_| Error::custom(format_args!("{number} is out of range")))
}

#[derive(Default)]
struct Integer(i128);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor;

        impl Visitor<'_> for IntegerVisitor {
            type Value = Integer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer, or one in quotes")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Integer, E> {
                Ok(Integer(number.into()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Integer, E> {
                Ok(Integer(number.into()))
            }

            /// `1e3` is an integer too; beyond 2^53 a float no longer says which.
            fn visit_f64<E: Error>(self, number: f64) -> Result<Integer, E> {
                const EXACT: f64 = 9_007_199_254_740_992.0;
                if number.fract() == 0.0 && number.abs() <= EXACT {
                    Ok(Integer(number as i128))
                } else {
                    Err(Error::invalid_type(Unexpected::Float(number), &self))
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Integer, E> {
                text.parse()
                    .map(Integer)
                    .map_err(|_| Error::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(IntegerVisitor)
    }
}

/// A double: a number, `"NaN"`, `"Infinity"`, `"-Infinity"`, or a number in quotes.
struct Double(f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DoubleVisitor;

        impl Visitor<'_> for DoubleVisitor {
            type Value = Double;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or one in quotes")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Double, E> {
                Ok(Double(number as f64))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Double, E> {
                Ok(Double(number as f64))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Double, E> {
                Ok(Double(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Double, E> {
                text.parse()
                    .map(Double)
                    .map_err(|_| Error::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(DoubleVisitor)
    }
}

/// `Span.kind`: OTLP's number or its name. Unknown numbers count as unspecified.
pub(super) fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SpanKind, D::Error> {
    let names = &[
        "SPAN_KIND_UNSPECIFIED",
        "SPAN_KIND_INTERNAL",
        "SPAN_KIND_SERVER",
        "SPAN_KIND_CLIENT",
        "SPAN_KIND_PRODUCER",
        "SPAN_KIND_CONSUMER",
    ];
    enumeration(deserializer, names).map(SpanKind::from_number)
}

/// `Status.code`: OTLP's number or its name. Unknown numbers count as unset.
pub(super) fn status_code<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<StatusCode, D::Error> {
    let names = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];
    enumeration(deserializer, names).map(StatusCode::from_number)
}

fn enumeration<'de, D: Deserializer<'de>>(
    deserializer: D,
    names: &'static [&'static str],
) -> Result<i32, D::Error> {
    struct EnumVisitor(&'static [&'static str]);

    impl Visitor<'_> for EnumVisitor {
        type Value = i32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an enum's number or name")
        }

        fn visit_unit<E: Error>(self) -> Result<i32, E> {
            Ok(0)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<i32, E> {
            Ok(i32::try_from(number).unwrap_or(0))
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<i32, E> {
            Ok(i32::try_from(number).unwrap_or(0))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<i32, E> {
            self.0
                .iter()
                .position(|name| *name == text)
                .map(|number| number as i32)
                .ok_or_else(|| Error::unknown_variant(text, self.0))
        }
    }

    deserializer.deserialize_any(EnumVisitor(names))
}

/// `KeyValue` list.
pub(super) fn attributes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Attribute>, D::Error> {
    let attributes: Vec<Object<KeyValue>> = nullable(deserializer)?;
    Ok(into_attributes(attributes))
}

fn into_attributes(attributes: Vec<Object<KeyValue>>) -> Vec<Attribute> {
    attributes
        .into_iter()
        .map(|Object(KeyValue { key, value })| Attribute {
            key,
            value: value.0,
        })
        .collect()
}

#[derive(serde::Deserialize)]
struct KeyValue {
    #[serde(default, deserialize_with = "nullable")]
    key: String,
    #[serde(default, deserialize_with = "nullable")]
    value: AnyValue,
}

/// `AnyValue`, read straight into the model's value. The last member that is set wins.
#[derive(Default)]
struct AnyValue(Value);

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValueVisitor;

        impl<'de> Visitor<'de> for AnyValueVisitor {
            type Value = AnyValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an AnyValue such as {\"stringValue\": \"text\"}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyValue, A::Error> {
                let mut value = Value::Empty;
                while let Some(member) = map.next_key()? {
                    let read = match member {
                        Member::String => map.next_value::<Option<String>>()?.map(Value::String),
                        Member::Bool => map.next_value::<Option<bool>>()?.map(Value::Bool),
                        Member::Int => match map.next_value::<Option<Integer>>()? {
                            Some(Integer(number)) => {
                                Some(Value::Int(i64::try_from(number).map_err(|_| {
                                    Error::custom(format_args!("{number} is out of range"))
                                })?))
                            }
                            None => None,
                        },
                        Member::Double => map
                            .next_value::<Option<Double>>()?
                            .map(|Double(number)| Value::Double(number)),
                        Member::Array => map
                            .next_value::<Option<Values<AnyValue>>>()?
                            .map(|list| Value::Array(list.0.into_iter().map(|it| it.0).collect())),
                        Member::Map => map
                            .next_value::<Option<Values<Object<KeyValue>>>>()?
                            .map(|list| Value::Map(into_attributes(list.0))),
                        Member::Bytes => map
                            .next_value::<Option<Bytes>>()?
                            .map(|bytes| Value::Bytes(bytes.0)),
                        Member::Unknown => {
                            map.next_value::<IgnoredAny>()?;
                            None
                        }
                    };
                    value = read.unwrap_or(value);
                }
                Ok(AnyValue(value))
            }
        }

        deserializer.deserialize_map(AnyValueVisitor)
    }
}

#[derive(serde::Deserialize)]
enum Member {
    #[serde(rename = "stringValue", alias = "string_value")]
    String,
    #[serde(rename = "boolValue", alias = "bool_value")]
    Bool,
    #[serde(rename = "intValue", alias = "int_value")]
    Int,
    #[serde(rename = "doubleValue", alias = "double_value")]
    Double,
    #[serde(rename = "arrayValue", alias = "array_value")]
    Array,
    #[serde(rename = "kvlistValue", alias = "kvlist_value")]
    Map,
    #[serde(rename = "bytesValue", alias = "bytes_value")]
    Bytes,
    #[serde(other)]
    Unknown,
}

/// `ArrayValue` and `KeyValueList`: `{"values": [...]}`.
struct Values<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Values<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(bound(deserialize = "T: Deserialize<'de>"))]
        struct List<T> {
            #[serde(default = "Vec::new", deserialize_with = "nullable")]
            values: Vec<T>,
        }
        Object::deserialize(deserializer).map(|Object(List { values })| Self(values))
    }
}

/// Base64, either alphabet, padded or not; or a list of numbers, as some senders write bytes.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes in base64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                crate::base64::decode(text)
                    .map(Bytes)
                    .ok_or_else(|| Error::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes(bytes))
            }
        }

        deserializer.deserialize_any(BytesVisitor)
    }
}
