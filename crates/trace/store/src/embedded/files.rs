//! The files of segments: some of them are open, any can be read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use periplus_segment::Source;

use super::disk::{Disk, DiskFile, is_out_of_files};

/// The files that were read last stay open.
#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    most: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    files: HashMap<PathBuf, Used>,
    clock: u64,
}

#[derive(Debug)]
struct Used {
    file: Arc<dyn DiskFile>,
    at: u64,
}

impl Files {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            most: disk.most_open_files(),
            disk,
            open: Mutex::default(),
        }
    }

    /// Opens the file, or takes it from those that are open.
    fn file(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        {
            let mut open = self.open();
            open.clock += 1;
            let at = open.clock;
            if let Some(used) = open.files.get_mut(path) {
                used.at = at;
                return Ok(Arc::clone(&used.file));
            }
        }
        let opened = match self.disk.open(path) {
            // Ours may be those that are too many.
            Err(error) if is_out_of_files(&error) && self.close_all() => self.disk.open(path)?,
            opened => opened?,
        };
        let mut open = self.open();
        while open.files.len() >= self.most {
            let oldest = open.files.iter().min_by_key(|(_, used)| used.at);
            let Some(path) = oldest.map(|(path, _)| path.clone()) else {
                break;
            };
            open.files.remove(&path);
        }
        let used = Used {
            file: Arc::clone(&opened),
            at: open.clock,
        };
        open.files.insert(path.to_owned(), used);
        Ok(opened)
    }

    /// Whether there were any.
    fn close_all(&self) -> bool {
        let closed = std::mem::take(&mut self.open().files);
        !closed.is_empty()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that a segment is read from. It is removed when the last reader is gone, if it is no longer
/// wanted then.
pub(super) struct SegmentFile {
    files: Arc<Files>,
    path: PathBuf,
    size: u64,
    unwanted: Arc<AtomicBool>,
}

impl SegmentFile {
    /// The file, and what is to be set when it is no longer wanted.
    pub(super) fn open(files: &Arc<Files>, path: PathBuf) -> io::Result<(Self, Arc<AtomicBool>)> {
        let unwanted = Arc::new(AtomicBool::new(false));
        let file = Self {
            size: files.file(&path)?.size()?,
            files: Arc::clone(files),
            path,
            unwanted: Arc::clone(&unwanted),
        };
        Ok((file, unwanted))
    }
}

impl Source for SegmentFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>> {
        let mut bytes = vec![0; length];
        self.files.file(&self.path)?.read_at(&mut bytes, offset)?;
        Ok(Cow::Owned(bytes))
    }
}

impl Drop for SegmentFile {
    fn drop(&mut self) {
        if !self.unwanted.load(Ordering::Relaxed) {
            return;
        }
        self.files.open().files.remove(&self.path);
        remove(&*self.files.disk, &self.path);
    }
}

/// Removes the file of a segment, and its directory if that is empty then. What stays behind is swept
/// away at the next start.
pub(super) fn remove(disk: &dyn Disk, path: &Path) {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "cannot remove a segment");
        }
        _ => {}
    }
    if let Some(dir) = path.parent() {
        // Fails while there is anything in it, as it should.
        let _ = disk.remove_dir(dir);
    }
}
