//! The columns of attributes: gathered in the order of the rows.

use super::codes::{Codes, Used};
use super::output::Output;
use crate::build::{Column, Strings, Table, Values};
use crate::bytes::{put_bytes, put_varint};
use crate::codec::Squeeze;
use crate::codec::chunk::Chunk;
use crate::codec::strings::Strings as Plain;
use crate::codec::words::put_words;
use crate::hash::{hash_text, hash_texts};
use crate::schema::Type;
use crate::trace_filter::TraceFilter;

/// How the columns of a table are written.
pub(super) struct Columns<'b> {
    table: &'b Table,
    plans: Vec<Plan>,
    /// New numbers of the shapes, in the order of their first use; [`UNUSED`] if there is none.
    shapes: Vec<u32>,
    used_shapes: Vec<u32>,
    /// New numbers of the columns that are used.
    numbers: Vec<u32>,
    /// Scratch: for each column the places of the group's values.
    slots: Vec<Vec<u32>>,
    plain: Plain,
}

const UNUSED: u32 = u32::MAX;

/// So that one of about 150 texts that are not there is taken for one that is.
pub(crate) const BITS_PER_TEXT: usize = 12;

/// How one column is written.
enum Plan {
    /// No value is used.
    Unused,
    /// Its values say nothing.
    Nothing,
    Numbers,
    Dictionary(Codes),
    Plain,
}

impl Plan {
    const fn is_used(&self) -> bool {
        !matches!(self, Self::Unused)
    }
}

impl<'b> Columns<'b> {
    /// For these rows of a table; all of them, if they are not given.
    pub(super) fn new(table: &'b Table, rows: Option<&[u32]>) -> Self {
        let mut this = Self {
            table,
            plans: Vec::new(),
            shapes: vec![UNUSED; table.shapes.len()],
            used_shapes: Vec::new(),
            numbers: Vec::new(),
            slots: vec![Vec::new(); table.columns.len()],
            plain: Plain::default(),
        };
        match rows {
            Some(rows) => {
                for &row in rows {
                    this.use_shape(table.shape[row as usize]);
                }
            }
            None => {
                for &shape in &table.shape {
                    this.use_shape(shape);
                }
            }
        }
        let mut values = this.values(rows);
        let plans = table.columns.iter().zip(&mut values);
        this.plans = plans.map(|(column, values)| values.plan(column)).collect();
        let mut next = 0;
        this.numbers = (this.plans.iter())
            .map(|plan| {
                let number = next;
                next += u32::from(plan.is_used());
                number
            })
            .collect();
        this
    }

    fn use_shape(&mut self, shape: u32) {
        let new = &mut self.shapes[shape as usize];
        if *new == UNUSED {
            *new = self.used_shapes.len() as u32;
            self.used_shapes.push(shape);
        }
    }

    /// How many values of each column are used, and which strings.
    fn values(&self, rows: Option<&[u32]>) -> Vec<UsedValues> {
        let columns = self.table.columns.iter();
        let Some(rows) = rows else {
            let all = |column: &Column| UsedValues {
                count: column.values.len(),
                strings: match &column.values {
                    Values::Bytes(Strings::Dictionary { words, .. }) => Some(Used::all(words)),
                    _ => None,
                },
            };
            return columns.map(all).collect();
        };
        let none = |column: &Column| UsedValues {
            count: 0,
            strings: match &column.values {
                Values::Bytes(Strings::Dictionary { words, .. }) => Some(Used::none(words)),
                _ => None,
            },
        };
        let mut values: Vec<UsedValues> = columns.map(none).collect();
        for &row in rows {
            for (column, slot) in self.table.cells(row) {
                let values = &mut values[column as usize];
                values.count += 1;
                if let (Some(used), Values::Bytes(Strings::Dictionary { codes, .. })) = (
                    &mut values.strings,
                    &self.table.columns[column as usize].values,
                ) {
                    used.mark(codes[slot as usize]);
                }
            }
        }
        values
    }

    /// The new number of a row's shape.
    #[inline]
    pub(super) fn shape(&self, row: usize) -> u32 {
        self.shapes[self.table.shape[row] as usize]
    }

    /// Writes the values of these rows, column by column.
    pub(super) fn put_columns(&mut self, rows: &[u32], out: &mut Output) {
        for slots in &mut self.slots {
            slots.clear();
        }
        self.table.fetch(rows);
        for row in rows {
            for (column, slot) in self.table.cells(*row) {
                self.slots[column as usize].push(slot);
            }
        }
        for column in 0..self.plans.len() {
            if self.plans[column].is_used() {
                out.column(|payload, squeeze| self.put_column(column, payload, squeeze));
            }
        }
    }

    /// How many columns are used.
    pub(super) fn used(&self) -> u32 {
        self.plans.iter().filter(|plan| plan.is_used()).count() as u32
    }

