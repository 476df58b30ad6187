use crate::ReadError;
use crate::bytes::Cursor;
use crate::codec::Chunk;
use crate::codec::dictionary::Dictionary;
use crate::codec::plane::read_blob;
use crate::layout::Section;
use crate::read::Bytes;
use crate::schema::{Place, Type};

/// The attribute columns and the shapes of spans, events and links.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) tables: [TableSchema; 3],
}

#[derive(Debug)]
pub(crate) struct TableSchema {
    pub(crate) columns: Vec<ColumnSchema>,
    /// The numbers of the columns of each shape.
    pub(crate) shapes: Vec<Box<[u32]>>,
    /// The number of the first column among those of all tables.
    pub(crate) first: usize,
}

#[derive(Debug)]
pub(crate) struct ColumnSchema {
    pub(crate) key: String,
    pub(crate) ty: Type,
    pub(crate) dictionary: Option<Dictionary>,
}

impl Schema {
    pub(crate) fn read(bytes: &Bytes, chunk: Chunk) -> Result<Self, ReadError> {
        let name = || Section::Schema.name().to_owned();
        let payload = bytes.chunk(chunk, name)?;
        let mut cursor = Cursor(&payload);
        let plain = cursor
            .u32()
            .and_then(|length| read_blob(&mut cursor, length as usize));
        let raw = plain.and_then(|plain| {
            let mut cursor = Cursor(&plain);
            let mut table = || RawTable::parse(&mut cursor);
            let tables = [table()?, table()?, table()?];
            cursor.is_empty().then_some(tables)
        });
        let Some([spans, events, links]) = raw else {
            return Err(ReadError::damaged(name(), "it makes no sense"));
        };
        let mut first = 0;
        let mut table = |raw: RawTable| {
            let table = raw.open(bytes, first)?;
            first += table.columns.len();
            Ok::<_, ReadError>(table)
        };
        Ok(Self {
            tables: [table(spans)?, table(events)?, table(links)?],
        })
    }

    pub(crate) fn table(&self, place: Place) -> &TableSchema {
        &self.tables[place as usize]
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let table = |table: &TableSchema| {
            let shapes = table.shapes.iter().map(|shape| 16 + shape.len() * 4);
            let columns = table.columns.iter().map(|column| 200 + column.key.len());
            shapes.sum::<usize>() + columns.sum::<usize>()
        };
        self.tables.iter().map(table).sum()
    }
}

/// A table as it is written, before its dictionaries are opened.
struct RawTable {
    columns: Vec<(String, Type, Chunk)>,
    shapes: Vec<Box<[u32]>>,
}

impl RawTable {
    fn parse(cursor: &mut Cursor<'_>) -> Option<Self> {
        let count = cursor.count()?;
        let mut columns = Vec::with_capacity(count);
        for _ in 0..count {
            let key = cursor.str()?.to_owned();
            let ty = Type::from_number(cursor.byte()?)?;
            let length = cursor.u32()?;
            let offset = match length {
                0 => 0,
                _ => cursor.varint()?,
            };
            columns.push((key, ty, Chunk { offset, length }));
        }
        let count = cursor.count()?;
        let mut shapes = Vec::with_capacity(count);
        for _ in 0..count {
            let entries = cursor.count()?;
            let entries: Option<Box<[u32]>> = (0..entries).map(|_| cursor.u32()).collect();
            let entries = entries?;
            if entries.iter().any(|entry| *entry as usize >= columns.len()) {
                return None;
            }
            shapes.push(entries);
        }
        Some(Self { columns, shapes })
    }

    fn open(self, bytes: &Bytes, first: usize) -> Result<TableSchema, ReadError> {
        let columns = (self.columns.into_iter()).map(|(key, ty, chunk)| {
            let dictionary = match chunk.length {
                0 => None,
                _ => {
                    let name = format!("the dictionary of {key}");
                    Some(Dictionary::open(bytes, chunk, name)?)
                }
            };
            Ok(ColumnSchema {
                key,
                ty,
                dictionary,
            })
        });
        Ok(TableSchema {
            columns: columns.collect::<Result<_, ReadError>>()?,
            shapes: self.shapes,
            first,
        })
    }
}
