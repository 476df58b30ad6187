//! Several segments become one, column by column: no span is made of its values on the way.
//!
//! First the dictionaries and the schemas are united; then the traces are written in their order, a
//! row group at a time. A row group of an input between whose traces no other one begins stays as it
//! is, but for codes that are new. Else, of a trace that one input has, the values are taken as they
//! lie there, and the rows of others are put into their order one by one.

mod calls;
mod columns;
mod copy;
mod error;
mod form;
mod mixed;
mod mixed_rows;
mod parts;
mod pieces;
mod plan;
mod source;
mod sources;
mod tables;
mod united;
mod weight;
mod whole;
mod words;
mod write;

use std::sync::Arc;

pub use error::MergeError;

use crate::encode::{EncodeOptions, Writer};
use crate::hash::hash_trace;
use crate::limits::MAX_GROUP_SPANS;
use crate::{ReadError, Red, Segment};
use calls::Mended;
use parts::{Part, parts};
use pieces::{Piece, pieces};
use plan::Plan;
use source::Source;
use sources::Sources;
use tables::Table;
use words::Words;

/// The attributes of spans, events and links.
type Tables = [Table; 3];

/// A row group ends when its values lie in so many bytes of the inputs' row groups.
const MAX_SOURCE_BYTES: usize = 32 << 20;

/// Puts the spans of segments, given in the order in which their spans came, into one. The spans of
/// each trace stay in that order. Asks now and then whether to stop.
///
/// # Errors
///
/// One of them cannot be read, or they cannot be merged this way.
pub fn merge(
    inputs: &[Segment],
    options: &EncodeOptions,
    stop: &dyn Fn() -> bool,
) -> Result<Vec<u8>, MergeError> {
    let pieces = pieces(inputs)?;
    let mut merger = Merger {
        inputs,
        words: Words::unite(inputs)?,
        tables: Table::unite_all(inputs)?,
        sources: Sources::new(inputs),
        writer: Writer::new(options.level),
        most: Most {
            spans: options.group_spans.clamp(1, MAX_GROUP_SPANS),
            bytes: options.group_bytes,
        },
        fill: 0,
        plan: Plan::default(),
        mended: Mended::default(),
        hashes: Vec::new(),
        stop,
    };
    merger.plan = Plan::new(&merger.tables);
    let bytes = inputs.iter().map(|input| input.info().bytes).sum::<u64>();
    (merger.writer.out.file).reserve(usize::try_from(bytes).unwrap_or_default());
    for part in parts(inputs, &pieces, merger.most.spans) {
        match part {
            Part::Group(range) => merger.add_group(&pieces[range])?,
            Part::Traces(range, spans) => merger.add_traces(&pieces[range], spans)?,
        }
    }
    merger.end_group()?;
    let traces = pieces.chunk_by(|a, b| a.id == b.id).count() as u64;
    merger.finish(inputs, &pieces, traces)
}

/// What a row group may have.
#[derive(Clone, Copy)]
struct Most {
    spans: usize,
    /// Of large values.
    bytes: usize,
}

struct Merger<'i> {
    inputs: &'i [Segment],
    words: Words,
    tables: Tables,
    sources: Sources<'i>,
    writer: Writer,
    most: Most,
    /// The most spans of the row groups that are made now.
    fill: usize,
    plan: Plan,
    mended: Mended,
    /// Of the traces that were written, piece by piece.
    hashes: Vec<u64>,
    stop: &'i dyn Fn() -> bool,
}

