//! From a builder to the bytes of a segment.

mod attributes;
mod children;
mod codes;
mod dictionaries;
mod footer;
mod group;
mod index;
mod order;
mod output;
pub(crate) mod parents;
pub(crate) mod weight;
mod writer;

pub(crate) use attributes::{BITS_PER_TEXT, flip_of};
pub(crate) use group::GroupHead;
pub(crate) use output::Output;
pub(crate) use writer::Writer;

use std::collections::BTreeMap;

use crate::build::Builder;
use crate::hash::hash_trace;
use crate::limits::MAX_GROUP_SPANS;
use crate::{calls, red};
use attributes::Columns;
use dictionaries::Dictionaries;
use order::{Most, Order};

/// How a segment is written.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EncodeOptions {
    /// The most spans of a row group: what is decoded at once to read a trace.
    pub group_spans: usize,
    /// The most bytes of a row group's large values; a span with more is a group of its own.
    pub group_bytes: usize,
    /// The level of zstd.
    pub level: i32,
}

impl EncodeOptions {
    /// This many spans in a row group, [`MAX_GROUP_SPANS`] at most.
    #[must_use]
    pub fn with_group_spans(mut self, spans: usize) -> Self {
        self.group_spans = spans;
        self
    }

    /// This many bytes of large values in a row group.
    #[must_use]
    pub fn with_group_bytes(mut self, bytes: usize) -> Self {
        self.group_bytes = bytes;
        self
    }

    /// This level of zstd.
    #[must_use]
    pub fn with_level(mut self, level: i32) -> Self {
        self.level = level;
        self
    }
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self {
            group_spans: 4_096,
            group_bytes: 8 << 20,
            level: 1,
        }
    }
}

impl Builder {
    /// Writes all spans as a segment.
    pub fn encode(&self, options: &EncodeOptions) -> Vec<u8> {
        let traces = (0..self.trace_count() as u32).collect();
        self.encode_traces(options, traces)
    }

    /// Writes all spans as several segments: traces whose start gives the same key go to the same
    /// one. The start is that of the trace's earliest span here, zero if none is known. The segments
    /// come in the order of their keys.
    pub fn encode_by(
        &self,
        options: &EncodeOptions,
        key: impl Fn(u64) -> u64,
    ) -> Vec<(u64, Vec<u8>)> {
        let mut by_key: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (number, trace) in (0..).zip(self.traces.all()) {
            by_key.entry(key(trace.start)).or_default().push(number);
        }
        (by_key.into_iter())
            .map(|(key, traces)| (key, self.encode_traces(options, traces)))
            .collect()
    }

    fn encode_traces(&self, options: &EncodeOptions, traces: Vec<u32>) -> Vec<u8> {
        let group_spans = options.group_spans.clamp(1, MAX_GROUP_SPANS);
        let most = Most {
            spans: group_spans,
            bytes: options.group_bytes,
        };
        let order = Order::of(self, traces, most);
        let mut encoder = Encoder::new(self, options, &order);
        for traces in &order.groups {
            encoder.put_group(traces);
        }
        encoder.put_dictionaries();
        encoder.put_schema();
        encoder.put_index();
        encoder.put_red();
        encoder.put_calls();
        encoder.writer.put_zones();
        encoder.finish()
    }
}

/// A segment that is being written.
struct Encoder<'b> {
    builder: &'b Builder,
    order: &'b Order,
    writer: Writer,
    dictionaries: Dictionaries,
    /// Of spans, events and links.
    tables: [Columns<'b>; 3],
    /// Where the events and the links of each of the builder's rows begin; empty if there are none.
    first_event: Vec<u32>,
    first_link: Vec<u32>,
}

impl<'b> Encoder<'b> {
    fn new(builder: &'b Builder, options: &EncodeOptions, order: &'b Order) -> Self {
        let all = order.rows.len() == builder.span_count();
        let rows = (!all).then_some(&order.rows[..]);
        let first_event = children::firsts(&builder.events.owner, builder.span_count());
        let first_link = children::firsts(&builder.links.owner, builder.span_count());
        let of_rows = |firsts: &[u32]| -> Option<Vec<u32>> {
            rows.map(|rows| children::of_rows(firsts, rows).collect())
        };
        let events = of_rows(&first_event);
        let links = of_rows(&first_link);
        let tables = [
            Columns::new(&builder.attributes, rows),
            Columns::new(&builder.events.attributes, events.as_deref()),
            Columns::new(&builder.links.attributes, links.as_deref()),
        ];
        Self {
            builder,
            order,
            writer: Writer::new(options.level),
            dictionaries: Dictionaries::new(builder, rows, events.as_deref(), links.as_deref()),
            tables,
            first_event,
            first_link,
        }
    }

    fn put_dictionaries(&mut self) {
        let Writer { out, sections, .. } = &mut self.writer;
        for (section, codes, strings) in self.dictionaries.sections(self.builder) {
            sections[section as usize] = codes.put(&mut out.file, &mut out.squeeze, strings);
        }
    }

    /// Writes the dictionaries of the attribute columns, and what the columns and the shapes of
    /// spans, events and links are.
    fn put_schema(&mut self) {
        let Output { file, squeeze, .. } = &mut self.writer.out;
        let mut schema = Vec::new();
        for table in &self.tables {
            table.put_schema(&mut schema, file, squeeze);
        }
        self.writer.put_schema(&schema);
    }

    /// Writes where each trace lies.
    fn put_index(&mut self) {
        let hashes = self
            .order
            .pieces()
            .map(|piece| hash_trace(self.builder.trace_id(piece.trace as usize).as_u128()));
        let hashes: Vec<u64> = hashes.collect();
        self.writer.put_index(&hashes);
    }

    fn put_red(&mut self) {
        let mut collector = red::Collector::new(self.builder);
        collector.add(self.order.rows.iter().copied());
        self.writer.put_red(&collector.finish());
    }

    fn put_calls(&mut self) {
        let mut collector = calls::Collector::new(self.builder);
        for trace in &self.order.traces {
            let rows = &self.order.rows[trace.begin as usize..trace.end as usize];
            collector.add(trace.trace, rows);
        }
        self.writer.put_calls(&collector.finish());
    }

    fn finish(self) -> Vec<u8> {
        let ends = &self.builder.spans.end;
        let ends = self.order.rows.iter().map(|row| ends[*row as usize]);
        let last_end = ends.max().unwrap_or_default();
        self.writer.finish(self.order.traces.len() as u64, last_end)
    }
}
