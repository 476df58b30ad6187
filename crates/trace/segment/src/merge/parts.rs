//! Which row groups are taken as they are.

use std::ops::Range;

use super::pieces::Piece;
use crate::Segment;
use crate::limits::MAX_GROUP_SPANS;

/// Some of the pieces, one behind the other.
pub(super) enum Part {
    /// Those of a row group, which stays one.
    Group(Range<usize>),
    /// Those of whole traces, for which row groups are made of so many spans at most.
    Traces(Range<usize>, usize),
}

/// Divides the pieces: where those of a row group lie together, and no trace of it lies elsewhere, it
/// is taken as it is, if it is about as large as one should be.
pub(super) fn parts(inputs: &[Segment], pieces: &[Piece], most: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while at < pieces.len() {
        let Some(end) = end_of_group(inputs, pieces, at, most) else {
            at += 1;
            continue;
        };
        add_traces(&mut parts, pieces, begin..at, most);
        parts.push(Part::Group(at..end));
        (begin, at) = (end, end);
    }
    add_traces(&mut parts, pieces, begin..at, most);
    parts
}

/// A row group that is a little larger saves a very small one behind it.
const fn with_rest(most: usize) -> usize {
    let more = most + most / 4;
    if more < MAX_GROUP_SPANS {
        more
    } else {
        MAX_GROUP_SPANS
    }
}

/// Where the pieces of a row group end that begin here, if it can be taken as it is.
fn end_of_group(inputs: &[Segment], pieces: &[Piece], at: usize, most: usize) -> Option<usize> {
    let first = &pieces[at];
    if first.trace > 0 || at > 0 && pieces[at - 1].id == first.id {
        return None;
    }
    let head = inputs[first.input as usize]
        .inner
        .head(first.group as usize);
    let spans = head.spans as usize;
    let end = at + head.traces as usize;
    let of_group = pieces.get(at..end)?;
    let is_next = |(number, piece): (u32, &Piece)| {
        (piece.input, piece.group, piece.trace) == (first.input, first.group, number)
    };
    let fits = spans >= most.div_ceil(2) && spans <= with_rest(most);
    let goes_on = match (of_group.last(), pieces.get(end)) {
        (Some(last), Some(next)) => last.id == next.id,
        _ => false,
    };
    (fits && !goes_on && (0..).zip(of_group).all(is_next)).then_some(end)
}

fn add_traces(parts: &mut Vec<Part>, pieces: &[Piece], range: Range<usize>, most: usize) {
    if range.is_empty() {
        return;
    }
    let spans: usize = (pieces[range.clone()].iter())
        .map(|piece| piece.spans as usize)
        .sum();
    let groups = spans.div_ceil(with_rest(most));
    // Groups are cut between traces: with a little more there is no rest.
    let of_group = spans.div_ceil(groups) + most / 16;
    parts.push(Part::Traces(range, of_group.min(with_rest(most))));
}
