use std::ops::Range;

use parquet::errors::ParquetError;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::TypePtr;

/// The version of the columns, in the file's key-value metadata under [`VERSION_KEY`].
pub const VERSION: u32 = 1;

/// The metadata key of the version.
pub const VERSION_KEY: &str = "periplus.spans.version";
/// Who wrote a file whose checksum is that of the file. Tools that rewrite a file may keep its
/// metadata, but sign with their own name.
pub(crate) const CREATED_BY: &str = concat!("periplus ", env!("CARGO_PKG_VERSION"));
/// What [`CREATED_BY`] of every version begins with.
pub(crate) const CREATED_BY_US: &str = "periplus ";
/// The metadata key of the CRC-32C of every byte before the footer.
pub(crate) const CHECKSUM_KEY: &str = "periplus.spans.crc32c";
/// The metadata key of the CRC-32C of the footer itself.
pub(crate) const FOOTER_KEY: &str = "periplus.spans.footer";
/// What stands before the 8 digits of the footer's checksum, of which they count as zeros.
pub(crate) const FOOTER_MARK: &[u8] = b"footer crc32c ";
/// What follows the footer: its length and the magic.
pub(crate) const FOOTER_TAIL: usize = 8;
/// The metadata key of the number of spans.
pub(crate) const COUNT_KEY: &str = "periplus.spans.count";

/// The columns in Parquet's own notation, as an export writes them.
pub fn schema_text() -> String {
    let top = map("attributes", 1);
    let nested = map("attributes", 2);
    let deep = map("attributes", 4);
    format!(
        "message spans {{
  REQUIRED BYTE_ARRAY trace_id (STRING);
  REQUIRED INT32 group_index (INTEGER(32,false));
  REQUIRED INT32 span_index (INTEGER(32,false));
  REQUIRED BYTE_ARRAY span_id (STRING);
  OPTIONAL BYTE_ARRAY parent_span_id (STRING);
  REQUIRED BYTE_ARRAY service_name (STRING);
  REQUIRED BYTE_ARRAY name (STRING);
  REQUIRED BYTE_ARRAY kind (STRING);
  REQUIRED INT64 start_time (TIMESTAMP(MICROS,true));
  REQUIRED INT64 start_unix_nano (INTEGER(64,false));
  REQUIRED INT64 end_unix_nano (INTEGER(64,false));
  REQUIRED INT64 duration_nano (INTEGER(64,false));
  REQUIRED BYTE_ARRAY status_code (STRING);
  REQUIRED BYTE_ARRAY status_message (STRING);
  OPTIONAL BYTE_ARRAY http_method (STRING);
  OPTIONAL INT32 http_status_code (INTEGER(32,true));
  REQUIRED BYTE_ARRAY trace_state (STRING);
  REQUIRED INT32 flags (INTEGER(32,false));
{top}  REQUIRED INT32 dropped_attributes_count (INTEGER(32,false));
  REQUIRED group resource {{
{nested}    REQUIRED INT32 dropped_attributes_count (INTEGER(32,false));
    REQUIRED BYTE_ARRAY schema_url (STRING);
  }}
  REQUIRED group scope {{
    REQUIRED BYTE_ARRAY name (STRING);
    REQUIRED BYTE_ARRAY version (STRING);
{nested}    REQUIRED INT32 dropped_attributes_count (INTEGER(32,false));
    REQUIRED BYTE_ARRAY schema_url (STRING);
  }}
  REQUIRED group events (LIST) {{
    REPEATED group list {{
      REQUIRED group element {{
        REQUIRED INT64 time_unix_nano (INTEGER(64,false));
        REQUIRED BYTE_ARRAY name (STRING);
{deep}        REQUIRED INT32 dropped_attributes_count (INTEGER(32,false));
      }}
    }}
  }}
  REQUIRED INT32 dropped_events_count (INTEGER(32,false));
  REQUIRED group links (LIST) {{
    REPEATED group list {{
      REQUIRED group element {{
        REQUIRED BYTE_ARRAY trace_id (STRING);
        REQUIRED BYTE_ARRAY span_id (STRING);
        REQUIRED BYTE_ARRAY trace_state (STRING);
        REQUIRED INT32 flags (INTEGER(32,false));
{deep}        REQUIRED INT32 dropped_attributes_count (INTEGER(32,false));
      }}
    }}
  }}
  REQUIRED INT32 dropped_links_count (INTEGER(32,false));
}}
"
    )
}

/// A list of attributes: one of the typed values is set, none for an empty value.
fn map(name: &str, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    format!(
        "{indent}REQUIRED group {name} (MAP) {{
{indent}  REPEATED group key_value {{
{indent}    REQUIRED BYTE_ARRAY key (STRING);
{indent}    REQUIRED group value {{
{indent}      OPTIONAL BYTE_ARRAY string_value (STRING);
{indent}      OPTIONAL BOOLEAN bool_value;
{indent}      OPTIONAL INT64 int_value (INTEGER(64,true));
{indent}      OPTIONAL DOUBLE double_value;
{indent}      OPTIONAL BYTE_ARRAY bytes_value;
{indent}      OPTIONAL BYTE_ARRAY json_value (JSON);
{indent}    }}
{indent}  }}
{indent}}}
"
    )
}

pub(crate) fn parsed() -> Result<TypePtr, ParquetError> {
    parse_message_type(&schema_text()).map(TypePtr::new)
}

/// What stands in the footer of the bytes before it.
pub(crate) fn checksum(crc32c: u32, bytes: u64) -> String {
    format!("{crc32c:08x} of {bytes} bytes")
}

/// How many bytes a checksum is of.
pub(crate) fn checksummed_bytes(checksum: &str) -> Option<u64> {
    checksum.split(' ').nth(2)?.parse().ok()
}

/// The footer's checksum before it is known.
pub(crate) fn footer_placeholder() -> String {
    format!("{}00000000", String::from_utf8_lossy(FOOTER_MARK))
}

/// Where the 8 digits of the footer's checksum are among its bytes.
pub(crate) fn footer_digits(footer: &[u8]) -> Option<Range<usize>> {
    let mut windows = footer.windows(FOOTER_MARK.len());
    let start = windows.position(|window| window == FOOTER_MARK)? + FOOTER_MARK.len();
    (start + 8 <= footer.len()).then_some(start..start + 8)
}

/// The checksum of a footer whose digits are zeros.
pub(crate) fn footer_checksum(footer: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(footer))
}
