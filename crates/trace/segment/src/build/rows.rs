//! A builder's rows back into spans.

use periplus_model::{
    Attribute, Event, Link, Span, SpanGroup, SpanId, SpanKind, Status, StatusCode, TraceId, Value,
};

use super::children::owned_by;
use super::spans::NONE;
use super::table::Table;
use super::{Builder, Column, Entry, Values};
use crate::schema::Type;
use crate::value::{read_attributes, read_value};

impl Builder {
    /// The spans of a trace: in the order of arrival, neighbours of one resource and scope in one
    /// group. `None` if it has none.
    pub fn trace(&self, id: TraceId) -> Option<Vec<SpanGroup>> {
        let trace = self.trace_number(id)?;
        let mut rows = Vec::with_capacity(self.traces.spans[trace] as usize);
        let mut row = self.traces.last[trace];
        while row != NONE {
            rows.push(row as usize);
            row = self.spans.before[row as usize];
        }
        let mut groups: Vec<SpanGroup> = Vec::new();
        let mut last = None;
        for row in rows.into_iter().rev() {
            let key = (self.spans.resource[row], self.spans.scope[row]);
            match groups.last_mut() {
                Some(group) if last == Some(key) => group.spans.push(self.span(row)),
                _ => {
                    let mut group = self.empty_group(row);
                    group.spans.push(self.span(row));
                    groups.push(group);
                    last = Some(key);
                }
            }
        }
        Some(groups)
    }

    /// The start of the earliest span that it has of a trace; zero if it has spans but knows no
    /// start, `None` if it has none.
    pub fn trace_start(&self, id: TraceId) -> Option<u64> {
        Some(self.traces.start[self.trace_number(id)?])
    }

    fn trace_number(&self, id: TraceId) -> Option<usize> {
        match self.trace_ids.find(&id.to_bytes()) {
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
