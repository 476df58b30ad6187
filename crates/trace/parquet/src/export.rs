use std::io::{self, Write};
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use periplus_model::TraceId;
use periplus_store::{
    Outcome, SpanFilter, SpanStore, StoreError, StoredTrace, TimeRange, TraceFilter, TraceQuery,
};
use thiserror::Error;

use crate::schema::{
    self, CHECKSUM_KEY, COUNT_KEY, CREATED_BY, FOOTER_KEY, FOOTER_TAIL, VERSION, VERSION_KEY,
};
use crate::shred::{Columns, Row};

/// How a file is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// The most spans of a row group.
    pub row_group_spans: usize,
    /// The most bytes that a row group takes in memory, about; one span may be larger.
    pub row_group_bytes: usize,
    /// The level of zstd, 1 to 22.
    pub zstd_level: i32,
}

/// 65,536 spans, 64 MiB, zstd 3.
impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            row_group_spans: 64 * 1024,
            row_group_bytes: 64 * 1024 * 1024,
            zstd_level: 3,
        }
    }
}

/// What was exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportCounts {
    /// Traces.
    pub traces: u64,
    /// Spans: the rows of the file.
    pub spans: u64,
    /// Row groups.
    pub row_groups: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Traces that were left out, as they begin outside of the range.
    pub traces_of_other_ranges: u64,
    /// Whether the store could not read all that may belong to the range: then something is missing.
    pub incomplete: bool,
}

/// Why an export ended early. The file is of no use then.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The store failed.
    #[error("the store stopped after {spans} spans")]
    Store {
        /// Spans that were taken before.
        spans: u64,
        /// The cause.
        #[source]
        source: StoreError,
    },
    /// A value cannot be written.
    #[error("trace {trace_id}: {reason}")]
    Value {
        /// The trace.
        trace_id: TraceId,
        /// What is wrong.
        reason: String,
    },
    /// The file could not be written.
    #[error("cannot write column {column} of row group {row_group}")]
    Column {
        /// The column's path.
        column: String,
        /// The row group, counted from 0.
        row_group: u64,
        /// The cause.
        #[source]
        source: ParquetError,
    },
    /// The file could not be begun or ended.
    #[error("cannot write the file")]
    File(#[from] ParquetError),
}

/// Writes traces as Parquet, one row per span, in the order in which they come. What is kept in
/// memory is one row group.
///
/// Nothing that is written is of use before [`Exporter::finish`].
pub struct Exporter<W: Write + Send> {
    file: SerializedFileWriter<Checked<W>>,
    columns: Columns,
    options: ExportOptions,
    counts: ExportCounts,
}

impl<W: Write + Send> Exporter<W> {
    /// Begins a file.
    pub fn new(writer: W, options: ExportOptions) -> Result<Self, ExportError> {
        let level = ZstdLevel::try_new(options.zstd_level)?;
        let properties = properties(level);
        let writer = Checked {
            writer,
            checksum: 0,
            bytes: 0,
            footer: None,
        };
        Ok(Self {
            file: SerializedFileWriter::new(writer, schema::parsed()?, Arc::new(properties))?,
            columns: Columns::new(),
            options,
            counts: ExportCounts::default(),
        })
    }

    /// Adds a trace. Groups without spans say nothing and are left out.
    pub fn push(&mut self, trace: &StoredTrace) -> Result<(), ExportError> {
        self.counts.traces += 1;
        for (group_index, group) in trace.groups.iter().enumerate() {
            for (span_index, span) in group.spans.iter().enumerate() {
                let row = Row {
                    group_index,
                    span_index,
                    resource: &group.resource,
                    scope: &group.scope,
                    span,
                };
                self.columns.push(row).map_err(|e| ExportError::Value {
                    trace_id: trace.id,
                    reason: e.to_string(),
                })?;
                self.counts.spans += 1;
                if self.columns.rows() >= self.options.row_group_spans
                    || self.columns.bytes() >= self.options.row_group_bytes
                {
                    self.write_row_group()?;
                }
            }
        }
        Ok(())
    }

    /// Writes what is left and the footer, and gives the writer back, flushed.
    pub fn finish(mut self) -> Result<(ExportCounts, W), ExportError> {
        if self.columns.rows() > 0 {
            self.write_row_group()?;
        }
        self.file.flush().map_err(ParquetError::from)?;
        let data = self.file.inner();
        let checksum = schema::checksum(data.checksum, data.bytes);
        for (key, value) in [
            (VERSION_KEY, VERSION.to_string()),
            (CHECKSUM_KEY, checksum),
            (COUNT_KEY, self.counts.spans.to_string()),
            (FOOTER_KEY, schema::footer_placeholder()),
        ] {
            let pair = KeyValue::new(key.to_owned(), value);
            self.file.append_key_value_metadata(pair);
        }
        // Nothing goes past the parquet writer here: what is written is still what it counts.
        self.file.inner_mut().footer = Some(Vec::new());
        let mut file = self.file.into_inner()?;
        file.write_footer().map_err(ParquetError::from)?;
        let Checked {
            mut writer, bytes, ..
        } = file;
        writer.flush().map_err(ParquetError::from)?;
        self.counts.bytes = bytes;
        Ok((self.counts, writer))
    }

