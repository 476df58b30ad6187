use std::collections::HashMap;
use std::hint::black_box;

use periplus_model::Value;

use super::column::{Column, NO_GUESS, Values};
use super::intern::{Interner, Reject};
use super::shape::{Attr, Datum, Shape};
use crate::bytes::{put_bytes, put_varint};
use crate::hash::{hash, hash_u64};
use crate::limits::{MAX_COLUMNS, MAX_SHAPE_KEYS, MAX_SHAPES};
use crate::schema::Type;

/// The attributes of all spans, of all events or of all links: for each row a shape, for each entry
/// of the shape a value in a column.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    seed: u64,
    pub(crate) keys: Interner,
    pub(crate) columns: Vec<Column>,
    pub(crate) shapes: Vec<Shape>,
    /// The shape of each row.
    pub(crate) shape: Vec<u32>,
    /// Where in `slots` each row begins.
    pub(crate) first_slot: Vec<u32>,
    /// For each entry of each row the value's place in its column.
    pub(crate) slots: Vec<u32>,
    column_of: HashMap<(u32, Type), u32>,
    by_content: HashMap<u64, u32>,
    by_columns: HashMap<Box<[u32]>, u32>,
    shape_keys: usize,
    hints: Vec<Hint>,
    scratch: Vec<u8>,
}

/// What rows with this hint were like: the last one, and the last one of another shape. Spans of one
/// name often have one of two shapes, in turns.
#[derive(Clone, Debug)]
struct Hint {
    last: Likeness,
    before: Likeness,
}

#[derive(Clone, Debug)]
struct Likeness {
    shape: u32,
    /// For each attribute the value that it had.
    guesses: Vec<u32>,
}

/// How large a table was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableMark {
    rows: usize,
    keys: usize,
    columns: usize,
    shapes: usize,
}

const NO_SHAPE: u32 = u32::MAX;

