//! What is checked before the first row is read.

use std::io::Read as _;
use std::sync::Arc;

use parquet::basic::Type;
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, KeyValue};
use parquet::file::reader::ChunkReader;
use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::schema::types::SchemaDescriptor;

use crate::error::ImportProblem;
use crate::layout::Layout;
use crate::schema::{
    self, CHECKSUM_KEY, COUNT_KEY, CREATED_BY_US, FOOTER_TAIL, VERSION, VERSION_KEY,
};

/// What every Parquet file ends with.
const MAGIC: &[u8] = b"PAR1";

/// A problem, and the column that has it.
pub(crate) type In = (Option<String>, ImportProblem);

/// A file whose footer is good.
pub(crate) struct Opened<R: ChunkReader> {
    pub(crate) file: SerializedFileReader<R>,
    /// For each leaf of the layout: its column in the file; derived ones have none.
    pub(crate) columns: Vec<Option<usize>>,
    /// Columns that are not read, as no field of a span is made from them.
    pub(crate) ignored: Vec<String>,
    /// How many rows the footer promises.
    pub(crate) rows: u64,
}

pub(crate) fn open<R: ChunkReader + Clone + 'static>(
    reader: &R,
    layout: &Layout,
) -> Result<Opened<R>, In> {
    let is_whole = check_footer(reader).map_err(|problem| (None, problem))?;
    let file = SerializedFileReader::new(reader.clone())
        .map_err(|e| (None, ImportProblem::NotParquet(e)))?;
    let footer = file.metadata().file_metadata();
    if let Some(version) = value_of(footer, VERSION_KEY) {
        let known = version.parse().is_ok_and(|v: u32| v <= VERSION);
        if !known {
            return Err((None, ImportProblem::Newer(version.to_owned())));
        }
    }
    check_places(&file, reader.len())?;
    let schema = footer.schema_descr();
    let (columns, ignored) = columns(schema, layout)?;
    let rows = file.metadata().row_groups().iter();
    let rows = rows.map(|group| count(group.num_rows())).sum();
    let mut promised = vec![count(footer.num_rows())];
    if footer
        .created_by()
        .is_some_and(|name| name.starts_with(CREATED_BY_US))
    {
        if !is_whole {
            let problem = ImportProblem::Damaged {
                found: "that of no footer".to_owned(),
                expected: "a checksum of its footer".to_owned(),
            };
            return Err((None, problem));
        }
        check_bytes(reader, value_of(footer, CHECKSUM_KEY)).map_err(|problem| (None, problem))?;
        let spans = value_of(footer, COUNT_KEY).and_then(|n| n.parse().ok());
        promised.push(spans.unwrap_or(0));
    }
    if let Some(expected) = promised.into_iter().find(|n| *n != rows) {
        let found = rows;
        return Err((None, ImportProblem::RowCount { found, expected }));
    }
    Ok(Opened {
        file,
        columns,
        ignored,
        rows,
    })
}

/// Whether every column lies within the file, which decoding takes for granted.
fn check_places<R: ChunkReader + 'static>(
    file: &SerializedFileReader<R>,
    bytes: u64,
) -> Result<(), In> {
    let chunks = file
        .metadata()
        .row_groups()
        .iter()
        .flat_map(|g| g.columns());
    for chunk in chunks {
        let start = chunk
            .dictionary_page_offset()
            .unwrap_or(chunk.data_page_offset());
        let start = u64::try_from(start.min(chunk.data_page_offset()));
        let length = u64::try_from(chunk.compressed_size());
        let end = start
            .ok()
            .zip(length.ok())
            .and_then(|(a, b)| a.checked_add(b));
        let has_data = chunk.data_page_offset() >= 0 && chunk.num_values() >= 0;
        if !has_data || end.is_none_or(|end| end > bytes) {
            let column = chunk.column_path().string();
            return Err((Some(column), ImportProblem::OutsideOfFile));
        }
    }
    Ok(())
}

pub(crate) fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn value_of<'a>(footer: &'a FileMetaData, key: &str) -> Option<&'a str> {
    let all = footer.key_value_metadata()?;
    let found: &KeyValue = all.iter().find(|pair| pair.key == key)?;
    found.value.as_deref()
}

