//! Where the traces of all inputs lie, in the order in which they are written.

use periplus_model::TraceId;

use super::error::MergeError;
use crate::build::spans::earlier;
use crate::{ReadError, Segment};

/// What a row group of an input has of a trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) id: TraceId,
    /// The start of the whole trace.
    pub(super) start: u64,
    pub(super) input: u32,
    pub(super) group: u32,
    /// The trace's number in the group.
    pub(super) trace: u32,
    pub(super) spans: u32,
}

/// All pieces: those of a trace follow each other, in the order in which their spans came.
pub(super) fn pieces(inputs: &[Segment]) -> Result<Vec<Piece>, MergeError> {
    let mut pieces = Vec::new();
    for (number, input) in inputs.iter().enumerate() {
        list(number, input, &mut pieces).map_err(MergeError::of(number))?;
    }
    let place = |piece: &Piece| (piece.input, piece.group, piece.trace);
    pieces.sort_unstable_by_key(|piece| (piece.id, place(piece)));
    for trace in pieces.chunk_by_mut(|a, b| a.id == b.id) {
        let starts = trace.iter().map(|piece| piece.start);
        let start = starts.fold(0, earlier);
        trace.iter_mut().for_each(|piece| piece.start = start);
    }
    pieces.sort_unstable_by_key(|piece| (piece.start, piece.id, place(piece)));
    Ok(pieces)
}

fn list(number: usize, input: &Segment, pieces: &mut Vec<Piece>) -> Result<(), ReadError> {
    for group_number in 0..input.group_count() {
        let group = input.group(group_number);
        let traces = group.trace_table()?;
        for (trace, (id, start)) in traces.ids.iter().zip(&traces.starts).enumerate() {
            let spans = traces.rows[trace + 1] - traces.rows[trace];
            if spans > 0 {
                pieces.push(Piece {
                    id: *id,
                    start: *start,
                    input: number as u32,
                    group: group_number as u32,
                    trace: trace as u32,
                    spans,
                });
            }
        }
    }
    Ok(())
}
