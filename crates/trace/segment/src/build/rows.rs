//! A builder's rows back into spans.

use std::ops::Range;
use std::sync::Arc;

use periplus_model::{
    Attribute, Event, Link, Span, SpanGroup, SpanId, SpanKind, Status, StatusCode, TraceId, Value,
};

use super::children::owned_by;
use super::spans::NONE;
use super::table::Table;
use super::{Builder, Column, Entry, Values};
use crate::hash::hash_trace;
use crate::schema::Type;
use crate::value::{read_attributes, read_value};

impl Builder {
    /// The spans of a trace: in the order of arrival, neighbours of one resource and scope in one
    /// group. `None` if it has none.
    pub fn trace(&self, id: TraceId) -> Option<Vec<SpanGroup>> {
        let trace = self.trace_number(id)?;
        let mut rows = Vec::with_capacity(self.traces.get(trace).spans as usize);
        self.rows_of_trace(trace, self.span_count(), &mut rows);
        let mut groups = Vec::new();
        self.read_rows(&rows, &mut groups);
        Some(groups)
    }

    /// Adds the first spans of these rows, which are in the order of arrival, to the groups of those
    /// before them.
    pub fn read_rows(&self, rows: &[u32], groups: &mut Vec<SpanGroup>) {
        for row in rows.iter().map(|row| *row as usize) {
            let resource = &self.resources.decoded[self.spans.resource[row] as usize];
            let scope = &self.scopes.decoded[self.spans.scope[row] as usize];
            match groups.last_mut() {
                Some(group)
                    if Arc::ptr_eq(&group.resource, resource)
                        && Arc::ptr_eq(&group.scope, scope) =>
                {
                    group.spans.push(self.span(row));
                }
                _ => {
                    let mut group = self.empty_group(row);
                    group.spans.push(self.span(row));
                    groups.push(group);
                }
            }
        }
    }

    /// Appends the rows of a trace that are among the first `rows`, in the order of arrival.
    pub(crate) fn rows_of_trace(&self, trace: usize, rows: usize, to: &mut Vec<u32>) {
        let first = to.len();
        let mut row = self.traces.get(trace).last;
        while row != NONE {
            if (row as usize) < rows {
                to.push(row);
            }
            row = self.spans.before[row as usize];
        }
        to[first..].reverse();
    }

    /// The newest row of a trace that is among the first `rows`, if it has any.
    pub fn last_row(&self, id: TraceId, rows: usize) -> Option<u32> {
        let mut row = self.traces.get(self.trace_number(id)?).last;
        while row != NONE && row as usize >= rows {
            row = self.spans.before[row as usize];
        }
        (row != NONE).then_some(row)
    }

    /// Appends this row and those of the same trace before it, the newest first, up to so many;
    /// returns the one to go on with.
    pub fn rows_before(&self, mut row: u32, most: usize, to: &mut Vec<u32>) -> Option<u32> {
        for _ in 0..most {
            to.push(row);
            row = self.spans.before[row as usize];
            if row == NONE {
                return None;
            }
        }
        Some(row)
    }

    /// The start and the id of a trace, by its number.
    pub fn trace_at(&self, trace: usize) -> (u64, TraceId) {
        let trace = self.traces.get(trace);
        (trace.start, trace.id)
    }

    /// The least and the most start of the spans in these rows.
    pub fn starts(&self, rows: Range<usize>) -> Option<(u64, u64)> {
        let starts = &self.spans.start[rows];
        Some((*starts.iter().min()?, *starts.iter().max()?))
    }

    /// Appends for each of these traces the upper half of its id's hash, and its number below that:
    /// what a segment's index knows of its pieces.
    pub fn trace_hashes(&self, traces: Range<usize>, to: &mut Vec<u64>) {
        to.extend(traces.map(|trace| {
            let hash = hash_trace(self.trace_id(trace).as_u128());
            hash & 0xffff_ffff_0000_0000 | trace as u64
        }));
    }

    /// The start of the earliest span that it has of a trace; zero if it has spans but knows no
    /// start, `None` if it has none.
    pub fn trace_start(&self, id: TraceId) -> Option<u64> {
        Some(self.traces.get(self.trace_number(id)?).start)
    }

    /// The number of a trace, if it has spans of it.
    pub fn trace_number(&self, id: TraceId) -> Option<usize> {
        match self.traces.find(id) {
            Entry::Known(trace) => Some(trace as usize),
            Entry::Vacant(_) => None,
        }
    }

