//! How many bytes of heap spans take, for whoever holds them within a limit.

use std::mem::size_of;

use crate::{Attribute, Event, Link, Span, Value};

/// What the allocator adds to each allocation: its header, and rounding up to 16 bytes.
pub const ALLOCATION: usize = 16;

/// What a span owns, without the span itself.
pub fn span(span: &Span) -> usize {
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

/// What a list of attributes owns.
pub fn attributes(attributes: &Vec<Attribute>) -> usize {
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

/// What a text owns.
pub fn text(text: &String) -> usize {
    allocation(text.capacity())
}

/// An allocation of so many bytes; nothing is allocated for nothing.
pub const fn allocation(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes + ALLOCATION }
}
