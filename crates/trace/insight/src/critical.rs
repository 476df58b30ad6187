use crate::Trace;

/// A stretch of the critical path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The row that kept the request waiting.
    pub row: usize,
    /// From when, after adjustment.
    pub start_unix_nano: u64,
    /// Until when, after adjustment.
    pub end_unix_nano: u64,
}

/// The spans that made the trace as long as it is, each with the time in which it did.
///
/// Walks back from the end of [`Trace::root`]: the time after the child that finished last belongs
/// to the span itself, then the child is walked in the same way, and at its start the walk goes on
/// with the child that had finished last by then (Jaeger's algorithm). A child that outlives its
/// parent counts until the parent's end; a child that starts after it does not count.
///
/// The segments ascend, do not overlap, and cover the root's interval without a gap.
pub fn critical_path(trace: &Trace) -> Vec<Segment> {
    let Some(root) = trace.root else {
        return Vec::new();
    };
    let children = ChildrenByEnd::of(trace);
    let mut unvisited: Vec<usize> = children.first.clone();
    let mut backwards: Vec<Segment> = Vec::new();
    // The spans on the way from the root to the current one, each with the bounds inside which it
    // can be on the path: its own interval, cut to that of its parent.
    let mut way = vec![Frame {
        row: root,
        start: trace.rows[root].start_unix_nano,
        end: trace.rows[root].end_unix_nano(),
    }];
    let mut cursor = trace.rows[root].end_unix_nano();
    while let Some(&frame) = way.last() {
        let child = next_child(trace, &children, &mut unvisited[frame.row], frame, cursor);
        let until = child.map_or(frame.start, |child| child.end);
        push(&mut backwards, frame.row, until, cursor);
        cursor = until;
        match child {
            Some(child) => way.push(child),
            None => {
                way.pop();
            }
        }
    }
    backwards.reverse();
    backwards
}

#[derive(Clone, Copy)]
struct Frame {
    row: usize,
    start: u64,
    end: u64,
}

/// The last-finishing child that ends by the cursor. Since the cursor only ever moves back, a child
/// that was passed over once never comes into question again.
fn next_child(
    trace: &Trace,
    children: &ChildrenByEnd,
    unvisited: &mut usize,
    parent: Frame,
    cursor: u64,
) -> Option<Frame> {
    let last = children.first[parent.row + 1];
    while *unvisited < last {
        let row = children.rows[*unvisited];
        *unvisited += 1;
        let child = Frame {
            row,
            start: trace.rows[row].start_unix_nano.max(parent.start),
            end: trace.rows[row].end_unix_nano().min(parent.end),
        };
        if child.start < child.end && child.end <= cursor {
            return Some(child);
        }
    }
    None
}

fn push(backwards: &mut Vec<Segment>, row: usize, start: u64, end: u64) {
    if start >= end {
        return;
    }
    match backwards.last_mut() {
        Some(later) if later.row == row && later.start_unix_nano == end => {
            later.start_unix_nano = start;
        }
        _ => backwards.push(Segment {
            row,
            start_unix_nano: start,
            end_unix_nano: end,
        }),
    }
}

/// The children of each row, the last to finish first.
struct ChildrenByEnd {
    first: Vec<usize>,
    rows: Vec<usize>,
}

impl ChildrenByEnd {
    fn of(trace: &Trace) -> Self {
        let mut first = vec![0; trace.rows.len() + 1];
        for parent in trace.rows.iter().filter_map(|row| row.parent) {
            first[parent + 1] += 1;
        }
        for i in 1..first.len() {
            first[i] += first[i - 1];
        }
        let mut next = first.clone();
        let mut rows = vec![0; first[trace.rows.len()]];
        for (child, row) in trace.rows.iter().enumerate() {
            if let Some(parent) = row.parent {
                rows[next[parent]] = child;
                next[parent] += 1;
            }
        }
        for bounds in first.windows(2) {
            rows[bounds[0]..bounds[1]]
                .sort_by_key(|&child| std::cmp::Reverse(trace.rows[child].end_unix_nano()));
        }
        Self { first, rows }
    }
}
