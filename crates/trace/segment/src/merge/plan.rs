//! What a row group will consist of: which rows of which sources, for each column which values.

use std::ops::Range;
use std::sync::Arc;

use periplus_model::TraceId;

use super::Tables;
use super::source::Source;
use crate::encode::parents::Parents;
use crate::schema::Place;

/// Some of the values of a column of a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The number of the source among those of the plan.
    pub(super) source: u32,
    pub(super) begin: u32,
    pub(super) end: u32,
}

impl Run {
    pub(super) fn range(&self) -> Range<usize> {
        self.begin as usize..self.end as usize
    }
}

/// A row group that is being put together.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) sources: Vec<Arc<Source>>,
    pub(super) source_bytes: usize,
    /// The rows of spans, events and links.
    pub(super) rows: [Vec<Run>; 3],
    /// The values of each attribute column.
    pub(super) values: [Vec<Vec<Run>>; 3],
    pub(super) traces: Traces,
    pub(super) parents: Parents,
    /// The start of each span, and how far it is from that of its trace.
    pub(super) starts: Vec<u64>,
    pub(super) offsets: Vec<u64>,
    /// Of large values.
    pub(super) bytes: usize,
    /// Traces that lie one behind the other in a source, of which the values are not planned yet.
    pending: Option<(u32, Range<usize>)>,
}

/// The traces, or pieces of them.
#[derive(Default)]
pub(super) struct Traces {
    pub(super) ids: Vec<TraceId>,
    pub(super) starts: Vec<u64>,
    pub(super) lengths: Vec<u32>,
    pub(super) unexpected: Vec<u8>,
    pub(super) ranks: Vec<u32>,
}

impl Plan {
    pub(super) fn new(tables: &Tables) -> Self {
        Self {
            values: tables
                .each_ref()
                .map(|it| vec![Vec::new(); it.columns.len()]),
            ..Self::default()
        }
    }

    pub(super) fn span_count(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.traces.ids.is_empty()
    }

    /// The number of a source.
    pub(super) fn source(&mut self, source: &Arc<Source>) -> u32 {
        let known = self.sources.iter().rposition(|it| Arc::ptr_eq(it, source));
        let number = known.unwrap_or_else(|| {
            self.source_bytes += source.heap_bytes();
            self.sources.push(Arc::clone(source));
            self.sources.len() - 1
        });
        number as u32
    }

    /// Adds all that a source has of a trace to the columns.
    pub(super) fn add_trace(&mut self, source: u32, trace: usize, tables: &Tables) {
        match &mut self.pending {
            Some((of, traces)) if *of == source && traces.end == trace => traces.end += 1,
            _ => {
                self.settle(tables);
                self.pending = Some((source, trace..trace + 1));
            }
        }
    }

    /// Plans the values of the traces that were added.
    pub(super) fn settle(&mut self, tables: &Tables) {
        let Some((number, traces)) = self.pending.take() else {
            return;
        };
        let source = Arc::clone(&self.sources[number as usize]);
        for place in Place::ALL {
            let (begin, end) = source.rows(place, &traces);
            push(&mut self.rows[place as usize], number, begin..end);
            let begins = source.values(place, traces.start);
            let ends = source.values(place, traces.end);
            let new = &tables[place as usize].column_of[source.input];
            let columns = &mut self.values[place as usize];
            for ((begin, end), new) in begins.iter().zip(ends).zip(new) {
                push(&mut columns[*new as usize], number, *begin..*end);
            }
        }
    }
}

/// Adds values behind the others.
pub(super) fn push(runs: &mut Vec<Run>, source: u32, range: Range<u32>) {
    if range.is_empty() {
        return;
    }
    match runs.last_mut() {
        Some(last) if last.source == source && last.end == range.start => last.end = range.end,
        _ => runs.push(Run {
            source,
            begin: range.start,
            end: range.end,
        }),
    }
}
