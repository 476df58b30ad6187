//! The columns are what the guide says, and stay so.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::printer::print_schema;
use periplus_parquet::{ExportOptions, VERSION, VERSION_KEY, schema_text};

use crate::support::write;

#[test]
fn the_columns_of_a_file_are_these() {
    let (_, file) = write(&[], ExportOptions::default());
    let file = SerializedFileReader::new(Bytes::from(file)).unwrap();
    let footer = file.metadata().file_metadata();
    let mut printed = Vec::new();
    print_schema(&mut printed, footer.schema());
    insta::assert_snapshot!(String::from_utf8(printed).unwrap());
    let metadata = footer.key_value_metadata().unwrap();
    let version = metadata.iter().find(|pair| pair.key == VERSION_KEY);
    assert_eq!(
        version.and_then(|v| v.value.clone()),
        Some(VERSION.to_string())
    );
}

#[test]
fn the_guide_has_the_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let guide = fs::read_to_string(root.join("docs/parquet.md")).unwrap();
    assert!(
        guide.contains(&schema_text()),
        "docs/parquet.md is not up to date"
    );
}
