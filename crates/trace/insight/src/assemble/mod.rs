//! From the spans of a trace to its tree, in four steps: [`parents`] finds each span's parent,
//! [`clocks`] places it in time, the rows are laid out depth first, and what each row covers of its
//! parent is taken off the parent's own time.

mod clocks;
mod identical;
mod parents;

use std::collections::HashSet;
use std::sync::Arc;

use periplus_model::{Resource, Span, SpanGroup, SpanId};

use crate::{Flags, Row, Trace, is_error};
use clocks::{Clock, Placed};
pub(crate) use identical::content_hash;
use parents::{Parents, Trouble};

pub(crate) fn assemble(groups: &[Arc<SpanGroup>]) -> Trace {
    let spans = Spans::of(groups);
    let parents = Parents::find(&spans);
    let mut children = Children::of(&parents.parent);
    let placed = clocks::place(&spans, &parents, &children);
    children.sort_by_key(|child| placed[child].start);

    let mut trace = Trace {
        groups: groups.to_vec(),
        ..Trace::default()
    };
    trace.rows = lay_out(&spans, &parents, &children, &placed);
    take_off_children(&mut trace.rows);
    trace.missing = missing(&trace);
    trace.root = root(&trace);
    trace.start_unix_nano = (trace.rows.iter())
        .map(|row| row.start_unix_nano)
        .min()
        .unwrap_or_default();
    trace.end_unix_nano = (trace.rows.iter())
        .map(Row::end_unix_nano)
        .max()
        .unwrap_or_default();
    trace
}

/// All spans of the trace under one running number.
pub(crate) struct Spans<'a> {
    groups: &'a [Arc<SpanGroup>],
    places: Vec<(u32, u32)>,
}

impl<'a> Spans<'a> {
    pub(crate) fn of(groups: &'a [Arc<SpanGroup>]) -> Self {
        let places = (0_u32..)
            .zip(groups)
            .flat_map(|(group, spans)| {
                (0_u32..)
                    .zip(&spans.spans)
                    .map(move |(span, _)| (group, span))
            })
            .collect();
        Self { groups, places }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn group_of(&self, i: usize) -> usize {
        self.places[i].0 as usize
    }

    pub(crate) fn span(&self, i: usize) -> &'a Span {
        let (group, span) = self.places[i];
        &self.groups[group as usize].spans[span as usize]
    }

    pub(crate) fn resource(&self, i: usize) -> &'a Resource {
        &self.groups[self.group_of(i)].resource
    }
}

/// The children of each span, in one vector.
struct Children {
    first: Vec<u32>,
    spans: Vec<u32>,
    roots: Vec<u32>,
}

impl Children {
    fn of(parents: &[Option<u32>]) -> Self {
        let mut first = vec![0_u32; parents.len() + 1];
        for parent in parents.iter().flatten() {
            first[*parent as usize + 1] += 1;
        }
        for i in 1..first.len() {
            first[i] += first[i - 1];
        }
        let mut next = first.clone();
        let mut spans = vec![0; first[parents.len()] as usize];
        let mut roots = Vec::new();
        for (child, parent) in (0_u32..).zip(parents) {
            match parent {
                Some(parent) => {
                    let slot = &mut next[*parent as usize];
                    spans[*slot as usize] = child;
                    *slot += 1;
                }
                None => roots.push(child),
            }
        }
        Self {
            first,
            spans,
            roots,
        }
    }

    /// Sorts siblings; equal keys stay in the order of arrival.
    fn sort_by_key(&mut self, key: impl Fn(usize) -> u64) {
        for bounds in self.first.windows(2) {
            self.spans[bounds[0] as usize..bounds[1] as usize]
                .sort_by_key(|&child| key(child as usize));
        }
        self.roots.sort_by_key(|&root| key(root as usize));
    }

    fn of_span(&self, i: usize) -> &[u32] {
        &self.spans[self.first[i] as usize..self.first[i + 1] as usize]
    }
}

fn lay_out(
    spans: &Spans<'_>,
    parents: &Parents,
    children: &Children,
    placed: &[Placed],
) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::with_capacity(spans.len());
    let mut stack: Vec<(u32, Option<usize>)> = Vec::new();
    stack.extend(children.roots.iter().rev().map(|&root| (root, None)));
    while let Some((i, parent)) = stack.pop() {
        let i = i as usize;
        let row = rows.len();
        let depth = parent.map_or(0, |parent: usize| rows[parent].depth + 1);
        rows.push(Row {
            depth,
            parent,
            ..row_of(spans, i, parents.trouble[i], &placed[i])
        });
        stack.extend(
            children
                .of_span(i)
                .iter()
                .rev()
                .map(|&child| (child, Some(row))),
        );
    }
    rows
}

fn row_of(spans: &Spans<'_>, i: usize, trouble: Trouble, placed: &Placed) -> Row {
    let span = spans.span(i);
    let (group, index) = spans.places[i];
    let mut warnings = Vec::new();
    trouble.warn(span, &mut warnings);
    placed.warn(span, &mut warnings);
    let flags = Flags::ERROR.when(is_error(span))
        | Flags::PARENT_MISSING.when(trouble.contains(Trouble::PARENT_MISSING))
        | Flags::SKEW_ADJUSTED.when(matches!(
            placed.clock,
            Clock::Moved | Clock::MovedWithParent
        ))
        | Flags::SHARED_ID.when(trouble.contains(Trouble::SHARED_ID))
        | Flags::DUPLICATE.when(trouble.contains(Trouble::DUPLICATE))
        | Flags::WARNING.when(!warnings.is_empty())
        | Flags::EVENTS.when(!span.events.is_empty())
        | Flags::LINKS.when(!span.links.is_empty());
    Row {
        group: group as usize,
        span: index as usize,
        depth: 0,
        parent: None,
        start_unix_nano: placed.start,
        duration_nano: placed.duration,
        self_nano: placed.duration,
        flags,
        skew_nano: placed.skew,
        warnings,
    }
}

/// Takes the time in which children ran off their parents' own time. Siblings come sorted by start,
/// so one mark per parent, up to where its time is covered, is enough.
fn take_off_children(rows: &mut [Row]) {
    let mut covered_until: Vec<u64> = rows.iter().map(|row| row.start_unix_nano).collect();
    for i in 0..rows.len() {
        let Some(parent) = rows[i].parent else {
            continue;
        };
        let start = rows[i].start_unix_nano.max(covered_until[parent]);
        let end = rows[i].end_unix_nano().min(rows[parent].end_unix_nano());
        if start < end {
            rows[parent].self_nano -= end - start;
            covered_until[parent] = end;
        }
    }
}

fn missing(trace: &Trace) -> Vec<SpanId> {
    let mut seen = HashSet::new();
    (trace.rows.iter())
        .filter(|row| row.flags.contains(Flags::PARENT_MISSING))
        .filter_map(|row| trace.span(row).parent_span_id)
        .filter(|id| seen.insert(*id))
        .collect()
}

/// Roots come sorted by start, so the first of the best sort is the earliest.
fn root(trace: &Trace) -> Option<usize> {
    (0..trace.rows.len())
        .filter(|&i| trace.rows[i].parent.is_none())
        .min_by_key(|&i| {
            let row = &trace.rows[i];
            let named_parent = (trace.span(row).parent_span_id).is_some_and(|id| !id.is_zero());
            (
                row.flags.contains(Flags::PARENT_MISSING),
                named_parent,
                row.flags.contains(Flags::DUPLICATE),
            )
        })
}
