//! What can grow has a limit. Nothing is lost at a limit: the data takes a less compact form, or the
//! builder asks for another one to be started.

/// The most columns for attributes of one place (spans, events, links); the keys of one builder that
/// come first get one. Attributes with other keys go to one residual column.
pub const MAX_COLUMNS: usize = 1024;

/// The most attribute lists that differ in their keys and types, for each place. A list beyond them
/// goes to the residual column as a whole.
pub const MAX_SHAPES: usize = 4096;

/// The most keys in all shapes of one place.
pub const MAX_SHAPE_KEYS: usize = 128 * 1024;

/// The most arrays and maps around a value.
pub const MAX_DEPTH: usize = 128;

/// The most spans in one builder.
pub const MAX_SPANS: usize = 16 * 1024 * 1024;

/// The bytes of heap at which a builder is full.
pub const MAX_HEAP_BYTES: usize = 1 << 30;

/// The most spans in a row group.
pub const MAX_GROUP_SPANS: usize = 65_536;

/// The most bytes of a chunk when it is not compressed.
pub const MAX_CHUNK_BYTES: usize = u32::MAX as usize;
