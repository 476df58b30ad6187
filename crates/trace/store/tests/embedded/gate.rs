//! A disk whose syncs or reads wait, and one that makes its caller panic.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use periplus_store::embedded::disk::{Disk, DiskFile, SimulatedDisk};

/// While its gate is shut, no file is synced; while that of reads is, none is read.
#[derive(Clone, Debug)]
pub(crate) struct GatedDisk {
    pub(crate) below: SimulatedDisk,
    syncs: Arc<Gate>,
    reads: Arc<Gate>,
    panics: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    shut: bool,
    /// How many may still pass.
    let_through: u64,
    waiting: usize,
}

impl GatedDisk {
    pub(crate) fn new() -> Self {
        Self::above(SimulatedDisk::new())
    }

    pub(crate) fn above(below: SimulatedDisk) -> Self {
        Self {
            below,
            syncs: Arc::default(),
            reads: Arc::default(),
            panics: Arc::default(),
        }
    }

    pub(crate) fn shut(&self) {
        self.syncs.shut_after(0);
    }

    /// Lets only so many reads more through.
    pub(crate) fn shut_reads_after(&self, count: u64) {
        self.reads.shut_after(count);
    }

    /// From now on it panics when a segment is to be made.
    pub(crate) fn panic_at_segments(&self) {
        self.panics.store(true, Ordering::Relaxed);
    }

    pub(crate) fn open_gate(&self) {
        self.syncs.open();
    }

    pub(crate) fn open_reads(&self) {
        self.reads.open();
    }

    /// Waits until so many syncs wait.
    pub(crate) fn until_waiting(&self, count: usize) {
        self.syncs.until_waiting(count);
    }

    /// Waits until so many reads wait.
    pub(crate) fn until_reads_wait(&self, count: usize) {
        self.reads.until_waiting(count);
    }
}

impl Gate {
    fn shut_after(&self, count: u64) {
        let mut state = self.state.lock().unwrap();
        state.shut = true;
        state.let_through = count;
    }

    fn open(&self) {
        self.state.lock().unwrap().shut = false;
        self.changed.notify_all();
    }

    fn until_waiting(&self, count: usize) {
        let state = self.state.lock().unwrap();
        let waited = (self.changed).wait_while(state, |state| state.waiting < count);
        drop(waited.unwrap());
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        if state.shut && state.let_through > 0 {
            state.let_through -= 1;
            return;
        }
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.shut).unwrap();
        state.waiting -= 1;
    }
}

#[derive(Debug)]
struct GatedFile {
    below: Arc<dyn DiskFile>,
    syncs: Arc<Gate>,
    reads: Arc<Gate>,
}

impl GatedDisk {
    fn file(&self, below: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(GatedFile {
            below,
            syncs: Arc::clone(&self.syncs),
            reads: Arc::clone(&self.reads),
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
        let panics = self.panics.load(Ordering::Relaxed);
        assert!(
            !(panics && path.extension() == Some("seg".as_ref())),
            "as planned"
        );
        Ok(self.file(self.below.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.file(self.below.open(path)?))
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
        self.reads.pass();
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
        self.syncs.pass();
        self.below.sync()
    }
}
