//! A disk whose syncs wait, and one that makes its caller panic.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use periplus_store::embedded::disk::{Disk, DiskFile, SimulatedDisk};

/// While the gate is shut, no file is synced.
#[derive(Clone, Debug)]
pub(crate) struct GatedDisk {
    pub(crate) below: SimulatedDisk,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    shut: bool,
    waiting: usize,
    panics: bool,
}

impl GatedDisk {
    pub(crate) fn new() -> Self {
        Self {
            below: SimulatedDisk::new(),
            gate: Arc::default(),
        }
    }

    pub(crate) fn shut(&self) {
        self.gate.state.lock().unwrap().shut = true;
    }

    /// From now on it panics when a segment is to be made.
    pub(crate) fn panic_at_segments(&self) {
        self.gate.state.lock().unwrap().panics = true;
    }

    pub(crate) fn open_gate(&self) {
        self.gate.state.lock().unwrap().shut = false;
        self.gate.changed.notify_all();
    }

    /// Waits until so many syncs wait.
    pub(crate) fn until_waiting(&self, count: usize) {
        let state = self.gate.state.lock().unwrap();
        let waited = (self.gate.changed).wait_while(state, |state| state.waiting < count);
        drop(waited.unwrap());
    }
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.shut).unwrap();
        state.waiting -= 1;
    }
}

#[derive(Debug)]
struct GatedFile {
    below: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl GatedDisk {
    fn file(&self, below: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(GatedFile {
            below,
            gate: Arc::clone(&self.gate),
        })
    }
}

impl Disk for GatedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.below.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.below.remove_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.below.list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let panics = self.gate.state.lock().unwrap().panics;
        assert!(
            !(panics && path.extension() == Some("seg".as_ref())),
            "as planned"
        );
        Ok(self.file(self.below.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.below.open(path)
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.below.open_to_write(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.below.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.below.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.below.sync_dir(path)
    }

    fn most_open_files(&self) -> usize {
        self.below.most_open_files()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.below.lock(path)
    }
}

impl DiskFile for GatedFile {
    fn size(&self) -> io::Result<u64> {
        self.below.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.below.read_at(buffer, offset)
    }

    fn write_pieces_at(&self, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
        self.below.write_pieces_at(pieces, offset)
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.below.allocate(size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.below.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass();
        self.below.sync()
    }
}
