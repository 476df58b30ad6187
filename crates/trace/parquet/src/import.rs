use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::file::reader::{ChunkReader, FileReader as _};
use parquet::file::serialized_reader::SerializedFileReader;
use periplus_model::{Batch, Resource, Scope, SpanGroup, TraceId};

use crate::assemble::{Assembled, Assembler, At};
use crate::cursor::{Cursor, Fault, Shape};
use crate::error::{ImportError, ImportProblem};
use crate::layout::Layout;
use crate::open::{Opened, Shared, count, open};
use crate::same;

/// How many rows are decoded at once.
const ROWS: usize = 1024;
/// A batch ends with the group that makes it this large …
const BATCH_SPANS: usize = 8 * 1024;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// … and within a group with the span that makes it this many times as large.
const WITHIN_GROUP: usize = 4;

/// What was imported so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportCounts {
    /// Spans: rows of the file.
    pub spans: u64,
    /// Traces: runs of rows with one trace id, if the file is sorted by something else.
    pub traces: u64,
    /// Batches.
    pub batches: u64,
}

/// Reads a file as batches for a store, in the order of its rows.
///
/// Rows that follow each other are one group if they have the same trace, group index, resource and
/// scope, and ascending span indices. A batch ends where a group ends, unless the group is very
/// large.
///
/// The iterator ends when it has read every row that the footer promises, or after an error. It
/// blocks while it reads.
pub struct Import<R: ChunkReader + 'static = File> {
    file: SerializedFileReader<Shared<R>>,
    name: String,
    layout: Arc<Layout>,
    columns: Vec<Option<usize>>,
    ignored: Vec<String>,
    rows: u64,
    counts: ImportCounts,
    last_trace: Option<TraceId>,
    /// The row group that is read next.
    row_group: usize,
    /// The columns of the one that is being read.
    assembler: Option<Assembler>,
    /// Its rows that are not decoded, and those that are, but not taken.
    left: usize,
    decoded: usize,
    taken: u64,
    filling: Filling,
    failed: bool,
}

impl Import<File> {
    /// Opens a file, and checks its footer, its columns and, if an export wrote it, its checksum.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Self::new(file, name),
            Err(e) => Err(error(name, e.into())),
        }
    }
}

impl<R: ChunkReader + 'static> Import<R> {
    /// The same for anything that can be read at any place; errors call it by this name.
    pub fn new(reader: R, name: String) -> Result<Self, ImportError> {
        let layout = Arc::new(Layout::new());
        match open(&Shared::new(reader), &layout) {
            Ok(Opened {
                file,
                columns,
                ignored,
                rows,
            }) => Ok(Self {
                file,
                name,
                layout,
                columns,
                ignored,
                rows,
                counts: ImportCounts::default(),
                last_trace: None,
                row_group: 0,
                assembler: None,
                left: 0,
                decoded: 0,
                taken: 0,
                filling: Filling::default(),
                failed: false,
            }),
            Err((column, problem)) => Err(ImportError {
                column,
                ..error(name, problem)
            }),
        }
    }

    /// How many spans the footer promises.
    pub const fn promised_spans(&self) -> u64 {
        self.rows
    }

    /// The columns that an export does not have. They are not imported.
    pub fn ignored_columns(&self) -> &[String] {
        &self.ignored
    }

    /// What was handed on so far.
    pub const fn counts(&self) -> ImportCounts {
        self.counts
    }

    fn count_traces(&mut self, batch: &Batch) {
        for span in batch.groups.iter().flat_map(|group| &group.spans) {
            if self.last_trace != Some(span.trace_id) {
                self.counts.traces += 1;
                self.last_trace = Some(span.trace_id);
            }
        }
    }

    fn advance(&mut self) -> Result<Option<Batch>, ImportError> {
        loop {
            let Some(row) = self.row()? else {
                return Ok(self.filling.take());
            };
            self.taken += 1;
            if let Some(batch) = self.filling.push(row) {
                return Ok(Some(batch));
            }
        }
    }

    fn row(&mut self) -> Result<Option<Assembled>, ImportError> {
        while self.decoded == 0 {
            if !self.decode()? {
                return Ok(None);
            }
        }
        self.decoded -= 1;
        let at_end = self.decoded == 0;
        let Some(assembler) = &mut self.assembler else {
            return Ok(None);
        };
        let row = assembler.next().and_then(|row| {
            if at_end {
                assembler.check_used_up()?;
            }
            Ok(row)
        });
        row.map(Some).map_err(|at| self.fault(at))
    }

    /// Decodes more rows; false at the end of the file.
    fn decode(&mut self) -> Result<bool, ImportError> {
        if self.left == 0 && !self.next_row_group()? {
            return Ok(false);
        }
        let rows = self.left.min(ROWS);
        if let Some(assembler) = &mut self.assembler {
            let filled = assembler.fill(rows);
            filled.map_err(|at| self.fault(at))?;
        }
        self.left -= rows;
        self.decoded = rows;
        Ok(true)
    }

    fn next_row_group(&mut self) -> Result<bool, ImportError> {
        if self.row_group >= self.file.num_row_groups() {
            return match self.taken == self.rows {
                true => Ok(false),
                false => Err(self.error(ImportProblem::RowCount {
                    found: self.taken,
                    expected: self.rows,
                })),
            };
        }
        let cursors = self.cursors(self.row_group);
        self.row_group += 1;
        let (rows, cursors) = cursors.map_err(|at| self.fault(at))?;
        self.left = rows;
        self.assembler = Some(Assembler::new(Arc::clone(&self.layout), cursors));
        Ok(true)
    }

    fn cursors(&self, row_group: usize) -> Result<(usize, Vec<Option<Cursor>>), At> {
        let row_group = self.file.get_row_group(row_group);
        let row_group = row_group.map_err(|e| (0, Fault::Parquet(e)))?;
        let schema = row_group.metadata().schema_descr();
        let cursor = |leaf: usize, column: Option<usize>| {
            let Some(column) = column else {
                return Ok(None);
            };
            let shape = Shape::new(schema.root_schema(), &schema.column(column));
            if shape.lists() != self.layout.leaves[leaf].lists() {
                return Err((leaf, Fault::OutOfStep));
            }
            let reader = row_group.get_column_reader(column);
            let reader = reader.map_err(|e| (leaf, Fault::Parquet(e)))?;
            Cursor::new(shape, reader)
                .map(Some)
                .ok_or((leaf, Fault::OutOfStep))
        };
        let columns = self.columns.iter().enumerate();
        let cursors = columns.map(|(leaf, column)| cursor(leaf, *column));
        let rows = usize::try_from(count(row_group.metadata().num_rows()));
        Ok((
            rows.map_err(|_| (0, Fault::Short))?,
            cursors.collect::<Result<_, _>>()?,
        ))
    }

    fn fault(&self, (leaf, fault): At) -> ImportError {
        let (problem, row) = match fault {
            Fault::Null => (ImportProblem::Null, Some(self.taken)),
            Fault::OutOfStep => (ImportProblem::OutOfStep, Some(self.taken)),
            Fault::Value(reason) => (ImportProblem::Value(reason), Some(self.taken)),
            Fault::Short => (ImportProblem::Short, None),
            Fault::Parquet(e) => (ImportProblem::Decode(e), None),
        };
        ImportError {
            row_group: self.row_group.checked_sub(1),
            column: Some(self.layout.leaves[leaf].path.clone()),
            row,
            ..self.error(problem)
        }
    }

    fn error(&self, problem: ImportProblem) -> ImportError {
        ImportError {
            spans_before: self.counts.spans,
            ..error(self.name.clone(), problem)
        }
    }
}

