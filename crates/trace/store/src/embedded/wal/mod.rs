//! The write-ahead log: what was accepted and is in no segment yet.
//!
//! ```text
//! wal/000000000007.wal     64 MB, reserved when it is made, zeros behind the last record
//!   record, record, …      each at a multiple of 8 bytes
//! record                   little-endian
//!   0  magic               "pwal"
//!   4  length of the body  u32
//!   8  crc32c              of bytes 4..8, 12..40 and the body, seeded with the store's id and the
//!                          file's number
//!  12  kind                u8: 1 = a batch of spans as [`super::batch`] writes it,
//!                          2 = an OTLP request in protobuf as it came
//!  13  version             u8: 0
//!  14  zeros               2 bytes
//!  16  sequence            u64, grows by one with every record that is tried
//!  24  offset              u64, where in the file this is
//!  32  received            u64, nanoseconds since the Unix epoch
//!  40  body, and zeros up to a multiple of 8
//! ```
//!
//! The seed is a secret of the directory: bytes inside a span's attribute can never pass for a
//! record. The offset and the sequence tell what is left of a write that failed from what was
//! written in its place.

mod log;
mod record;
mod recover;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(super) use log::{AppendError, Log, LogOptions};
pub(super) use record::{HEADER, Kind};
pub(super) use recover::{Gap, Recovered, ReplayFrom, Visitor, replay};

/// A place in the log: everything before it is meant by "up to here".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(super) struct Position {
    /// The number of the file.
    pub file: u64,
    /// The byte in it.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

/// The greatest number of a file. A greater one is in no name that is ours, and none could follow it.
const MAX_NUMBER: u64 = u64::MAX >> 1;

/// The path of a file of the log.
pub(super) fn path(dir: &Path, file: u64) -> PathBuf {
    dir.join(format!("{file:012}.wal"))
}

/// The number in a file's name.
pub(super) fn number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".wal")?.parse().ok()?;
    (number <= MAX_NUMBER).then_some(number)
}
