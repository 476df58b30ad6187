//! The rows of a trace that lies in several row groups.

use std::sync::Arc;

use super::Words;
use super::pieces::Piece;
use super::source::Source;
use super::whole::{arrival_keys, by_arrival, ranks_of};
use crate::ReadError;
use crate::bytes::unzigzag;
use crate::encode::parents::{ELSEWHERE, FAR, ROOT, ZERO};
use crate::layout::Core;
use crate::read::at_or_zero;
use crate::schema::Place;

/// A span of such a trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) start: u64,
    pub(super) end: u64,
    /// The new codes.
    pub(super) resource: u32,
    pub(super) scope: u32,
    /// Its place in the order of arrival of the whole trace.
    pub(super) arrival: u32,
    /// The number of the piece, and the row in the piece's row group.
    pub(super) piece: u32,
    pub(super) row: u32,
    pub(super) weight: u32,
    pub(super) kind_status: u8,
}

/// Adds the rows of a piece, with its number and whether it is the only one of its input. So many
/// spans of the trace came before the input's.
pub(super) fn read_rows(
    source: &Arc<Source>,
    (piece, number, is_only): (&Piece, usize, bool),
    first: u32,
    to: &mut Vec<Row>,
    words: &Words,
) -> Result<(), ReadError> {
    let trace = piece.trace as usize;
    let group = &source.group;
    let (begin, end) = source.rows(Place::Span, &(trace..trace + 1));
    let rows = begin as usize..end as usize;
    let parents = parents(source, trace)?;
    let keys = arrival_keys(&source.group, trace)?;
    let arrivals = arrivals(source, trace, is_only)?;
    let unknown = |core| move || group.damaged(core, "one of them is unknown");
    let (ids, _) = group.raw(Core::SpanId)?.as_chunks::<8>();
    let kind_status = group.codes(Core::KindStatus)?;
    let (resources, scopes) = (&words.resources, &words.scopes);
    let before = to.len();
    for (at, row) in rows.enumerate() {
        let (resource, scope, end, start) = keys[at];
        let resource = resources.codes_of(source.input).get(resource as usize);
        let scope = scopes.codes_of(source.input).get(scope as usize);
        to.push(Row {
            id: u64::from_be_bytes(at_or_zero(ids, row)),
            parent: parents[at],
            start,
            end,
            resource: *resource.ok_or_else(unknown(Core::Resource))?,
            scope: *scope.ok_or_else(unknown(Core::Scope))?,
            arrival: arrivals[at].saturating_add(first),
            piece: number as u32,
            row: row as u32,
            weight: at_or_zero(&source.weights, row),
            kind_status: at_or_zero(kind_status, row) as u8,
        });
    }
    match to[before..].is_sorted_by_key(|row| (row.start, row.arrival)) {
        true => Ok(()),
        false => Err(group.damaged(Core::Start, "they are in the wrong order")),
    }
}

/// The places of a piece's rows in the order of arrival of what the input has of the trace.
fn arrivals(source: &Source, trace: usize, is_only: bool) -> Result<Vec<u32>, ReadError> {
    let group = &source.group;
    let (begin, end) = source.rows(Place::Span, &(trace..trace + 1));
    match group.trace_table()?.ranks[trace] {
        Some(first) => {
            let ranks = group.codes(Core::Rank)?;
            let rank = |at: u32| at_or_zero(ranks, (first + at) as usize);
            Ok((0..end - begin).map(rank).collect())
        }
        None if is_only => Ok(ranks_of(&by_arrival(&arrival_keys(&source.group, trace)?))),
        None => Err(group.damaged(Core::Rank, "they are missing")),
    }
}

/// The id of each parent in a piece of a trace.
fn parents(source: &Source, trace: usize) -> Result<Vec<Option<u64>>, ReadError> {
    let group = &source.group;
    let wrong = || group.damaged(Core::Parent, "one of them makes no sense");
    let (begin, end) = source.rows(Place::Span, &(trace..trace + 1));
    let near = group.codes(Core::Parent)?;
    let distances = group.numbers(Core::FarParent)?;
    let (elsewhere, _) = group.raw(Core::RawParent)?.as_chunks::<8>();
    let (ids, _) = group.raw(Core::SpanId)?.as_chunks::<8>();
    let ids = ids.get(begin as usize..end as usize).ok_or_else(wrong)?;
    let (mut next_far, mut next_elsewhere) = source.parents(trace);
    let parent = |at: usize| {
        let near = u8::try_from(at_or_zero(near, begin as usize + at)).map_err(|_| wrong())?;
        let found = match near {
            ROOT => return Ok(None),
            ZERO => return Ok(Some(0)),
            ELSEWHERE => {
                next_elsewhere += 1;
                elsewhere.get(next_elsewhere as usize - 1)
            }
            FAR => {
                let distance = unzigzag(at_or_zero(distances, next_far as usize));
                next_far += 1;
                let found = (at as i64).checked_sub(distance);
                found.and_then(|found| ids.get(usize::try_from(found).ok()?))
            }
            up => at
                .checked_sub(usize::from(up))
                .and_then(|found| ids.get(found)),
        };
        match found {
            Some(id) => Ok(Some(u64::from_be_bytes(*id))),
            None => Err(wrong()),
        }
    };
    (0..ids.len()).map(parent).collect()
}
