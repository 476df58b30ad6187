//! Traces of which several row groups have spans: their rows get a new order.

use std::ops::Range;
use std::sync::Arc;

use super::error::MergeError;
use super::mixed_rows::{Row, read_rows};
use super::pieces::Piece;
use super::plan::{Plan, push};
use super::source::Source;
use super::{Merger, Tables};
use crate::ReadError;
use crate::layout::Core;
use crate::read::at_or_zero;
use crate::schema::Place;

/// The most row groups of one input that a trace may lie in to be put together anew.
const MAX_PIECES: usize = 16;
/// The most spans of such a trace.
const MAX_SPANS: u64 = 1 << 18;

/// Where the next row of a piece has its values.
struct Cursor {
    values: [Vec<u32>; 3],
    /// Its events and links.
    children: [u32; 2],
}

impl Cursor {
    fn new(source: &Source, trace: usize) -> Self {
        let traces = trace..trace + 1;
        Self {
            values: Place::ALL.map(|place| source.values(place, trace).to_vec()),
            children: [Place::Event, Place::Link].map(|place| source.rows(place, &traces).0),
        }
    }
}

impl Merger<'_> {
    /// Adds a trace of which these are all pieces.
    pub(super) fn add_mixed(&mut self, pieces: &[Piece]) -> Result<(), MergeError> {
        let spans: u64 = pieces.iter().map(|piece| u64::from(piece.spans)).sum();
        let mut of_inputs = pieces.chunk_by(|a, b| a.input == b.input);
        if spans > MAX_SPANS || of_inputs.any(|pieces| pieces.len() > MAX_PIECES) {
            return Err(MergeError::TooLarge);
        }
        let mut rows = Vec::with_capacity(spans as usize);
        for (number, piece) in pieces.iter().enumerate() {
            let source = self.source(piece)?;
            let first = pieces.iter().filter(|before| before.input < piece.input);
            let first: u32 = first.map(|before| before.spans).sum();
            let is_only = !pieces
                .iter()
                .enumerate()
                .any(|(other, it)| other != number && it.input == piece.input);
            let read = read_rows(
                &source,
                (piece, number, is_only),
                first,
                &mut rows,
                &self.words,
            );
            read.map_err(MergeError::of(piece.input as usize))?;
        }
        if pieces.iter().any(|piece| piece.input != pieces[0].input) {
            self.note_calls(pieces, &rows)?;
        }
        let ranks = unexpected(&rows);
        rows.sort_by_key(|row| (row.start, row.arrival));
        self.add_rows(pieces, &rows, ranks)
    }

    /// Adds the rows of a trace, cut where they are too many for a row group.
    fn add_rows(
        &mut self,
        pieces: &[Piece],
        rows: &[Row],
        is_unexpected: bool,
    ) -> Result<(), MergeError> {
        let mut cursors: Vec<Option<Cursor>> = pieces.iter().map(|_| None).collect();
        let mut bytes: usize = rows.iter().map(|row| row.weight as usize).sum();
        self.make_room(rows.len(), bytes)?;
        let most = self.most;
        let mut begin = 0;
        while rows.len() - begin > most.spans || bytes > most.bytes {
            let (mut cut, mut cut_bytes) = (begin, 0);
            while cut < rows.len()
                && cut - begin < most.spans
                && (cut == begin || cut_bytes + rows[cut].weight as usize <= most.bytes)
            {
                cut_bytes += rows[cut].weight as usize;
                cut += 1;
            }
            if cut == rows.len() {
                break;
            }
            self.add_piece(pieces, &rows[begin..cut], &mut cursors, true)?;
            self.end_group()?;
            begin = cut;
            bytes -= cut_bytes;
        }
        let with_ranks = is_unexpected || begin > 0;
        self.add_piece(pieces, &rows[begin..], &mut cursors, with_ranks)
    }

    fn add_piece(
        &mut self,
        pieces: &[Piece],
        rows: &[Row],
        cursors: &mut [Option<Cursor>],
        with_ranks: bool,
    ) -> Result<(), MergeError> {
        self.plan.settle(&self.tables);
        for of_piece in rows.chunk_by(|a, b| a.piece == b.piece) {
            let number = of_piece[0].piece as usize;
            let piece = &pieces[number];
            let source = self.source(piece)?;
            let trace = piece.trace as usize;
            let cursor = cursors[number].get_or_insert_with(|| Cursor::new(&source, trace));
            let added = add_values(&mut self.plan, &source, (of_piece, cursor), &self.tables);
            added.map_err(MergeError::of(piece.input as usize))?;
        }
        let plan = &mut self.plan;
        plan.parents
            .add(rows.iter().map(|row| (row.id, row.parent)));
        let ranks = || rows.iter().map(|row| row.arrival).collect();
        plan.traces
            .add(&pieces[0], rows.len(), with_ranks.then(ranks));
        for row in rows {
            plan.starts.push(row.start);
            plan.offsets.push(row.start.wrapping_sub(pieces[0].start));
            plan.bytes += row.weight as usize;
        }
        Ok(())
    }
}

/// Adds rows of one piece, which lie in it in this order, to the columns.
fn add_values(
    plan: &mut Plan,
    source: &Arc<Source>,
    (rows, cursor): (&[Row], &mut Cursor),
    tables: &Tables,
) -> Result<(), ReadError> {
    let number = plan.source(source);
    for row in rows {
        add_row(
            plan,
            (source, number),
            (Place::Span, row.row),
            cursor,
            tables,
        )?;
        let counts = [Core::Events, Core::Links];
        for (child, place) in [Place::Event, Place::Link].into_iter().enumerate() {
            let count = at_or_zero(source.group.codes(counts[child])?, row.row as usize);
            let begin = cursor.children[child];
            for at in begin..begin + count {
                add_row(plan, (source, number), (place, at), cursor, tables)?;
            }
            cursor.children[child] += count;
        }
    }
    Ok(())
}

/// Adds one row of a table.
fn add_row(
    plan: &mut Plan,
    (source, number): (&Source, u32),
    (place, row): (Place, u32),
    cursor: &mut Cursor,
    tables: &Tables,
) -> Result<(), ReadError> {
    let single = |at: u32| -> Range<u32> { at..at + 1 };
    push(&mut plan.rows[place as usize], number, single(row));
    let new = &tables[place as usize].column_of[source.input];
    let next = &mut cursor.values[place as usize];
    for column in source.shape(place, row as usize)? {
        let column = *column as usize;
        let runs = &mut plan.values[place as usize][new[column] as usize];
        push(runs, number, single(next[column]));
        next[column] += 1;
    }
    Ok(())
}

/// Whether the spans came in another order than the expected one.
fn unexpected(rows: &[Row]) -> bool {
    let mut by_arrival: Vec<&Row> = rows.iter().collect();
    by_arrival.sort_by_key(|row| row.arrival);
    !by_arrival.is_sorted_by_key(|row| (row.resource, row.scope, row.end, row.start))
}