impl Table {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            keys: Interner::new(seed),
            columns: Vec::new(),
            shapes: Vec::new(),
            shape: Vec::new(),
            first_slot: Vec::new(),
            slots: Vec::new(),
            column_of: HashMap::new(),
            by_content: HashMap::new(),
            by_columns: HashMap::new(),
            shape_keys: 0,
            hints: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.shape.len()
    }

    /// Adds a row. Rows with the same hint are guessed to be alike; hints are small numbers. After
    /// an error the table must be truncated.
    #[inline]
    pub(crate) fn push<const CHECK: bool, A: Attr>(
        &mut self,
        hint: u32,
        attributes: &[A],
    ) -> Result<(), Reject> {
        let hint = hint as usize;
        if hint >= self.hints.len() {
            self.hints.resize(hint + 1, Hint::NONE);
        }
        let is_alike = |shape: u32| {
            (self.shapes.get(shape as usize)).is_some_and(|shape| shape.is(attributes))
        };
        if !is_alike(self.hints[hint].last.shape) {
            let is_known = is_alike(self.hints[hint].before.shape);
            self.hints[hint].turn();
            if !is_known {
                let shape = self.shape_of::<CHECK, A>(attributes)?;
                self.hints[hint].last.reset(shape, attributes.len());
            }
        }
        let hint = &mut self.hints[hint].last;
        let shape = &self.shapes[hint.shape as usize];
        let first = u32::try_from(self.slots.len()).map_err(|_| Reject::Full)?;
        self.shape.push(hint.shape);
        self.first_slot.push(first);
        if shape.residual {
            return self.push_residual::<CHECK, A>(hint_shape(&self.shape), attributes);
        }
        for ((attribute, entry), guess) in
            attributes.iter().zip(&shape.entries).zip(&mut hint.guesses)
        {
            let values = &mut self.columns[entry.column as usize].values;
            let slot = match (attribute.datum(), values) {
                (Datum::Bytes(bytes), Values::Bytes(strings)) if entry.ty == Type::Text => {
                    strings.push::<CHECK>(bytes, guess)?
                }
                (Datum::Bytes(bytes), Values::Bytes(strings)) => {
                    strings.push::<false>(bytes, guess)?
                }
                (Datum::Word(word), Values::Words(words)) => {
                    words.push(word);
                    words.len() as u32 - 1
                }
                (Datum::Word(word), Values::Bools(bools)) => {
                    bools.push(word as u8);
                    bools.len() as u32 - 1
                }
                (_, Values::Nothing(count)) => {
                    *count += 1;
                    *count - 1
                }
                // The shape says what the columns are.
                (_, _) => 0,
            };
            self.slots.push(slot);
        }
        Ok(())
    }

    /// Finds or makes the shape of these attributes.
    #[cold]
    fn shape_of<const CHECK: bool, A: Attr>(&mut self, attributes: &[A]) -> Result<u32, Reject> {
        let mut content = self.seed;
        for attribute in attributes {
            let key = hash(content, attribute.key());
            content = hash_u64(key, attribute.ty() as u64);
        }
        if let Some(&shape) = self.by_content.get(&content)
            && self.shapes[shape as usize].is(attributes)
        {
            return Ok(shape);
        }
        let mut columns = Vec::with_capacity(attributes.len());
        for attribute in attributes {
            columns.push(self.column::<CHECK>(attribute.key(), attribute.ty())?);
        }
        let residual = columns.contains(&None);
        let shape = match residual {
            false => columns.into_iter().flatten().collect::<Vec<_>>(),
            true => self.with_residual(&columns)?,
        };
        let shape = self.shape_with(shape, residual)?;
        if !self.shapes[shape as usize].residual {
            self.by_content.insert(content, shape);
        }
        Ok(shape)
    }

    /// The columns of a shape, each run of attributes without one in the residual column.
    fn with_residual(&mut self, columns: &[Option<u32>]) -> Result<Vec<u32>, Reject> {
        let residual = self.residual_column()?;
        let mut shape: Vec<u32> = columns
            .iter()
            .map(|column| column.unwrap_or(residual))
            .collect();
        shape.dedup_by(|next, before| *next == residual && *before == residual);
        Ok(shape)
    }

    fn shape_with(&mut self, columns: Vec<u32>, residual: bool) -> Result<u32, Reject> {
        if let Some(&shape) = self.by_columns.get(&columns[..]) {
            return Ok(shape);
        }
        let full =
            self.shapes.len() >= MAX_SHAPES || self.shape_keys + columns.len() > MAX_SHAPE_KEYS;
        let residual_column = match full || residual {
            true => Some(self.residual_column()?),
            false => None,
        };
        if let (true, Some(column)) = (full, residual_column)
            && columns[..] != [column]
        {
            return self.shape_with(vec![column], true);
        }
        self.shape_keys += columns.len();
        let shape = self.shapes.len() as u32;
        let described = columns.iter().map(|&column| {
            let Column { key, ty, .. } = self.columns[column as usize];
            (column, ty, self.keys.get(key))
        });
        self.shapes.push(Shape::new(described, residual));
        self.by_columns.insert(columns.into(), shape);
        Ok(shape)
    }

    /// The column of a key and a type; `None` if there are too many already.
    fn column<const CHECK: bool>(&mut self, key: &[u8], ty: Type) -> Result<Option<u32>, Reject> {
        if self.columns.len() >= MAX_COLUMNS {
            super::intern::check_text::<CHECK>(key)?;
            let known = match self.keys.find(key) {
                super::intern::Entry::Known(key) => self.column_of.get(&(key, ty)).copied(),
                super::intern::Entry::Vacant(_) => None,
            };
            return Ok(known);
        }
        let key = self.keys.intern_text::<CHECK>(key)?;
        Ok(Some(self.column_with(key, ty)))
    }

    fn residual_column(&mut self) -> Result<u32, Reject> {
        let key = self.keys.intern(b"")?;
        Ok(self.column_with(key, Type::Residual))
    }

    fn column_with(&mut self, key: u32, ty: Type) -> u32 {
        let next = self.columns.len() as u32;
        let column = *self.column_of.entry((key, ty)).or_insert(next);
        if column == next {
            self.columns.push(Column {
                key,
                ty,
                values: Values::new(ty, self.seed),
            });
        }
        column
    }

    /// The slots of a row that has attributes without columns of their own. Whether an attribute has
    /// one is known from the shape: its entries come in the same order.
    fn push_residual<const CHECK: bool, A: Attr>(
        &mut self,
        shape: u32,
        attributes: &[A],
    ) -> Result<(), Reject> {
        let shape = self.shapes[shape as usize].clone();
        let mut rest = attributes;
        for (i, entry) in shape.entries.iter().enumerate() {
            let next = shape.entries.get(i + 1);
            if entry.ty == Type::Residual {
                // The run ends where the next entry begins, or with the row. An attribute with a
                // column is never part of a run, unless the whole row is one.
                let run = match next {
                    None => rest.len(),
                    Some(_) => (rest.iter())
                        .position(|attribute| shape.entry_is(i + 1, attribute))
                        .unwrap_or(rest.len()),
                };
                let (run, behind) = rest.split_at(run);
                rest = behind;
                self.scratch.clear();
                put_varint(&mut self.scratch, run.len() as u64);
                for attribute in run {
                    put_attribute::<CHECK, A>(&mut self.scratch, attribute)?;
                }
                let Values::Bytes(strings) = &mut self.columns[entry.column as usize].values else {
                    continue;
                };
                let slot = strings.push::<false>(&self.scratch, &mut { NO_GUESS })?;
                self.slots.push(slot);
            } else if let Some((attribute, behind)) = rest.split_first() {
                rest = behind;
                let slot = self.push_one::<CHECK, A>(entry.column, attribute)?;
                self.slots.push(slot);
            }
        }
        Ok(())
    }

    fn push_one<const CHECK: bool, A: Attr>(
        &mut self,
        column: u32,
        attribute: &A,
    ) -> Result<u32, Reject> {
        let column = &mut self.columns[column as usize];
        let slot = column.values.len() as u32;
        match (attribute.datum(), &mut column.values) {
            (Datum::Bytes(bytes), Values::Bytes(strings)) => {
                let guess = &mut { NO_GUESS };
                match column.ty {
                    Type::Text => strings.push::<CHECK>(bytes, guess)?,
                    _ => strings.push::<false>(bytes, guess)?,
                };
            }
            (Datum::Word(word), Values::Words(words)) => words.push(word),
            (Datum::Word(word), Values::Bools(bools)) => bools.push(word as u8),
            (_, Values::Nothing(count)) => *count += 1,
            (_, _) => {}
        }
        Ok(slot)
    }

    /// The columns and places of a row's values, in the order of its attributes.
    #[inline]
    pub(crate) fn cells(&self, row: u32) -> impl Iterator<Item = (u32, u32)> {
        let shape = &self.shapes[self.shape[row as usize] as usize];
        let slots = &self.slots[self.first_slot[row as usize] as usize..];
        (shape.entries.iter())
            .zip(slots)
            .map(|(entry, slot)| (entry.column, *slot))
    }

    /// Asks memory for what [`Self::cells`] reads of these rows. The processor waits for all of it at once
    /// instead of for each row when its turn comes: rows that are sorted by trace lie far from each other.
    pub(crate) fn fetch(&self, rows: &[u32]) {
        let first = |row: &u32| {
            let first = self.first_slot[*row as usize] as usize;
            self.slots.get(first).copied().unwrap_or_default()
        };
        black_box(rows.iter().fold(0, |all, row| all ^ first(row)));
    }

    pub(crate) fn mark(&self) -> TableMark {
        TableMark {
            rows: self.rows(),
            keys: self.keys.len(),
            columns: self.columns.len(),
            shapes: self.shapes.len(),
        }
    }

    /// Forgets what has come since the mark, a row that was begun included.
    pub(crate) fn truncate(&mut self, to: TableMark) {
        let first_slot = self.first_slot.get(to.rows).copied();
        let mut keep: HashMap<u32, u32> = HashMap::new();
        for row in to.rows..self.rows() {
            let shape = &self.shapes[self.shape[row] as usize];
            let slots = &self.slots[self.first_slot[row] as usize..];
            // A row that was not finished has fewer slots than entries.
            for (entry, &slot) in shape.entries.iter().zip(slots) {
                let keep = keep.entry(entry.column).or_insert(slot);
                *keep = slot.min(*keep);
            }
        }
        for (column, keep) in keep {
            self.columns[column as usize].values.truncate(keep as usize);
        }
        if let Some(first) = first_slot {
            self.slots.truncate(first as usize);
        }
        self.shape.truncate(to.rows);
        self.first_slot.truncate(to.rows);
        self.keys.truncate(to.keys);
        self.columns.truncate(to.columns);
        self.shapes.truncate(to.shapes);
        self.shape_keys = self.shapes.iter().map(|shape| shape.entries.len()).sum();
        let (columns, shapes) = (to.columns as u32, to.shapes as u32);
        self.column_of.retain(|_, column| *column < columns);
        self.by_content.retain(|_, shape| *shape < shapes);
        self.by_columns.retain(|_, shape| *shape < shapes);
        self.hints.clear();
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let columns = self.columns.iter().map(|column| column.values.heap_bytes());
        let shapes = self.shapes.iter().map(Shape::heap_bytes);
        let guesses = |likeness: &Likeness| likeness.guesses.capacity() * 4;
        let hints = self.hints.iter();
        let hints = hints.map(|hint| guesses(&hint.last) + guesses(&hint.before));
        self.keys.heap_bytes()
            + columns.sum::<usize>()
            + self.columns.capacity() * size_of::<Column>()
            + shapes.sum::<usize>()
            + hints.sum::<usize>()
            + self.hints.capacity() * size_of::<Hint>()
            + (self.shape.capacity() + self.first_slot.capacity() + self.slots.capacity()) * 4
    }
}

