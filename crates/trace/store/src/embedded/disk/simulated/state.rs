//! What is on the simulated disk, and what of it is durable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{EIO, Fault, SECTOR};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) names: BTreeMap<PathBuf, Node>,
    pub(super) durable_names: BTreeMap<PathBuf, Node>,
    /// Changes of names that are not durable, in order.
    pub(super) pending: Vec<NameChange>,
    pub(super) files: Vec<FileState>,
    pub(super) operations: u64,
    pub(super) reads: u64,
    pub(super) faults: Vec<Fault>,
    pub(super) locks: Vec<PathBuf>,
    /// The most bytes of all files.
    pub(super) limit: Option<u64>,
    /// Whether there is a cache above all files.
    pub(super) is_cached: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(usize),
}

#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) dir: PathBuf,
    pub(super) changes: Vec<(PathBuf, Option<Node>)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    pub(super) bytes: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

impl FileState {
    /// What is left when only some sectors got down.
    pub(super) fn torn(&self, chance: &mut Chance) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in &self.pending {
            match change {
                Change::Size(size) if chance.half() => bytes.resize(*size, 0),
                Change::Size(_) => {}
                Change::Write(offset, written) => {
                    let mut from = 0;
                    while from < written.len() {
                        let to = written.len().min(from + SECTOR - (offset + from) % SECTOR);
                        if chance.half() {
                            put(&mut bytes, offset + from, &written[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
        bytes
    }

    pub(super) fn change(&mut self, change: Change) {
        match &change {
            Change::Write(offset, bytes) => put(&mut self.bytes, *offset, bytes),
            Change::Size(size) => self.bytes.resize(*size, 0),
        }
        self.pending.push(change);
    }
}

impl State {
    /// Counts an operation; an error if it is planned to fail.
    pub(super) fn operation(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        for fault in &self.faults {
            match fault {
                Fault::Full(range) if range.contains(&number) => {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                Fault::Dead(from) if number >= *from => {
                    return Err(io::Error::other("the disk is dead"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Counts a read; an error if it is planned to fail.
    pub(super) fn read(&mut self) -> io::Result<()> {
        let number = self.reads;
        self.reads += 1;
        for fault in &self.faults {
            match fault {
                Fault::FailedRead(range) if range.contains(&number) => {
                    return Err(io::Error::from_raw_os_error(EIO));
                }
                Fault::ShortRead(range) if range.contains(&number) => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether such a fault is planned; it is forgotten then.
    pub(super) fn fails_once(&mut self, fault: impl Fn(&Fault) -> bool) -> bool {
        let failing = self.faults.iter().position(fault);
        failing.map(|failing| self.faults.remove(failing)).is_some()
    }

    /// An error if the file cannot grow to this size.
    pub(super) fn room(&self, at: usize, size: usize) -> io::Result<()> {
        let more = size.saturating_sub(self.files[at].bytes.len()) as u64;
        match self.limit {
            Some(limit) if more > 0 && self.used_bytes() + more > limit => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let files = self.names.values().filter_map(|node| match node {
            Node::File(at) => Some(self.files[*at].bytes.len() as u64),
            Node::Dir => None,
        });
        files.sum()
    }

    pub(super) fn rename(&mut self, dir: &Path, changes: Vec<(PathBuf, Option<Node>)>) {
        apply(&mut self.names, &changes);
        self.pending.push(NameChange {
            dir: dir.to_owned(),
            changes,
        });
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(at)) => Ok(*at),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

pub(super) fn parent(state: &State, path: &Path) -> io::Result<PathBuf> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    match state.names.get(parent) {
        Some(Node::Dir) => Ok(parent.to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

pub(super) fn apply(names: &mut BTreeMap<PathBuf, Node>, changes: &[(PathBuf, Option<Node>)]) {
    for (path, node) in changes {
        match node {
            Some(node) => names.insert(path.clone(), *node),
            None => names.remove(path),
        };
    }
}

pub(super) fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(written);
}

/// A small generator (xorshift64): the same seed, the same crash.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 32) % bound
    }

    pub(super) fn half(&mut self) -> bool {
        self.below(2) == 0
    }
}
