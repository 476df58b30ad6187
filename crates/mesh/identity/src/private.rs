//! Files that are for this user alone.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What went wrong with a file.
#[derive(Debug, Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "{path} may be read by others (mode {mode:o}): make it yours alone with chmod go= {path}"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is too long to be what it should be.
    #[error("{path} has more than {most} bytes")]
    TooLong {
        /// Which.
        path: PathBuf,
        /// As many may be.
        most: u64,
    },
}

/// Makes a directory that only this user may enter, unless it is there.
pub fn make_directory(path: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| FileError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Reads a text of at most `most` bytes.
pub fn read(path: &Path, most: u64) -> Result<String, FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.len() > most {
        return Err(FileError::TooLong {
            path: path.to_owned(),
            most,
        });
    }
    fs::read_to_string(path).map_err(failed)
}

/// Reads a secret; it is refused if others may read it.
pub fn read_secret(path: &Path, most: u64) -> Result<String, FileError> {
    let metadata = fs::metadata(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    read(path, most)
}

/// Writes a file of mode 0600, whole or not at all.
pub fn write(path: &Path, text: &str) -> Result<(), FileError> {
    put(path, text, |temporary| fs::rename(temporary, path))
}

/// Writes a file of mode 0600, whole or not at all, unless there is one.
pub fn create(path: &Path, text: &str) -> Result<(), FileError> {
    put(path, text, |temporary| {
        match fs::hard_link(temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    })
}

/// Writes a file beside this one, and puts it in its place.
fn put(
    path: &Path,
    text: &str,
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{:x}", std::process::id(), fastrand::u64(..)));
    let temporary = path.with_file_name(name);
    let written = write_new(&temporary, text).and_then(|()| place(&temporary));
    // It is gone already if it was renamed.
    let _ = fs::remove_file(&temporary);
    written.map_err(|source| FileError::Write {
        path: path.to_owned(),
        source,
    })
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_for_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("a/b");
        make_directory(&inner).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().mode() & 0o777, 0o700);
        let path = inner.join("key");
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        create(&path, "three").unwrap();
        assert_eq!(read_secret(&path, 3).unwrap(), "two");
        assert!(matches!(
            read_secret(&path, 2),
            Err(FileError::TooLong { .. })
        ));
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&path, open).unwrap();
        let error = read_secret(&path, 3).unwrap_err().to_string();
        assert!(
            error.contains("mode 644") && error.contains("chmod go="),
            "{error}"
        );
    }
}
