//! "Attribute columns".

use periplus_model::{Attribute, Value};

use super::encodings::{In, chunk, text};
use super::file::{Column, File, Group};

/// The values of one attribute column.
pub(super) enum Values {
    Words(Vec<u64>),
    Strings(Vec<Vec<u8>>),
    Empty,
}

impl File<'_> {
    /// The attribute lists of rows with these shapes, of spans (0), events or links.
    pub(super) fn attributes(
        &self,
        group: &Group,
        table: usize,
        shapes: &[u64],
    ) -> Vec<Vec<Attribute>> {
        let before = self.tables[..table].iter().map(|it| it.columns.len());
        let first = 34 + before.sum::<usize>();
        let table = &self.tables[table];
        let shapes = || shapes.iter().map(|shape| &table.shapes[*shape as usize]);
        let mut counts = vec![0; table.columns.len()];
        for column in shapes().flatten() {
            counts[*column] += 1;
        }
        let values: Vec<Values> = (table.columns.iter().enumerate())
            .map(|(at, column)| self.values(group, first + at, column, counts[at]))
            .collect();
        let mut next = vec![0; table.columns.len()];
        let list = |shape: &Vec<usize>| {
            let mut list = Vec::new();
            for column in shape {
                let at = next[*column];
                next[*column] += 1;
                put_value(&table.columns[*column], &values[*column], at, &mut list);
            }
            list
        };
        shapes().map(list).collect()
    }

    /// The n values of a column, by its number among all chunks.
    pub(super) fn values(&self, group: &Group, number: usize, column: &Column, n: usize) -> Values {
        match (column.ty, &column.dictionary) {
            (0, _) => Values::Empty,
            (2..=4, None) => Values::Words(self.words(group, number, n)),
            (_, Some(dictionary)) => {
                let numbers = self.words(group, number, n).into_iter();
                Values::Strings(numbers.map(|at| dictionary[at as usize].clone()).collect())
            }
            (_, None) if n == 0 => Values::Strings(Vec::new()),
            (_, None) => {
                let mut payload = In(chunk(self.bytes, group.chunks[number]));
                let strings = payload.strings(n);
                payload.end();
                Values::Strings(strings)
            }
        }
    }
}

/// Appends what a value of a column stands for.
fn put_value(column: &Column, values: &Values, at: usize, to: &mut Vec<Attribute>) {
    let value = match (column.ty, values) {
        (0, Values::Empty) => Value::Empty,
        (1, Values::Strings(texts)) => Value::String(text(&texts[at])),
        (2, Values::Words(words)) => Value::Bool(words[at] == 1),
        (3, Values::Words(words)) => Value::Int((words[at] ^ 1 << 63).cast_signed()),
        (4, Values::Words(words)) => Value::Double(f64::from_bits(words[at])),
        (5, Values::Strings(bytes)) => Value::Bytes(bytes[at].clone()),
        (6, Values::Strings(values)) => {
            let mut bytes = In(&values[at]);
            let value = bytes.value();
            bytes.end();
            value
        }
        (7, Values::Strings(lists)) => {
            let mut bytes = In(&lists[at]);
            to.append(&mut bytes.list());
            return bytes.end();
        }
        (ty, _) => panic!("a column of type {ty}"),
    };
    let key = column.key.clone();
    to.push(Attribute { key, value });
}
