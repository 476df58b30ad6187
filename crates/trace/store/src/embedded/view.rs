//! A table as a query sees it: the spans that it had at one moment.
//!
//! A query never makes a writer wait for more than a short turn: it looks at some rows, lets the
//! lock go, and goes on. A lock that is asked for by a writer is not given to readers, so the writer
//! comes in between. What was looked at stays as it is: rows are only added.

use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use periplus_filter::Scalar;
use periplus_model::{SpanGroup, TraceId};
use periplus_segment::{Builder, Calls, Red, ServiceOperation};

use super::meter::{Meter, Room};
use super::part::{Chunk, Damage, Part, Place, Prepared};
use super::table::Table;
use crate::{Detail, Scope, SpanFilter, TimeRange};

/// About how long a table is looked at before its writer gets a turn.
const TURN: Duration = Duration::from_micros(300);

/// Rows whose spans are made at once, or that lead to each other.
const ROWS_AT_ONCE: usize = 4096;

/// What is looked at in the first turn, and at most in one.
const FIRST_TURN: usize = 512;
const LARGEST_TURN: usize = 1 << 16;

/// The rows of the table that are there when it is asked for.
#[derive(Debug)]
pub(super) struct View {
    table: Arc<Table>,
    rows: usize,
    traces: usize,
}

/// What was found out about a table, and is good for the next query too.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What is counted of rows that follow each other from the first on.
    red: Vec<(Range<usize>, Arc<Red>)>,
    /// Of so many rows.
    operations: (usize, Arc<Vec<ServiceOperation>>),
    calls: (usize, Arc<Calls>),
    /// Of so many traces.
    hashes: (usize, Arc<Vec<u64>>),
}

/// More pieces than this are counted again, so that they do not become too many.
const RED_PIECES: usize = 64;

impl View {
    pub(super) fn of(table: &Arc<Table>) -> Self {
        let (rows, traces) = table.whole();
        Self {
            table: Arc::clone(table),
            rows,
            traces,
        }
    }

    /// Looks at all of these, some at a time, until the meter is over. What is done with what was
    /// found belongs behind the look, not into it.
    fn turns<T>(
        &self,
        all: Range<usize>,
        meter: &Meter,
        look: impl Fn(&Builder, Range<usize>) -> T,
        mut found: impl FnMut(T),
    ) {
        let mut next = all.start;
        let mut step = FIRST_TURN;
        while next < all.end && !meter.is_over() {
            let turn = next..all.end.min(next + step);
            next = turn.end;
            let builder = self.table.builder();
            let begin = Instant::now();
            let seen = look(&builder, turn);
            let took = begin.elapsed();
            drop(builder);
            found(seen);
            if took > TURN {
                step = (step / 2).max(1);
            } else if took < TURN / 3 {
                step = (step * 2).min(LARGEST_TURN);
            }
        }
    }

    /// The spans of these rows.
    fn read(&self, rows: &[u32], meter: &Meter) -> Vec<SpanGroup> {
        let mut groups: Vec<SpanGroup> = Vec::new();
        self.turns(
            0..rows.len(),
            meter,
            |builder, some| {
                let mut groups = Vec::new();
                builder.read_rows(&rows[some], &mut groups);
                groups
            },
            |more| join(&mut groups, more),
        );
        groups
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.table
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is counted of the rows, in pieces.
    fn reds(&self, meter: &Meter) -> Vec<Arc<Red>> {
        let mut pieces = std::mem::take(&mut self.known().red);
        let counted =
            |pieces: &[(Range<usize>, Arc<Red>)]| pieces.last().map_or(0, |(rows, _)| rows.end);
        if pieces.len() > RED_PIECES {
            pieces.clear();
        }
        // Another query may have counted rows that this one does not see.
        let seen = pieces.partition_point(|(rows, _)| rows.end <= self.rows);
        let further = pieces.split_off(seen);
        self.turns(
            counted(&pieces)..self.rows,
            meter,
            |builder, rows| (rows.clone(), Arc::new(builder.red_of(rows))),
            |piece| pieces.push(piece),
        );
        let reds = pieces.iter().map(|(_, red)| Arc::clone(red)).collect();
        if !further.is_empty() {
            pieces.truncate(seen);
            pieces.extend(further);
        }
        let mut known = self.known();
        if counted(&known.red) < counted(&pieces) {
            known.red = pieces;
        }
        reds
    }
}

impl Part for View {
    fn segment(&self) -> Option<u64> {
        None
    }

    fn starts(&self) -> (u64, u64) {
        self.table.starts()
    }

    /// One, which is looked at first: a trace that begins late may have begun early elsewhere.
    fn chunks(&self) -> Vec<Chunk> {
        let (first, last) = self.starts();
        vec![Chunk { first, last }]
    }

    fn prepare(&self, filter: &SpanFilter) -> Result<Prepared, Damage> {
        Ok(Prepared::Table(filter.clone()))
    }