    /// What was taken so far; the bytes are known at the end.
    pub const fn counts(&self) -> ExportCounts {
        self.counts
    }

    fn write_row_group(&mut self) -> Result<(), ExportError> {
        let row_group = self.counts.row_groups;
        let mut writer = self.file.next_row_group()?;
        let mut leaf = 0;
        let mut write = |columns: &mut Columns| -> Result<bool, ParquetError> {
            let Some(mut column) = writer.next_column()? else {
                return Ok(false);
            };
            columns.buffers()[leaf].write(&mut column)?;
            column.close()?;
            leaf += 1;
            Ok(true)
        };
        loop {
            match write(&mut self.columns) {
                Ok(true) => {}
                Ok(false) => break,
                Err(source) => {
                    let column = self.columns.path(leaf).to_owned();
                    return Err(ExportError::Column {
                        column,
                        row_group,
                        source,
                    });
                }
            }
        }
        writer.close()?;
        self.columns.start_over();
        self.counts.row_groups += 1;
        Ok(())
    }
}

/// Writes every trace of the stream.
///
/// Writing blocks: on a runtime, call this where blocking is allowed.
pub async fn export<W: Write + Send>(
    mut traces: impl Stream<Item = Result<StoredTrace, StoreError>> + Unpin,
    writer: W,
    options: ExportOptions,
) -> Result<(ExportCounts, W), ExportError> {
    let mut exporter = Exporter::new(writer, options)?;
    while let Some(trace) = traces.next().await {
        exporter.push(&trace.map_err(|source| ExportError::Store {
            spans: exporter.counts.spans,
            source,
        })?)?;
    }
    exporter.finish()
}

/// Writes every trace whose earliest span starts inside the range and of which some span inside the
/// range matches the filter, newest first. A trace is in one range: exports of ranges that follow
/// each other neither miss nor repeat one.
///
/// Writing blocks: on a runtime, call this where blocking is allowed.
pub async fn export_range<W: Write + Send>(
    store: &dyn SpanStore,
    range: TimeRange,
    filter: SpanFilter,
    writer: W,
    options: ExportOptions,
) -> Result<(ExportCounts, W), ExportError> {
    let mut exporter = Exporter::new(writer, options)?;
    let mut query = TraceQuery::new(range, TraceFilter::AnySpan(filter), usize::MAX);
    loop {
        let failed = |spans| move |source| ExportError::Store { spans, source };
        let spans = exporter.counts.spans;
        // One search for all: it keeps what is still to come, not what has come.
        let mut traces = store.search(query.clone()).map_err(failed(spans))?;
        let before = query.after;
        while let Some(trace) = traces.next().await {
            let trace = trace.map_err(failed(exporter.counts.spans))?;
            let start_unix_nano = trace.cursor().start_unix_nano;
            exporter.counts.incomplete |= trace.incomplete.is_some();
            match range.contains(start_unix_nano) {
                true => exporter.push(&trace)?,
                false => exporter.counts.traces_of_other_ranges += 1,
            }
            query.after = Some(trace.cursor());
        }
        match traces.outcome() {
            // A store ends searches that take long: the next one goes on behind.
            Some(Outcome::Partial { .. }) if query.after != before => {}
            // There is no other way to get out what is not damaged.
            Some(Outcome::Partial { .. }) if traces.met_damage() => {
                exporter.counts.incomplete = true;
                return exporter.finish();
            }
            Some(Outcome::Partial { reason }) => {
                return Err(failed(exporter.counts.spans)(StoreError::QueryLimit {
                    reason,
                }));
            }
            Some(Outcome::Complete | Outcome::Limit) | None => return exporter.finish(),
        }
    }
}

fn properties(level: ZstdLevel) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_offset_index_disabled(true)
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(None)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    // Numbers that hardly ever repeat but lie close together.
    for column in ["start_time", "start_unix_nano", "end_unix_nano"] {
        let column = ColumnPath::from(column);
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    // Ids never repeat.
    let id = ColumnPath::from("span_id");
    properties.set_column_dictionary_enabled(id, false).build()
}

/// Sums up what is written, and holds back the footer until its checksum is in it.
struct Checked<W> {
    writer: W,
    checksum: u32,
    bytes: u64,
    footer: Option<Vec<u8>>,
}

impl<W: Write> Checked<W> {
    fn write_footer(&mut self) -> io::Result<()> {
        let Some(mut footer) = self.footer.take() else {
            return Ok(());
        };
        // The length and the magic behind it are not part of it.
        let end = footer.len().saturating_sub(FOOTER_TAIL);
        if let Some(digits) = schema::footer_digits(&footer[..end]) {
            let checksum = schema::footer_checksum(&footer[..end]);
            footer[digits].copy_from_slice(checksum.as_bytes());
        }
        self.bytes += footer.len() as u64;
        self.writer.write_all(&footer)
    }
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(footer) = &mut self.footer {
            footer.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let written = self.writer.write(bytes)?;
        self.checksum = crc32c::crc32c_append(self.checksum, &bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
