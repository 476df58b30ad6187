//! Version 1 JSON.

use std::fmt;

use periplus_model::Batch;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::decode::{begins_a_list, contains};
use super::super::error::{DecodeError, Encoding, SpanProblem};
use super::super::ids::{parent_id, span_id, trace_id};
use super::super::raw::{Key, Number, RawEndpoint, from_object};
use super::super::span::Groups;
use super::convert::convert;
use super::{Annotation, BinaryAnnotation, Span};
use crate::json_text::error_text;

const ENCODING: Encoding = Encoding::JsonV1;

/// Decodes the body of `POST /api/v1/spans`: a list of spans of version 1, each of which becomes one
/// span for each service that it names. An empty body is an empty list.
///
/// Numbers and booleans, which Zipkin skips, become tags of their text.
///
/// # Errors
///
/// The body is no list of version 1 spans, or one of the spans breaks a rule.
pub fn decode_json_v1(body: &[u8]) -> Result<Batch, DecodeError> {
    let version_2 = || DecodeError::Received {
        expected: ENCODING,
        received: Encoding::JsonV2,
    };
    if !begins_a_list(body, ENCODING)? {
        return Ok(Batch::default());
    }
    let spans: Vec<RawSpan> = serde_json::from_slice(body).map_err(|error| {
        // The marks that Zipkin looks for.
        if contains(body, b"Endpoint\"") || contains(body, b"\"tags\"") {
            version_2()
        } else {
            DecodeError::malformed(ENCODING, &error_text(&error))
        }
    })?;
    let mut groups = Groups::default();
    for (index, span) in spans.into_iter().enumerate() {
        if span.version_2 {
            return Err(version_2());
        }
        to_span(span)
            .and_then(convert)
            .and_then(|spans| spans.into_iter().try_for_each(|span| groups.add(span)))
            .map_err(|problem| DecodeError::span(ENCODING, index, problem))?;
    }
    Ok(groups.batch)
}

#[derive(Default)]
struct RawSpan {
    trace_id: Option<String>,
    id: Option<String>,
    parent_id: Option<String>,
    name: Option<String>,
    timestamp: Option<Number>,
    duration: Option<Number>,
    debug: Option<bool>,
    annotations: Option<Vec<RawAnnotation>>,
    binary_annotations: Option<Vec<RawBinaryAnnotation>>,
    /// It has a field of version 2.
    version_2: bool,
}

#[derive(Default)]
struct RawAnnotation {
    timestamp: Option<Number>,
    value: Option<String>,
    endpoint: Option<RawEndpoint>,
}

#[derive(Default)]
struct RawBinaryAnnotation {
    key: Option<String>,
    value: Option<Text>,
    endpoint: Option<RawEndpoint>,
}

/// The text of a scalar; of anything else, that there is none.
struct Text(Option<String>);

from_object!(RawSpan, "a span", |span, map| {
    "traceId" => span.trace_id = map.next_value()?,
    "id" => span.id = map.next_value()?,
    "parentId" => span.parent_id = map.next_value()?,
    "name" => span.name = map.next_value()?,
    "timestamp" => span.timestamp = map.next_value()?,
    "duration" => span.duration = map.next_value()?,
    "debug" => span.debug = map.next_value()?,
    "annotations" => span.annotations = map.next_value()?,
    "binaryAnnotations" => span.binary_annotations = map.next_value()?,
    "localEndpoint" | "remoteEndpoint" | "tags" => {
        map.next_value::<IgnoredAny>()?;
        span.version_2 = true;
    },
});

from_object!(RawAnnotation, "an annotation", |annotation, map| {
    "timestamp" => annotation.timestamp = map.next_value()?,
    "value" => annotation.value = map.next_value()?,
    "endpoint" => annotation.endpoint = map.next_value()?,
});

from_object!(RawBinaryAnnotation, "a binary annotation", |annotation, map| {
    "key" => annotation.key = map.next_value()?,
    "value" => annotation.value = map.next_value()?,
    "endpoint" => annotation.endpoint = map.next_value()?,
});

fn to_span(raw: RawSpan) -> Result<Span, SpanProblem> {
    let micros = |number: Option<Number>| number.map_or(0, |Number(number)| number.max(0));
    let mut span = Span {
        trace_id: trace_id(raw.trace_id.as_deref())?,
        id: span_id(raw.id.as_deref())?,
        parent_id: parent_id(raw.parent_id.as_deref())?,
        name: raw.name.unwrap_or_default(),
        timestamp: micros(raw.timestamp),
        duration: micros(raw.duration),
        debug: raw.debug == Some(true),
        ..Span::default()
    };
    for (i, raw) in raw.annotations.unwrap_or_default().into_iter().enumerate() {
        let (Some(Number(timestamp)), Some(value)) = (raw.timestamp, raw.value) else {
            return Err(SpanProblem::IncompleteAnnotation(i));
        };
        let host = raw.endpoint.unwrap_or_default().into_host()?.or_none();
        span.annotations.push(Annotation {
            timestamp,
            value,
            host,
        });
    }
    let binary_annotations = raw.binary_annotations.unwrap_or_default();
    for (i, raw) in binary_annotations.into_iter().enumerate() {
        let Some(key) = raw.key else {
            return Err(SpanProblem::IncompleteBinaryAnnotation(i));
        };
        let host = raw.endpoint.unwrap_or_default().into_host()?.or_none();
        match raw.value.unwrap_or(Text(None)).0 {
            Some(value) => span
                .binary_annotations
                .push(BinaryAnnotation { key, value, host }),
            None => span.dropped_tags = span.dropped_tags.saturating_add(1),
        }
    }
    Ok(span)
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E: Error>(self) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Text, E> {
                Ok(Text(Some(value.to_string())))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(Some(number.to_string())))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Text, E> {
                Ok(Text(Some(number.to_string())))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Text, E> {
                Ok(Text(Some(number.to_string())))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(text.to_owned())))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Text, E> {
                Ok(Text(Some(text)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }

        deserializer.deserialize_any(TextVisitor)
    }
}
