use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use periplus_model::{Attribute, Resource, Span, SpanId, Value};

use super::Spans;

/// For each of these spans, which have the same id, the first one that is identical to it; `None`
/// for those that are the first of their kind. Identical means: the same span made by the same
/// resource, as Jaeger's de-duplication has it.
pub(super) fn originals(spans: &Spans<'_>, same_id: &[(SpanId, u32)]) -> Vec<Option<u32>> {
    let mut first_with: HashMap<u64, u32> = HashMap::with_capacity(same_id.len());
    (same_id.iter())
        .map(|&(_, i)| {
            let (span, resource) = (spans.span(i as usize), spans.resource(i as usize));
            match first_with.entry(content_hash(span, resource)) {
                Entry::Vacant(slot) => {
                    slot.insert(i);
                    None
                }
                Entry::Occupied(slot) => {
                    let original = *slot.get();
                    let same = spans.span(original as usize) == span
                        && spans.resource(original as usize).attributes == resource.attributes;
                    same.then_some(original)
                }
            }
        })
        .collect()
}

/// A hash over everything that a span and its resource say.
pub(crate) fn content_hash(span: &Span, resource: &Resource) -> u64 {
    let mut h = DefaultHasher::new();
    (span.span_id, span.parent_span_id, span.kind, span.flags).hash(&mut h);
    (span.start_unix_nano, span.end_unix_nano).hash(&mut h);
    (&span.name, &span.trace_state).hash(&mut h);
    (span.status.code, &span.status.message).hash(&mut h);
    hash_attributes(&span.attributes, &mut h);
    span.events.len().hash(&mut h);
    for event in &span.events {
        (event.time_unix_nano, &event.name).hash(&mut h);
        hash_attributes(&event.attributes, &mut h);
    }
    span.links.len().hash(&mut h);
    for link in &span.links {
        (link.trace_id, link.span_id).hash(&mut h);
        hash_attributes(&link.attributes, &mut h);
    }
    hash_attributes(&resource.attributes, &mut h);
    h.finish()
}

fn hash_attributes(attributes: &[Attribute], h: &mut DefaultHasher) {
    attributes.len().hash(h);
    for attribute in attributes {
        attribute.key.hash(h);
        hash_value(&attribute.value, h);
    }
}

fn hash_value(value: &Value, h: &mut DefaultHasher) {
    std::mem::discriminant(value).hash(h);
    match value {
        Value::Empty => {}
        Value::String(v) => v.hash(h),
        Value::Bool(v) => v.hash(h),
        Value::Int(v) => v.hash(h),
        // Positive and negative zero are equal, so they must not differ here.
        Value::Double(v) => (v + 0.0).to_bits().hash(h),
        Value::Bytes(v) => v.hash(h),
        Value::Array(values) => {
            values.len().hash(h);
            for value in values {
                hash_value(value, h);
            }
        }
        Value::Map(attributes) => hash_attributes(attributes, h),
    }
}