impl<R: ChunkReader + 'static> Iterator for Import<R> {
    type Item = Result<Batch, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance();
        match &next {
            Ok(None) => {}
            Ok(Some(batch)) => {
                self.counts.spans += batch.span_count() as u64;
                self.count_traces(batch);
                self.counts.batches += 1;
            }
            Err(_) => self.failed = true,
        }
        next.transpose()
    }
}

fn error(file: String, problem: ImportProblem) -> ImportError {
    ImportError {
        file,
        row_group: None,
        column: None,
        row: None,
        spans_before: 0,
        problem: Box::new(problem),
    }
}

/// The batch that is being filled.
#[derive(Debug, Default)]
struct Filling {
    groups: Vec<SpanGroup>,
    spans: usize,
    bytes: usize,
    last: Option<Last>,
}

/// What the last row was part of.
#[derive(Debug)]
struct Last {
    trace_id: TraceId,
    group_index: u32,
    span_index: u32,
    resource: Arc<Resource>,
    scope: Arc<Scope>,
}

impl Filling {
    /// Adds a row; the batch before it, if that is large enough.
    fn push(&mut self, row: Assembled) -> Option<Batch> {
        let goes_on = self.goes_on(&row);
        let factor = if goes_on { WITHIN_GROUP } else { 1 };
        let is_full = self.spans >= BATCH_SPANS * factor || self.bytes >= BATCH_BYTES * factor;
        let full = if is_full { self.take() } else { None };
        self.spans += 1;
        self.bytes += row.bytes;
        let last = self.last.take();
        let (resource, scope) = match last {
            Some(last) => (
                shared(last.resource, row.resource, same::resources),
                shared(last.scope, row.scope, same::scopes),
            ),
            None => (Arc::new(row.resource), Arc::new(row.scope)),
        };
        self.last = Some(Last {
            trace_id: row.span.trace_id,
            group_index: row.group_index,
            span_index: row.span_index,
            resource: Arc::clone(&resource),
            scope: Arc::clone(&scope),
        });
        match self.groups.last_mut() {
            Some(group) if goes_on => group.spans.push(row.span),
            _ => self.groups.push(SpanGroup {
                resource,
                scope,
                spans: vec![row.span],
            }),
        }
        full
    }

    fn goes_on(&self, row: &Assembled) -> bool {
        self.last.as_ref().is_some_and(|last| {
            last.trace_id == row.span.trace_id
                && last.group_index == row.group_index
                && last.span_index < row.span_index
                && same::resources(&last.resource, &row.resource)
                && same::scopes(&last.scope, &row.scope)
        })
    }

    fn take(&mut self) -> Option<Batch> {
        (self.spans, self.bytes) = (0, 0);
        let groups = std::mem::take(&mut self.groups);
        (!groups.is_empty()).then_some(Batch { groups })
    }
}

/// The one that is shared already, if it is the same.
fn shared<T>(last: Arc<T>, new: T, same: impl Fn(&T, &T) -> bool) -> Arc<T> {
    match same(&last, &new) {
        true => last,
        false => Arc::new(new),
    }
}
