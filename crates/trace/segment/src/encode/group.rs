use super::order::TraceRows;
use super::parents::Parents;
use super::{Encoder, Writer, children};
use crate::build::Trace;
use crate::build::spans::{HAS_PARENT, Sparse};
use crate::bytes::zigzag;
use crate::codec::words::Word;
use crate::layout::Core;
use crate::trace_filter::TraceFilter;
use crate::zone::Zone;

/// What the footer says about a row group.
pub(crate) struct GroupHead {
    pub(crate) spans: u32,
    pub(crate) traces: u32,
    pub(crate) events: u32,
    pub(crate) links: u32,
    /// The start of the group's first trace and of its last one.
    pub(crate) trace_starts: (u64, u64),
    /// The least and the most start of its spans.
    pub(crate) starts: (u64, u64),
    pub(crate) offset: u64,
    /// The lengths of its chunks: the core columns, then the attribute columns that are used.
    pub(crate) lengths: Vec<u32>,
    pub(crate) zone: Zone,
    pub(crate) texts: Vec<(u32, TraceFilter<'static>)>,
}

impl Encoder<'_> {
    /// Writes the spans of these traces, which lie one behind the other in the order.
    pub(super) fn put_group(&mut self, traces: &[TraceRows]) {
        let (Some(first), Some(last)) = (traces.first(), traces.last()) else {
            return;
        };
        let rows = &self.order.rows[first.begin as usize..last.end as usize];
        let events: Vec<u32> = children::of_rows(&self.first_event, rows).collect();
        let links: Vec<u32> = children::of_rows(&self.first_link, rows).collect();
        let start_of = |trace: &TraceRows| self.builder.traces.get(trace.trace as usize).start;
        let starts = || {
            rows.iter()
                .map(|row| self.builder.spans.start[*row as usize])
        };
        let spans = &self.builder.spans;
        let zone = Zone::of(rows.iter().map(|row| *row as usize).map(|row| {
            let duration = spans.end[row].saturating_sub(spans.start[row]);
            (duration, spans.kind_status[row] & !HAS_PARENT)
        }));
        let mut head = GroupHead {
            spans: rows.len() as u32,
            traces: traces.len() as u32,
            events: events.len() as u32,
            links: links.len() as u32,
            trace_starts: (start_of(first), start_of(last)),
            starts: (
                starts().min().unwrap_or_default(),
                starts().max().unwrap_or_default(),
            ),
            offset: self.writer.out.file.len() as u64,
            lengths: Vec::new(),
            zone,
            texts: Vec::new(),
        };
        self.put_traces(traces);
        self.put_rows(traces, rows);
        self.put_events(&events);
        self.put_links(&links);
        let mut first = 0;
        for (table, rows) in self.tables.iter_mut().zip([rows, &events, &links]) {
            table.put_columns(rows, &mut self.writer.out);
            table.filters(first, &mut head.texts);
            first += table.used();
        }
        head.lengths = self.writer.out.take_lengths();
        self.writer.groups.push(head);
    }

    fn put_traces(&mut self, traces: &[TraceRows]) {
        let (builder, order) = (self.builder, self.order);
        let mut ids = Vec::with_capacity(traces.len() * 16);
        let mut steps = Vec::with_capacity(traces.len());
        let mut before = None;
        let mut unexpected = Vec::with_capacity(traces.len());
        let mut ranks = Vec::new();
        for trace in traces {
            let Trace { id, start, .. } = *builder.traces.get(trace.trace as usize);
            ids.extend_from_slice(&id.to_bytes());
            steps.push(start - before.unwrap_or(start));
            before = Some(start);
            let expected = trace.is_as_expected();
            unexpected.push(u8::from(!expected));
            if !expected {
                order.put_ranks(trace, &mut ranks);
            }
        }
        let lengths: Vec<u32> = traces.iter().map(|trace| trace.len() as u32).collect();
        self.writer.out.raw(Core::TraceId, &ids);
        self.writer.out.numbers(Core::TraceStart, &steps);
        self.writer.out.numbers(Core::TraceSpans, &lengths);
        self.writer.out.numbers(Core::Arrival, &unexpected);
        self.writer.out.numbers(Core::Rank, &ranks);
    }

