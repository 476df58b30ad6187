//! The file operations that the engine needs, so that a test can put a disk below it that fails.

mod direct;
mod real;
mod simulated;
mod staged;

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;
pub use simulated::{Crash, Fault, SimulatedDisk};

/// A disk. What is written survives a power cut only once it is synced: a file's bytes by
/// [`DiskFile::sync`], its name by [`Disk::sync_dir`] of the directory.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory; one that is there already is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes a file, to be read and written; an error if it is there already.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a file that is only written, from its beginning to its end; an error if it is there already.
    fn create_to_append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.create(path)
    }

    /// Opens a file, to be read.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file, to be read and written.
    fn open_to_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name in one step; what had that name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Those who have it open read on.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes durable which names a directory has.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// How many files may well be open at the same time to be read.
    fn most_open_files(&self) -> usize;

    /// Makes a lock file, or takes the one that is there. [`io::ErrorKind::WouldBlock`] if somebody
    /// holds it; it is free when the guard is dropped or the process ends, however it ends.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// An open file. Reads and writes name their place, so that all threads can share it.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// How many bytes it has.
    fn size(&self) -> io::Result<u64>;

    /// Fills the buffer; [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of it, or an unknown part of it and an error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_pieces_at(&[bytes], offset)
    }

    /// The same with pieces, one behind the other.
    fn write_pieces_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()>;

    /// Reserves room up to this size and lets the file have it, as zeros.
    fn allocate(&self, size: u64) -> io::Result<()>;

    /// Cuts the file.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Makes all that was written durable. After an error nobody knows what is: the system may have
    /// dropped the bytes, and a second call that says it went well says nothing about them.
    fn sync(&self) -> io::Result<()>;
}

/// Reads a whole file.
pub(super) fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Whether this process, or the machine, has too many files open. It says nothing about the file.
pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(
        errno,
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
    )
}

/// Whether there is no room: the one failure after which it is worth trying again.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
