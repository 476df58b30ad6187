use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The most of a file that is read; the parser refuses what is longer than its own, smaller limit.
const MAX_BYTES: u64 = 5 << 20;

/// What tells a file from what it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What became of reading a file.
#[derive(Debug)]
pub(super) enum Read {
    /// It is the same as before.
    Same,
    /// It says this.
    Text(Signature, String),
    /// It cannot be read.
    Failed(String),
}

/// Reads a file unless it has this signature.
pub(super) fn read(path: &Path, known: Option<&Signature>) -> Read {
    match try_read(path, known) {
        Ok(Some((signature, bytes))) => match String::from_utf8(bytes) {
            Ok(text) => Read::Text(signature, text),
            Err(error) => Read::Failed(format!(
                "byte {} is not UTF-8",
                error.utf8_error().valid_up_to()
            )),
        },
        Ok(None) => Read::Same,
        Err(error) => Read::Failed(format!("cannot be read ({error})")),
    }
}

fn try_read(path: &Path, known: Option<&Signature>) -> io::Result<Option<(Signature, Vec<u8>)>> {
    let mut file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    let signature = Signature {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    if known == Some(&signature) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(Some((signature, bytes)))
}
