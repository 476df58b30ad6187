//! How much spans take when they are read: row groups are cut by it.

use crate::build::{Builder, Interner, Strings, Table, Values};

/// Values from this size on are weighed. Of smaller ones a group has few enough by its number of spans.
pub(crate) const LARGE: usize = 1_024;

/// For each row of a builder the bytes of its large values; empty if there are none.
pub(super) fn weights(builder: &Builder) -> Vec<u32> {
    let mut weights = Weights {
        rows: builder.span_count(),
        bytes: Vec::new(),
    };
    let spans = &builder.spans;
    weights.add_table(&builder.attributes, |row| row as u32);
    weights.add_table(&builder.events.attributes, |row| builder.events.owner[row]);
    weights.add_table(&builder.links.attributes, |row| builder.links.owner[row]);
    weights.add_texts(&builder.names, (0..).zip(spans.name.iter().copied()));
    let events = &builder.events;
    let names = events
        .owner
        .iter()
        .copied()
        .zip(events.name.iter().copied());
    weights.add_texts(&events.names, names);
    weights.add_texts(&builder.messages, spans.message.0.iter().copied());
    weights.add_texts(&builder.trace_states, spans.trace_state.0.iter().copied());
    let links = &builder.links;
    let states = (links.owner.iter().copied()).zip(links.trace_state.iter().copied());
    weights.add_texts(&builder.trace_states, states);
    weights.bytes
}

struct Weights {
    rows: usize,
    bytes: Vec<u32>,
}

impl Weights {
    fn add(&mut self, row: u32, bytes: usize) {
        if bytes >= LARGE {
            self.bytes.resize(self.rows, 0);
            let weight = &mut self.bytes[row as usize];
            *weight = weight.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
    }

    fn add_texts(&mut self, texts: &Interner, codes: impl Iterator<Item = (u32, u32)>) {
        if has_large(texts) {
            for (row, code) in codes {
                self.add(row, texts.get(code).len());
            }
        }
    }

    fn add_table(&mut self, table: &Table, owner: impl Fn(usize) -> u32) {
        let columns: Vec<Option<&Strings>> = (table.columns.iter())
            .map(|column| match &column.values {
                Values::Bytes(strings) if is_large(strings) => Some(strings),
                _ => None,
            })
            .collect();
        if columns.iter().all(Option::is_none) {
            return;
        }
        for row in 0..table.rows() {
            for (column, slot) in table.cells(row as u32) {
                if let Some(strings) = columns[column as usize] {
                    self.add(owner(row), strings.get(slot).len());
                }
            }
        }
    }
}

fn has_large(texts: &Interner) -> bool {
    (0..texts.len() as u32).any(|code| texts.get(code).len() >= LARGE)
}

fn is_large(strings: &Strings) -> bool {
    match strings {
        Strings::Dictionary { words, .. } => has_large(words),
        Strings::Plain { ends, .. } => {
            let mut lengths = ends.windows(2).map(|ends| (ends[1] - ends[0]) as usize);
            lengths.any(|length| length >= LARGE)
        }
    }
}
