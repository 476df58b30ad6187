//! How many bytes of heap things take.

use std::mem::size_of;
use std::sync::Arc;

use periplus_model::{Attribute, Event, Link, Resource, Scope, Span, SpanGroup, Value};

/// What the allocator adds to each allocation: its header, and rounding up to 16 bytes.
const ALLOCATION: usize = 16;

/// The two counters in front of what an `Arc` holds.
const ARC: usize = 2 * size_of::<usize>();

/// A node of a B-tree is at least half full, so an entry takes up to twice its size.
pub(super) const fn tree_entry(size: usize) -> usize {
    2 * size + ALLOCATION
}

/// A hash table is at least 7/16 full, and has a byte of its own for each slot.
pub(super) const fn table_entry(size: usize) -> usize {
    (size + 1) * 16 / 7
}

/// A group without its resource and scope, which are shared.
pub(crate) fn group(spans: &[Span], capacity: usize) -> usize {
    let pointer = size_of::<Arc<SpanGroup>>();
    // The vector of pointers grows by doubling.
    2 * pointer
        + ALLOCATION
        + ARC
        + size_of::<SpanGroup>()
        + allocation(capacity * size_of::<Span>())
        + spans.iter().map(span).sum::<usize>()
}

pub(super) fn resource(resource: &Resource) -> usize {
    allocation(ARC + size_of::<Resource>())
        + attributes(&resource.attributes)
        + text(&resource.schema_url)
}

pub(super) fn scope(scope: &Scope) -> usize {
    allocation(ARC + size_of::<Scope>())
        + attributes(&scope.attributes)
        + text(&scope.name)
        + text(&scope.version)
        + text(&scope.schema_url)
}

/// A string with its own place.
pub(super) fn owned_text(text: &str) -> usize {
    size_of::<String>() + allocation(text.len())
}

/// What a span owns, without the span itself.
fn span(span: &Span) -> usize {
    let events = |events: &Vec<Event>| {
        let content = |event: &Event| text(&event.name) + attributes(&event.attributes);
        allocation(events.capacity() * size_of::<Event>())
            + events.iter().map(content).sum::<usize>()
    };
    let links = |links: &Vec<Link>| {
        let content = |link: &Link| text(&link.trace_state) + attributes(&link.attributes);
        allocation(links.capacity() * size_of::<Link>()) + links.iter().map(content).sum::<usize>()
    };
    text(&span.name)
        + text(&span.trace_state)
        + text(&span.status.message)
        + attributes(&span.attributes)
        + events(&span.events)
        + links(&span.links)
}

fn attributes(attributes: &Vec<Attribute>) -> usize {
    let content = |attribute: &Attribute| text(&attribute.key) + value(&attribute.value);
    allocation(attributes.capacity() * size_of::<Attribute>())
        + attributes.iter().map(content).sum::<usize>()
}

fn value(v: &Value) -> usize {
    match v {
        Value::String(v) => text(v),
        Value::Bytes(v) => allocation(v.capacity()),
        Value::Array(v) => {
            allocation(v.capacity() * size_of::<Value>()) + v.iter().map(value).sum::<usize>()
        }
        Value::Map(v) => attributes(v),
        Value::Empty | Value::Bool(_) | Value::Int(_) | Value::Double(_) => 0,
    }
}

fn text(text: &String) -> usize {
    allocation(text.capacity())
}

/// Nothing is allocated for nothing.
const fn allocation(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes + ALLOCATION }
}