    fn put_rows(&mut self, traces: &[TraceRows], rows: &[u32]) {
        let Self {
            builder,
            order,
            writer: Writer { out, .. },
            dictionaries,
            ..
        } = self;
        let spans = &builder.spans;
        let mut ids = Vec::with_capacity(rows.len() * 8);
        let mut parents = Parents::default();
        let mut offsets = Vec::with_capacity(rows.len());
        for row in rows {
            ids.extend_from_slice(&spans.id[*row as usize].to_be_bytes());
        }
        for trace in traces {
            let rows = &order.rows[trace.begin as usize..trace.end as usize];
            parents.add_trace(builder, rows);
            let start = builder.traces.get(trace.trace as usize).start;
            let offset = |row: &u32| spans.start[*row as usize].wrapping_sub(start);
            offsets.extend(rows.iter().map(offset));
        }
        let duration = |row: usize| spans.end[row].wrapping_sub(spans.start[row]);
        out.raw(Core::SpanId, &ids);
        out.numbers(Core::Parent, &parents.near);
        out.numbers(Core::FarParent, &parents.far);
        out.raw(Core::RawParent, &parents.elsewhere);
        out.numbers(Core::Start, &offsets);
        out.numbers(Core::Duration, &mapped(rows, duration));
        let kind_status = |row: usize| spans.kind_status[row] & !HAS_PARENT;
        out.numbers(Core::KindStatus, &mapped(rows, kind_status));
        let name = |row: usize| dictionaries.names.of(spans.name[row]);
        out.numbers(Core::Name, &mapped(rows, name));
        let resource = |row: usize| dictionaries.resources.of(spans.resource[row]);
        out.numbers(Core::Resource, &mapped(rows, resource));
        let scope = |row: usize| dictionaries.scopes.of(spans.scope[row]);
        out.numbers(Core::Scope, &mapped(rows, scope));
        out.numbers(Core::Flags, &mapped(rows, |row| spans.flags[row]));
        let state = |state| dictionaries.trace_states.of(state);
        out.numbers(Core::TraceState, &sparse(rows, &spans.trace_state, state));
        let message = |message| dictionaries.messages.of(message);
        out.numbers(Core::Message, &sparse(rows, &spans.message, message));
        let same = |count| count;
        let dropped = sparse(rows, &spans.dropped_attributes, same);
        out.numbers(Core::DroppedAttributes, &dropped);
        let dropped = sparse(rows, &spans.dropped_events, same);
        out.numbers(Core::DroppedEvents, &dropped);
        let dropped = sparse(rows, &spans.dropped_links, same);
        out.numbers(Core::DroppedLinks, &dropped);
        let shape = |row: usize| self.tables[0].shape(row);
        out.numbers(Core::Shape, &mapped(rows, shape));
        let events = |row: usize| children::count(&self.first_event, row);
        out.numbers(Core::Events, &mapped(rows, events));
        let links = |row: usize| children::count(&self.first_link, row);
        out.numbers(Core::Links, &mapped(rows, links));
    }

    fn put_events(&mut self, rows: &[u32]) {
        let events = &self.builder.events;
        let spans = &self.builder.spans;
        let since = |row: usize| {
            let start = spans.start[events.owner[row] as usize];
            zigzag(events.time[row].wrapping_sub(start) as i64)
        };
        let out = &mut self.writer.out;
        out.numbers(Core::EventTime, &mapped(rows, since));
        let name = |row: usize| self.dictionaries.event_names.of(events.name[row]);
        out.numbers(Core::EventName, &mapped(rows, name));
        out.numbers(Core::EventDropped, &mapped(rows, |row| events.dropped[row]));
        let shape = |row: usize| self.tables[1].shape(row);
        out.numbers(Core::EventShape, &mapped(rows, shape));
    }

    fn put_links(&mut self, rows: &[u32]) {
        let links = &self.builder.links;
        let mut trace_ids = Vec::with_capacity(rows.len() * 16);
        let mut span_ids = Vec::with_capacity(rows.len() * 8);
        for row in rows {
            trace_ids.extend_from_slice(&links.trace_id[*row as usize].to_be_bytes());
            span_ids.extend_from_slice(&links.span_id[*row as usize].to_be_bytes());
        }
        let out = &mut self.writer.out;
        out.raw(Core::LinkTrace, &trace_ids);
        out.raw(Core::LinkSpan, &span_ids);
        let state = |row: usize| self.dictionaries.trace_states.of(links.trace_state[row]);
        out.numbers(Core::LinkState, &mapped(rows, state));
        out.numbers(Core::LinkFlags, &mapped(rows, |row| links.flags[row]));
        out.numbers(Core::LinkDropped, &mapped(rows, |row| links.dropped[row]));
        let shape = |row: usize| self.tables[2].shape(row);
        out.numbers(Core::LinkShape, &mapped(rows, shape));
    }
}

fn mapped<T: Word>(rows: &[u32], value: impl Fn(usize) -> T) -> Vec<T> {
    rows.iter().map(|row| value(*row as usize)).collect()
}

/// The values of a column that is empty for most builders.
fn sparse(rows: &[u32], column: &Sparse, value: impl Fn(u32) -> u32) -> Vec<u32> {
    let (Some(&first), Some(&last)) = (rows.iter().min(), rows.iter().max()) else {
        return Vec::new();
    };
    if column.0.is_empty() {
        return Vec::new();
    }
    // The rows of a group lie close together: to look each of them up would take longer.
    let first = first as usize;
    let range = first..last as usize + 1;
    let mut values = vec![0; range.len()];
    for (row, value) in column.within(&range) {
        values[*row as usize - first] = *value;
    }
    mapped(rows, |row| value(values[row - first]))
}