impl Hint {
    const NONE: Self = Self {
        last: Likeness::NONE,
        before: Likeness::NONE,
    };

    /// What was before is last.
    fn turn(&mut self) {
        std::mem::swap(&mut self.last, &mut self.before);
    }
}

impl Likeness {
    const NONE: Self = Self {
        shape: NO_SHAPE,
        guesses: Vec::new(),
    };

    fn reset(&mut self, shape: u32, attributes: usize) {
        self.shape = shape;
        self.guesses.clear();
        self.guesses.resize(attributes, NO_GUESS);
    }
}

fn hint_shape(shapes: &[u32]) -> u32 {
    shapes.last().copied().unwrap_or_default()
}

fn put_attribute<const CHECK: bool, A: Attr>(
    out: &mut Vec<u8>,
    attribute: &A,
) -> Result<(), Reject> {
    super::intern::check_text::<CHECK>(attribute.key())?;
    put_bytes(out, attribute.key());
    let value = match (attribute.ty(), attribute.datum()) {
        (Type::Text, Datum::Bytes(bytes)) => {
            super::intern::check_text::<CHECK>(bytes)?;
            Value::String(str::from_utf8(bytes).unwrap_or_default().to_owned())
        }
        (Type::Bytes, Datum::Bytes(bytes)) => Value::Bytes(bytes.to_vec()),
        // Nested values come as the bytes that are wanted here.
        (_, Datum::Bytes(bytes)) => {
            out.extend_from_slice(bytes);
            return Ok(());
        }
        (Type::Bool, Datum::Word(word)) => Value::Bool(word != 0),
        (Type::Double, Datum::Word(word)) => Value::Double(f64::from_bits(word)),
        (_, Datum::Word(word)) => Value::Int(word as i64),
        (_, Datum::Nothing) => Value::Empty,
    };
    crate::value::put_value(out, &value).ok_or(Reject::TooDeep)
}
