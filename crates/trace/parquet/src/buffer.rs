//! One leaf column of the row group that is being filled.

use bytes::Bytes;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedColumnWriter;

use crate::layout::Kind;

/// Where a value stands among nested lists: Dremel's repetition and definition level.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    /// 0 in a row's first value; else the depth of the list that it goes on with.
    pub(crate) repetition: i16,
    /// How many of the optional and repeated ancestors are there.
    pub(crate) definition: i16,
}

/// The values and the levels of one leaf column.
#[derive(Debug)]
pub(crate) struct Buffer {
    values: Values,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    bytes: usize,
}

#[derive(Debug)]
enum Values {
    Bytes { bytes: Vec<u8>, ends: Vec<usize> },
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Double(Vec<f64>),
}

impl Values {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Text | Kind::Bytes => Self::Bytes {
                bytes: Vec::new(),
                ends: Vec::new(),
            },
            Kind::Bool => Self::Bool(Vec::new()),
            Kind::Int32 => Self::Int32(Vec::new()),
            Kind::Int64 => Self::Int64(Vec::new()),
            Kind::Double => Self::Double(Vec::new()),
        }
    }
}

/// What can be a value of a column.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item<'a> {
    Bytes(&'a [u8]),
    Bool(bool),
    Int32(i32),
    Int64(i64),
    Double(f64),
}

impl<'a> From<&'a str> for Item<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

/// Unsigned numbers are kept in the bits of signed ones: the schema says which.
impl From<u32> for Item<'_> {
    fn from(n: u32) -> Self {
        Self::Int32(n.cast_signed())
    }
}

impl From<u64> for Item<'_> {
    fn from(n: u64) -> Self {
        Self::Int64(n.cast_signed())
    }
}

impl Buffer {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            values: Values::new(kind),
            definitions: Vec::new(),
            repetitions: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds a value.
    pub(crate) fn push(&mut self, item: Item<'_>, level: Level) {
        self.null(level);
        match (&mut self.values, item) {
            (Values::Bytes { bytes, ends }, Item::Bytes(v)) => {
                bytes.extend_from_slice(v);
                ends.push(bytes.len());
                self.bytes += v.len() + size_of::<usize>();
            }
            (Values::Bool(values), Item::Bool(v)) => values.push(v),
            (Values::Int32(values), Item::Int32(v)) => values.push(v),
            (Values::Int64(values), Item::Int64(v)) => values.push(v),
            (Values::Double(values), Item::Double(v)) => values.push(v),
            (values, item) => unreachable!("{item:?} is no value of {values:?}"),
        }
        self.bytes += size_of::<u64>();
    }

    /// Adds that there is no value, or an empty list.
    pub(crate) fn null(&mut self, level: Level) {
        self.definitions.push(level.definition);
        self.repetitions.push(level.repetition);
        self.bytes += size_of::<Level>();
    }

    /// The memory that it takes, about.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes everything and is empty again, its memory kept.
    pub(crate) fn write(
        &mut self,
        column: &mut SerializedColumnWriter<'_>,
    ) -> Result<(), ParquetError> {
        let levels = (Some(&*self.definitions), Some(&*self.repetitions));
        match &mut self.values {
            Values::Bytes { bytes, ends } => {
                let all = Bytes::from(std::mem::take(bytes));
                let mut start = 0;
                let values: Vec<ByteArray> = ends
                    .drain(..)
                    .map(|end| ByteArray::from(all.slice(std::mem::replace(&mut start, end)..end)))
                    .collect();
                let column = column.typed::<ByteArrayType>();
                column.write_batch(&values, levels.0, levels.1)?;
            }
            Values::Bool(values) => {
                let column = column.typed::<BoolType>();
                column.write_batch(values, levels.0, levels.1)?;
                values.clear();
            }
            Values::Int32(values) => {
                let column = column.typed::<Int32Type>();
                column.write_batch(values, levels.0, levels.1)?;
                values.clear();
            }
            Values::Int64(values) => {
                let column = column.typed::<Int64Type>();
                column.write_batch(values, levels.0, levels.1)?;
                values.clear();
            }
            Values::Double(values) => {
                let column = column.typed::<DoubleType>();
                column.write_batch(values, levels.0, levels.1)?;
                values.clear();
            }
        }
        self.definitions.clear();
        self.repetitions.clear();
        self.bytes = 0;
        Ok(())
    }
}
