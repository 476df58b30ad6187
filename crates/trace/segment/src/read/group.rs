use std::sync::OnceLock;

use periplus_model::TraceId;

use super::footer::GroupHead;
use super::segment::{Inner, Segment};
use crate::ReadError;
use crate::bytes::Cursor;
use crate::codec::Chunk;
use crate::codec::strings::Strings;
use crate::codec::words::{Word, read_words};
use crate::layout::Core;
use crate::schema::{Place, Type};

/// A row group of a segment: some thousand spans, by trace. Its columns are decoded when they are
/// needed and stay as long as it does.
#[derive(Debug)]
pub struct Group {
    pub(super) segment: Segment,
    pub(crate) number: usize,
    traces: OnceLock<Traces>,
    core: [OnceLock<Column>; Core::COUNT],
    attributes: Box<[OnceLock<Column>]>,
    /// How many values each attribute column has, for each table.
    counts: [OnceLock<Vec<u32>>; 3],
    /// For each table whether its shapes were looked at, and are known.
    shapes_known: [OnceLock<()>; 3],
}

/// A decoded column.
#[derive(Debug)]
pub(crate) enum Column {
    Codes(Vec<u32>),
    Numbers(Vec<u64>),
    Raw(Vec<u8>),
    Strings(Strings),
    /// No values, or values that say nothing.
    Nothing,
}

/// The traces of a group.
#[derive(Debug)]
pub(crate) struct Traces {
    pub(crate) ids: Vec<TraceId>,
    pub(crate) starts: Vec<u64>,
    /// Where each trace's rows begin, and where those of the last one end.
    pub(crate) rows: Vec<u32>,
    /// Where each trace's ranks begin; `None` where the order of arrival is the expected one.
    pub(crate) ranks: Vec<Option<u32>>,
}

impl Group {
    pub(super) fn new(segment: Segment, number: usize) -> Self {
        let attributes = segment.inner.head(number).chunks().len() - Core::COUNT;
        Self {
            segment,
            number,
            traces: OnceLock::new(),
            core: [const { OnceLock::new() }; Core::COUNT],
            attributes: (0..attributes).map(|_| OnceLock::new()).collect(),
            counts: [const { OnceLock::new() }; 3],
            shapes_known: [const { OnceLock::new() }; 3],
        }
    }

    /// How many spans it has.
    pub fn span_count(&self) -> usize {
        self.head().spans as usize
    }

    /// The start of its first trace and that of its last one; zero where it is not known.
    pub fn trace_starts(&self) -> (u64, u64) {
        self.head().trace_starts
    }

    /// The least and the most start of its spans.
    pub fn span_starts(&self) -> (u64, u64) {
        self.head().starts
    }

    /// Its traces in the order of their starts: the id, and the start of the earliest span that the
    /// segment has of it; zero if none is known. A large trace may have spans in the groups beside.
    ///
    /// # Errors
    ///
    /// The bytes cannot be had or are damaged.
    pub fn traces(&self) -> Result<impl Iterator<Item = (TraceId, u64)>, ReadError> {
        let traces = self.trace_table()?;
        Ok((traces.ids.iter().copied()).zip(traces.starts.iter().copied()))
    }

    /// Where in the file its bytes are.
    pub fn byte_range(&self) -> std::ops::Range<u64> {
        let chunks = self.head().chunks();
        let end = |chunk: &Chunk| chunk.offset + u64::from(chunk.length);
        let begin = chunks.first().map_or(0, |chunk| chunk.offset);
        begin..chunks.last().map_or(begin, end)
    }

    /// The bytes of heap that its decoded columns take.
    pub fn heap_bytes(&self) -> usize {
        let columns = self.core.iter().chain(&self.attributes);
        let traces = self.traces.get().map_or(0, |traces| traces.ids.len() * 40);
        columns
            .filter_map(OnceLock::get)
            .map(Column::heap_bytes)
            .sum::<usize>()
            + traces
            + size_of::<Self>()
    }

    pub(crate) fn head(&self) -> &GroupHead {
        self.inner().head(self.number)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.segment.inner
    }

    pub(crate) fn damaged(&self, column: Core, reason: &'static str) -> ReadError {
        ReadError::damaged(self.core_name(column), reason)
    }

    pub(crate) fn core_name(&self, column: Core) -> String {
        format!("row group {}: {}", self.number, column.name())
    }

    pub(crate) fn attribute_name(&self, place: Place, column: usize) -> String {
        let key = self.inner().schema().ok();
        let key = key.and_then(|schema| schema.table(place).columns.get(column));
        let key = key.map_or("an attribute", |column| &column.key);
        format!("row group {}: the values of {key}", self.number)
    }

    pub(crate) fn trace_table(&self) -> Result<&Traces, ReadError> {
        if let Some(traces) = self.traces.get() {
            return Ok(traces);
        }
        let traces = self.read_traces()?;
        Ok(self.traces.get_or_init(|| traces))
    }