/// Where each leaf is in the file, and the columns that no leaf is made from.
fn columns(
    schema: &SchemaDescriptor,
    layout: &Layout,
) -> Result<(Vec<Option<usize>>, Vec<String>), In> {
    let paths: Vec<String> = schema.columns().iter().map(|c| c.path().string()).collect();
    let mut missing = Vec::new();
    let mut columns = Vec::new();
    for leaf in &layout.leaves {
        let place = paths.iter().position(|path| *path == leaf.path);
        let Some(place) = place.filter(|_| !leaf.derived) else {
            if !leaf.derived {
                missing.push(leaf.path.clone());
            }
            columns.push(None);
            continue;
        };
        let column = schema.column(place);
        let (found, expected) = (column.physical_type(), leaf.kind.physical());
        let lists = leaf.lists();
        if found != expected || usize::try_from(column.max_rep_level()) != Ok(lists) {
            let say = |kind: Type, lists: i16| match lists {
                0 => format!("{kind}"),
                n => format!("{kind} in {n} lists"),
            };
            let problem = ImportProblem::ColumnType {
                found: say(found, column.max_rep_level()),
                expected: say(expected, i16::try_from(lists).unwrap_or(i16::MAX)),
            };
            return Err((Some(leaf.path.clone()), problem));
        }
        columns.push(Some(place));
    }
    if !missing.is_empty() {
        return Err((None, ImportProblem::MissingColumns(missing)));
    }
    let known = |path: &String| layout.leaves.iter().any(|leaf| leaf.path == *path);
    let ignored = paths.into_iter().filter(|path| !known(path)).collect();
    Ok((columns, ignored))
}

/// Checks the footer's checksum before anything is made of the footer; false if it has none.
fn check_footer<R: ChunkReader>(reader: &R) -> Result<bool, ImportProblem> {
    let read = |start: u64, length: usize| {
        let bytes = reader.get_bytes(start, length);
        bytes.map_err(ImportProblem::NotParquet)
    };
    // Files too short for this are refused with the parquet crate's own words.
    let Some(end) = reader.len().checked_sub(FOOTER_TAIL as u64) else {
        return Ok(false);
    };
    let tail = read(end, FOOTER_TAIL)?;
    if !tail.ends_with(MAGIC) {
        return Ok(false);
    }
    let length = tail.first_chunk().map_or(0, |n| u32::from_le_bytes(*n));
    let Some(start) = end.checked_sub(u64::from(length)) else {
        return Ok(false);
    };
    let Ok(length) = usize::try_from(length) else {
        return Ok(false);
    };
    let mut footer = read(start, length)?.to_vec();
    let Some(digits) = schema::footer_digits(&footer) else {
        return Ok(false);
    };
    let expected = String::from_utf8_lossy(&footer[digits.clone()]).into_owned();
    footer[digits].fill(b'0');
    let found = schema::footer_checksum(&footer);
    match found == expected {
        true => Ok(true),
        false => Err(ImportProblem::Damaged { found, expected }),
    }
}

/// Sums up the bytes before the footer.
fn check_bytes<R: ChunkReader>(reader: &R, expected: Option<&str>) -> Result<(), ImportProblem> {
    let expected = expected.unwrap_or("not there");
    let bytes = schema::checksummed_bytes(expected).unwrap_or(0);
    let mut source = reader
        .get_read(0)
        .map_err(ImportProblem::NotParquet)?
        .take(bytes);
    let mut buffer = vec![0; 256 * 1024];
    let (mut crc32c, mut read) = (0, 0);
    loop {
        let n = source.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        crc32c = crc32c::crc32c_append(crc32c, &buffer[..n]);
        read += n as u64;
    }
    let found = schema::checksum(crc32c, read);
    match found == expected {
        true => Ok(()),
        false => Err(ImportProblem::Damaged {
            found,
            expected: expected.to_owned(),
        }),
    }
}

/// A reader in several hands.
pub(crate) struct Shared<R>(Arc<R>);

impl<R> Shared<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self(Arc::new(reader))
    }
}

impl<R> Clone for Shared<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R: ChunkReader> parquet::file::reader::Length for Shared<R> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<R: ChunkReader> ChunkReader for Shared<R> {
    type T = R::T;

    fn get_read(&self, start: u64) -> Result<R::T, ParquetError> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes, ParquetError> {
        self.0.get_bytes(start, length)
    }
}
