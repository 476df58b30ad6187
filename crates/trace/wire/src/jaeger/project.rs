//! The projection of OTLP's model to Jaeger's, as the OpenTelemetry collector's translator and
//! Jaeger's query service make it. What has no place in Jaeger's model (scope attributes, dropped
//! counts, link attributes, schema URLs) is not shown; the store keeps it.

use std::borrow::Cow;

use periplus_model::{
    Attribute, Event, Link, Resource, Scope, Span as ModelSpan, SpanId, SpanKind, StatusCode,
    TraceId, Value,
};

use super::{
    EMPTY_OPERATION, EMPTY_SERVICE, MISSING_SERVICE, NO_RESOURCE, REF_TYPE, WRONG_SERVICE,
};
use crate::base64;
use crate::json_text::{Object, push_double, push_list, push_string};

/// A span, as Jaeger has it, borrowed from the one that it shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Span<'a> {
    /// Its trace.
    pub trace_id: TraceId,
    /// Its id.
    pub span_id: SpanId,
    /// Its name.
    pub operation_name: &'a str,
    /// The parent first, then the links.
    pub references: Vec<Reference>,
    /// When it began, nanoseconds since the Unix epoch.
    pub start_unix_nano: u64,
    /// How long it took, nanoseconds.
    pub duration_nano: u64,
    /// Its attributes, and what else it says.
    pub tags: Vec<Tag<'a>>,
    /// Its events.
    pub logs: Vec<Log<'a>>,
}

/// Who made a span, as Jaeger has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Process<'a> {
    /// The service.
    pub service_name: &'a str,
    /// The other attributes of the resource.
    pub tags: Vec<Tag<'a>>,
}

/// A typed tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its value.
    pub value: TagValue<'a>,
}

/// The value of a tag.
#[derive(Clone, Debug, PartialEq)]
pub enum TagValue<'a> {
    /// Text; lists and maps become their JSON.
    Text(Cow<'a, str>),
    /// True or false.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Raw bytes.
    Binary(&'a [u8]),
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Log<'a> {
    /// When, nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// Its name, as the field `event`, and its attributes.
    pub fields: Vec<Tag<'a>>,
}

/// A relation to another span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What relation.
    pub ref_type: RefType,
    /// The other span's trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
}

/// What a reference says. The numbers are those of Thrift and of protobuf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RefType {
    /// The other span waits for this one.
    ChildOf = 0,
    /// It does not.
    FollowsFrom = 1,
}

impl RefType {
    /// The name in Jaeger's JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChildOf => "CHILD_OF",
            Self::FollowsFrom => "FOLLOWS_FROM",
        }
    }

    /// The value of a link's attribute `opentracing.ref_type`.
    pub(super) const fn attribute(self) -> &'static str {
        match self {
            Self::ChildOf => "child_of",
            Self::FollowsFrom => "follows_from",
        }
    }

    /// From the number of either encoding; an unknown one does not make a parent.
    pub(super) const fn from_number(number: i32) -> Self {
        match number {
            0 => Self::ChildOf,
            _ => Self::FollowsFrom,
        }
    }
}

/// What Jaeger shows of a resource.
pub fn project_process(resource: &Resource) -> Process<'_> {
    Process {
        service_name: match resource.attribute("service.name") {
            _ if resource.attributes.is_empty() => NO_RESOURCE,
            None => MISSING_SERVICE,
            Some(name) => match name.as_str() {
                Some("") => EMPTY_SERVICE,
                Some(name) => name,
                None => WRONG_SERVICE,
            },
        },
        tags: resource
            .attributes
            .iter()
            .filter(|attribute| attribute.key != "service.name")
            .map(tag)
            .collect(),
    }
}

/// What Jaeger shows of a span.
pub fn project_span<'a>(span: &'a ModelSpan, scope: &'a Scope) -> Span<'a> {
    Span {
        trace_id: span.trace_id,
        span_id: span.span_id,
        operation_name: match span.name.as_str() {
            "" => EMPTY_OPERATION,
            name => name,
        },
        references: references(span),
        start_unix_nano: span.start_unix_nano,
        duration_nano: span.duration_nano(),
        tags: tags(span, scope),
        logs: span.events.iter().map(log).collect(),
    }
}

/// The parent first, then the links. A link to the parent only sets the type of that reference.
fn references(span: &ModelSpan) -> Vec<Reference> {
    let mut out = Vec::new();
    if let Some(parent) = span.parent_span_id {
        out.push(Reference {
            ref_type: RefType::ChildOf,
            trace_id: span.trace_id,
            span_id: parent,
        });
    }
    for link in &span.links {
        let ref_type = ref_type(link);
        match out.first_mut() {
            Some(parent)
                if span.parent_span_id == Some(link.span_id) && span.trace_id == link.trace_id =>
            {
                parent.ref_type = ref_type;
            }
            _ => out.push(Reference {
                ref_type,
                trace_id: link.trace_id,
                span_id: link.span_id,
            }),
        }
    }
    out
}

