//! The attribute columns and the shapes of all inputs, each once.

use std::collections::HashMap;

use super::error::MergeError;
use super::form::{Form, Former};
use crate::bytes::{put_bytes, put_varint};
use crate::codec::chunk::Chunk;
use crate::encode::Output;
use crate::limits::{MAX_COLUMNS, MAX_SHAPE_KEYS, MAX_SHAPES};
use crate::schema::{Place, Type};
use crate::{ReadError, Segment};

/// The attributes of spans, of events or of links.
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    shapes: Vec<Box<[u32]>>,
    /// For each input the new number of each of its columns, and of each of its shapes.
    pub(super) column_of: Vec<Vec<u32>>,
    pub(super) shape_of: Vec<Vec<u32>>,
}

pub(super) struct Column {
    pub(super) place: Place,
    key: String,
    pub(super) ty: Type,
    pub(super) form: Form,
    pub(super) numbers: Numbers,
    /// Whether some of its strings are so large that they are weighed, as far as dictionaries say.
    pub(super) has_large: bool,
}

impl Column {
    pub(super) fn is_text(&self) -> bool {
        self.ty == Type::Text
    }
}

/// The number that each input gives to a column, if it has it.
pub(super) type Numbers = Vec<Option<usize>>;

impl Table {
    /// Of the three places.
    pub(super) fn unite_all(inputs: &[Segment]) -> Result<[Self; 3], MergeError> {
        let mut former = Former::new(inputs);
        let [spans, events, links] = Place::ALL;
        Ok([
            Self::unite(inputs, spans, &mut former)?,
            Self::unite(inputs, events, &mut former)?,
            Self::unite(inputs, links, &mut former)?,
        ])
    }

    fn unite(
        inputs: &[Segment],
        place: Place,
        former: &mut Former<'_>,
    ) -> Result<Self, MergeError> {
        let mut known: HashMap<(&str, Type), u32> = HashMap::new();
        let mut columns: Vec<(&str, Type, Numbers)> = Vec::new();
        let mut column_of = Vec::with_capacity(inputs.len());
        for (input, segment) in inputs.iter().enumerate() {
            let schema = segment.inner.schema().map_err(MergeError::of(input))?;
            let mut new = Vec::new();
            for (number, column) in schema.table(place).columns.iter().enumerate() {
                let next = columns.len() as u32;
                let at = *known.entry((&column.key, column.ty)).or_insert(next);
                if at == next {
                    columns.push((&column.key, column.ty, vec![None; inputs.len()]));
                }
                let of_input = &mut columns[at as usize].2[input];
                if of_input.replace(number).is_some() {
                    return Err(twice(input));
                }
                new.push(at);
            }
            column_of.push(new);
        }
        let keyed = columns.iter().filter(|(_, ty, _)| *ty != Type::Residual);
        if keyed.count() > MAX_COLUMNS {
            return Err(MergeError::TooManyKeys);
        }
        let (shapes, shape_of) = unite_shapes(inputs, place, &column_of)?;
        let columns = columns.into_iter().map(|(key, ty, numbers)| {
            let (form, has_large) = former.form(place, ty, &numbers)?;
            Ok(Column {
                place,
                key: key.to_owned(),
                ty,
                form,
                numbers,
                has_large,
            })
        });
        Ok(Self {
            columns: columns.collect::<Result<_, MergeError>>()?,
            shapes,
            column_of,
            shape_of,
        })
    }

    /// Writes the dictionaries of the columns to the file, and appends what the columns and the
    /// shapes are.
    pub(super) fn put(&self, schema: &mut Vec<u8>, out: &mut Output) {
        put_varint(schema, self.columns.len() as u64);
        for column in &self.columns {
            put_bytes(schema, column.key.as_bytes());
            schema.push(column.ty as u8);
            let chunk = match &column.form {
                Form::Dictionary(united) => united.put(&mut out.file, &mut out.squeeze),
                _ => Chunk::default(),
            };
            put_varint(schema, u64::from(chunk.length));
            if chunk.length > 0 {
                put_varint(schema, chunk.offset);
            }
        }
        put_varint(schema, self.shapes.len() as u64);
        for shape in &self.shapes {
            put_varint(schema, shape.len() as u64);
            for column in shape {
                put_varint(schema, u64::from(*column));
            }
        }
    }
}

type Shapes = (Vec<Box<[u32]>>, Vec<Vec<u32>>);

fn unite_shapes(
    inputs: &[Segment],
    place: Place,
    column_of: &[Vec<u32>],
) -> Result<Shapes, MergeError> {
    let mut known: HashMap<Box<[u32]>, u32> = HashMap::new();
    let mut shapes: Vec<Box<[u32]>> = Vec::new();
    let mut shape_of = Vec::with_capacity(inputs.len());
    let mut keys = 0;
    for (input, segment) in inputs.iter().enumerate() {
        let schema = segment.inner.schema().map_err(MergeError::of(input))?;
        let mut new = Vec::new();
        for shape in &schema.table(place).shapes {
            let columns = shape
                .iter()
                .map(|column| column_of[input][*column as usize]);
            let columns: Box<[u32]> = columns.collect();
            let next = shapes.len() as u32;
            let at = *known.entry(columns.clone()).or_insert(next);
            if at == next {
                keys += columns.len();
                shapes.push(columns);
            }
            new.push(at);
        }
        shape_of.push(new);
    }
    // One more is for those that found no room.
    if shapes.len() > MAX_SHAPES + 1 || keys > MAX_SHAPE_KEYS + 1 {
        return Err(MergeError::TooManyKeys);
    }
    Ok((shapes, shape_of))
}

fn twice(input: usize) -> MergeError {
    MergeError::of(input)(ReadError::damaged("the schema", "it has a column twice"))
}
