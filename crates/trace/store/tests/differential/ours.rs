//! Spans of the model in the standard's form. Each struct is taken apart completely: a field that the
//! model gains and that is not compared does not compile.

use periplus_model::{
    Attribute, Event, Link, Resource, Scope, Span, SpanGroup, Status, TraceId, Value,
};

use crate::oracle::one;
use crate::support::proto::{self, Any, AnyValue, ArrayValue, KeyValue, KeyValueList};

/// The spans of these groups as [`one`] writes them, sorted.
pub(crate) fn written<'a>(groups: impl IntoIterator<Item = &'a SpanGroup>) -> Vec<Vec<u8>> {
    let mut spans = Vec::new();
    for group in groups {
        let SpanGroup {
            resource,
            scope,
            spans: of_group,
        } = group;
        let urls = (resource.schema_url.clone(), scope.schema_url.clone());
        for span in of_group {
            let (resource, scope) = (of_resource(resource), of_scope(scope));
            spans.push(one(resource, scope, urls.clone(), of_span(span)));
        }
    }
    spans.sort();
    spans
}

/// A request of these spans.
pub(crate) fn request(groups: &[SpanGroup]) -> proto::Request {
    let resource_spans = groups.iter().map(|group| proto::ResourceSpans {
        resource: Some(of_resource(&group.resource)),
        scope_spans: vec![proto::ScopeSpans {
            scope: Some(of_scope(&group.scope)),
            spans: group.spans.iter().map(of_span).collect(),
            schema_url: group.scope.schema_url.clone(),
        }],
        schema_url: group.resource.schema_url.clone(),
    });
    proto::Request {
        resource_spans: resource_spans.collect(),
    }
}

fn of_resource(resource: &Resource) -> proto::Resource {
    let Resource {
        attributes: on_resource,
        dropped_attributes_count,
        schema_url: _,
    } = resource;
    proto::Resource {
        attributes: attributes(on_resource),
        dropped_attributes_count: *dropped_attributes_count,
    }
}

fn of_scope(scope: &Scope) -> proto::Scope {
    let Scope {
        name,
        version,
        attributes: on_scope,
        dropped_attributes_count,
        schema_url: _,
    } = scope;
    proto::Scope {
        name: name.clone(),
        version: version.clone(),
        attributes: attributes(on_scope),
        dropped_attributes_count: *dropped_attributes_count,
    }
}

fn of_span(span: &Span) -> proto::Span {
    let Span {
        trace_id,
        span_id,
        parent_span_id,
        trace_state,
        flags,
        name,
        kind,
        start_unix_nano,
        end_unix_nano,
        attributes: on_span,
        dropped_attributes_count,
        events,
        dropped_events_count,
        links,
        dropped_links_count,
        status: Status { code, message },
    } = span;
    proto::Span {
        trace_id: trace_id.to_bytes().to_vec(),
        span_id: span_id.to_bytes().to_vec(),
        trace_state: trace_state.clone(),
        parent_span_id: parent_span_id.map_or(Vec::new(), |id| id.to_bytes().to_vec()),
        name: name.clone(),
        kind: *kind as i32,
        start_time_unix_nano: *start_unix_nano,
        end_time_unix_nano: *end_unix_nano,
        attributes: attributes(on_span),
        dropped_attributes_count: *dropped_attributes_count,
        events: events.iter().map(of_event).collect(),
        dropped_events_count: *dropped_events_count,
        links: links.iter().map(of_link).collect(),
        dropped_links_count: *dropped_links_count,
        status: Some(proto::Status {
            message: message.clone(),
            code: *code as i32,
        }),
        flags: *flags,
    }
}

fn of_event(event: &Event) -> proto::Event {
    let Event {
        time_unix_nano,
        name,
        attributes: on_event,
        dropped_attributes_count,
    } = event;
    proto::Event {
        time_unix_nano: *time_unix_nano,
        name: name.clone(),
        attributes: attributes(on_event),
        dropped_attributes_count: *dropped_attributes_count,
    }
}

fn of_link(link: &Link) -> proto::Link {
    let Link {
        trace_id,
        span_id,
        trace_state,
        flags,
        attributes: on_link,
        dropped_attributes_count,
    } = link;
    let known = |id: &[u8]| match id.iter().all(|byte| *byte == 0) {
        true => Vec::new(),
        false => id.to_vec(),
    };
    proto::Link {
        trace_id: known(&trace_id.to_bytes()),
        span_id: known(&span_id.to_bytes()),
        trace_state: trace_state.clone(),
        attributes: attributes(on_link),
        dropped_attributes_count: *dropped_attributes_count,
        flags: *flags,
    }
}

fn attributes(attributes: &[Attribute]) -> Vec<KeyValue> {
    let attribute = |Attribute { key, value }: &Attribute| KeyValue {
        key: key.clone(),
        value: Some(of_value(value)),
    };
    attributes.iter().map(attribute).collect()
}

fn of_value(value: &Value) -> AnyValue {
    let value = match value {
        Value::Empty => None,
        Value::String(text) => Some(Any::String(text.clone())),
        Value::Bool(bool) => Some(Any::Bool(*bool)),
        Value::Int(int) => Some(Any::Int(*int)),
        Value::Double(double) => Some(Any::Double(*double)),
        Value::Bytes(bytes) => Some(Any::Bytes(bytes.clone())),
        Value::Array(values) => {
            let values = values.iter().map(of_value).collect();
            Some(Any::Array(ArrayValue { values }))
        }
        Value::Map(entries) => {
            let values = attributes(entries);
            Some(Any::Map(KeyValueList { values }))
        }
    };
    AnyValue { value }
}

fn show(one: &[u8]) -> String {
    use prost::Message as _;
    format!("{:#?}", proto::Request::decode(one).unwrap())
}

/// Compares, and shows the first difference.
pub(crate) fn assert_same(found: &[Vec<u8>], expected: &[Vec<u8>], trace: TraceId, context: &str) {
    if found == expected {
        return;
    }
    let differs = found
        .iter()
        .zip(expected)
        .find(|(found, expected)| found != expected);
    let shown =
        differs.map(|(found, expected)| format!("{}\nexpected {}", show(found), show(expected)));
    panic!(
        "{context}: trace {trace} has {} spans, {} are expected; {}",
        found.len(),
        expected.len(),
        shown.unwrap_or_default()
    );
}
