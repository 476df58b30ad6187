//! One leaf column of a row group that is being read, some rows at a time.

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::schema::types::{ColumnDescriptor, Type};

/// What a column says about the elements of a list.
#[derive(Debug)]
pub(crate) struct Shape {
    /// The definition level from which on there is a value.
    max_definition: i16,
    max_repetition: i16,
    /// For each list around the column, from the outside: the definition level from which on the
    /// list has an element.
    elements: Vec<i16>,
}

impl Shape {
    /// Of a column of a file, whatever is optional in it: tools that rewrite a file make all of it
    /// so.
    pub(crate) fn new(root: &Type, column: &ColumnDescriptor) -> Self {
        let mut elements = Vec::new();
        let mut definition = 0;
        let mut within = root;
        for part in column.path().parts() {
            let Some(field) = within.get_fields().iter().find(|f| f.name() == part) else {
                break;
            };
            if field.is_optional() || is_repeated(field) {
                definition += 1;
            }
            if is_repeated(field) {
                elements.push(definition);
            }
            within = field;
            if field.is_primitive() {
                break;
            }
        }
        Self {
            max_definition: column.max_def_level(),
            max_repetition: column.max_rep_level(),
            elements,
        }
    }

    /// How many lists are around the column.
    pub(crate) const fn lists(&self) -> usize {
        self.elements.len()
    }
}

fn is_repeated(field: &Type) -> bool {
    let info = field.get_basic_info();
    info.has_repetition() && info.repetition() == parquet::basic::Repetition::REPEATED
}

/// Why a column does not say what an export says.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It has no value where there must be one.
    Null,
    /// Its lists are not as long as those of the columns beside it.
    OutOfStep,
    /// It ends before the row group.
    Short,
    /// A value is none that an export has.
    Value(String),
    /// It cannot be decoded.
    Parquet(ParquetError),
}

/// The values and the levels of some rows of a column, and how far they are taken.
pub(crate) struct Cursor {
    shape: Shape,
    source: Source,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    /// How many levels are taken, and how many values.
    levels_taken: usize,
    values_taken: usize,
}

enum Source {
    Bytes(ColumnReaderImpl<ByteArrayType>, Vec<ByteArray>),
    Bool(ColumnReaderImpl<BoolType>, Vec<bool>),
    Int32(ColumnReaderImpl<Int32Type>, Vec<i32>),
    Int64(ColumnReaderImpl<Int64Type>, Vec<i64>),
    Double(ColumnReaderImpl<DoubleType>, Vec<f64>),
}

impl Cursor {
    /// `None` if the column's type is none that an export has.
    pub(crate) fn new(shape: Shape, reader: ColumnReader) -> Option<Self> {
        let source = match reader {
            ColumnReader::ByteArrayColumnReader(reader) => Source::Bytes(reader, Vec::new()),
            ColumnReader::BoolColumnReader(reader) => Source::Bool(reader, Vec::new()),
            ColumnReader::Int32ColumnReader(reader) => Source::Int32(reader, Vec::new()),
            ColumnReader::Int64ColumnReader(reader) => Source::Int64(reader, Vec::new()),
            ColumnReader::DoubleColumnReader(reader) => Source::Double(reader, Vec::new()),
            _ => return None,
        };
        Some(Self {
            shape,
            source,
            definitions: Vec::new(),
            repetitions: Vec::new(),
            levels_taken: 0,
            values_taken: 0,
        })
    }

    /// Reads this many rows; what was read before is gone.
    pub(crate) fn fill(&mut self, rows: usize) -> Result<(), Fault> {
        let levels = (&mut self.definitions, &mut self.repetitions);
        levels.0.clear();
        levels.1.clear();
        (self.levels_taken, self.values_taken) = (0, 0);
        let read = match &mut self.source {
            Source::Bytes(reader, values) => read(reader, values, levels, rows),
            Source::Bool(reader, values) => read(reader, values, levels, rows),
            Source::Int32(reader, values) => read(reader, values, levels, rows),
            Source::Int64(reader, values) => read(reader, values, levels, rows),
            Source::Double(reader, values) => read(reader, values, levels, rows),
        };
        match read.map_err(Fault::Parquet)? {
            read if read == rows => Ok(()),
            _ => Err(Fault::Short),
        }
    }

    /// Whether the list at this depth has an element where the cursor stands.
    pub(crate) fn has_element(&self, list: usize) -> Result<bool, Fault> {
        let definition = self.definition()?;
        let element = self.shape.elements.get(list).ok_or(Fault::OutOfStep)?;
        Ok(definition >= *element)
    }

