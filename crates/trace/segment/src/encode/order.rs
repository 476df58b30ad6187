use std::collections::HashMap;

use super::weight::weights;
use crate::build::Builder;

/// The order in which spans are written: by the trace's start, the trace, the span's start, the
/// order of arrival.
pub(super) struct Order {
    pub(super) traces: Vec<TraceRows>,
    /// The builder's rows, in the order in which they are written.
    pub(super) rows: Vec<u32>,
    /// The traces of each row group, of which large ones may be in pieces.
    pub(super) groups: Vec<Vec<TraceRows>>,
    /// Of each trace in pieces, for each of its rows, its place in the order of arrival.
    arrivals: HashMap<u32, Vec<u32>>,
}

/// What a row group may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) spans: usize,
    /// Of large values.
    pub(super) bytes: usize,
}

/// A trace and its rows in [`Order::rows`].
#[derive(Clone, Copy, Debug)]
pub(super) struct TraceRows {
    pub(super) trace: u32,
    pub(super) begin: u32,
    pub(super) end: u32,
    /// The rows of the whole trace, of which this may be a piece.
    whole: (u32, u32),
    /// Whether its spans arrived in the order that [`expected_key`] sorts by.
    as_expected: bool,
}

impl TraceRows {
    /// Whether the rows need not say in which order they arrived.
    pub(super) fn is_as_expected(&self) -> bool {
        self.as_expected && !self.is_piece()
    }

    fn is_piece(&self) -> bool {
        self.whole != (self.begin, self.end)
    }

    pub(super) const fn len(&self) -> usize {
        (self.end - self.begin) as usize
    }
}

/// The order of arrival that is expected, so that it need not be written: processes report their
/// spans one after the other, each process in the order in which the spans ended.
fn expected_key(builder: &Builder, row: u32) -> (u32, u32, u64, u64) {
    let (spans, row) = (&builder.spans, row as usize);
    (
        spans.resource[row],
        spans.scope[row],
        spans.end[row],
        spans.start[row],
    )
}

impl Order {
    /// Of these traces of a builder, in groups of this size.
    pub(super) fn of(builder: &Builder, mut chosen: Vec<u32>, most_of_group: Most) -> Self {
        let key = |trace: u32| {
            let trace = builder.traces.get(trace as usize);
            (trace.start, trace.id)
        };
        chosen.sort_unstable_by_key(|trace| key(*trace));
        let mut traces = Vec::with_capacity(chosen.len());
        let mut next = vec![u32::MAX; builder.trace_count()];
        let mut end = 0;
        for trace in chosen {
            let begin = end;
            end += builder.traces.get(trace as usize).spans;
            next[trace as usize] = begin;
            traces.push(TraceRows {
                trace,
                begin,
                end,
                whole: (begin, end),
                as_expected: true,
            });
        }
        let mut rows = vec![0; end as usize];
        for (row, &trace) in (0_u32..).zip(&builder.spans.trace) {
            let next = &mut next[trace as usize];
            if *next != u32::MAX {
                rows[*next as usize] = row;
                *next += 1;
            }
        }
        for trace in &mut traces {
            let rows = &mut rows[trace.begin as usize..trace.end as usize];
            trace.as_expected = rows.is_sorted_by_key(|row| expected_key(builder, *row));
            rows.sort_by_key(|row| builder.spans.start[*row as usize]);
        }
        let mut order = Self {
            traces,
            rows,
            groups: Vec::new(),
            arrivals: HashMap::new(),
        };
        order.groups = order.cut(most_of_group, &weights(builder));
        // Once for each trace: to sort a trace of a million spans for each of its pieces takes seconds.
        for piece in order.groups.iter().flatten() {
            if piece.is_piece() && !order.arrivals.contains_key(&piece.trace) {
                let arrivals =
                    arrivals(&order.rows[piece.whole.0 as usize..piece.whole.1 as usize]);
                order.arrivals.insert(piece.trace, arrivals);
            }
        }
        order
    }

    /// Appends for each span of a piece of a trace the place that it has in the order of arrival of
    /// the whole trace.
    pub(super) fn put_ranks(&self, piece: &TraceRows, ranks: &mut Vec<u32>) {
        let offset = (piece.begin - piece.whole.0) as usize;
        match self.arrivals.get(&piece.trace) {
            Some(arrivals) => ranks.extend_from_slice(&arrivals[offset..offset + piece.len()]),
            None => {
                let whole = &self.rows[piece.whole.0 as usize..piece.whole.1 as usize];
                ranks.extend(arrivals(whole));
            }
        }
    }

    /// The traces as the groups have them, in this order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &TraceRows> {
        self.groups.iter().flatten()
    }

    /// Cuts the traces into groups that are not larger; a trace that is larger is cut as well.
    fn cut(&self, most: Most, weights: &[u32]) -> Vec<Vec<TraceRows>> {
        let weight = |at: u32| match weights.is_empty() {
            true => 0,
            false => weights[self.rows[at as usize] as usize] as usize,
        };
        let mut groups = Vec::new();
        let mut group: Vec<TraceRows> = Vec::new();
        let (mut spans, mut bytes) = (0, 0);
        for &trace in &self.traces {
            let mut rest = trace;
            let mut rest_bytes = match weights.is_empty() {
                true => 0,
                false => (trace.begin..trace.end).map(weight).sum::<usize>(),
            };
            let is_larger = spans + rest.len() > most.spans || bytes + rest_bytes > most.bytes;
            if is_larger && !group.is_empty() {
                groups.push(std::mem::take(&mut group));
                (spans, bytes) = (0, 0);
            }
            while rest.len() > most.spans || rest_bytes > most.bytes {
                let (mut cut, mut cut_bytes) = (rest.begin, 0);
                while cut < rest.end
                    && ((cut - rest.begin) as usize) < most.spans
                    && (cut == rest.begin || cut_bytes + weight(cut) <= most.bytes)
                {
                    cut_bytes += weight(cut);
                    cut += 1;
                }
                if cut == rest.end {
                    break;
                }
                groups.push(vec![TraceRows { end: cut, ..rest }]);
                rest.begin = cut;
                rest_bytes -= cut_bytes;
            }
            spans += rest.len();
            bytes += rest_bytes;
            group.push(rest);
        }
        if !group.is_empty() {
            groups.push(group);
        }
        groups
    }
}

/// For each row of a trace its place in the order of arrival.
fn arrivals(rows: &[u32]) -> Vec<u32> {
    let mut by_arrival: Vec<u32> = (0..rows.len() as u32).collect();
    by_arrival.sort_unstable_by_key(|at| rows[*at as usize]);
    let mut arrivals = vec![0; rows.len()];
    for (arrival, at) in (0..).zip(by_arrival) {
        arrivals[at as usize] = arrival;
    }
    arrivals
}
