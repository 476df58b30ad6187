use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use periplus_model::{SpanId, SpanKind};

use super::{AdjustedGroup, spans_mut};
use crate::assemble::content_hash;

/// Removes all but the first of identical spans. Collections must be sorted.
///
/// Spans that differ only in what was adjusted already are no copies: their warnings tell them apart.
pub(super) fn remove_copies(groups: &mut [AdjustedGroup]) {
    let mut first_with: HashMap<(u64, &[String]), (usize, usize)> = HashMap::new();
    let mut copies = HashSet::new();
    for (g, group) in groups.iter().enumerate() {
        for (s, adjusted) in group.spans.iter().enumerate() {
            let hash = content_hash(&adjusted.span, &group.resource);
            match first_with.entry((hash, &adjusted.warnings)) {
                Entry::Vacant(slot) => {
                    slot.insert((g, s));
                }
                Entry::Occupied(slot) => {
                    let (first_g, first_s) = *slot.get();
                    let first = &groups[first_g];
                    if first.spans[first_s].span == adjusted.span
                        && first.resource.attributes == group.resource.attributes
                        && first.scope.attributes == group.scope.attributes
                    {
                        copies.insert((g, s));
                    }
                }
            }
        }
    }
    if copies.is_empty() {
        return;
    }
    for (g, group) in groups.iter_mut().enumerate() {
        let mut s = 0;
        group.spans.retain(|_| {
            s += 1;
            !copies.contains(&(g, s - 1))
        });
    }
}

/// Gives a server span that shares its id with a client span an id and the client as its parent,
/// and makes the children of the shared id children of the server.
pub(super) fn split_shared(groups: &mut [AdjustedGroup]) {
    let mut used = HashSet::new();
    let mut clients = HashSet::new();
    for adjusted in groups.iter().flat_map(|group| &group.spans) {
        used.insert(adjusted.span.span_id);
        if adjusted.span.kind == SpanKind::Client {
            clients.insert(adjusted.span.span_id);
        }
    }
    let mut free = (1..=u64::MAX)
        .map(SpanId::from_u64)
        .filter(|id| !used.contains(id));
    let mut new_ids: HashMap<SpanId, SpanId> = HashMap::new();
    let mut split = HashSet::new();
    for adjusted in spans_mut(groups) {
        let span = &mut adjusted.span;
        if span.kind != SpanKind::Server || !clients.contains(&span.span_id) {
            continue;
        }
        let Some(id) = free.next() else {
            let warning = "cannot assign unique span ID, too many spans in the trace";
            adjusted.warnings.push(warning.to_owned());
            continue;
        };
        new_ids.insert(span.span_id, id);
        split.insert(id);
        span.parent_span_id = Some(span.span_id);
        span.span_id = id;
    }
    if new_ids.is_empty() {
        return;
    }
    for adjusted in spans_mut(groups) {
        let span = &mut adjusted.span;
        if let Some(parent) = span.parent_span_id
            && let Some(&id) = new_ids.get(&parent)
            && !split.contains(&span.span_id)
        {
            span.parent_span_id = Some(id);
        }
    }
}
