//! The projection of OTLP's model to Jaeger's, as the OpenTelemetry collector's translator and
//! Jaeger's UI model make it. What has no place in Jaeger's model (scope attributes, dropped counts,
//! link attributes, schema URLs) is not shown; the store keeps it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use periplus_insight::jaeger::{AdjustedGroup, AdjustedSpan};
use periplus_model::{
    Attribute, Event, Link, Resource, Scope, Span as ModelSpan, SpanKind, StatusCode, TraceId,
    Value,
};

use super::shapes::{
    HexSpanId, KeyValue, Log, Process, ProcessId, Processes, Reference, ShortTraceId, Span,
    TagValue, Trace,
};

/// The service of a resource that says nothing at all.
const NO_RESOURCE: &str = "OTLPResourceNoServiceName";
/// The service of a resource that does not name one.
const MISSING_SERVICE: &str = "missing-service-name";
/// The service of a resource that names it with the empty text.
const EMPTY_SERVICE: &str = "empty-service-name";
/// The service of a resource that names it with something that is no text.
const WRONG_SERVICE: &str = "service-name-wrong-type";

/// The names under which spans without a service appear.
pub(crate) const NAMES_OF_NO_SERVICE: [&str; 4] =
    [NO_RESOURCE, MISSING_SERVICE, EMPTY_SERVICE, WRONG_SERVICE];

/// The largest integer that JavaScript holds exactly.
const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

const CHILD_OF: &str = "CHILD_OF";
const FOLLOWS_FROM: &str = "FOLLOWS_FROM";

/// A whole trace.
pub(super) fn trace(id: TraceId, groups: &[AdjustedGroup]) -> Trace<'_> {
    let mut processes = ProcessTable::default();
    let mut spans = Vec::with_capacity(groups.iter().map(|group| group.spans.len()).sum());
    for group in groups.iter().filter(|group| !group.spans.is_empty()) {
        let process_id = processes.id_of(&group.resource);
        spans.extend(
            group
                .spans
                .iter()
                .map(|adjusted| span(adjusted, &group.scope, process_id)),
        );
    }
    Trace {
        trace_id: ShortTraceId(id),
        spans,
        processes: Processes(processes.processes),
        warnings: None,
    }
}

/// Numbers processes as they are first seen; equal ones share a number.
#[derive(Default)]
struct ProcessTable<'a> {
    processes: Vec<Process<'a>>,
    /// Groups mostly share their resource: no need to compare it then.
    seen: HashMap<*const Resource, ProcessId>,
}

impl<'a> ProcessTable<'a> {
    fn id_of(&mut self, resource: &'a Arc<Resource>) -> ProcessId {
        let pointer = Arc::as_ptr(resource);
        if let Some(id) = self.seen.get(&pointer) {
            return *id;
        }
        let process = process(resource);
        let index = match self.processes.iter().position(|known| *known == process) {
            Some(index) => index,
            None => {
                self.processes.push(process);
                self.processes.len() - 1
            }
        };
        self.seen.insert(pointer, ProcessId(index));
        ProcessId(index)
    }
}

fn process(resource: &Resource) -> Process<'_> {
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

fn span<'a>(adjusted: &'a AdjustedSpan, scope: &'a Scope, process_id: ProcessId) -> Span<'a> {
    let span = &adjusted.span;
    Span {
        trace_id: ShortTraceId(span.trace_id),
        span_id: HexSpanId(span.span_id),
        operation_name: &span.name,
        references: references(span),
        start_time: span.start_unix_nano / 1_000,
        duration: span.duration_nano() / 1_000,
        tags: tags(span, scope),
        logs: span.events.iter().map(log).collect(),
        process_id,
        warnings: Some(adjusted.warnings.as_slice()).filter(|warnings| !warnings.is_empty()),
    }
}

/// The parent first, then the links. A link to the parent only sets the type of that reference.
fn references(span: &ModelSpan) -> Vec<Reference> {
    let mut out = Vec::new();
    if let Some(parent) = span.parent_span_id {
        out.push(Reference {
            ref_type: CHILD_OF,
            trace_id: ShortTraceId(span.trace_id),
            span_id: HexSpanId(parent),
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
                trace_id: ShortTraceId(link.trace_id),
                span_id: HexSpanId(link.span_id),
            }),
        }
    }
    out
}

fn ref_type(link: &Link) -> &'static str {
    let child_of = link.attributes.iter().any(|attribute| {
        attribute.key == "opentracing.ref_type" && attribute.value.as_str() == Some("child_of")
    });
    if child_of { CHILD_OF } else { FOLLOWS_FROM }
}

/// The scope's name and version, the attributes, then what the span says outside of them.
fn tags<'a>(span: &'a ModelSpan, scope: &'a Scope) -> Vec<KeyValue<'a>> {
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
            out.push(KeyValue {
                key: "error",
                kind: "bool",
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
        timestamp: event.time_unix_nano / 1_000,
        fields: name
            .into_iter()
            .chain(event.attributes.iter().map(tag))
            .collect(),
    }
}

fn text<'a>(key: &'a str, value: &'a str) -> KeyValue<'a> {
    KeyValue {
        key,
        kind: "string",
        value: TagValue::Text(Cow::Borrowed(value)),
    }
}

fn tag(attribute: &Attribute) -> KeyValue<'_> {
    let (kind, value) = match &attribute.value {
        Value::Empty => ("string", TagValue::Text(Cow::Borrowed(""))),
        Value::String(text) => ("string", TagValue::Text(Cow::Borrowed(text))),
        Value::Bool(value) => ("bool", TagValue::Bool(*value)),
        Value::Int(number) if (-MAX_SAFE_INTEGER..=MAX_SAFE_INTEGER).contains(number) => {
            ("int64", TagValue::Int(*number))
        }
        Value::Int(number) => ("int64", TagValue::Text(Cow::Owned(number.to_string()))),
        Value::Double(number) if number.is_finite() => ("float64", TagValue::Double(*number)),
        Value::Double(number) => (
            "float64",
            TagValue::Text(Cow::Borrowed(not_finite(*number))),
        ),
        Value::Bytes(bytes) => ("binary", TagValue::Text(Cow::Owned(STANDARD.encode(bytes)))),
        nested @ (Value::Array(_) | Value::Map(_)) => (
            "string",
            TagValue::Text(Cow::Owned(json(nested).to_string())),
        ),
    };
    KeyValue {
        key: &attribute.key,
        kind,
        value,
    }
}

/// JSON has no such numbers: the words that protobuf's JSON has for them.
pub(crate) fn not_finite(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// The JSON form of a nested value; the keys of a map are sorted.
fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Empty => serde_json::Value::Null,
        Value::String(text) => text.as_str().into(),
        Value::Bool(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::Double(number) if number.is_finite() => (*number).into(),
        Value::Double(number) => not_finite(*number).into(),
        Value::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Value::Array(values) => values.iter().map(json).collect(),
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            entries
                .into_iter()
                .map(|entry| (entry.key.clone(), json(&entry.value)))
                .collect()
        }
    }
}
