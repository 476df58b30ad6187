//! Parts of one span that arrived apart become one.

use std::cmp::Ordering;

use periplus_model::SpanKind;

use super::{Endpoint, Span};

/// The spans of one trace, the parts of each put together.
///
/// Spans are sorted by id, those that share another's behind it, clients first, then by the local
/// endpoint. Neighbours are parts of one span if id, `shared` and endpoint agree; what one of them
/// does not know agrees with anything. All get the longest trace id that one of them has. A server
/// behind its client is `shared`, whether it said so or not, and takes the client's parent if it has
/// none of its own.
pub fn merge(mut spans: Vec<Span<'_>>) -> Vec<Span<'_>> {
    if spans.len() < 2 {
        return spans;
    }
    // All the same in their low half: the longest one is the largest.
    let trace_id = spans.iter().map(|span| span.trace_id).max();
    spans.sort_by(order);
    let mut merged: Vec<Span<'_>> = Vec::with_capacity(spans.len());
    let mut place = Endpoint::default();
    for mut span in spans {
        span.trace_id = trace_id.unwrap_or(span.trace_id);
        let Some(previous) = merged.last_mut().filter(|it| it.id == span.id) else {
            place = span.local.clone();
            merged.push(span);
            continue;
        };
        let answers = previous.kind == SpanKind::Client && span.kind == SpanKind::Server;
        span.shared |= answers;
        if span.shared == previous.shared && agrees(&place, &span.local) {
            complete(&mut place, &span.local);
            absorb(previous, span);
            continue;
        }
        if span.shared && span.parent_id.is_none() {
            span.parent_id = previous.parent_id;
        }
        place = span.local.clone();
        merged.push(span);
    }
    merged
}

fn order(one: &Span<'_>, other: &Span<'_>) -> Ordering {
    let is_client = |span: &Span<'_>| span.kind == SpanKind::Client;
    (one.id.cmp(&other.id))
        .then_with(|| one.shared.cmp(&other.shared))
        .then_with(|| is_client(other).cmp(&is_client(one)))
        .then_with(|| order_of_endpoints(&one.local, &other.local))
}

/// No endpoint at all comes first; of two, what lacks a part comes last.
fn order_of_endpoints(one: &Endpoint<'_>, other: &Endpoint<'_>) -> Ordering {
    if one.is_empty() || other.is_empty() {
        return other.is_empty().cmp(&one.is_empty());
    }
    absent_last(one.service_name.as_ref(), other.service_name.as_ref())
        .then_with(|| absent_last(one.ipv4.as_ref(), other.ipv4.as_ref()))
        .then_with(|| absent_last(one.ipv6.as_ref(), other.ipv6.as_ref()))
}

fn absent_last<T: Ord>(one: Option<&T>, other: Option<&T>) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => one.cmp(other),
        _ => one.is_none().cmp(&other.is_none()),
    }
}

/// Whether two endpoints may be one: what both know is the same.
fn agrees(one: &Endpoint<'_>, other: &Endpoint<'_>) -> bool {
    fn part<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
        match (one, other) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
    }
    part(one.service_name.as_ref(), other.service_name.as_ref())
        && part(one.ipv4.as_ref(), other.ipv4.as_ref())
        && part(one.ipv6.as_ref(), other.ipv6.as_ref())
        && part(one.port.as_ref(), other.port.as_ref())
}

fn complete<'a>(endpoint: &mut Endpoint<'a>, from: &Endpoint<'a>) {
    if endpoint.service_name.is_none() {
        endpoint.service_name.clone_from(&from.service_name);
    }
    endpoint.ipv4 = endpoint.ipv4.or(from.ipv4);
    endpoint.ipv6 = endpoint.ipv6.or(from.ipv6);
    endpoint.port = endpoint.port.or(from.port);
}

/// The later part only fills gaps, but its tags win.
fn absorb<'a>(span: &mut Span<'a>, later: Span<'a>) {
    span.parent_id = span.parent_id.or(later.parent_id);
    if span.known_kind().is_none() {
        span.kind = later.kind;
    }
    if span.name.is_empty() {
        span.name = later.name;
    }
    span.timestamp = span.timestamp.or(later.timestamp);
    span.duration = span.duration.or(later.duration);
    complete(&mut span.local, &later.local);
    complete(&mut span.remote, &later.remote);
    span.annotations.extend(later.annotations);
    span.annotations.sort();
    span.annotations.dedup();
    span.tags.extend(later.tags);
    span.debug |= later.debug;
    span.shared |= later.shared;
}
