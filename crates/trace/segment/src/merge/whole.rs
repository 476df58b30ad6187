//! Traces that one input has, as it has them: their rows need no new order.

use super::columns::Of;
use super::error::MergeError;
use super::pieces::Piece;
use super::source::Source;
use super::{Merger, Words};
use crate::ReadError;
use crate::bytes::unzigzag;
use crate::encode::parents::{ELSEWHERE, FAR, MAX_NEAR, ROOT, ZERO};
use crate::layout::Core;
use crate::read::{Group, at_or_zero};
use crate::schema::Place;

impl Merger<'_> {
    /// Adds a trace, or a piece of one, as a row group of an input has it.
    pub(super) fn add_as_it_is(&mut self, piece: &Piece) -> Result<(), MergeError> {
        let input = piece.input as usize;
        let source = self.source(piece)?;
        let trace = piece.trace as usize;
        let number = self.plan.source(&source);
        self.plan.add_trace(number, trace, &self.tables);
        let added = self.add_trace_columns(&source, piece);
        added.map_err(MergeError::of(input))
    }

    fn add_trace_columns(&mut self, source: &Source, piece: &Piece) -> Result<(), ReadError> {
        let trace = piece.trace as usize;
        let (begin, end) = source.rows(Place::Span, &(trace..trace + 1));
        let rows = begin as usize..end as usize;
        self.add_parents(source, trace, &rows)?;
        let ranks = ranks(source.of(), trace, &self.words)?;
        let plan = &mut self.plan;
        plan.traces.add(piece, rows.len(), ranks);
        let offsets = source.group.numbers(Core::Start)?;
        for row in rows {
            let offset = at_or_zero(offsets, row);
            plan.offsets.push(offset);
            plan.starts.push(piece.start.wrapping_add(offset));
            plan.bytes += at_or_zero(&source.weights, row) as usize;
        }
        Ok(())
    }

    /// The parents as they are: they lie in the same piece.
    fn add_parents(
        &mut self,
        source: &Source,
        trace: usize,
        rows: &std::ops::Range<usize>,
    ) -> Result<(), ReadError> {
        let group = &source.group;
        let wrong = || group.damaged(Core::Parent, "one of them makes no sense");
        let near = group.codes(Core::Parent)?;
        let (mut far, mut elsewhere) = (Vec::new(), 0);
        let (first_far, first_elsewhere) = source.parents(trace);
        let distances = group.numbers(Core::FarParent)?;
        let parents = &mut self.plan.parents;
        let first = parents.near.len();
        for (at, row) in rows.clone().enumerate() {
            let near = u8::try_from(at_or_zero(near, row)).map_err(|_| wrong())?;
            match near {
                ROOT | ZERO => {}
                FAR => far.push(at_or_zero(distances, first_far as usize + far.len())),
                ELSEWHERE => elsewhere += 1,
                up if up <= MAX_NEAR && usize::from(up) <= at => {}
                _ => return Err(wrong()),
            }
            parents.near.push(near);
        }
        let mut distances = (far.iter()).zip(
            (0_i64..)
                .zip(&parents.near[first..])
                .filter_map(|(at, near)| (*near == FAR).then_some(at)),
        );
        let lies_here = |(distance, at): (&u64, i64)| {
            let parent = at.checked_sub(unzigzag(*distance));
            parent.is_some_and(|parent| (0..rows.len() as i64).contains(&parent))
        };
        if !distances.all(lies_here) {
            return Err(wrong());
        }
        parents.far.append(&mut far);
        if elsewhere == 0 {
            return Ok(());
        }
        let ids = group.raw(Core::RawParent)?;
        let begin = first_elsewhere as usize * 8;
        let ids = ids.get(begin..begin + elsewhere * 8).ok_or_else(wrong)?;
        parents.elsewhere.extend_from_slice(ids);
        Ok(())
    }
}

impl super::plan::Traces {
    /// Adds a trace or a piece of one; with ranks, if the order of arrival is not the expected one.
    pub(super) fn add(&mut self, piece: &Piece, spans: usize, ranks: Option<Vec<u32>>) {
        self.ids.push(piece.id);
        self.starts.push(piece.start);
        self.lengths.push(spans as u32);
        self.unexpected.push(u8::from(ranks.is_some()));
        self.ranks.extend(ranks.unwrap_or_default());
    }
}

/// What tells the order of arrival where nothing else does.
pub(super) type ArrivalKey = (u32, u32, u64, u64);

/// For each row of a trace that came in the expected order, what its place in it goes by: with the
/// codes of the input.
pub(super) fn arrival_keys(group: &Group, trace: usize) -> Result<Vec<ArrivalKey>, ReadError> {
    let traces = group.trace_table()?;
    let (begin, end) = (traces.rows[trace], traces.rows[trace + 1]);
    let start = traces.starts[trace];
    let resources = group.codes(Core::Resource)?;
    let scopes = group.codes(Core::Scope)?;
    let offsets = group.numbers(Core::Start)?;
    let durations = group.numbers(Core::Duration)?;
    let key = |row: usize| {
        let start = start.wrapping_add(at_or_zero(offsets, row));
        let end = start.wrapping_add(at_or_zero(durations, row));
        (
            at_or_zero(resources, row),
            at_or_zero(scopes, row),
            end,
            start,
        )
    };
    Ok((begin as usize..end as usize).map(key).collect())
}

/// The rows of a trace in the order of arrival.
pub(super) fn by_arrival(keys: &[ArrivalKey]) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..keys.len() as u32).collect();
    rows.sort_by_key(|row| keys[*row as usize]);
    rows
}

/// For each of the rows, which came in this order, its place in it.
pub(super) fn ranks_of(by_arrival: &[u32]) -> Vec<u32> {
    let mut ranks = vec![0; by_arrival.len()];
    for (rank, row) in (0..).zip(by_arrival) {
        ranks[*row as usize] = rank;
    }
    ranks
}

/// The places of a trace's rows in the order of arrival, if that is not the expected one with the new
/// codes of resources and scopes.
pub(super) fn ranks(
    of: Of<'_>,
    trace: usize,
    words: &Words,
) -> Result<Option<Vec<u32>>, ReadError> {
    let traces = of.group.trace_table()?;
    if let Some(first) = traces.ranks[trace] {
        let ranks = of.group.codes(Core::Rank)?;
        let rank = |at| at_or_zero(ranks, (first + at) as usize);
        let rows = traces.rows[trace + 1] - traces.rows[trace];
        return Ok(Some((0..rows).map(rank).collect()));
    }
    if words.keeps_order[of.input] {
        return Ok(None);
    }
    let keys = arrival_keys(of.group, trace)?;
    let by_arrival = by_arrival(&keys);
    let resources = words.resources.codes_of(of.input);
    let scopes = words.scopes.codes_of(of.input);
    let new = |row: &u32| {
        let (resource, scope, end, start) = keys[*row as usize];
        let resource = at_or_zero(resources, resource as usize);
        (resource, at_or_zero(scopes, scope as usize), end, start)
    };
    let expected = by_arrival.is_sorted_by_key(new);
    Ok((!expected).then(|| ranks_of(&by_arrival)))
}
