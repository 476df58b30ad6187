//! Files that are cut, damaged, or of somebody else: an error that says where, never a part of the
//! spans without one.

use std::error::Error as _;
use std::sync::Arc;

use bytes::Bytes;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use periplus_model::{Attribute, Event, Resource, Scope, Span, SpanGroup, SpanId, TraceId};
use periplus_parquet::{ExportOptions, Import, ImportError, ImportProblem};
use periplus_store::StoredTrace;

use crate::support::{contents, read, write};

fn traces() -> Vec<StoredTrace> {
    let span = |trace: u64, n: u64| Span {
        trace_id: TraceId::from_halves(1, trace),
        span_id: SpanId::from_u64(trace << 8 | n),
        parent_span_id: n.checked_sub(1).map(SpanId::from_u64),
        name: format!("operation {n}"),
        start_unix_nano: 1_760_000_000_000_000_000 + n,
        end_unix_nano: 1_760_000_000_000_001_000 + trace,
        attributes: vec![
            Attribute::new("http.status_code", 200),
            Attribute::new("user", format!("{trace}-{n}")),
        ],
        events: vec![Event::default(); usize::try_from(n % 3).unwrap()],
        ..Span::default()
    };
    let trace = |id: u64| StoredTrace {
        id: TraceId::from_halves(1, id),
        groups: vec![Arc::new(SpanGroup {
            resource: Arc::new(Resource::of_service("cart")),
            scope: Arc::new(Scope::default()),
            spans: (0..8).map(|n| span(id, n)).collect(),
        })],
        incomplete: None,
    };
    (0..6).map(trace).collect()
}

fn file() -> Vec<u8> {
    let options = ExportOptions {
        row_group_spans: 20,
        ..ExportOptions::default()
    };
    write(&traces(), options).1
}

fn text(error: &ImportError) -> String {
    let source = error.source().map(ToString::to_string);
    format!("{error}: {}", source.unwrap_or_default())
}

#[test]
fn a_file_that_is_cut_is_refused_wherever() {
    let file = file();
    for end in (0..file.len()).step_by(7).chain([file.len() - 1]) {
        let error = read(file[..end].to_vec()).unwrap_err();
        assert!(
            text(&error).starts_with("cannot import spans.parquet: this is no whole Parquet file"),
            "{end}: {}",
            text(&error)
        );
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_changes_nothing() {
    let file = file();
    let all = contents(read(file.clone()).unwrap().iter().flat_map(|b| &b.groups));
    let mut refused = 0;
    let footer = file.len() - 8 - footer_length(&file);
    let places: Vec<_> = (0..footer)
        .step_by(97)
        .chain((footer..file.len()).step_by(5))
        .collect();
    let count = places.len();
    for place in places {
        let mut damaged = file.clone();
        damaged[place] ^= 1 << (place % 8);
        match read(damaged) {
            Ok(batches) => {
                let read = contents(batches.iter().flat_map(|b| &b.groups));
                assert!(read == all, "the bit at {place} gives other spans");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > count / 2, "{refused} of {count}");
}

fn footer_length(file: &[u8]) -> usize {
    let tail = file[file.len() - 8..].first_chunk().unwrap();
    usize::try_from(u32::from_le_bytes(*tail)).unwrap()
}

#[test]
fn what_is_no_parquet_is_refused() {
    for bytes in [
        &b""[..],
        b"PAR1",
        b"{\"resourceSpans\":[]}",
        b"PAR1PAR1PAR1",
    ] {
        let error = read(bytes).unwrap_err();
        assert!(
            matches!(*error.problem, ImportProblem::NotParquet(_)),
            "{error}"
        );
    }
    let missing = Import::open(std::path::Path::new("there/is/no.parquet"));
    let error = missing.err().unwrap();
    assert!(text(&error).contains("there/is/no.parquet: the file cannot be read"));
}

/// A file of somebody else with one row group, a text and a number in each row.
fn foreign(schema: &str, rows: &[(&str, i64)]) -> Bytes {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::default());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let mut row_group = file.next_row_group().unwrap();
    let texts: Vec<_> = rows.iter().map(|row| ByteArray::from(row.0)).collect();
    let numbers: Vec<_> = rows.iter().map(|row| row.1).collect();
    let mut column = row_group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&texts, None, None)
        .unwrap();
    column.close().unwrap();
    let mut column = row_group.next_column().unwrap().unwrap();
    column
        .typed::<Int64Type>()
        .write_batch(&numbers, None, None)
        .unwrap();
    column.close().unwrap();
    row_group.close().unwrap();
    file.into_inner().unwrap().into()
}

#[test]
fn the_columns_that_are_missing_are_named() {
    let schema = "message m { required binary trace_id (STRING); required int64 start_unix_nano; }";
    let error = read(foreign(schema, &[("1", 1)])).unwrap_err();
    let ImportProblem::MissingColumns(missing) = &*error.problem else {
        panic!("{}", text(&error));
    };
    assert!(missing.contains(&"span_id".to_owned()));
    assert!(missing.contains(&"events.list.element.name".to_owned()));
    assert!(!missing.contains(&"trace_id".to_owned()));
    // What is made from other columns can be missing.
    assert!(!missing.contains(&"service_name".to_owned()));
}

#[test]
fn a_column_of_another_type_is_named() {
    let schema = "message m { required binary trace_id (STRING); required int64 group_index; }";
    let error = read(foreign(schema, &[("1", 1)])).unwrap_err();
    assert_eq!(
        text(&error),
        "cannot import spans.parquet, column group_index: the column is INT64, in an export it is INT32"
    );
}