    /// For the columns that have texts one after the other, and some of the rows that were written
    /// last: the column's number, and which texts there are.
    pub(super) fn filters(&self, first: u32, to: &mut Vec<(u32, TraceFilter<'static>)>) {
        let columns = self.table.columns.iter().zip(&self.plans).enumerate();
        for (number, (column, plan)) in columns {
            let slots = &self.slots[number];
            let (Plan::Plain, Values::Bytes(strings)) = (plan, &column.values) else {
                continue;
            };
            if slots.is_empty() || column.ty != Type::Text {
                continue;
            }
            let mut filter = TraceFilter::with_bits(slots.len() * BITS_PER_TEXT);
            let (fours, rest) = slots.as_chunks::<4>();
            for four in fours {
                for hash in hash_texts(four.map(|slot| strings.get(slot))) {
                    filter.insert(hash);
                }
            }
            for slot in rest {
                filter.insert(hash_text(strings.get(*slot)));
            }
            to.push((first + self.numbers[number], filter));
        }
    }

    /// Writes the gathered values of a column; nothing if there are none.
    fn put_column(&mut self, column: usize, out: &mut Vec<u8>, squeeze: &mut Squeeze) {
        let slots = &self.slots[column];
        if slots.is_empty() {
            return;
        }
        match (&self.plans[column], &self.table.columns[column].values) {
            (Plan::Numbers, Values::Bools(bools)) => {
                let values: Vec<u8> = slots.iter().map(|slot| bools[*slot as usize]).collect();
                put_words(out, squeeze, &values);
            }
            (Plan::Numbers, Values::Words(words)) => {
                let flip = flip_of(self.table.columns[column].ty);
                let value = |slot: &u32| words[*slot as usize] ^ flip;
                put_words(out, squeeze, &slots.iter().map(value).collect::<Vec<_>>());
            }
            (Plan::Dictionary(codes), Values::Bytes(Strings::Dictionary { codes: old, .. })) => {
                let value = |slot: &u32| codes.of(old[*slot as usize]);
                put_words(out, squeeze, &slots.iter().map(value).collect::<Vec<_>>());
            }
            (Plan::Plain, Values::Bytes(strings)) => {
                self.plain.clear();
                for slot in slots {
                    self.plain.push(strings.get(*slot));
                }
                self.plain.put(out, squeeze);
            }
            (_, _) => {}
        }
    }

    /// Writes the dictionaries of the columns to the file, and appends what the columns and the
    /// shapes are.
    pub(super) fn put_schema(&self, out: &mut Vec<u8>, file: &mut Vec<u8>, squeeze: &mut Squeeze) {
        let used = self.plans.iter().filter(|plan| plan.is_used());
        put_varint(out, used.count() as u64);
        for (column, plan) in self.table.columns.iter().zip(&self.plans) {
            if !plan.is_used() {
                continue;
            }
            put_bytes(out, self.table.keys.get(column.key));
            out.push(column.ty as u8);
            let chunk = match (plan, &column.values) {
                (Plan::Dictionary(codes), Values::Bytes(Strings::Dictionary { words, .. })) => {
                    codes.put(file, squeeze, words)
                }
                (_, _) => Chunk::default(),
            };
            put_varint(out, u64::from(chunk.length));
            if chunk.length > 0 {
                put_varint(out, chunk.offset);
            }
        }
        self.put_shapes(out);
    }

    /// Appends the shapes, each as the numbers of its columns.
    fn put_shapes(&self, out: &mut Vec<u8>) {
        put_varint(out, self.used_shapes.len() as u64);
        for &shape in &self.used_shapes {
            let entries = &self.table.shapes[shape as usize].entries;
            put_varint(out, entries.len() as u64);
            for entry in entries {
                put_varint(out, u64::from(self.numbers[entry.column as usize]));
            }
        }
    }
}

/// Integers are written with the sign flipped, so that the least one is the smallest number.
pub(crate) const fn flip_of(ty: Type) -> u64 {
    match ty {
        Type::Int => 1 << 63,
        _ => 0,
    }
}

struct UsedValues {
    count: usize,
    strings: Option<Used>,
}

impl UsedValues {
    fn plan(&mut self, column: &Column) -> Plan {
        if self.count == 0 {
            return Plan::Unused;
        }
        match &column.values {
            Values::Nothing(_) => Plan::Nothing,
            Values::Bools(_) | Values::Words(_) => Plan::Numbers,
            Values::Bytes(Strings::Plain { .. }) => Plan::Plain,
            Values::Bytes(Strings::Dictionary { words, .. }) => {
                let used = self.strings.take().unwrap_or_else(|| Used::all(words));
                // A dictionary of strings of which most are used once would only cost.
                if used.count() * 2 > self.count {
                    return Plan::Plain;
                }
                Plan::Dictionary(Codes::sorted(words, &used))
            }
        }
    }
}
