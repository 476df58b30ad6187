use std::collections::HashMap;
use std::collections::hash_map::Entry;

use periplus_model::{Resource, Span, SpanId, Value};

use super::AdjustedGroup;
use crate::text::go_duration;

/// Moves spans whose host's clock disagrees with that of the parent's host. Ids must be unique by
/// now; the first span of an id counts.
pub(super) fn correct(groups: &mut [AdjustedGroup], max_nano: u64) {
    let hosts: Vec<String> = (groups.iter()).map(|group| host(&group.resource)).collect();
    let mut nodes: Vec<Node> = Vec::new();
    let mut by_id: HashMap<SpanId, usize> = HashMap::new();
    for (g, group) in groups.iter_mut().enumerate() {
        for (s, adjusted) in group.spans.iter_mut().enumerate() {
            match by_id.entry(adjusted.span.span_id) {
                Entry::Vacant(slot) => {
                    slot.insert(nodes.len());
                    nodes.push(Node {
                        group: g,
                        span: s,
                        children: Vec::new(),
                    });
                }
                Entry::Occupied(_) => adjusted
                    .warnings
                    .push("duplicate span IDs; skipping clock skew adjustment".to_owned()),
            }
        }
    }
    let mut stack = Vec::new();
    for i in 0..nodes.len() {
        let adjusted = &mut groups[nodes[i].group].spans[nodes[i].span];
        let root = match adjusted.span.parent_span_id.filter(|id| !id.is_zero()) {
            None => true,
            Some(parent) => match by_id.get(&parent) {
                Some(&parent) => {
                    nodes[parent].children.push(i);
                    false
                }
                None => {
                    adjusted.warnings.push(format!(
                        "parent span ID={parent} is not in the trace; skipping clock skew adjustment"
                    ));
                    true
                }
            },
        };
        if root {
            stack.push(Visit {
                node: i,
                parent: None,
                delta: 0,
            });
        }
    }
    // Spans in a circle hang below no root and are left alone.
    while let Some(Visit {
        node,
        parent,
        delta,
    }) = stack.pop()
    {
        let Node { group, span, .. } = nodes[node];
        let delta = match parent {
            Some(parent)
                if hosts[group].is_empty() || hosts[group] != hosts[nodes[parent].group] =>
            {
                let parent = &groups[nodes[parent].group].spans[nodes[parent].span].span;
                skew(&groups[group].spans[span].span, parent)
            }
            _ => delta,
        };
        let adjusted = &mut groups[group].spans[span];
        if delta != 0 {
            if delta.unsigned_abs() <= u128::from(max_nano) {
                shift(&mut adjusted.span, delta);
            }
            adjusted.warnings.push(warning(delta, max_nano));
        }
        stack.extend(nodes[node].children.iter().map(|&child| Visit {
            node: child,
            parent: Some(node),
            delta,
        }));
    }
}

struct Node {
    group: usize,
    span: usize,
    children: Vec<usize>,
}

struct Visit {
    node: usize,
    parent: Option<usize>,
    delta: i128,
}

/// Empty when the resource does not say; such a host differs from every other.
fn host(resource: &Resource) -> String {
    if let Some(id) = resource.attribute("host.id") {
        return id.as_str().unwrap_or_default().to_owned();
    }
    match resource.attribute("host.ip") {
        Some(Value::String(ip)) => return ip.clone(),
        Some(Value::Array(ips)) if !ips.is_empty() => {
            return ips[0].as_str().unwrap_or_default().to_owned();
        }
        _ => {}
    }
    let name = resource.attribute("host.name").and_then(Value::as_str);
    name.unwrap_or_default().to_owned()
}

fn skew(child: &Span, parent: &Span) -> i128 {
    let times = |span: &Span| {
        (
            i128::from(span.start_unix_nano),
            i128::from(span.end_unix_nano),
        )
    };
    let (parent_start, parent_end) = times(parent);
    let (child_start, child_end) = times(child);
    let room = (parent_end - parent_start) - (child_end - child_start);
    if room < 0 {
        // The child ran asynchronously, or the parent gave up first.
        return (parent_start - child_start).max(0);
    }
    if child_start >= parent_start && child_end <= parent_end {
        return 0;
    }
    parent_start + room / 2 - child_start
}

fn shift(span: &mut Span, delta: i128) {
    let shifted = |nano: u64| {
        let clamped = (i128::from(nano) + delta).clamp(0, i128::from(u64::MAX));
        u64::try_from(clamped).unwrap_or(u64::MAX)
    };
    span.start_unix_nano = shifted(span.start_unix_nano);
    span.end_unix_nano = shifted(span.end_unix_nano);
    for event in &mut span.events {
        event.time_unix_nano = shifted(event.time_unix_nano);
    }
}

fn warning(delta: i128, max_nano: u64) -> String {
    let delta_text = go_duration(delta);
    if delta.unsigned_abs() <= u128::from(max_nano) {
        format!("This span's timestamps were adjusted by {delta_text}")
    } else if max_nano == 0 {
        format!("clock skew adjustment disabled; not applying calculated delta of {delta_text}")
    } else {
        let max = go_duration(i128::from(max_nano));
        format!(
            "max clock skew adjustment delta of {max} exceeded; not applying calculated delta of {delta_text}"
        )
    }
}
