//! A span of version 2 as its JSON says it. Nulls count as absent, numbers may be texts, unknown fields are
//! skipped.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};

/// The spans of a request.
pub(super) struct RawList(pub(super) Vec<RawSpan>);

#[derive(Default)]
pub(super) struct RawSpan {
    pub(super) trace_id: Option<String>,
    pub(super) parent_id: Option<String>,
    pub(super) id: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) name: Option<String>,
    pub(super) timestamp: Option<Number>,
    pub(super) duration: Option<Number>,
    pub(super) local_endpoint: Option<RawEndpoint>,
    pub(super) remote_endpoint: Option<RawEndpoint>,
    pub(super) annotations: Option<Vec<RawAnnotation>>,
    pub(super) tags: Option<RawTags>,
    pub(super) debug: Option<bool>,
    pub(super) shared: Option<bool>,
    /// The mark of version 1.
    pub(super) binary_annotations: bool,
}

#[derive(Default)]
pub(super) struct RawEndpoint {
    pub(super) service_name: Option<String>,
    pub(super) ipv4: Option<String>,
    pub(super) ipv6: Option<String>,
    pub(super) port: Option<Number>,
}

#[derive(Default)]
pub(super) struct RawAnnotation {
    pub(super) timestamp: Option<Number>,
    pub(super) value: Option<String>,
}

/// Tags in the order of arrival; a null is kept to be refused with its name.
#[derive(Default)]
pub(super) struct RawTags(pub(super) Vec<(String, Option<String>)>);

/// An integer: a number, also one written as a float, or its digits as a text.
#[derive(Clone, Copy)]
pub(super) struct Number(pub(super) i64);

/// Deserializes a struct from an object alone, field by field.
macro_rules! from_object {
    ($type:ident, $expecting:literal, |$to:ident, $map:ident| { $($($name:literal)|+ => $read:expr,)* }) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct ObjectVisitor;

                impl<'de> Visitor<'de> for ObjectVisitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut $map: A) -> Result<$type, A::Error> {
                        let mut $to = $type::default();
                        while let Some(Key(key)) = $map.next_key()? {
                            match key.as_ref() {
                                $($($name)|+ => $read,)*
                                _ => {
                                    $map.next_value::<IgnoredAny>()?;
                                }
                            }
                        }
                        Ok($to)
                    }
                }

                deserializer.deserialize_map(ObjectVisitor)
            }
        }
    };
}

from_object!(RawSpan, "a span", |span, map| {
    "traceId" => span.trace_id = map.next_value()?,
    "parentId" => span.parent_id = map.next_value()?,
    "id" => span.id = map.next_value()?,
    "kind" => span.kind = map.next_value()?,
    "name" => span.name = map.next_value()?,
    "timestamp" => span.timestamp = map.next_value()?,
    "duration" => span.duration = map.next_value()?,
    "localEndpoint" => span.local_endpoint = map.next_value()?,
    "remoteEndpoint" => span.remote_endpoint = map.next_value()?,
    "annotations" => span.annotations = map.next_value()?,
    "tags" => span.tags = map.next_value()?,
    "debug" => span.debug = map.next_value()?,
    "shared" => span.shared = map.next_value()?,
    "binaryAnnotations" => {
        map.next_value::<IgnoredAny>()?;
        span.binary_annotations = true;
    },
});

from_object!(RawEndpoint, "an endpoint", |endpoint, map| {
    "serviceName" => endpoint.service_name = map.next_value()?,
    "ipv4" => endpoint.ipv4 = map.next_value()?,
    "ipv6" => endpoint.ipv6 = map.next_value()?,
    "port" => endpoint.port = map.next_value()?,
});

from_object!(RawAnnotation, "an annotation", |annotation, map| {
    "timestamp" => annotation.timestamp = map.next_value()?,
    "value" => annotation.value = map.next_value()?,
});

pub(super) use from_object;

/// A field's name, borrowed from the input where it has no escapes.
pub(super) struct Key<'a>(pub(super) std::borrow::Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(key.into()))
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(key.to_owned().into()))
            }
        }

        deserializer.deserialize_str(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for RawList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
            type Value = RawList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of spans")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawList, A::Error> {
                let mut spans = Vec::new();
                while let Some(span) = seq.next_element()? {
                    spans.push(span);
                }
                Ok(RawList(spans))
            }
        }

        deserializer.deserialize_seq(ListVisitor)
    }
}

impl<'de> Deserialize<'de> for RawTags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagsVisitor;

        impl<'de> Visitor<'de> for TagsVisitor {
            type Value = RawTags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tags")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawTags, A::Error> {
                let mut tags = Vec::new();
                while let Some((key, TagValue(value))) = map.next_entry()? {
                    tags.push((key, value));
                }
                Ok(RawTags(tags))
            }
        }

        deserializer.deserialize_map(TagsVisitor)
    }
}

/// A tag's value: a text; numbers and booleans, which careless senders write, as their text.
struct TagValue(Option<String>);

impl<'de> Deserialize<'de> for TagValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagVisitor;

        impl Visitor<'_> for TagVisitor {
            type Value = TagValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tag's text")
            }

            fn visit_unit<E: Error>(self) -> Result<TagValue, E> {
                Ok(TagValue(None))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TagValue, E> {
                Ok(TagValue(Some(text.to_owned())))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<TagValue, E> {
                Ok(TagValue(Some(text)))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<TagValue, E> {
                Ok(TagValue(Some(value.to_string())))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<TagValue, E> {
                Ok(TagValue(Some(number.to_string())))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<TagValue, E> {
                Ok(TagValue(Some(number.to_string())))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<TagValue, E> {
                Ok(TagValue(Some(number.to_string())))
            }
        }

        deserializer.deserialize_any(TagVisitor)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;

        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
                i64::try_from(number)
                    .map(Number)
                    .map_err(|_| Error::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
                const EXACT: f64 = 9_007_199_254_740_992.0;
                if number.fract() == 0.0 && number.abs() <= EXACT {
                    Ok(Number(number as i64))
                } else {
                    Err(Error::invalid_type(Unexpected::Float(number), &self))
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                text.parse()
                    .map(Number)
                    .map_err(|_| Error::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(NumberVisitor)
    }
}
