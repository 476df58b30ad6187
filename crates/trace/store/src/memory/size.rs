//! How many bytes of heap things take.

use std::mem::size_of;
use std::sync::Arc;

use periplus_model::heap::{ALLOCATION, allocation, attributes, span, text};
use periplus_model::{Resource, Scope, Span, SpanGroup};

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

/// A span in a vector, without what the vector has in reserve.
pub(crate) fn one_span(one: &Span) -> u64 {
    (size_of::<Span>() + span(one)) as u64
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