    fn hits(
        &self,
        _: usize,
        filter: &Prepared,
        range: TimeRange,
        meter: &Meter,
    ) -> Result<Vec<Place>, Damage> {
        let Prepared::Table(filter) = filter else {
            return Ok(Vec::new());
        };
        let mut traces: Vec<u32> = Vec::new();
        self.turns(
            0..self.rows,
            meter,
            |builder, rows| builder.traces_with(filter, range, rows),
            |found| traces.extend(found),
        );
        traces.sort_unstable();
        traces.dedup();
        let mut places = Vec::with_capacity(traces.len());
        self.turns(
            0..traces.len(),
            meter,
            |builder, some| {
                let some = traces[some].iter();
                some.map(|trace| builder.trace_at(*trace as usize))
                    .collect::<Vec<_>>()
            },
            |found| places.extend(found),
        );
        Ok(places)
    }

    fn count(
        &self,
        _: usize,
        filter: &Prepared,
        range: TimeRange,
        meter: &Meter,
    ) -> Result<u64, Damage> {
        let Prepared::Table(filter) = filter else {
            return Ok(0);
        };
        let mut sum = 0;
        let look = |builder: &Builder, rows| builder.count(filter, range, rows);
        self.turns(0..self.rows, meter, look, |count| sum += count);
        Ok(sum)
    }

    fn spans(
        &self,
        (_, from): (usize, usize),
        filter: &Prepared,
        range: TimeRange,
        meter: &Meter,
    ) -> Result<(Vec<SpanGroup>, Option<usize>), Damage> {
        let Prepared::Table(filter) = filter else {
            return Ok(Default::default());
        };
        let until = self.rows.min(from + ROWS_AT_ONCE);
        let mut rows = Vec::new();
        let look = |builder: &Builder, some| builder.matching_rows(filter, range, some);
        self.turns(from..until, meter, look, |found| rows.extend(found));
        let groups = self.read(&rows, meter);
        Ok((groups, (until < self.rows).then_some(until)))
    }

    fn trace(&self, id: TraceId, _: Detail, meter: &Meter) -> Result<Vec<SpanGroup>, Damage> {
        let mut rows = Vec::new();
        if !self.table.may_have(id) {
            return Ok(Vec::new());
        }
        let mut next = self.table.builder().last_row(id, self.rows);
        while let Some(row) = next
            && !meter.is_over()
        {
            next = (self.table.builder()).rows_before(row, ROWS_AT_ONCE, &mut rows);
        }
        rows.reverse();
        let (mut groups, mut room) = (Vec::new(), Room::of(meter));
        for some in rows.chunks(ROWS_AT_ONCE) {
            let mut more = self.read(some, meter);
            let mut has_room = true;
            for group in &mut more {
                let fitting = group.spans.iter().take_while(|span| {
                    has_room = has_room && room.take(span);
                    has_room
                });
                let fitting = fitting.count();
                group.spans.truncate(fitting);
            }
            more.retain(|group| !group.spans.is_empty());
            join(&mut groups, more);
            if !has_room {
                break;
            }
        }
        room.settle(&groups);
        Ok(groups)
    }

    fn trace_start(&self, id: TraceId) -> Result<Option<u64>, Damage> {
        if !self.table.may_have(id) {
            return Ok(None);
        }
        Ok(self.table.builder().trace_start(id))
    }

    fn operations(&self, meter: &Meter) -> Result<Arc<Vec<ServiceOperation>>, Damage> {
        let (rows, known) = self.known().operations.clone();
        if rows >= self.rows {
            return Ok(known);
        }
        let reds = self.reds(meter);
        let mut operations: Vec<_> = reds.iter().flat_map(|red| red.series.clone()).collect();
        operations.sort_unstable();
        operations.dedup();
        let operations = Arc::new(operations);
        if !meter.is_over() {
            self.known().operations = (self.rows, Arc::clone(&operations));
        }
        Ok(operations)
    }

    fn red(&self, meter: &Meter) -> Result<Vec<Arc<Red>>, Damage> {
        Ok(self.reds(meter))
    }

    fn calls(&self, meter: &Meter) -> Result<Arc<Calls>, Damage> {
        let (rows, known) = self.known().calls.clone();
        if rows == self.rows {
            return Ok(known);
        }
        let mut calls = Calls::default();
        self.turns(
            0..self.traces,
            meter,
            |builder, traces| builder.calls(traces, self.rows),
            |more| {
                calls.edges.extend(more.edges);
                calls.unsettled.extend(more.unsettled);
            },
        );
        calls.edges.sort_unstable();
        calls.edges.dedup_by(|next, sum| {
            let same = (next.start_unix_nano, &next.parent, &next.child)
                == (sum.start_unix_nano, &sum.parent, &sum.child);
            if same {
                sum.calls += next.calls;
                sum.errors += next.errors;
            }
            same
        });
        let calls = Arc::new(calls);
        if !meter.is_over() {
            self.known().calls = (self.rows, Arc::clone(&calls));
        }
        Ok(calls)
    }

