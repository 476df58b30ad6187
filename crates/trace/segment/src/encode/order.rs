use crate::build::Builder;

/// The order in which spans are written: by the trace's start, the trace, the span's start, the
/// order of arrival.
pub(super) struct Order {
    pub(super) traces: Vec<TraceRows>,
    /// The builder's rows, in the order in which they are written.
    pub(super) rows: Vec<u32>,
    /// The traces of each row group, of which large ones may be in pieces.
    pub(super) groups: Vec<Vec<TraceRows>>,
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
        self.as_expected && self.whole == (self.begin, self.end)
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
    /// Of these traces of a builder, in groups of this many spans.
    pub(super) fn of(builder: &Builder, mut chosen: Vec<u32>, most_of_group: usize) -> Self {
        let start = &builder.traces.start;
        let key = |trace: u32| (start[trace as usize], builder.trace_ids.get(trace));
        chosen.sort_unstable_by(|a, b| key(*a).cmp(&key(*b)));
        let mut traces = Vec::with_capacity(chosen.len());
        let mut next = vec![u32::MAX; builder.trace_count()];
        let mut end = 0;
        for trace in chosen {
            let begin = end;
            end += builder.traces.spans[trace as usize];
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
        };
        order.groups = order.cut(most_of_group);
        order
    }

    /// Appends for each span of a piece of a trace the place that it has in the order of arrival of
    /// the whole trace.
    pub(super) fn put_ranks(&self, piece: &TraceRows, ranks: &mut Vec<u32>) {
        let whole = &self.rows[piece.whole.0 as usize..piece.whole.1 as usize];
        let mut arrivals: Vec<u32> = (0..whole.len() as u32).collect();
        arrivals.sort_unstable_by_key(|at| whole[*at as usize]);
        let first = ranks.len();
        ranks.resize(first + piece.len(), 0);
        let offset = piece.begin - piece.whole.0;
        for (rank, at) in (0..).zip(arrivals) {
            if let Some(at) = at.checked_sub(offset)
                && (at as usize) < piece.len()
            {
                ranks[first + at as usize] = rank;
            }
        }
    }

    /// The traces as the groups have them, in this order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &TraceRows> {
        self.groups.iter().flatten()
    }

    /// Cuts the traces into groups of at most this many spans; a trace with more is cut as well.
    fn cut(&self, most: usize) -> Vec<Vec<TraceRows>> {
        let mut groups = Vec::new();
        let mut group: Vec<TraceRows> = Vec::new();
        let mut spans = 0;
        for &trace in &self.traces {
            if spans + trace.len() > most && !group.is_empty() {
                groups.push(std::mem::take(&mut group));
                spans = 0;
            }
            let mut rest = trace;
            while rest.len() > most {
                let cut = rest.begin + most as u32;
                groups.push(vec![TraceRows { end: cut, ..rest }]);
                rest.begin = cut;
            }
            spans += rest.len();
            group.push(rest);
        }
        if !group.is_empty() {
            groups.push(group);
        }
        groups
    }
}