    fn read_traces(&self) -> Result<Traces, ReadError> {
        let (ids, _) = self.raw(Core::TraceId)?.as_chunks::<16>();
        let mut start = self.head().trace_starts.0;
        let steps = self.numbers(Core::TraceStart)?;
        let lengths = self.codes(Core::TraceSpans)?;
        let unexpected = self.codes(Core::Arrival)?;
        let mut traces = Traces {
            ids: ids.iter().map(|id| TraceId::from_bytes(*id)).collect(),
            starts: Vec::with_capacity(ids.len()),
            rows: vec![0],
            ranks: Vec::with_capacity(ids.len()),
        };
        let (mut row, mut rank) = (0_u32, 0_u32);
        for at in 0..ids.len() {
            let length = at_or_zero(lengths, at);
            start = start.wrapping_add(at_or_zero(steps, at));
            traces.starts.push(start);
            traces
                .ranks
                .push((at_or_zero(unexpected, at) != 0).then_some(rank));
            if at_or_zero(unexpected, at) != 0 {
                rank = rank.saturating_add(length);
            }
            row = row.saturating_add(length);
            traces.rows.push(row);
        }
        if row != self.head().spans {
            return Err(self.damaged(Core::TraceSpans, "they are not those of the spans"));
        }
        Ok(traces)
    }

    /// How many values a core column has.
    fn count(&self, column: Core) -> Result<usize, ReadError> {
        let head = self.head();
        let nonzero = |column, what: u8| -> Result<usize, ReadError> {
            let codes = self.codes(column)?;
            Ok(codes
                .iter()
                .filter(|code| **code == u32::from(what))
                .count())
        };
        Ok(match column {
            Core::TraceId | Core::TraceStart | Core::TraceSpans | Core::Arrival => {
                head.traces as usize
            }
            Core::Rank => {
                let lengths = self.codes(Core::TraceSpans)?;
                let unexpected = self.codes(Core::Arrival)?;
                (unexpected.iter().zip(lengths))
                    .filter(|(unexpected, _)| **unexpected != 0)
                    .map(|(_, length)| *length as usize)
                    .sum()
            }
            Core::FarParent => nonzero(Core::Parent, crate::encode::parents::FAR)?,
            Core::RawParent => nonzero(Core::Parent, crate::encode::parents::ELSEWHERE)?,
            Core::EventTime | Core::EventName | Core::EventDropped | Core::EventShape => {
                head.events as usize
            }
            Core::LinkTrace
            | Core::LinkSpan
            | Core::LinkState
            | Core::LinkFlags
            | Core::LinkDropped
            | Core::LinkShape => head.links as usize,
            _ => head.spans as usize,
        })
    }

    /// A core column of small numbers: as many as it has rows, or none if all are zero.
    pub(crate) fn codes(&self, column: Core) -> Result<&[u32], ReadError> {
        let decoded = self.core_column(column, |bytes, count| {
            words(bytes, count).map(Column::Codes)
        })?;
        match decoded {
            Column::Codes(codes) => Ok(codes),
            _ => Ok(&[]),
        }
    }

    /// A core column of large numbers: as many as it has rows, or none if all are zero.
    pub(crate) fn numbers(&self, column: Core) -> Result<&[u64], ReadError> {
        let decoded = self.core_column(column, |bytes, count| {
            words(bytes, count).map(Column::Numbers)
        })?;
        match decoded {
            Column::Numbers(numbers) => Ok(numbers),
            _ => Ok(&[]),
        }
    }

    /// A core column of ids.
    pub(crate) fn raw(&self, column: Core) -> Result<&[u8], ReadError> {
        let width = match column {
            Core::TraceId | Core::LinkTrace => 16,
            _ => 8,
        };
        let decoded = self.core_column(column, |bytes, count| {
            (bytes.len() == count * width).then(|| Column::Raw(bytes.to_vec()))
        })?;
        match decoded {
            Column::Raw(bytes) => Ok(bytes),
            _ if self.count(column)? == 0 => Ok(&[]),
            _ => Err(self.damaged(column, "they are missing")),
        }
    }

    fn core_column(
        &self,
        column: Core,
        decode: impl FnOnce(&[u8], usize) -> Option<Column>,
    ) -> Result<&Column, ReadError> {
        let place = &self.core[column as usize];
        if let Some(column) = place.get() {
            return Ok(column);
        }
        let chunk = self.head().core(column);
        let decoded = match chunk.length {
            0 => Column::Nothing,
            _ => {
                let count = self.count(column)?;
                let payload = self.payload(chunk, || self.core_name(column))?;
                decode(&payload, count).ok_or_else(|| self.damaged(column, "they make no sense"))?
            }
        };
        Ok(place.get_or_init(|| decoded))
    }

