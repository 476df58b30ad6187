//! A disk in memory that loses what was not synced, tears what was being written, and fails on
//! demand.

mod file;
mod state;

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::staged::StagedFile;
use super::{Disk, DiskFile};
use file::{BlockFile, SimulatedFile};
use state::{Chance, FileState, NameChange, Node, State, apply, parent};

/// The error of a device.
const EIO: i32 = 5;

/// What a disk writes in one piece.
const SECTOR: usize = 512;

/// A disk in memory, for tests of what happens when the real one fails.
///
/// It counts the operations that change something, so that a test can let each of them fail in
/// turn. [`SimulatedDisk::after`] gives the disk that a machine would find after a power cut.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

/// What a power cut leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// All that was written: the process died, the machine did not.
    KeepAll,
    /// Only what was synced.
    DropUnsynced,
    /// What was synced; of the rest some sectors of some writes and some names, drawn from the seed.
    Tear(u64),
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// These operations, by number, find no room. A write gets half of its bytes down.
    Full(Range<u64>),
    /// A sync with this number or a later one fails once: what was written is lost, though it can
    /// still be read.
    FailedSync(u64),
    /// A sync of a directory with this number or a later one fails once: the names are as before, and
    /// a power cut may still lose them.
    FailedDirSync(u64),
    /// These reads, by number, fail with an error of the device.
    FailedRead(Range<u64>),
    /// These reads, by number, find the file shorter than it is.
    ShortRead(Range<u64>),
    /// From this operation on nothing works any more. Reads do.
    Dead(u64),
}

impl SimulatedDisk {
    /// An empty disk with a root directory.
    pub fn new() -> Self {
        let disk = Self::default();
        let root = BTreeMap::from([(PathBuf::from("/"), Node::Dir)]);
        disk.state().durable_names.clone_from(&root);
        disk.state().names = root;
        disk
    }

    /// The same for a file system that takes no direct writes: the log is written as any other file.
    pub fn cached() -> Self {
        let disk = Self::new();
        disk.state().is_cached = true;
        disk
    }

    /// How many operations that change something there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many reads of bytes there were.
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Forgets the faults that were planned: the disk is well again.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Plans a fault.
    pub fn plan(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Gives it this much room for all files together.
    pub fn limit(&self, bytes: u64) {
        self.state().limit = Some(bytes);
    }

    /// How many bytes all files have together.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// The disk after a crash at this moment, without faults and locks.
    pub fn after(&self, crash: Crash) -> Self {
        let state = self.state();
        let mut chance = Chance(match crash {
            Crash::Tear(seed) => seed.wrapping_mul(2).wrapping_add(1),
            _ => 1,
        });
        let (names, files) = match crash {
            Crash::KeepAll => (
                state.names.clone(),
                state.files.iter().map(|file| file.bytes.clone()).collect(),
            ),
            Crash::DropUnsynced => (
                state.durable_names.clone(),
                state
                    .files
                    .iter()
                    .map(|file| file.durable.clone())
                    .collect(),
            ),
            Crash::Tear(_) => {
                let mut names = state.durable_names.clone();
                // A journal keeps the order of what happens to names.
                let kept = chance.below(state.pending.len() as u64 + 1) as usize;
                for change in &state.pending[..kept] {
                    apply(&mut names, &change.changes);
                }
                let torn = |file: &FileState| file.torn(&mut chance);
                (names, state.files.iter().map(torn).collect::<Vec<_>>())
            }
        };
        let file = |bytes: Vec<u8>| FileState {
            durable: bytes.clone(),
            bytes,
            pending: Vec::new(),
        };
        let state = State {
            durable_names: names.clone(),
            names,
            files: files.into_iter().map(file).collect(),
            is_cached: state.is_cached,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The paths of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state();
        (state.names.iter())
            .filter(|(_, node)| **node != Node::Dir)
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// Turns bits of a file over, as a failing disk does.
    pub fn flip(&self, path: &Path, offset: usize, mask: u8) {
        let mut state = self.state();
        let Some(&Node::File(at)) = state.names.get(path) else {
            return;
        };
        let file = &mut state.files[at];
        for bytes in [&mut file.bytes, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= mask;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SimulatedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        match state.names.get(path) {
            Some(Node::Dir) => return Ok(()),
            Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            None => {}
        }
        state.operation()?;
        let parent = parent(&state, path)?;
        state.rename(&parent, vec![(path.to_owned(), Some(Node::Dir))]);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let mut state = self.state();
        state.operation()?;
        let parent = parent(&state, path)?;
        // No disk keeps a file in a directory that is not there: once this is durable, so is that what
        // was in it is gone, whether or not that was synced.
        let inside = state
            .durable_names
            .keys()
            .filter(|name| name.starts_with(path));
        let mut changes: Vec<_> = inside.map(|name| (name.clone(), None)).collect();
        changes.push((path.to_owned(), None));
        state.rename(&parent, changes);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if state.names.get(path) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state
            .names
            .keys()
            .filter(|name| name.parent() == Some(path));
        let names = inside.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned()));
        Ok(names.collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let parent = parent(&state, path)?;
        state.operation()?;
        let at = state.files.len();
        state.files.push(FileState::default());
        state.rename(&parent, vec![(path.to_owned(), Some(Node::File(at)))]);
        drop(state);
        self.open(path)
    }

    /// As the real one does where it can, with the same blocks.
    fn create_to_append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.create(path)?;
        if self.state().is_cached {
            return Ok(file);
        }
        Ok(Arc::new(StagedFile::new(Arc::new(BlockFile(file)))))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let at = self.state().file(path)?;
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            at,
        }))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    /// Few, so that tests meet the limit.
    fn most_open_files(&self) -> usize {
        4
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let at = state.file(from)?;
        let parent = parent(&state, to)?;
        state.operation()?;
        let changes = vec![
            (from.to_owned(), None),
            (to.to_owned(), Some(Node::File(at))),
        ];
        state.rename(&parent, changes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.file(path)?;
        let parent = parent(&state, path)?;
        state.operation()?;
        state.rename(&parent, vec![(path.to_owned(), None)]);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let number = state.operations;
        state.operation()?;
        let state = &mut *state;
        if state.fails_once(|fault| matches!(fault, Fault::FailedDirSync(from) if number >= *from))
        {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let (synced, rest) = std::mem::take(&mut state.pending)
            .into_iter()
            .partition(|change: &NameChange| change.dir == path);
        let synced: Vec<NameChange> = synced;
        state.pending = rest;
        for change in &synced {
            apply(&mut state.durable_names, &change.changes);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.state();
        if state.locks.iter().any(|held| held == path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locks.push(path.to_owned());
        Ok(Box::new(Lock {
            disk: self.clone(),
            path: path.to_owned(),
        }))
    }
}

struct Lock {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.disk.state().locks.retain(|held| *held != self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_directory_takes_what_was_in_it_along() {
        let (root, dir, file) = (Path::new("/"), Path::new("/dir"), Path::new("/dir/file"));
        let disk = SimulatedDisk::new();
        disk.create_dir(dir).unwrap();
        disk.sync_dir(root).unwrap();
        disk.create(file).unwrap().sync().unwrap();
        disk.sync_dir(dir).unwrap();
        disk.remove(file).unwrap();
        disk.remove_dir(dir).unwrap();
        // Nothing of it is durable yet.
        assert_eq!(disk.after(Crash::DropUnsynced).files(), [file]);
        disk.sync_dir(root).unwrap();
        let after = disk.after(Crash::DropUnsynced);
        assert!(after.list(dir).is_err());
        after.create_dir(dir).unwrap();
        assert!(after.create(file).is_ok());
    }
}