    /// The resource and the scope of a row, without spans.
    pub(crate) fn empty_group(&self, row: usize) -> SpanGroup {
        let resource = &self.resources.decoded[self.spans.resource[row] as usize];
        let scope = &self.scopes.decoded[self.spans.scope[row] as usize];
        SpanGroup {
            resource: resource.clone(),
            scope: scope.clone(),
            spans: Vec::new(),
        }
    }

    pub(crate) fn span(&self, row: usize) -> Span {
        let spans = &self.spans;
        let number = row as u32;
        let state = spans.trace_state.get(number);
        let message = spans.message.get(number);
        let parent = SpanId::from_u64(spans.parent[row]);
        let events = owned_by(&self.events.owner, number);
        let links = owned_by(&self.links.owner, number);
        Span {
            trace_id: self.trace_id(spans.trace[row] as usize),
            span_id: SpanId::from_u64(spans.id[row]),
            parent_span_id: spans.has_parent(row).then_some(parent),
            trace_state: self.trace_states.text(state).to_owned(),
            flags: spans.flags[row],
            name: self.names.text(spans.name[row]).to_owned(),
            kind: SpanKind::from_number(i32::from(spans.kind_status[row] & 0xf)),
            start_unix_nano: spans.start[row],
            end_unix_nano: spans.end[row],
            attributes: self.attributes.attributes(row),
            dropped_attributes_count: spans.dropped_attributes.get(number),
            events: events.map(|event| self.event(event)).collect(),
            dropped_events_count: spans.dropped_events.get(number),
            links: links.map(|link| self.link(link)).collect(),
            dropped_links_count: spans.dropped_links.get(number),
            status: Status {
                code: StatusCode::from_number(i32::from(spans.kind_status[row] >> 4 & 3)),
                message: self.messages.text(message).to_owned(),
            },
        }
    }

    fn event(&self, row: usize) -> Event {
        let events = &self.events;
        Event {
            time_unix_nano: events.time[row],
            name: events.names.text(events.name[row]).to_owned(),
            attributes: events.attributes.attributes(row),
            dropped_attributes_count: events.dropped[row],
        }
    }

    fn link(&self, row: usize) -> Link {
        let links = &self.links;
        Link {
            trace_id: TraceId::from_bytes(links.trace_id[row].to_be_bytes()),
            span_id: SpanId::from_u64(links.span_id[row]),
            trace_state: self.trace_states.text(links.trace_state[row]).to_owned(),
            flags: links.flags[row],
            attributes: links.attributes.attributes(row),
            dropped_attributes_count: links.dropped[row],
        }
    }
}

impl Table {
    pub(crate) fn attributes(&self, row: usize) -> Vec<Attribute> {
        let mut attributes = Vec::new();
        for (column, slot) in self.cells(row as u32) {
            let column = &self.columns[column as usize];
            if column.ty == Type::Residual {
                attributes.extend(column.list(slot));
            } else {
                attributes.push(Attribute {
                    key: self.keys.text(column.key).to_owned(),
                    value: column.value(slot),
                });
            }
        }
        attributes
    }
}

impl Column {
    /// The text at this place, if this is a column of texts.
    pub(crate) fn text(&self, slot: u32) -> Option<&str> {
        match self.ty {
            Type::Text => str::from_utf8(self.bytes(slot)).ok(),
            _ => None,
        }
    }

    /// The attributes at this place, if this is the residual column.
    pub(crate) fn list(&self, slot: u32) -> Vec<Attribute> {
        read_attributes(self.bytes(slot)).unwrap_or_default()
    }

    fn bytes(&self, slot: u32) -> &[u8] {
        match &self.values {
            Values::Bytes(strings) => strings.get(slot),
            _ => &[],
        }
    }

    pub(crate) fn value(&self, slot: u32) -> Value {
        let text = |bytes| str::from_utf8(bytes).unwrap_or_default().to_owned();
        match (&self.values, self.ty) {
            (Values::Bools(bools), _) => Value::Bool(bools[slot as usize] != 0),
            (Values::Words(words), Type::Int) => Value::Int(words[slot as usize] as i64),
            (Values::Words(words), _) => Value::Double(f64::from_bits(words[slot as usize])),
            (Values::Bytes(strings), Type::Text) => Value::String(text(strings.get(slot))),
            (Values::Bytes(strings), Type::Bytes) => Value::Bytes(strings.get(slot).to_vec()),
            (Values::Bytes(strings), _) => read_value(strings.get(slot)).unwrap_or_default(),
            (Values::Nothing(_), _) => Value::Empty,
        }
    }
}