impl Merger<'_> {
    /// Adds a row group as it is, of which these are all pieces.
    fn add_group(&mut self, pieces: &[Piece]) -> Result<(), MergeError> {
        match self.copy_group(pieces)? {
            true => Ok(()),
            false => self.add_traces(pieces, self.most.spans),
        }
    }

    /// Adds traces, of which these are all pieces, to row groups of so many spans.
    fn add_traces(&mut self, pieces: &[Piece], spans: usize) -> Result<(), MergeError> {
        self.fill = spans;
        for trace in pieces.chunk_by(|a, b| a.id == b.id) {
            self.add(trace)?;
        }
        Ok(())
    }

    /// Adds a trace, of which these are all pieces.
    fn add(&mut self, pieces: &[Piece]) -> Result<(), MergeError> {
        let is_of_one = pieces.iter().all(|piece| piece.input == pieces[0].input);
        if !is_of_one || !self.all_fit(pieces)? {
            return self.add_mixed(pieces);
        }
        let Some((last, before)) = pieces.split_last() else {
            return Ok(());
        };
        match before {
            [] => {
                let bytes = self.weight(last)?;
                self.make_room(last.spans as usize, bytes)?;
            }
            // It was cut since it is larger than a row group.
            _ => self.end_group()?,
        }
        for piece in before {
            self.add_as_it_is(piece)?;
            self.end_group()?;
        }
        self.add_as_it_is(last)
    }

    /// Ends the row group, if it has no room for a trace with so many spans and bytes.
    fn make_room(&mut self, spans: usize, bytes: usize) -> Result<(), MergeError> {
        let plan = &self.plan;
        let is_larger = plan.span_count() + spans > self.fill
            || plan.bytes + bytes > self.most.bytes
            || plan.source_bytes > MAX_SOURCE_BYTES;
        match is_larger {
            true => self.end_group(),
            false => Ok(()),
        }
    }

    /// Whether each of the pieces may lie in one row group.
    fn all_fit(&mut self, pieces: &[Piece]) -> Result<bool, MergeError> {
        for piece in pieces {
            let spans = piece.spans as usize;
            if spans > self.most.spans || spans > 1 && self.weight(piece)? > self.most.bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The bytes of a piece's large values.
    fn weight(&mut self, piece: &Piece) -> Result<usize, MergeError> {
        let source = self.source(piece)?;
        let trace = piece.trace as usize;
        let (begin, end) = source.rows(crate::schema::Place::Span, &(trace..trace + 1));
        let weights = source.weights.get(begin as usize..end as usize);
        let weights = weights.unwrap_or_default().iter();
        Ok(weights.map(|weight| *weight as usize).sum())
    }

    /// The row group that a piece lies in.
    fn source(&mut self, piece: &Piece) -> Result<Arc<Source>, MergeError> {
        let (input, group) = (piece.input as usize, piece.group as usize);
        let shared = (&self.words, &self.tables);
        let source = self.sources.get((input, group), shared)?;
        match (piece.trace as usize) < source.trace_count() {
            true => Ok(source),
            false => Err(MergeError::of(input)(ReadError::damaged(
                "a row group",
                "it has changed",
            ))),
        }
    }

    /// Writes the row group that was put together, if there is something in it.
    fn end_group(&mut self) -> Result<(), MergeError> {
        if self.plan.is_empty() {
            return Ok(());
        }
        self.check_stop()?;
        self.plan.settle(&self.tables);
        let plan = std::mem::replace(&mut self.plan, Plan::new(&self.tables));
        let ids = plan.traces.ids.iter();
        self.hashes.extend(ids.map(|id| hash_trace(id.as_u128())));
        write::put_group(&plan, (&self.words, &self.tables), &mut self.writer)
    }

    fn check_stop(&self) -> Result<(), MergeError> {
        match (self.stop)() {
            true => Err(MergeError::Stopped),
            false => Ok(()),
        }
    }

    /// Writes what is there once.
    fn finish(
        mut self,
        inputs: &[Segment],
        pieces: &[Piece],
        traces: u64,
    ) -> Result<Vec<u8>, MergeError> {
        let calls = self.calls(inputs, pieces)?;
        let mut reds = Vec::new();
        for (number, input) in inputs.iter().enumerate() {
            reds.push(input.undecoded().red().map_err(MergeError::of(number))?);
        }
        let mut writer = self.writer;
        self.words.put(&mut writer);
        let mut schema = Vec::new();
        for table in &self.tables {
            table.put(&mut schema, &mut writer.out);
        }
        writer.put_schema(&schema);
        writer.put_index(&self.hashes);
        writer.put_red(&Red::sum(reds.iter().map(|red| &**red)));
        writer.put_calls(&calls);
        writer.put_zones();
        let ends = inputs.iter().map(|input| input.info().last_end_unix_nano);
        Ok(writer.finish(traces, ends.max().unwrap_or_default()))
    }
}