fn ref_type(link: &Link) -> RefType {
    let child_of = link.attributes.iter().any(|attribute| {
        attribute.key == REF_TYPE && attribute.value.as_str() == Some(RefType::ChildOf.attribute())
    });
    if child_of {
        RefType::ChildOf
    } else {
        RefType::FollowsFrom
    }
}

/// The scope's name and version, the attributes, then what the span says outside of them.
fn tags<'a>(span: &'a ModelSpan, scope: &'a Scope) -> Vec<Tag<'a>> {
    let mut out = Vec::with_capacity(span.attributes.len() + 3);
    if !scope.name.is_empty() {
        out.push(text("otel.scope.name", &scope.name));
    }
    if !scope.version.is_empty() {
        out.push(text("otel.scope.version", &scope.version));
    }
    // The tag that is derived from the status stands for the one that a Zipkin client set.
    let failed = span.status.code == StatusCode::Error;
    out.extend(
        span.attributes
            .iter()
            .filter(|attribute| !(failed && says_error(attribute)))
            .map(tag),
    );
    if span.kind != SpanKind::Unspecified {
        out.push(text("span.kind", span.kind.as_str()));
    }
    match span.status.code {
        StatusCode::Unset => {}
        StatusCode::Ok => out.push(text("otel.status_code", "OK")),
        StatusCode::Error => {
            out.push(text("otel.status_code", "ERROR"));
            out.push(Tag {
                key: "error",
                value: TagValue::Bool(true),
            });
        }
    }
    if !span.status.message.is_empty() {
        out.push(text("otel.status_description", &span.status.message));
    }
    if !span.trace_state.is_empty() {
        out.push(text("w3c.tracestate", &span.trace_state));
    }
    out
}

fn says_error(attribute: &Attribute) -> bool {
    attribute.key == "error"
        && match &attribute.value {
            Value::Bool(error) => *error,
            Value::String(text) => text == "true",
            _ => false,
        }
}

/// An event's name is the field `event`, unless it has an attribute of that name.
fn log(event: &Event) -> Log<'_> {
    let named = event
        .attributes
        .iter()
        .any(|attribute| attribute.key == "event");
    let name = (!named && !event.name.is_empty()).then(|| text("event", &event.name));
    Log {
        time_unix_nano: event.time_unix_nano,
        fields: name
            .into_iter()
            .chain(event.attributes.iter().map(tag))
            .collect(),
    }
}

fn text<'a>(key: &'a str, value: &'a str) -> Tag<'a> {
    Tag {
        key,
        value: TagValue::Text(Cow::Borrowed(value)),
    }
}

fn tag(attribute: &Attribute) -> Tag<'_> {
    Tag {
        key: &attribute.key,
        value: match &attribute.value {
            Value::Empty => TagValue::Text(Cow::Borrowed("")),
            Value::String(text) => TagValue::Text(Cow::Borrowed(text)),
            Value::Bool(value) => TagValue::Bool(*value),
            Value::Int(number) => TagValue::Int(*number),
            Value::Double(number) => TagValue::Double(*number),
            Value::Bytes(bytes) => TagValue::Binary(bytes),
            nested @ (Value::Array(_) | Value::Map(_)) => TagValue::Text(Cow::Owned(json(nested))),
        },
    }
}

/// JSON has no such numbers: the words that protobuf's JSON has for them.
pub fn not_finite(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn json(value: &Value) -> String {
    let mut out = Vec::new();
    push_json(&mut out, value);
    // What was pushed is text; there is nothing to lose.
    String::from_utf8_lossy(&out).into_owned()
}

/// The JSON form of a nested value; the keys of a map are sorted.
fn push_json(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Empty => out.extend_from_slice(b"null"),
        Value::String(text) => push_string(out, text),
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Int(number) => {
            out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
        }
        Value::Double(number) if number.is_finite() => push_double(out, *number),
        Value::Double(number) => push_string(out, not_finite(*number)),
        Value::Bytes(bytes) => {
            out.push(b'"');
            base64::push(out, bytes);
            out.push(b'"');
        }
        Value::Array(values) => push_list(out, values, push_json),
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            let mut object = Object::begin(out);
            for entry in entries {
                push_json(object.key(&entry.key), &entry.value);
            }
            object.end();
        }
    }
}
