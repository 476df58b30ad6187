//! Calls: the sums of the inputs, mended for the traces that lie in several of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use periplus_filter::Detail;
use periplus_model::{
    Attribute, Resource, Scope, Span, SpanGroup, SpanId, SpanKind, Status, StatusCode, TraceId,
};

use super::Merger;
use super::error::MergeError;
use super::mixed_rows::Row;
use super::pieces::Piece;
use crate::build::Builder;
use crate::calls::Collector;
use crate::facts::TOLD_BY;
use crate::read::Rows;
use crate::schema::Place;
use crate::{CallEdge, Calls, ReadError, Segment};

/// So many spans are looked at together.
const SPANS_AT_ONCE: usize = 4_096;

/// Calls with a sign.
#[derive(Default)]
pub(super) struct Mended {
    sums: BTreeMap<(u64, String, String), (i64, i64)>,
    /// The traces that lie in several inputs, and those of them that are not counted.
    mixed: HashSet<TraceId>,
    unsettled: HashSet<TraceId>,
    /// Spans that were not looked at yet, as far as calls go by them, and for each trace where the
    /// spans of each input end.
    builder: Builder,
    ends: Vec<Vec<u32>>,
}

impl Merger<'_> {
    /// Notes a trace that lies in several inputs.
    pub(super) fn note_calls(&mut self, pieces: &[Piece], rows: &[Row]) -> Result<(), MergeError> {
        let mut by_arrival: Vec<&Row> = rows.iter().collect();
        by_arrival.sort_by_key(|row| row.arrival);
        let mut ends = Vec::new();
        let mut groups: Vec<(u32, SpanGroup)> = Vec::new();
        let mut spans = self.spans_of(pieces, rows)?;
        for (at, row) in by_arrival.iter().enumerate() {
            let input = pieces[row.piece as usize].input;
            let next = by_arrival.get(at + 1);
            if next.is_none_or(|next| pieces[next.piece as usize].input != input) {
                ends.push(at as u32 + 1);
            }
            let place = (row.piece, row.row);
            let span = spans.remove(&place).unwrap_or_default();
            match groups.last_mut() {
                Some((resource, group)) if *resource == row.resource => group.spans.push(span),
                _ => groups.push((row.resource, self.group_with(row.resource, span))),
            }
        }
        let mended = &mut self.mended;
        mended.mixed.insert(pieces[0].id);
        let first = mended.builder.span_count() as u32;
        mended
            .ends
            .push(ends.into_iter().map(|end| first + end).collect());
        let groups = groups.iter().map(|(_, group)| group);
        let appended = mended.builder.append_groups(groups);
        appended.map_err(|_| MergeError::TooLarge)?;
        if mended.builder.span_count() >= SPANS_AT_ONCE {
            mended.settle();
        }
        Ok(())
    }

    /// The spans of rows, as far as calls go by them.
    fn spans_of(
        &mut self,
        pieces: &[Piece],
        rows: &[Row],
    ) -> Result<HashMap<(u32, u32), Span>, MergeError> {
        let mut spans = HashMap::with_capacity(rows.len());
        for of_piece in rows.chunk_by(|a, b| a.piece == b.piece) {
            let piece = &pieces[of_piece[0].piece as usize];
            let source = self.source(piece)?;
            let values = source.values(Place::Span, piece.trace as usize).to_vec();
            let first = of_piece[0].row as usize;
            let mut attributes = Rows::at(&source.group, Place::Span, first, values);
            for row in of_piece {
                let attributes = attributes.read(Detail::Outline(&TOLD_BY));
                let attributes = attributes.map_err(MergeError::of(piece.input as usize))?;
                let span = Span {
                    trace_id: piece.id,
                    span_id: SpanId::from_u64(row.id),
                    parent_span_id: row.parent.map(SpanId::from_u64),
                    kind: SpanKind::from_number(i32::from(row.kind_status & 0xf)),
                    start_unix_nano: row.start,
                    end_unix_nano: row.end,
                    attributes,
                    status: Status {
                        code: StatusCode::from_number(i32::from(row.kind_status >> 4)),
                        message: String::new(),
                    },
                    ..Span::default()
                };
                spans.insert((row.piece, row.row), span);
            }
        }
        Ok(spans)
    }

    fn group_with(&self, resource: u32, span: Span) -> SpanGroup {
        let service = self.words.services[resource as usize].as_str();
        SpanGroup {
            resource: Arc::new(Resource {
                attributes: vec![Attribute::new("service.name", service)],
                ..Resource::default()
            }),
            scope: Scope::default().into(),
            spans: vec![span],
        }
    }

    /// The calls of the new segment, of which these are the pieces in their order.
    pub(super) fn calls(
        &mut self,
        inputs: &[Segment],
        pieces: &[Piece],
    ) -> Result<Calls, MergeError> {
        let mut mended = std::mem::take(&mut self.mended);
        mended.settle();
        for (number, input) in inputs.iter().enumerate() {
            let added = mended.add_input(input);
            added.map_err(MergeError::of(number))?;
        }
        Ok(mended.finish(pieces))
    }
}

impl Mended {
    /// Looks at the spans that were not looked at yet.
    fn settle(&mut self) {
        let builder = std::mem::take(&mut self.builder);
        let (mut before, mut after) = (Collector::new(&builder), Collector::new(&builder));
        let mut begin = 0;
        let mut rows = Vec::new();
        for ends in std::mem::take(&mut self.ends) {
            let Some(&last) = ends.last() else { continue };
            let trace = builder.spans.trace[begin as usize];
            let mut add = |collector: &mut Collector<'_>, begin: u32, end: u32| {
                rows.clear();
                rows.extend(begin..end);
                rows.sort_by_key(|row| builder.spans.start[*row as usize]);
                collector.add(trace, &rows);
            };
            add(&mut after, begin, last);
            for end in ends {
                add(&mut before, begin, end);
                begin = end;
            }
        }
        self.add(&before.finish().edges, -1);
        let after = after.finish();
        self.add(&after.edges, 1);
        self.unsettled.extend(after.unsettled);
    }

    fn add_input(&mut self, input: &Segment) -> Result<(), ReadError> {
        let calls = input.undecoded().calls()?;
        self.add(&calls.edges, 1);
        let unsettled = calls.unsettled.iter().copied();
        let mixed = &self.mixed;
        (self.unsettled).extend(unsettled.filter(|id| !mixed.contains(id)));
        Ok(())
    }

    fn add(&mut self, edges: &[CallEdge], sign: i64) {
        for edge in edges {
            let key = (
                edge.start_unix_nano,
                edge.parent.clone(),
                edge.child.clone(),
            );
            let sum = self.sums.entry(key).or_default();
            let signed = |count: u64| sign * i64::try_from(count).unwrap_or(i64::MAX);
            sum.0 = sum.0.saturating_add(signed(edge.calls));
            sum.1 = sum.1.saturating_add(signed(edge.errors));
        }
    }

    fn finish(self, pieces: &[Piece]) -> Calls {
        let count = |sum: i64| u64::try_from(sum).unwrap_or_default();
        let edges = self.sums.into_iter().filter(|(_, sum)| *sum != (0, 0));
        let edges = edges.map(
            |((start_unix_nano, parent, child), (calls, errors))| CallEdge {
                start_unix_nano,
                parent,
                child,
                calls: count(calls),
                errors: count(errors),
            },
        );
        let mut unsettled = pieces.iter().map(|piece| piece.id).collect::<Vec<_>>();
        unsettled.dedup();
        unsettled.retain(|id| self.unsettled.contains(id));
        Calls {
            edges: edges.collect(),
            unsettled,
        }
    }
}
