//! Filters that speak of a span's relatives or of its trace, over all spans of a trace at once.

use std::sync::Arc;

use periplus_insight::{Flags, Trace};
use periplus_model::{Span, SpanGroup};

use crate::eval::span_holds;
use crate::{Field, Relation, Scalar, SpanFilter, TimeRange, TraceField};

/// A trace as a tree, and which of its spans count.
pub(crate) struct Tree {
    trace: Trace,
    in_range: Vec<bool>,
}

impl Tree {
    pub(crate) fn new(groups: &[Arc<SpanGroup>], range: TimeRange) -> Self {
        let trace = Trace::assemble(groups);
        let in_range = (trace.rows.iter())
            .map(|row| range.contains(trace.span(row).start_unix_nano))
            .collect();
        Self { trace, in_range }
    }

    /// Whether some span that counts matches.
    pub(crate) fn any(&self, filter: &SpanFilter) -> bool {
        self.select(filter).contains(&true)
    }

    /// For each row whether its span counts and matches.
    fn select(&self, filter: &SpanFilter) -> Vec<bool> {
        let mut selected = self.holds(filter);
        for (selected, in_range) in selected.iter_mut().zip(&self.in_range) {
            *selected &= in_range;
        }
        selected
    }

    /// For each row whether its span matches; what spans that do not count get is of no meaning.
    fn holds(&self, filter: &SpanFilter) -> Vec<bool> {
        if filter.is_local() {
            let rows = self.trace.rows.iter().zip(&self.in_range);
            return rows
                .map(|(row, in_range)| {
                    let group = &self.trace.groups[row.group];
                    *in_range && span_holds(filter, group, &group.spans[row.span])
                })
                .collect();
        }
        match filter {
            SpanFilter::True => vec![true; self.trace.rows.len()],
            SpanFilter::And(filters) => self.fold(filters, true, |all, one| all & one),
            SpanFilter::Or(filters) => self.fold(filters, false, |any, one| any | one),
            SpanFilter::Not(filter) => self.holds(filter).into_iter().map(|held| !held).collect(),
            SpanFilter::Exists(field) => {
                self.values(field, |value| value.is_some(), |number| number > 0)
            }
            SpanFilter::Compare {
                field,
                comparison,
                literal,
            } => self.values(
                field,
                |value| value.is_some_and(|value| value.compares(*comparison, literal)),
                |number| Scalar::Int(number).compares(*comparison, literal),
            ),
        }
    }

    fn fold(
        &self,
        filters: &[SpanFilter],
        start: bool,
        join: impl Fn(bool, bool) -> bool,
    ) -> Vec<bool> {
        let mut joined = vec![start; self.trace.rows.len()];
        for filter in filters {
            for (joined, held) in joined.iter_mut().zip(self.holds(filter)) {
                *joined = join(*joined, held);
            }
        }
        joined
    }

    /// For each row whether the field's value passes: the trace's, or the number of relatives.
    fn values(
        &self,
        field: &Field,
        value_passes: impl Fn(Option<Scalar<'_>>) -> bool,
        number_passes: impl Fn(i64) -> bool,
    ) -> Vec<bool> {
        match field {
            Field::Trace(field) => {
                vec![value_passes(self.trace_value(*field)); self.trace.rows.len()]
            }
            Field::Relatives { relation, filter } if relation.is_part() => {
                let rows = self.trace.rows.iter().zip(&self.in_range);
                rows.map(|(row, in_range)| {
                    let group = &self.trace.groups[row.group];
                    let parts = |span| matching_parts(*relation, filter, group, span);
                    number_passes(if *in_range {
                        parts(&group.spans[row.span])
                    } else {
                        0
                    })
                })
                .collect()
            }
            Field::Relatives { relation, filter } => {
                let numbers = self.count(*relation, &self.select(filter));
                numbers.into_iter().map(number_passes).collect()
            }
            // Local, so looked at span by span.
            Field::Intrinsic(_) | Field::Attribute { .. } => vec![false; self.trace.rows.len()],
        }
    }

    fn trace_value(&self, field: TraceField) -> Option<Scalar<'_>> {
        let root = || {
            let row = &self.trace.rows[self.trace.root?];
            (!row.flags.contains(Flags::PARENT_MISSING)).then_some(row)
        };
        match field {
            TraceField::Duration => {
                let nano = i64::try_from(self.trace.duration_nano()).unwrap_or(i64::MAX);
                Some(Scalar::Int(nano))
            }
            TraceField::RootService => Some(Scalar::Text(self.trace.service(root()?))),
            TraceField::RootName => Some(Scalar::Text(&self.trace.span(root()?).name)),
            TraceField::Spans => {
                let rows = self.trace.rows.iter();
                let spans = rows.filter(|row| !row.flags.contains(Flags::DUPLICATE));
                Some(Scalar::Int(spans.count() as i64))
            }
        }
    }

    /// For each row how many of the selected rows are such a relative of it: one pass, since parents
    /// stand before their children.
    fn count(&self, relation: Relation, selected: &[bool]) -> Vec<i64> {
        let parent = |row: usize| self.trace.rows[row].parent;
        let of = |row: usize| i64::from(selected[row]);
        let rows = 0..selected.len();
        let mut numbers = vec![0; selected.len()];
        match relation {
            Relation::Parent => {
                for row in rows {
                    numbers[row] = parent(row).map_or(0, of);
                }
            }
            Relation::Child => {
                for row in rows {
                    if let Some(parent) = parent(row) {
                        numbers[parent] += of(row);
                    }
                }
            }
            Relation::Ancestor => {
                for row in rows {
                    numbers[row] = parent(row).map_or(0, |parent| numbers[parent] + of(parent));
                }
            }
            Relation::Descendant => {
                for row in rows.rev() {
                    if let Some(parent) = parent(row) {
                        numbers[parent] += numbers[row] + of(row);
                    }
                }
            }
            Relation::Sibling => {
                let children = self.count(Relation::Child, selected);
                for row in rows {
                    numbers[row] = parent(row).map_or(0, |parent| children[parent] - of(row));
                }
            }
            Relation::Trace => numbers.fill(rows.map(of).sum()),
            // Parts of a span are no rows.
            Relation::Event | Relation::Link => {}
        }
        numbers
    }
}

/// How many of the span's events or links match: the span, with nothing else in their place.
fn matching_parts(relation: Relation, filter: &SpanFilter, group: &SpanGroup, span: &Span) -> i64 {
    let holds = |span: &Span| i64::from(span_holds(filter, group, span));
    let mut alone = Span {
        events: Vec::new(),
        links: Vec::new(),
        ..span.clone()
    };
    if relation == Relation::Event {
        alone.links = span.links.clone();
        let events = span.events.iter();
        let numbers = events.map(|event| {
            alone.events = vec![event.clone()];
            holds(&alone)
        });
        return numbers.sum();
    }
    alone.events = span.events.clone();
    let links = span.links.iter();
    let numbers = links.map(|link| {
        alone.links = vec![link.clone()];
        holds(&alone)
    });
    numbers.sum()
}