    /// What a chunk of the group holds.
    pub(crate) fn payload(
        &self,
        chunk: Chunk,
        name: impl Fn() -> String,
    ) -> Result<std::borrow::Cow<'_, [u8]>, ReadError> {
        self.inner().bytes.chunk(chunk, name)
    }

    /// The shapes of the rows of a table.
    pub(crate) fn shapes(&self, place: Place) -> Result<&[u32], ReadError> {
        let column = shape_column(place);
        let shapes = self.codes(column)?;
        if self.shapes_known[place as usize].get().is_some() {
            return Ok(shapes);
        }
        let known = self.inner().schema()?.table(place).shapes.len();
        match shapes.iter().max().map_or(0, |most| *most as usize) {
            most if most == 0 || most < known => {
                self.shapes_known[place as usize].get_or_init(|| ());
                Ok(shapes)
            }
            _ => Err(self.damaged(column, "they are unknown")),
        }
    }

    /// How many rows a table has.
    pub(crate) fn rows(&self, place: Place) -> usize {
        let head = self.head();
        match place {
            Place::Span => head.spans as usize,
            Place::Event => head.events as usize,
            Place::Link => head.links as usize,
        }
    }

    /// How many values each attribute column has in the first rows of a table.
    pub(crate) fn values_before(&self, place: Place, row: usize) -> Result<Vec<u32>, ReadError> {
        let table = self.inner().schema()?.table(place);
        let mut of_shape = vec![0_u32; table.shapes.len()];
        match self.shapes(place)? {
            [] if row == 0 => {}
            [] => match of_shape.first_mut() {
                Some(count) => *count = row as u32,
                None => return Err(self.damaged(shape_column(place), "they are unknown")),
            },
            shapes => {
                for shape in &shapes[..row.min(shapes.len())] {
                    of_shape[*shape as usize] += 1;
                }
            }
        }
        let mut values = vec![0; table.columns.len()];
        for (shape, count) in table.shapes.iter().zip(of_shape) {
            if count > 0 {
                for column in shape {
                    values[*column as usize] += count;
                }
            }
        }
        Ok(values)
    }

    /// The values of an attribute column.
    pub(crate) fn attribute(&self, place: Place, column: usize) -> Result<&Column, ReadError> {
        let table = self.inner().schema()?.table(place);
        let number = table.first + column;
        let Some(cell) = self.attributes.get(number) else {
            return Ok(&Column::Nothing);
        };
        if let Some(column) = cell.get() {
            return Ok(column);
        }
        let decoded = self.read_attribute(place, column)?;
        Ok(cell.get_or_init(|| decoded))
    }

    fn read_attribute(&self, place: Place, column: usize) -> Result<Column, ReadError> {
        let table = self.inner().schema()?.table(place);
        let schema = &table.columns[column];
        let chunk = self.head().attribute(table.first + column);
        if chunk.length == 0 || schema.ty == Type::Empty {
            return Ok(Column::Nothing);
        }
        let counts = match self.counts[place as usize].get() {
            Some(counts) => counts,
            None => {
                let counts = self.values_before(place, self.rows(place))?;
                self.counts[place as usize].get_or_init(|| counts)
            }
        };
        let count = counts[column] as usize;
        let name = || self.attribute_name(place, column);
        let payload = self.payload(chunk, name)?;
        let decoded = match schema.ty {
            Type::Bool => words(&payload, count).map(Column::Codes),
            Type::Int | Type::Double => words(&payload, count).map(Column::Numbers),
            _ if schema.dictionary.is_some() => words(&payload, count).map(Column::Codes),
            _ => {
                let mut cursor = Cursor(&payload);
                let strings = Strings::read(&mut cursor, count).filter(|_| cursor.is_empty());
                strings.map(Column::Strings)
            }
        };
        decoded.ok_or_else(|| ReadError::damaged(name(), "they make no sense"))
    }
}

impl Column {
    /// How many values there are, if they say something.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Codes(codes) => codes.len(),
            Self::Numbers(numbers) => numbers.len(),
            Self::Raw(bytes) => bytes.len(),
            Self::Strings(strings) => strings.len(),
            Self::Nothing => 0,
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Codes(codes) => codes.capacity() * 4,
            Self::Numbers(numbers) => numbers.capacity() * 8,
            Self::Raw(bytes) => bytes.capacity(),
            Self::Strings(strings) => strings.heap_bytes(),
            Self::Nothing => 0,
        }
    }
}

/// The column of the shapes of a table's rows.
pub(super) const fn shape_column(place: Place) -> Core {
    match place {
        Place::Span => Core::Shape,
        Place::Event => Core::EventShape,
        Place::Link => Core::LinkShape,
    }
}

fn words<T: Word>(payload: &[u8], count: usize) -> Option<Vec<T>> {
    let mut cursor = Cursor(payload);
    read_words(&mut cursor, count).filter(|_| cursor.is_empty())
}

/// A value of a column that has no values when all are zero.
#[inline]
pub(crate) fn at_or_zero<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}