    fn calls_of(&self, id: TraceId, _: &Meter) -> Result<Calls, Damage> {
        if !self.table.may_have(id) {
            return Ok(Calls::default());
        }
        let builder = self.table.builder();
        let trace = builder.trace_number(id);
        Ok(trace.map_or_else(Calls::default, |trace| {
            builder.calls(trace..trace + 1, self.rows)
        }))
    }

    fn trace_hashes(&self, meter: &Meter) -> Result<Arc<Vec<u64>>, Damage> {
        let (traces, known) = self.known().hashes.clone();
        if traces == self.traces {
            return Ok(known);
        }
        let mut hashes = Vec::with_capacity(self.traces);
        let look = |builder: &Builder, traces| {
            let mut hashes = Vec::new();
            builder.trace_hashes(traces, &mut hashes);
            hashes
        };
        self.turns(0..self.traces, meter, look, |some| hashes.extend(some));
        hashes.sort_unstable();
        let hashes = Arc::new(hashes);
        if !meter.is_over() {
            self.known().hashes = (self.traces, Arc::clone(&hashes));
        }
        Ok(hashes)
    }

    fn id_of(&self, number: u32) -> Result<Option<TraceId>, Damage> {
        let (_, id) = self.table.builder().trace_at(number as usize);
        Ok(Some(id))
    }

    fn attribute_keys(
        &self,
        scope: Scope,
        meter: &Meter,
        see: &mut dyn FnMut(&str),
    ) -> Result<(), Damage> {
        let look = |builder: &Builder, rows| {
            let mut keys = std::collections::BTreeSet::new();
            builder.attribute_keys(scope, rows, |key| {
                if !keys.contains(key) {
                    keys.insert(key.to_owned());
                }
            });
            keys
        };
        self.turns(0..self.rows, meter, look, |keys| {
            keys.iter().for_each(|key| see(key));
        });
        Ok(())
    }

    fn attribute_values(
        &self,
        attribute: (Scope, &str),
        (prefix, _): (&str, usize),
        meter: &Meter,
        see: &mut dyn FnMut(Scalar<'_>),
    ) -> Result<(), Damage> {
        let look = |builder: &Builder, rows| {
            let mut values = Vec::new();
            builder.attribute_values(attribute, rows, |value| match value {
                Scalar::Text(text) if !text.starts_with(prefix) => {}
                value => values.push(owned(value)),
            });
            values
        };
        self.turns(0..self.rows, meter, look, |values| {
            let scalars = values.iter().filter_map(Scalar::of);
            scalars.for_each(&mut *see);
        });
        Ok(())
    }

    /// Memory is not damaged.
    fn damaged(&self, _: &Damage) {}
}

/// Adds groups; neighbours of one resource and scope become one.
fn join(groups: &mut Vec<SpanGroup>, more: Vec<SpanGroup>) {
    for group in more {
        match groups.last_mut() {
            Some(last)
                if Arc::ptr_eq(&last.resource, &group.resource)
                    && Arc::ptr_eq(&last.scope, &group.scope) =>
            {
                last.spans.extend(group.spans);
            }
            _ => groups.push(group),
        }
    }
}

fn owned(value: Scalar<'_>) -> periplus_model::Value {
    match value {
        Scalar::Text(text) => text.into(),
        Scalar::Int(int) => int.into(),
        Scalar::Double(double) => double.into(),
        Scalar::Bool(bool) => bool.into(),
    }
}

#[cfg(test)]
mod tests {
    use periplus_model::{Batch, Span};

    use super::super::meter::Memory;
    use super::super::payload::Payload;
    use super::*;
    use crate::Budget;

    fn append(table: &Table, spans: u64) {
        let span = |n| Span {
            trace_id: TraceId::from_halves(0, n + 1),
            start_unix_nano: 1_760_000_000_000_000_000,
            ..Span::default()
        };
        let group = SpanGroup {
            spans: (0..spans).map(span).collect(),
            ..SpanGroup::default()
        };
        let batch = Batch {
            groups: vec![group],
        };
        let taken = table.append(&Payload::Batch(batch));
        assert!(taken.is_some_and(|taken| taken.is_ok()));
    }

    #[test]
    fn what_another_query_has_counted_does_not_change_what_this_one_sees() {
        let memory = Arc::new(Memory::new(u64::MAX, u64::MAX));
        let meter = Meter::new(
            Budget::UNLIMITED,
            Duration::from_secs(60),
            &memory,
            Arc::default(),
        );
        let count = |view: &View| {
            let spans = |red: &Arc<Red>| red.points().map(|point| point.spans()).sum::<u64>();
            view.red(&meter)
                .map(|pieces| pieces.iter().map(spans).sum::<u64>())
                .map_err(|damage| damage.reason)
        };
        let table = Arc::new(Table::default());
        append(&table, 600);
        let early = View::of(&table);
        append(&table, 700);
        let late = View::of(&table);
        assert_eq!(count(&late), Ok(1_300));
        assert_eq!(count(&early), Ok(600));
        assert_eq!(count(&late), Ok(1_300));
    }
}
