//! A file that is written around the system's cache of pages: nobody reads it soon, and to copy its bytes
//! there, and clean them out again, takes processor time from spans.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::DiskFile;
use super::real::RealFile;
use super::staged::unsupported;

/// Takes whole blocks only, which [`super::staged::StagedFile`] makes.
#[derive(Debug)]
pub(super) struct DirectFile(RealFile);

impl DirectFile {
    /// Makes the file; an error if it is there already. `None`, and no file, if the file system takes no
    /// direct writes.
    pub(super) fn create(path: &Path) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        options.custom_flags(OFlags::DIRECT.bits().cast_signed());
        match options.open(path) {
            Ok(file) => Ok(Some(Self(RealFile(file)))),
            // Linux makes the file before it finds that it cannot be opened so.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(None),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn file(&self) -> &File {
        &self.0.0
    }

    /// Writes whole blocks. Where they are too small for the disk below, this file is written as any other
    /// from then on.
    fn write(&self, blocks: &[u8], at: u64) -> io::Result<()> {
        match self.file().write_all_at(blocks, at) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let flags = fcntl_getfl(self.file())?;
                if !flags.contains(OFlags::DIRECT) {
                    return Err(error);
                }
                tracing::debug!(%error, "this disk takes no direct writes");
                fcntl_setfl(self.file(), flags - OFlags::DIRECT)?;
                self.file().write_all_at(blocks, at)
            }
            outcome => outcome,
        }
    }
}

impl DiskFile for DirectFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(unsupported("a direct file is only written"))
    }

    fn write_pieces_at(&self, pieces: &[&[u8]], mut offset: u64) -> io::Result<()> {
        for piece in pieces {
            self.write(piece, offset)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.0.allocate(size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}