    /// Whether the list at this depth goes on where the cursor stands.
    pub(crate) fn goes_on(&self, list: usize) -> bool {
        let next = self.repetitions.get(self.levels_taken);
        next.is_some_and(|level| usize::try_from(*level).is_ok_and(|level| level == list + 1))
    }

    /// Goes past an empty list at this depth.
    pub(crate) fn skip_empty(&mut self, list: usize, repetition: i16) -> Result<(), Fault> {
        match self.has_element(list)? {
            true => Err(Fault::OutOfStep),
            false => self.step(repetition).map(drop),
        }
    }

    /// A text or bytes.
    pub(crate) fn bytes(&mut self, repetition: i16) -> Result<Option<&[u8]>, Fault> {
        let value = self.step(repetition)?;
        match (&self.source, value) {
            (_, None) => Ok(None),
            (Source::Bytes(_, values), Some(i)) => {
                values.get(i).map(|v| Some(v.data())).ok_or(Fault::Short)
            }
            _ => Err(Fault::OutOfStep),
        }
    }

    pub(crate) fn bool(&mut self, repetition: i16) -> Result<Option<bool>, Fault> {
        let value = self.step(repetition)?;
        match &self.source {
            Source::Bool(_, values) => pick(values, value),
            _ => Err(Fault::OutOfStep),
        }
    }

    pub(crate) fn int32(&mut self, repetition: i16) -> Result<Option<i32>, Fault> {
        let value = self.step(repetition)?;
        match &self.source {
            Source::Int32(_, values) => pick(values, value),
            _ => Err(Fault::OutOfStep),
        }
    }

    pub(crate) fn int64(&mut self, repetition: i16) -> Result<Option<i64>, Fault> {
        let value = self.step(repetition)?;
        match &self.source {
            Source::Int64(_, values) => pick(values, value),
            _ => Err(Fault::OutOfStep),
        }
    }

    pub(crate) fn double(&mut self, repetition: i16) -> Result<Option<f64>, Fault> {
        let value = self.step(repetition)?;
        match &self.source {
            Source::Double(_, values) => pick(values, value),
            _ => Err(Fault::OutOfStep),
        }
    }

    /// Whether everything that was read is taken.
    pub(crate) fn is_used_up(&self) -> bool {
        self.levels_taken == self.levels()
    }

    /// Goes past one level, and past its value, whose index it returns if there is one.
    fn step(&mut self, repetition: i16) -> Result<Option<usize>, Fault> {
        let definition = self.definition()?;
        let found = self.repetitions.get(self.levels_taken).copied();
        if found.unwrap_or(0) != repetition {
            return Err(Fault::OutOfStep);
        }
        self.levels_taken += 1;
        if definition < self.shape.max_definition {
            return Ok(None);
        }
        self.values_taken += 1;
        Ok(Some(self.values_taken - 1))
    }

    fn definition(&self) -> Result<i16, Fault> {
        if self.shape.max_definition > 0 {
            let level = self.definitions.get(self.levels_taken);
            return level.copied().ok_or(Fault::OutOfStep);
        }
        match self.levels_taken < self.levels() {
            true => Ok(0),
            false => Err(Fault::OutOfStep),
        }
    }

    fn levels(&self) -> usize {
        if self.shape.max_definition > 0 {
            return self.definitions.len();
        }
        if self.shape.max_repetition > 0 {
            return self.repetitions.len();
        }
        match &self.source {
            Source::Bytes(_, values) => values.len(),
            Source::Bool(_, values) => values.len(),
            Source::Int32(_, values) => values.len(),
            Source::Int64(_, values) => values.len(),
            Source::Double(_, values) => values.len(),
        }
    }
}

fn pick<T: Copy>(values: &[T], index: Option<usize>) -> Result<Option<T>, Fault> {
    match index {
        None => Ok(None),
        Some(i) => values.get(i).copied().map(Some).ok_or(Fault::Short),
    }
}

fn read<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    values: &mut Vec<T::T>,
    (definitions, repetitions): (&mut Vec<i16>, &mut Vec<i16>),
    rows: usize,
) -> Result<usize, ParquetError> {
    values.clear();
    let mut read = 0;
    // One call may stop early at the end of a page.
    while read < rows {
        let wanted = rows - read;
        let (records, _, levels) =
            reader.read_records(wanted, Some(definitions), Some(repetitions), values)?;
        if records == 0 && levels == 0 {
            break;
        }
        read += records;
    }
    Ok(read)
}
